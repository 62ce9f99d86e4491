"""Types of pandas come back as themselves, or are refused where Arrow would change them."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from tests.unit.xcom.round_trip import stored
from wandb_airflow_provider.exceptions import WandbConfigurationError


class Colour(enum.StrEnum):
    RED = "red"


TOKYO = ZoneInfo("Asia/Tokyo")


MOMENTS = [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 9, tzinfo=TOKYO)]


@pytest.mark.parametrize(
    "values",
    [
        [1, "a"],
        [1, 2.5],
        [{"a": 1}, {"b": 2}],
        [object()],
        ["a", b"b"],
        [2**70],
        [Colour.RED, "x"],
        [np.str_("a"), None],
        MOMENTS,
        [[moment] for moment in MOMENTS],
    ],
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
    "values",
    [
        [MOMENTS[0], None],
        [datetime(2026, 7, 1, tzinfo=TOKYO), MOMENTS[1]],
        [datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold) for fold in (0, 1)],
        [datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))],
    ],
    ids=["utc", "zone", "twice", "offset"],
)
def test_a_column_of_datetimes_of_one_zone_comes_back(values: list[Any]) -> None:
    back = stored(pd.Series(values, dtype=object))[0].tolist()
    assert back == values
    assert [time and (time.replace(tzinfo=None), time.fold) for time in back] == [
        time and (time.replace(tzinfo=None), time.fold) for time in values
    ]


OTHERS = [
    pd.array(["x", None], dtype=pd.StringDtype("python")),
    pd.array(["x", "y"], dtype=pd.StringDtype("python", na_value=np.nan)),
    pd.date_range("2026-01-01", periods=2, tz="dateutil/Europe/Berlin").array,
]


@pytest.mark.parametrize("values", OTHERS, ids=["string", "str", "dateutil"])
def test_a_type_that_would_come_back_as_another_is_refused_as_column_and_as_labels(values: Any) -> None:
    frame = pd.DataFrame({"c": values, "k": [1, 2]})
    with pytest.raises(WandbConfigurationError, match=r"a column of .* would come back as one of"):
        stored(frame)
    with pytest.raises(WandbConfigurationError, match=r"it of .* would come back as one of"):
        stored(pd.DataFrame([[1, 2]], columns=pd.Index(values)))
