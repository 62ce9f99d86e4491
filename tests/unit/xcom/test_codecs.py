"""Each codec gives back what it was given; properties over generated values, without a server."""

from __future__ import annotations

import math
import os
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from pandas.testing import assert_frame_equal, assert_series_equal
from polars.testing import assert_frame_equal as assert_polars_equal
from polars.testing.parametric import dataframes
from pydantic import BaseModel

from wandb_airflow_provider.capabilities import serde
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.xcom.codecs import registry
from wandb_airflow_provider.xcom.codecs.base import Codec
from wandb_airflow_provider.xcom.codecs.registry import ENTRY_POINT_GROUP, codec_for, codec_named, json_codec
from wandb_airflow_provider.xcom.index import Index, digest_of
from wandb_airflow_provider.xcom.settings import Limits
from wandb_airflow_provider.xcom.workspace import lasting_folder, passing_folder

LIMITS = Limits(1 << 30, 10_000)
some = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def stored(value: Any, codec: Codec | None = None) -> tuple[Any, str]:
    """Return a value as a reader gets it, and the digest of what was written."""
    codec = codec or codec_for(value) or json_codec(value)
    with passing_folder() as folder:
        staged = codec.stage(value, folder)
        index = Index.of(codec.name, staged.meta, staged.root, staged.files, staged.folders)
        content = index.to_bytes()
        back = Index.from_bytes(content, digest_of(content), LIMITS, "a value")
        assert back == index
        copy = lasting_folder() / "content"
        copy.mkdir()
        for path in index.folders:
            (copy / path).mkdir(parents=True, exist_ok=True)
        for path in index.files:
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            (copy / path).write_bytes((staged.root / path).read_bytes())
        if codec.keeps_folder:
            index.restore_modes(copy)
        return codec_named(codec.name).read(copy, back.meta, LIMITS), digest_of(content)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text.filter(bool), inner, max_size=4),
    max_leaves=10,
).filter(lambda value: "__classname__" not in repr(value))


@some
@given(plain)
def test_json_comes_back(value: Any) -> None:
    assert stored(value, codec_named("json"))[0] == value


@some
@given(st.text())
def test_text_comes_back(value: str) -> None:
    assert stored(value, codec_named("text"))[0] == value


@some
@given(st.binary(), st.booleans())
def test_bytes_come_back_as_what_they_were(value: bytes, mutable: bool) -> None:
    given_value = bytearray(value) if mutable else value
    back, _ = stored(given_value, codec_named("bytes"))
    assert (type(back), back) == (type(given_value), given_value)


arrays = hnp.arrays(
    st.one_of(
        hnp.scalar_dtypes(),
        hnp.byte_string_dtypes(),
        hnp.unicode_string_dtypes(),
        hnp.array_dtypes(hnp.integer_dtypes() | hnp.floating_dtypes()),
    ).filter(lambda dtype: not dtype.hasobject),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@some
@given(arrays, st.booleans())
def test_an_array_comes_back_and_may_be_written_to(value: np.ndarray, turned: bool) -> None:
    value = value.T if turned else value
    back, _ = stored(value)
    assert type(back) is np.ndarray
    assert (back.dtype, back.shape) == (value.dtype, value.shape)
    assert back.tobytes() == value.tobytes()
    assert back.flags.writeable


numbers = hnp.arrays(
    st.sampled_from([np.float64, np.int32, np.float32, np.complex128]),
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=5),
    elements=st.integers(0, 2),
)


@some
@given(numbers, st.sampled_from(["csr", "csc", "bsr", "coo", "dia", "lil", "dok"]), st.booleans())
def test_a_sparse_array_of_any_format_comes_back(value: np.ndarray, form: str, matrix: bool) -> None:
    sparse = getattr(scipy.sparse, f"{form}_{'matrix' if matrix else 'array'}")(value)
    back, _ = stored(sparse)
    assert (type(back), back.dtype, back.shape) == (type(sparse), sparse.dtype, sparse.shape)
    assert (back.toarray() == value).all()


tensors = hnp.arrays(
    st.sampled_from(["f2", "f4", ">f8", "i1", "i8", ">i4", "u2", "?", "c8"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)


@some
@given(st.dictionaries(text, tensors, min_size=1, max_size=4), st.booleans())
def test_arrays_by_name_come_back_in_their_order(values: dict[str, np.ndarray], ordered: bool) -> None:
    value = OrderedDict(values) if ordered else values
    assert codec_for(value).name == "safetensors"
    back, _ = stored(value)
    assert type(back) is type(value)
    assert list(back) == list(value)
    for name, array in value.items():
        assert back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array)


labels = st.lists(st.one_of(text, st.integers(-9, 9), st.tuples(text, text)), max_size=4)
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


@pytest.mark.parametrize(
    "values", [[1, "a"], [1, 2.5], [{"a": 1}, {"b": 2}], [object()], ["a", b"b"], [2**70]]
)
def test_a_column_of_objects_that_arrow_would_change_is_refused(values: list[Any]) -> None:
    frame = pd.DataFrame({"c": pd.Series(values, dtype=object)})
    with pytest.raises(WandbConfigurationError, match="cannot be passed: Arrow has no form"):
        stored(frame)


@pytest.mark.parametrize(
    "values",
    [
        pd.cut([1.0, 2.0, 3.0], 2),
        pd.Categorical(pd.period_range("2026-01", periods=3, freq="M")),
        pd.Categorical(pd.date_range("2026-01-01", periods=3, tz="Europe/Berlin")),
        pd.Categorical(pd.array([1, 2, 1], dtype="Int64")),
        pd.Categorical([1, "a", 1]),
    ],
    ids=["intervals", "periods", "times", "Int64", "mixed"],
)
def test_categories_that_arrow_would_change_are_refused_as_column_index_and_labels(values: Any) -> None:
    frame = pd.DataFrame({"c": values, "k": [1, 2, 3]})
    labelled = pd.DataFrame([[1, 2, 3]], columns=pd.CategoricalIndex(values))
    for value in (frame, frame["c"], frame.set_index("c"), frame.set_index(["k", "c"]), labelled):
        with pytest.raises(WandbConfigurationError, match="it has categories of the type"):
            stored(value)


@pytest.mark.parametrize(
    "categories",
    [
        pd.Index(["b", "a"], dtype=object),
        pd.Index([date(2026, 1, 1), date(2026, 1, 2)], dtype=object),
        pd.Index(["b", "a"], dtype="string"),
        pd.Index(["b", "a"], dtype="str"),
        pd.date_range("2026-01-01", periods=2, freq="D"),
        pd.timedelta_range("1h", periods=2, freq="h"),
        pd.Index([2.5, 1.5]),
    ],
    ids=["object", "dates", "string", "str", "times", "spans", "numbers"],
)
def test_categories_come_back_as_column_index_and_labels(categories: pd.Index) -> None:
    values = pd.Categorical.from_codes([0, 1, -1], categories=categories, ordered=True)
    frame = pd.DataFrame({"c": values, "k": [1, 2, 3]})
    labelled = pd.DataFrame([[1, 2, 3]], columns=pd.CategoricalIndex(values))
    for value in (frame, frame.set_index("c"), frame.set_index(["k", "c"]), labelled):
        assert_frame_equal(stored(value)[0], value)
    back = stored(frame["c"])[0].cat.categories
    assert (back.dtype, list(map(type, back))) == (categories.dtype, list(map(type, categories)))
    assert getattr(back, "freq", None) == getattr(categories, "freq", None)


@pytest.mark.parametrize(
    ("index", "found"),
    [
        (pd.Index([1, "a"], dtype=object), "cannot be passed: Arrow has no form"),
        (pd.Index([1, 2.5], dtype=object), "1 would come back as 1.0"),
        (pd.Index([object(), None], dtype=object), "cannot be passed: Arrow has no form"),
        (pd.Index(["x", None], dtype=pd.StringDtype("python")), "would come back as one of"),
    ],
    ids=["mixed", "numbers", "objects", "storage"],
)
def test_an_index_that_arrow_would_change_is_refused(index: pd.Index, found: str) -> None:
    for kept in (index, pd.MultiIndex.from_arrays([[1, 2], index])):
        with pytest.raises(WandbConfigurationError, match=found):
            stored(pd.DataFrame({"v": [1.5, 2.5]}, index=kept))


@pytest.mark.parametrize("kind", ["object", "str", "string"])
def test_labels_of_plain_text_are_in_no_file_of_their_own(kind: str, tmp_path: Path) -> None:
    frame = pd.DataFrame([[1, 2]], columns=pd.Index(["a", "ä\n"], dtype=kind, name="n"))
    codec = codec_for(frame)
    assert codec is not None
    meta = codec.write(frame, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["table.arrows"]
    assert_frame_equal(codec.read(tmp_path, meta, LIMITS), frame)


@pytest.mark.parametrize(
    "value",
    [pa.table({"a": [True] * 3000}), pl.DataFrame({"a": [True] * 3000}), pd.Series([None] * 3000)],
    ids=["arrow", "polars", "pandas"],
)
def test_what_is_written_within_a_limit_can_be_read_within_it(value: Any, tmp_path: Path) -> None:
    codec = codec_for(value)
    assert codec is not None
    meta = codec.write(value, tmp_path)
    back = codec.read(tmp_path, meta, LIMITS._replace(max_bytes=meta["unpacked_bytes"]))
    assert len(back) == 3000


def test_a_frame_is_left_as_it_was_when_it_is_written() -> None:
    frame = pd.DataFrame({"a": [1]}, index=pd.Index([2], name="i"))
    before = frame.copy()
    stored(frame)
    assert_frame_equal(frame, before)
    assert (list(frame.columns), frame.index.name) == (["a"], "i")


@settings(parent=some, max_examples=60)
@given(dataframes(max_cols=4, max_size=4, allow_null=True, excluded_dtypes=[pl.Object]))
def test_a_polars_frame_comes_back(frame: pl.DataFrame) -> None:
    back, _ = stored(frame)
    assert_polars_equal(back, frame)
    assert back.schema == frame.schema


def test_a_polars_frame_of_rows_without_columns_is_refused() -> None:
    with pytest.raises(WandbConfigurationError, match="3 rows and no columns"):
        stored(pl.DataFrame(height=3))


def test_a_polars_series_comes_back() -> None:
    series = pl.Series("s", ["a", None], dtype=pl.Enum(["a", "b"]))
    back, _ = stored(series)
    assert (back.name, back.dtype, back.to_list()) == (series.name, series.dtype, series.to_list())


arrow_types = st.sampled_from(
    [
        (pa.int8(), [1, None]),
        (pa.float16(), [np.float16(1.5)]),
        (pa.decimal128(9, 2), [None]),
        (pa.timestamp("us", "Asia/Tokyo"), [0, None]),
        (pa.dictionary(pa.int8(), pa.string()), ["a", "b", None]),
        (pa.list_(pa.struct([("x", pa.string())])), [[{"x": "a"}], [], None]),
        (pa.map_(pa.string(), pa.int32()), [[("k", 1)], None]),
        (pa.large_binary(), [b"\x00", None]),
        (pa.string_view(), ["longer than twelve characters", None]),
        (pa.null(), [None]),
    ]
)


@some
@given(st.lists(arrow_types, max_size=4), st.integers(0, 3), st.booleans())
def test_an_arrow_table_comes_back(made: list[Any], rows: int, batch: bool) -> None:
    columns = [pa.array((values * rows)[:rows], kind) for kind, values in made]
    schema = pa.schema([pa.field(str(i), c.type) for i, c in enumerate(columns)], metadata={"owner": "me"})
    value: Any = pa.Table.from_arrays(columns, schema=schema)
    if batch:
        value = pa.RecordBatch.from_arrays(columns, schema=schema)
    back, _ = stored(value)
    assert type(back) is type(value)
    assert back.schema.equals(value.schema, check_metadata=True)
    assert back.equals(value)


names = st.text(
    st.characters(categories=["L", "N"], include_characters=" ._-"), min_size=1, max_size=8
).filter(lambda name: name.strip(".") and len(name.encode()) < 200)
trees = st.recursive(
    st.binary(max_size=20), lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=6
)


def plant(tree: Any, path: Path) -> None:
    """Write a tree of folders (dicts) and files (bytes)."""
    if isinstance(tree, bytes):
        path.write_bytes(tree)
        path.chmod(0o640 + 0o111 * (len(tree) % 2))
    else:
        path.mkdir()
        for name, inner in tree.items():
            plant(inner, path / name)


def seen(path: Path) -> Any:
    """Return a tree with the permissions of files."""
    if path.is_dir():
        return {inner.name: seen(inner) for inner in path.iterdir()}
    return path.read_bytes(), path.stat().st_mode & 0o777


@some
@given(trees, names)
def test_a_file_or_folder_comes_back_with_permissions_and_empty_folders(tree: Any, name: str) -> None:
    with passing_folder() as folder:
        plant(tree, folder / name)
        back, _ = stored(folder / name)
        assert back.name == name
        assert seen(back) == seen(folder / name)


def test_a_path_in_an_object_store_comes_back_as_one(tmp_path: Path) -> None:
    from airflow.sdk import ObjectStoragePath

    (tmp_path / "data" / "inner").mkdir(parents=True)
    (tmp_path / "data" / "inner" / "a.txt").write_text("rows")
    back, _ = stored(ObjectStoragePath(f"file://{tmp_path}/data"))
    assert isinstance(back, ObjectStoragePath)
    assert (back / "inner" / "a.txt").read_text() == "rows"


@pytest.mark.parametrize("inside", [True, False])
def test_a_symbolic_link_is_refused(tmp_path: Path, inside: bool) -> None:
    (tmp_path / "data").mkdir()
    link = tmp_path / "data" / "link" if inside else tmp_path / "link"
    link.symlink_to("/etc/hostname" if inside else tmp_path / "data")
    with pytest.raises(WandbConfigurationError, match="is a symbolic link"):
        stored(tmp_path / "data" if inside else link)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WandbConfigurationError, match="neither a plain file nor a folder"):
        stored(tmp_path)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WandbConfigurationError, match="return str"):
        stored(tmp_path / "missing")


@pytest.fixture(scope="module")
def model() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 0.0]])
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(features, [0, 0, 1, 1])


def test_a_model_comes_back_and_predicts_the_same(model: Any) -> None:
    back, _ = stored(model)
    features = np.array([[0.5, 0.5], [2.5, 0.5]])
    assert (back.predict_proba(features) == model.predict_proba(features)).all()


def test_the_same_model_is_the_same_content_wherever_it_is_in_memory(model: Any) -> None:
    import copy

    kept = [copy.deepcopy(model) for _ in range(3)]
    assert len({stored(one)[1] for one in (model, *kept)}) == 1


def test_torch_state_dicts_are_left_to_safetensors_where_torch_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Tensor:
        pass

    class Torch:
        pass

    Torch.Tensor = Tensor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", Torch)  # type: ignore[misc]
    assert codec_for({"weight": Tensor()}).name == "safetensors"
    assert codec_for({"weight": Tensor(), "epoch": 3}) is None


def test_an_array_of_objects_is_refused_unless_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    value = np.array([["a", None], [1, 2.5]], dtype=object)
    with pytest.raises(WandbConfigurationError, match="allow_object_arrays"):
        stored(value)
    monkeypatch.setenv("AIRFLOW__WANDB_XCOM__ALLOW_OBJECT_ARRAYS", "True")
    back, _ = stored(value)
    assert (back.dtype, back.tolist()) == (object, value.tolist())


class Allowed:
    """A class that a deployment may allow to be pickled."""

    def __init__(self, value: Any) -> None:
        self.value = value


def test_a_class_is_pickled_only_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert codec_for(Allowed(1)) is None
    monkeypatch.setenv("AIRFLOW__WANDB_XCOM__PICKLE_CLASSES", f"{Allowed.__module__}.Allowed")
    back, _ = stored(Allowed([1, "a"]))
    assert (type(back), back.value) == (Allowed, [1, "a"])
    with pytest.raises(WandbConfigurationError, match="which is not in 'pickle_classes'"):
        stored(Allowed(OrderedDict()))


@dataclass
class Split:
    """What a task may return: fields of plain types."""

    name: str
    rows: list[int]
    share: float
    notes: dict[str, str]


class Model(BaseModel):
    """The same as a pydantic model, one in another."""

    title: str
    steps: list[int]
    best: float | None
    parts: dict[str, bool]


finite = st.floats(allow_nan=False, allow_infinity=False)
records = st.builds(Split, text, st.lists(st.integers()), finite, st.dictionaries(text, text)) | st.builds(
    Model,
    title=text,
    steps=st.lists(st.integers()),
    best=st.none() | finite,
    parts=st.dictionaries(text, st.booleans()),
)


@some
@given(st.lists(records, min_size=1, max_size=3))
def test_dataclasses_and_pydantic_models_come_back(values: list[Any]) -> None:
    # Which classes may come back is Airflow's to allow; it reads the option once, in whichever test asks first.
    allowed = re.compile(rf"{re.escape(__name__)}\..*")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serde(), "_get_regexp_patterns", lambda: [allowed])
        serde()._match_regexp.cache_clear()
        back, _ = stored(values, codec_named("json"))
    serde()._match_regexp.cache_clear()
    assert [type(item) for item in back] == [type(item) for item in values]
    assert back == values


class Pair:
    """A class that only a codec of the deployment's own knows."""

    def __init__(self, left: int, right: int) -> None:
        self.left, self.right = left, right


class PairCodec(Codec):
    """What a deployment may register."""

    name = "acme-pair"

    def accepts(self, value: Any) -> bool:
        return type(value) is Pair

    def write(self, value: Any, folder: Path) -> Mapping[str, Any]:
        (folder / "pair.txt").write_text(f"{value.left} {value.right}")
        return {"sum": value.left + value.right}

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        back = Pair(*map(int, (folder / "pair.txt").read_text().split()))
        assert back.left + back.right == meta["sum"]
        return back


class TakenCodec(PairCodec):
    """One that would hide a codec of the package."""

    name = "pandas"


@pytest.fixture
def entry_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """``entry_point("PairCodec")`` installs a distribution that registers a class of this module."""

    def install(name: str) -> None:
        info = tmp_path / "acme_codecs-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-codecs\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\npair = {__name__}:{name}\n")
        monkeypatch.syspath_prepend(tmp_path)
        registry._codecs.cache_clear()

    yield install
    monkeypatch.undo()
    registry._codecs.cache_clear()


def test_a_codec_of_an_entry_point_writes_and_reads(entry_point: Callable[[str], None]) -> None:
    assert codec_for(Pair(1, 2)) is None
    entry_point("PairCodec")
    assert codec_for(Pair(1, 2)).name == "acme-pair"
    back, _ = stored(Pair(1, 2))
    assert (back.left, back.right) == (1, 2)


def test_a_codec_of_an_entry_point_may_not_take_the_name_of_another(
    entry_point: Callable[[str], None],
) -> None:
    entry_point("TakenCodec")
    with pytest.raises(WandbConfigurationError, match="with a name other than"):
        codec_for(Pair(1, 2))


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
