"""pandas frames and series come back as what they were."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from pandas.testing import assert_frame_equal, assert_series_equal

from tests.unit.xcom.round_trip import LIMITS, some, stored, text
from wandb_airflow_provider.xcom.codecs.registry import codec_named
from wandb_airflow_provider.xcom.workspace import passing_folder

columns = st.sampled_from(
    [
        lambda n: np.arange(n, dtype="f8") / 3,
        lambda n: np.arange(n, dtype="i2"),
        lambda n: pd.array([None, *range(1, n)][:n], dtype="Int64"),
        lambda n: pd.array([True, None] * n, dtype="boolean")[:n],
        lambda n: pd.array(["ä", None, "c"] * n, dtype="string")[:n],
        lambda n: pd.Series(["x", "y", None] * n, dtype="str")[:n].array,
        lambda n: pd.Categorical(["b", "a", None] * n, categories=["b", "a", "z"], ordered=True)[:n],
        lambda n: pd.Categorical([3, 1] * n)[:n],
        lambda n: pd.date_range("2026-03-29", periods=n, freq="h", tz="Europe/Berlin").array,
        lambda n: pd.date_range("2026-01-01", periods=n, freq="D", unit="s").array,
        lambda n: pd.to_timedelta(range(n), unit="s").array,
        lambda n: pd.period_range("2026-01", periods=n, freq="M").array,
        lambda n: pd.interval_range(0, n, periods=n).array if n else np.arange(0),
        lambda n: pd.array([1.5, None] * n, dtype="float64[pyarrow]")[:n],
        lambda n: pd.array([[1, 2], None, []] * n, dtype=pd.ArrowDtype(pa.list_(pa.int64())))[:n],
        lambda n: pd.Series([[1, 2], None, []] * n, dtype=object)[:n].array,
        lambda n: pd.Series([{"a": 1, "b": [1.5]}] * n, dtype=object)[:n].array,
        lambda n: pd.Series(["x", None, math.nan] * n, dtype=object)[:n].array,
        lambda n: pd.Series([b"\x00", b""] * n, dtype=object)[:n].array,
        lambda n: pd.Series([True, None, False] * n, dtype=object)[:n].array,
    ]
)


indexes = st.sampled_from(
    [
        lambda n: pd.RangeIndex(3, 3 + 2 * n, 2, name="n"),
        lambda n: pd.Index([f"r{i}" for i in range(n)], name=7),
        lambda n: pd.date_range("2026-01-01", periods=n, freq="h", tz="UTC"),
        lambda n: pd.MultiIndex.from_arrays([range(n), list("ab" * n)[:n]], names=["i", None]),
        lambda n: pd.CategoricalIndex(["q"] * n),
        lambda n: pd.Index([0.5] * n, name="same"),
        lambda n: pd.period_range("2026-01", periods=n, freq="M"),
        lambda n: pd.timedelta_range("1h", periods=n, freq="h"),
        lambda n: pd.interval_range(0, n, periods=n),
        lambda n: pd.Index([f"r{i}" for i in range(n)], dtype=object),
        lambda n: pd.Index(["x", None] * n, dtype=object)[:n],
        lambda n: pd.Index(["x", math.nan] * n, dtype=object)[:n],
        lambda n: pd.Index([date(2026, 1, 1)] * n, dtype=object),
        lambda n: pd.Index([[1], None] * n, dtype=object)[:n],
        lambda n: pd.Index(["x", None] * n, dtype="str")[:n],
        lambda n: pd.Index(["ä", None] * n, dtype="string")[:n],
        lambda n: pd.Index([1, None] * n, dtype="Int64")[:n],
        lambda n: pd.Index([1] * n, dtype="UInt8"),
        lambda n: pd.Index([1.5, None] * n, dtype="Float64")[:n],
        lambda n: pd.Index([True, None] * n, dtype="boolean")[:n],
        lambda n: pd.Index([1, None] * n, dtype="int64[pyarrow]")[:n],
        lambda n: pd.Index(["x", None] * n, dtype=pd.ArrowDtype(pa.string()))[:n],
        lambda n: pd.Index([True] * n, dtype="bool"),
        lambda n: pd.Index([1.0, math.nan] * n)[:n],
    ]
)


@st.composite
def indexes_of(draw: Any, rows: int) -> pd.Index:
    """Return an index of one level, or of several."""
    levels = [make(rows) for make in draw(st.lists(indexes, min_size=1, max_size=3))]
    if len(levels) == 1:
        return levels[0]
    # Levels that cannot be sorted are none of pandas'.
    flat = [
        level
        for level in levels
        if level.nlevels == 1 and not any(isinstance(value, list) for value in level)
    ]
    return pd.MultiIndex.from_arrays(flat) if flat else levels[0]


@pytest.mark.slow
@settings(parent=some, max_examples=80)
@given(st.integers(0, 4), st.lists(columns, max_size=4), st.data())
def test_a_pandas_frame_comes_back(rows: int, made: list[Any], data: Any) -> None:
    frame = pd.DataFrame({i: make(rows) for i, make in enumerate(made)}, index=range(rows))
    frame.index = data.draw(indexes_of(rows))
    names = data.draw(st.lists(text, min_size=len(made), max_size=len(made)))
    kind = data.draw(st.sampled_from(["range", "text", "numbers", "levels", "twice"]))
    if kind == "text":
        frame.columns = pd.Index(names, name="features", dtype="str")
    elif kind == "numbers":
        frame.columns = pd.Index([i * 10 for i in range(len(made))], dtype="int64")
    elif kind == "levels" and made:
        frame.columns = pd.MultiIndex.from_tuples([("a", i) for i in range(len(made))], names=["x", "y"])
    elif kind == "twice":
        frame.columns = ["same"] * len(made)
    frame.attrs["unit"] = "m"
    back, digest = stored(frame)
    assert_frame_equal(back, frame, check_freq=True, check_column_type=bool(made))
    assert [type(value) for value in back.index] == [type(value) for value in frame.index]
    assert back.index.dtype == frame.index.dtype
    assert back.attrs == frame.attrs
    assert stored(frame)[1] == digest
    assert frame.attrs == {"unit": "m"}


whole = st.sampled_from(["i2", "i4", "i8", "u2", "u4", "u8", "M8[s]", "M8[us]", "M8[ns]", "m8[ms]"])


@some
@given(whole, st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5), st.booleans(), st.integers(0, 9))
def test_long_columns_of_whole_numbers_and_times_come_back(
    kind: str, seeds: list[int], ordered: bool, zeros: int
) -> None:
    bits = np.array([seed // 10**zeros * 10**zeros for seed in seeds], dtype="u8")
    values = np.resize(bits, 1500).view(f"u{np.dtype(kind).itemsize}")[:1500]
    values = np.sort(values.view(kind)) if ordered else values.view(kind)
    frame = pd.DataFrame({"a": values, "b": values})
    assert_frame_equal(stored(frame)[0], frame)


@pytest.mark.parametrize(
    "values",
    [
        [-(2**31), 2**31 - 1, 2**31 - 1],
        [-(2**63), 2**63 - 1],
        [-(2**63), -(2**63) + 1],
        [5, 5],
        [-1, 255],
        [10**15, 10**15 + 3 * 10**9],
    ],
)
def test_numbers_at_the_ends_of_their_types_come_back(values: list[int]) -> None:
    for dtype in ("i4", "i8", "M8[ns]", "m8[us]"):
        if dtype != "i4" or max(map(abs, values)) <= 2**31:
            array = np.sort(np.resize(np.array(values, "i8"), 1100)).astype("i4" if dtype == "i4" else "i8")
            for turned in (array, array[::-1].copy()):
                frame = pd.DataFrame({"a": turned.view(dtype)})
                assert_frame_equal(stored(frame)[0], frame)


def test_long_columns_of_values_that_repeat_come_back() -> None:
    rows = 9000
    text = pd.array([f"name {n % 300}" for n in range(rows)], dtype="str")
    text[5] = None
    frame = pd.DataFrame(
        {
            "text": text,
            "both": pd.concat([pd.Series(["ä", ""], dtype="str")] * (rows // 2), ignore_index=True),
            "string": pd.array(["x", None, "y"] * (rows // 3), dtype="string"),
            "zeros": np.resize([0.0, -0.0, 1.5], rows),
            "nan": np.resize([0.1, np.nan], rows),
            "many": np.arange(rows) / 7,
            "few": np.resize(np.arange(300) / 7, rows),
            "small": np.resize(np.float32([1.5, 2.5]), rows),
        },
        index=pd.Index([f"name {n % 300}" for n in range(rows)], dtype="str"),
    )
    with passing_folder() as folder:
        codec = codec_named("pandas")
        meta = codec.write(frame, folder)
        assert meta["repeated"] == ["0", "1", "2", "3", "4", "6"]
        back = codec.read(folder, meta, LIMITS._replace(max_bytes=meta["unpacked_bytes"]))
    assert_frame_equal(back, frame)
    assert (np.signbit(back["zeros"]) == np.signbit(frame["zeros"])).all()
    back.iloc[0, 0] = "written"
    assert back.iloc[0, 0] == "written"


@some
@given(st.integers(0, 3), columns, st.data(), st.none() | st.integers() | text)
def test_a_pandas_series_comes_back(rows: int, make: Any, data: Any, name: Any) -> None:
    series = pd.Series(make(rows), index=data.draw(indexes_of(rows)), name=name)
    assert_series_equal(stored(series)[0], series, check_freq=True)


def test_a_frame_that_was_passed_may_be_written_to() -> None:
    back, _ = stored(pd.DataFrame({"a": [1.0, 2.0], "b": pd.array([1, 2], dtype="Int64")}))
    back.iloc[0, 0] = 5.0
    back.loc[1, "a"] += 1
    back.loc[0, "b"] = 7
    assert (back["a"].tolist(), back["b"].tolist()) == ([5.0, 3.0], [7, 2])


def test_a_frame_is_left_as_it_was_when_it_is_written() -> None:
    frame = pd.DataFrame({"a": [1]}, index=pd.Index([2], name="i"))
    before = frame.copy()
    stored(frame)
    assert_frame_equal(frame, before)
    assert (list(frame.columns), frame.index.name) == (["a"], "i")


def test_a_table_is_stored_compressed_and_the_index_says_what_it_unpacks_to(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(100_000) // 100, "b": ["word"] * 100_000})
    meta = codec_named("pandas").write(frame, tmp_path)
    packed = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert meta["unpacked_bytes"] > 1_000_000 > packed
    assert_frame_equal(codec_named("pandas").read(tmp_path, meta, LIMITS), frame)


def test_a_frame_of_more_columns_than_are_read_at_a_time_comes_back_whole() -> None:
    frame = pd.DataFrame(np.arange(200.0).reshape(2, 100), index=pd.Index(["x", "y"], name="row"))
    frame[[7, 40]] = frame[[7, 40]].astype("int32")
    frame[55] = pd.Categorical(["b", "a"])
    back, _ = stored(frame)
    assert_frame_equal(back, frame)
    back.iloc[0, 0] = 5.0
    assert back.iloc[0, 0] == 5.0
