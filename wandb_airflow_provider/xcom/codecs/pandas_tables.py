"""``pandas`` data frames and series, with index, labels, dtypes, categories, time zones and nested columns."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.base import Codec, is_exactly
from wandb_airflow_provider.xcom.codecs.ipc import (
    check_streams,
    describe_streams,
    read_table,
    unstorable,
    write_table,
)
from wandb_airflow_provider.xcom.codecs.pandas_frames import index_of, read_frame, without_views
from wandb_airflow_provider.xcom.settings import Limits

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["PandasCodec"]

_DATA, _OTHERS, _LABELS = "table.arrows", "others.arrows", "labels.arrows"
_NAN = "~nan"


class PandasCodec(Codec):
    """
    Frames and series as Arrow streams.

    Columns are stored by position and their labels beside them, so that labels of any type, several levels of them
    and repeated ones come back. A column of Python objects is passed if Arrow gives back the same objects.
    """

    name = "pandas"

    def accepts(self, value: Any) -> bool:
        """Accept frames and series, and no subclasses, which would come back as something else."""
        return is_exactly(value, "pandas", "DataFrame", "Series")

    def write(self, value: Any, folder: Path) -> Mapping[str, Any]:
        """Write the frame."""
        import pandas as pd
        import pyarrow as pa

        what = f"A pandas {type(value).__name__}"
        meta: dict[str, Any] = {"series": isinstance(value, pd.Series), "attrs": dict(value.attrs)}
        frame = value.to_frame() if isinstance(value, pd.Series) else value.copy(deep=False)
        frame.attrs = {}
        meta["name"] = value.name if isinstance(value, pd.Series) else None
        meta["index"] = list(frame.index.names)
        # The freq of periods is part of their dtype.
        timed = isinstance(frame.index, pd.DatetimeIndex | pd.TimedeltaIndex)
        meta["freq"] = frame.index.freq.freqstr if timed and frame.index.freq is not None else None
        meta["labels"] = None if meta["series"] else _write_labels(frame.columns, folder, what)
        _check_json(meta, what)
        frame.columns = pd.RangeIndex(frame.shape[1]).astype(str)
        frame.index = frame.index.set_names([None] * frame.index.nlevels)
        _check_categories([*frame.dtypes, *(level.dtype for level in _levels(frame.index))], what)
        objects = _object_columns(frame)
        arrow = [str(name) for name, dtype in frame.dtypes.items() if isinstance(dtype, pd.ArrowDtype)]
        meta["arrow"] = arrow
        try:
            table = pa.Table.from_pandas(frame.drop(columns=[*objects, *arrow]))
            _check_index(frame.index, table)
            write_table(table, folder / _DATA)
            del table
            columns: dict[str, Any] = {name: pa.chunked_array(pa.array(frame[name])) for name in arrow}
            for name in objects:
                columns |= _object_column(name, list(frame[name]))
            if columns:
                write_table(pa.table(columns), folder / _OTHERS)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise unstorable(what, error) from error
        return {**meta, **describe_streams(folder)}

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        """Return the frame, whose memory is its own."""
        found = check_streams(folder, meta, limits)
        if _DATA not in found:
            raise WandbXComRefusedError(f"Refused a stored pandas value: it has no file {_DATA!r}.")
        frame = read_frame(folder / _DATA, found[_DATA])
        if _OTHERS in found:
            others = read_table(folder / _OTHERS)
            frame = _with_others(frame, others, meta["arrow"])
        try:
            frame.index.names = list(meta["index"])
            if meta["freq"] is not None:
                frame.index.freq = meta["freq"]
            if meta["series"]:
                value: Any = frame.iloc[:, 0].rename(meta["name"])
            else:
                frame.columns = _read_labels(meta["labels"], folder)
                value = frame
            value.attrs = dict(meta["attrs"])
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise WandbXComRefusedError(f"Refused a stored pandas value: {error!r}.") from error
        return value


def _write_labels(columns: pd.Index, folder: Path, what: str) -> dict[str, Any]:
    import pandas as pd
    import pyarrow as pa

    if isinstance(columns, pd.RangeIndex):
        return {"range": [columns.start, columns.stop, columns.step], "names": list(columns.names)}
    levels = [columns.get_level_values(level) for level in range(columns.nlevels)]
    _check_categories([level.dtype for level in levels], f"The labels of the columns of {what}")
    frame = pd.DataFrame({str(number): level for number, level in enumerate(levels)})
    objects = _object_columns(frame)
    try:
        table = pa.Table.from_pandas(frame.drop(columns=objects), preserve_index=False)
        for name in objects:
            for column, values in _object_column(str(name), list(frame[name])).items():
                table = table.append_column(column, values)
        write_table(table, folder / _LABELS)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise unstorable(f"The labels of the columns of {what}", error) from error
    return {"levels": columns.nlevels, "objects": objects, "names": list(columns.names)}


def _read_labels(labels: Mapping[str, Any], folder: Path) -> pd.Index:
    import pandas as pd

    if "range" in labels:
        found: pd.Index = pd.RangeIndex(*labels["range"])
    else:
        table = read_table(folder / _LABELS)
        objects = [name for name in table.column_names if name.removesuffix(_NAN) in labels["objects"]]
        without_views(table.drop_columns(objects).schema)
        frame = table.drop_columns(objects).to_pandas()
        if objects:
            frame = _with_others(frame, table.select(objects), ())
        levels = [frame[str(level)] for level in range(labels["levels"])]
        found = pd.Index(levels[0]) if len(levels) == 1 else pd.MultiIndex.from_arrays(levels)
    found.names = labels["names"]
    return found


def _levels(index: pd.Index) -> list[pd.Index]:
    import pandas as pd

    return list(index.levels) if isinstance(index, pd.MultiIndex) else [index]


def _check_categories(dtypes: Iterable[Any], what: str) -> None:
    """Refuse categories that Arrow gives back as something else, or not at all."""
    import pandas as pd
    from pandas.api.types import is_extension_array_dtype

    for dtype in dtypes:
        if isinstance(dtype, pd.CategoricalDtype):
            kind = dtype.categories.dtype
            if is_extension_array_dtype(kind) and not isinstance(kind, pd.StringDtype):
                raise unstorable(what, f"it has categories of the type {kind}")


def _check_index(index: pd.Index, table: pa.Table) -> None:
    """
    Compare an index with what a reader makes of the table.

    :raises ValueError: it is another one.
    """
    import pandas as pd

    if isinstance(index, pd.RangeIndex):
        return
    back = index_of(table)
    dtypes, found = ([level.dtype for level in _levels(one)] for one in (index, back))
    if dtypes != found or not index.equals(back):
        raise ValueError(f"its index of {dtypes} would come back as one of {found}")


def _object_columns(frame: pd.DataFrame) -> list[str]:
    from pandas.api.types import is_object_dtype

    return [str(name) for name, dtype in frame.dtypes.items() if is_object_dtype(dtype)]


def _object_column(name: str, values: list[Any]) -> dict[str, pa.Array]:
    """Return a column of Python objects, and where it has NaN, which Arrow would make None."""
    import pyarrow as pa

    columns = {}
    nans = [isinstance(value, float) and math.isnan(value) for value in values]
    if any(nans) and any(
        not nan and not isinstance(value, float) for value, nan in zip(values, nans, strict=True)
    ):
        columns[name + _NAN] = pa.array(nans)
        values = [None if nan else value for value, nan in zip(values, nans, strict=True)]
    array = pa.array(values, from_pandas=False)
    if not pa.types.is_string(array.type):
        for value, back in zip(values, array.to_pylist(), strict=True):
            if not _same(value, back):
                raise ValueError(f"{value!r} would come back as {back!r}")
    return {name: array, **columns}


def _with_others(frame: pd.DataFrame, table: pa.Table, arrow: Collection[str]) -> pd.DataFrame:
    """Return the frame with the columns of Python objects, and with those that pandas leaves to Arrow."""
    import numpy as np
    import pandas as pd

    if table.num_rows != len(frame) and frame.shape[1]:
        raise WandbXComRefusedError("Refused a stored pandas value: its columns differ in length.")
    columns: dict[str, Any] = {str(name): frame[name] for name in frame.columns}
    for name in table.column_names:
        if name.endswith(_NAN):
            continue
        if name in arrow:
            columns[name] = pd.Series(pd.arrays.ArrowExtensionArray(table[name]), index=frame.index)
            continue
        without_views(table.select([name]).schema, categories=False)
        values = np.empty(table.num_rows, dtype=object)
        values[:] = table[name].to_pylist()
        if name + _NAN in table.column_names:
            values[table[name + _NAN].to_numpy()] = math.nan
        columns[name] = pd.Series(values, index=frame.index, dtype=object)
    return pd.DataFrame({name: columns[name] for name in sorted(columns, key=int)}, frame.index, copy=False)


def _same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right) or (isinstance(left, float) and math.isnan(left) and math.isnan(right))


def _check_json(meta: Mapping[str, Any], what: str) -> None:
    try:
        same = json.loads(json.dumps(meta, allow_nan=False)) == meta
    except (TypeError, ValueError):
        same = False
    if not same:
        raise unstorable(what, "its name, the names of its index, or its attrs are more than JSON")
