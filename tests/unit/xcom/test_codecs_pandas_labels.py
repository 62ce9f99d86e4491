"""Indexes and labels of pandas frames come back with their types and frequencies, or are refused."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from tests.unit.xcom.round_trip import LIMITS, stored
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.xcom.codecs.registry import codec_for


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


def test_a_frequency_that_its_name_does_not_tell_is_refused() -> None:
    late = pd.offsets.BusinessHour(start="10:00")
    index = pd.date_range("2026-01-05 10:00", periods=3, freq=late)
    with pytest.raises(WandbConfigurationError, match=r"bh=10:00-17:00.* would come back with .*09:00"):
        stored(pd.DataFrame({"v": range(3)}, index=index))


def test_labels_that_are_no_plain_text_come_back() -> None:
    days = [date(2026, 1, 1), date(2026, 2, 1)]
    sales = pd.DataFrame({"shop": ["a", "a", "b"], "day": [*days, days[0]], "sold": [1.5, 2, 3]})
    labels = [
        pd.Index(["x", None], dtype=object),
        pd.Index([b"x", b"y"]),
        pd.Index([True, None], dtype=object),
        pd.MultiIndex.from_arrays([pd.Index(["x", None], dtype=object), pd.Index(days, dtype=object)]),
        pd.MultiIndex.from_arrays([days, ["x", "y"]], names=["day", None]),
        pd.date_range("2026-01-01", periods=2, freq="D", tz="UTC"),
        pd.timedelta_range("1h", periods=2, freq="h"),
    ]
    for frame in (
        sales.pivot(index="shop", columns="day", values="sold"),
        *(pd.DataFrame([[1, 2]], columns=one) for one in labels),
    ):
        back, _ = stored(frame)
        assert_frame_equal(back, frame, check_freq=True, check_column_type=True)
        assert getattr(back.columns, "freq", None) == getattr(frame.columns, "freq", None)
        assert list(map(type, back.columns)) == list(map(type, frame.columns))


def test_a_frame_that_allows_no_label_twice_comes_back_as_one() -> None:
    for value in (pd.DataFrame({"a": [1]}), pd.Series([1])):
        strict = value.set_flags(allows_duplicate_labels=False)
        assert not stored(strict)[0].flags.allows_duplicate_labels
        assert not strict.flags.allows_duplicate_labels
        assert stored(value)[0].flags.allows_duplicate_labels


@pytest.mark.parametrize("kind", ["object", "str", "string"])
def test_labels_of_plain_text_are_in_no_file_of_their_own(kind: str, tmp_path: Path) -> None:
    frame = pd.DataFrame([[1, 2]], columns=pd.Index(["a", "ä\n"], dtype=kind, name="n"))
    codec = codec_for(frame)
    assert codec is not None
    meta = codec.write(frame, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["table.arrows"]
    assert_frame_equal(codec.read(tmp_path, meta, LIMITS), frame)
