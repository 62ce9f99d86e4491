"""Tables of polars and Arrow come back as what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from polars.testing import assert_frame_equal as assert_polars_equal
from polars.testing.parametric import dataframes

from tests.unit.xcom.round_trip import LIMITS, some, stored
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.xcom.codecs.registry import codec_for


@pytest.mark.slow
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
