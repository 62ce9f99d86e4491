"""Columns of Python objects of a ``pandas`` frame, as Arrow has them: only if it gives back the same objects."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

__all__ = ["NAN", "object_column", "object_columns", "objects_of"]

NAN = "~nan"
"""Ends the name of a column that says where the one before has NaN."""


def object_columns(frame: pd.DataFrame) -> list[str]:
    """Return the names of the columns of Python objects."""
    from pandas.api.types import is_object_dtype

    return [str(name) for name, dtype in frame.dtypes.items() if is_object_dtype(dtype)]


def object_column(name: str, values: list[Any]) -> dict[str, pa.Array]:
    """
    Return a column of Python objects, and where it has NaN, which Arrow would make None.

    :raises ValueError: Arrow would give back other objects; or what Arrow raises, if it has no form for them.
    """
    import pyarrow as pa

    columns = {}
    nans = [isinstance(value, float) and math.isnan(value) for value in values]
    if any(nans) and any(
        not nan and not isinstance(value, float) for value, nan in zip(values, nans, strict=True)
    ):
        columns[name + NAN] = pa.array(nans)
        values = [None if nan else value for value, nan in zip(values, nans, strict=True)]
    array = pa.array(values, from_pandas=False)
    if not pa.types.is_string(array.type) or not {type(value) for value in values} <= {str, type(None)}:
        for value, back in zip(values, array.to_pylist(), strict=True):
            if not _same(value, back):
                raise ValueError(f"{value!r} would come back as {back!r}")
    return {name: array, **columns}


def objects_of(table: pa.Table, name: str) -> np.ndarray[Any, Any]:
    """Return the Python objects of a column that :func:`object_column` made."""
    import numpy as np

    values = np.empty(table.num_rows, dtype=object)
    values[:] = table[name].to_pylist()
    if name + NAN in table.column_names:
        values[table[name + NAN].to_numpy()] = math.nan
    return values


def _same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, datetime):
        # Those of other zones are equal if they are the same moment.
        return left == right and _clock(left) == _clock(right)
    return bool(left == right) or (isinstance(left, float) and math.isnan(left) and math.isnan(right))


def _clock(time: datetime) -> tuple[datetime, str | None]:
    return time.replace(tzinfo=None), time.tzname()
