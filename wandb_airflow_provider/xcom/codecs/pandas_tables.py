"""``pandas`` data frames and series, with index, labels, dtypes, categories, time zones and nested columns."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.base import Codec, is_exactly
from wandb_airflow_provider.xcom.codecs.ipc import read_table, read_table_in_parts, unstorable, write_table
from wandb_airflow_provider.xcom.codecs.packing import pack, unpack
from wandb_airflow_provider.xcom.settings import Limits

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["PandasCodec"]

_DATA, _OTHERS, _LABELS = "table.arrows", "others.arrows", "labels.arrows"
_NAN = "~nan"
_PARTS = 16


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
        freq = getattr(frame.index, "freq", None)
        meta["freq"] = freq.freqstr if freq is not None else None
        meta["labels"] = None if meta["series"] else _write_labels(frame.columns, folder, what)
        _check_json(meta, what)
        frame.columns = pd.RangeIndex(frame.shape[1]).astype(str)
        frame.index = frame.index.set_names([None] * frame.index.nlevels)
        objects = _object_columns(frame)
        arrow = [str(name) for name, dtype in frame.dtypes.items() if isinstance(dtype, pd.ArrowDtype)]
        meta["arrow"] = arrow
        try:
            write_table(pa.Table.from_pandas(frame.drop(columns=[*objects, *arrow])), folder / _DATA)
            columns: dict[str, Any] = {name: pa.chunked_array(pa.array(frame[name])) for name in arrow}
            for name in objects:
                columns |= _object_column(name, list(frame[name]))
            if columns:
                write_table(pa.table(columns), folder / _OTHERS)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise unstorable(what, error) from error
        return {**meta, **pack(folder)}

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        """Return the frame, whose memory is its own."""
        unpack(folder, meta)
        frame = _frame(folder / _DATA, limits)
        if (folder / _OTHERS).exists():
            others = read_table(folder / _OTHERS, limits)
            frame = _with_others(frame, others, meta["arrow"])
        try:
            frame.index.names = list(meta["index"])
            if meta["freq"] is not None:
                frame.index.freq = meta["freq"]
            if meta["series"]:
                value: Any = frame.iloc[:, 0].rename(meta["name"])
            else:
                frame.columns = _read_labels(meta["labels"], folder, limits)
                value = frame
            value.attrs = dict(meta["attrs"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise WandbXComRefusedError(f"Refused a stored pandas value: {error!r}.") from error
        return value


def _frame(path: Path, limits: Limits) -> pd.DataFrame:
    """Return a frame, made a few columns at a time, so that the table is never in memory beside all of it."""
    import pandas as pd
    from pandas.api.types import is_extension_array_dtype

    table, release = read_table_in_parts(path, limits)
    described = (_plain(table).schema.pandas_metadata or {}).get("index_columns", [])
    levels = {name for name in described if isinstance(name, str)}
    index = table.select([name for name in table.column_names if name in levels]).to_pandas().index
    columns = [name for name in table.column_names if name not in levels]
    step = -(-len(columns) // _PARTS) or 1
    parts = []
    for start in range(0, max(len(columns), 1), step):
        part = table.select(columns[start : start + step]).to_pandas(ignore_metadata=False)
        for name, dtype in part.dtypes.items():
            if is_extension_array_dtype(dtype) and not isinstance(dtype, pd.StringDtype):
                # Arrow gives some of these its own memory, which may only be read.
                part[name] = part[name].copy()
        part.index = index
        parts.append(part)
        release()
    return pd.concat(parts, axis=1) if len(parts) > 1 else parts[0]


def _plain(table: pa.Table) -> pa.Table:
    """Refuse types by which many rows share one stretch of memory, which pandas would copy for each of them."""
    import pyarrow as pa

    def shares(dtype: pa.DataType) -> bool:
        kinds = pa.types
        return (
            kinds.is_string_view(dtype)
            or kinds.is_binary_view(dtype)
            or kinds.is_list_view(dtype)
            or kinds.is_large_list_view(dtype)
            or kinds.is_run_end_encoded(dtype)
            or any(shares(dtype.field(number).type) for number in range(dtype.num_fields))
        )

    wrong = [field.name for field in table.schema if shares(field.type)]
    if wrong:
        raise WandbXComRefusedError(f"Refused a stored pandas value: the columns {wrong[:5]} are views.")
    return table


def _write_labels(columns: pd.Index, folder: Path, what: str) -> dict[str, Any]:
    import pandas as pd
    import pyarrow as pa

    if isinstance(columns, pd.RangeIndex):
        return {"range": [columns.start, columns.stop, columns.step], "names": list(columns.names)}
    levels = [columns.get_level_values(level) for level in range(columns.nlevels)]
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


def _read_labels(labels: Mapping[str, Any], folder: Path, limits: Limits) -> pd.Index:
    import pandas as pd

    if "range" in labels:
        found: pd.Index = pd.RangeIndex(*labels["range"])
    else:
        table = _plain(read_table(folder / _LABELS, limits))
        objects = [name for name in table.column_names if name.removesuffix(_NAN) in labels["objects"]]
        frame = table.drop_columns(objects).to_pandas()
        if objects:
            frame = _with_others(frame, table.select(objects), ())
        levels = [frame[str(level)] for level in range(labels["levels"])]
        found = pd.Index(levels[0]) if len(levels) == 1 else pd.MultiIndex.from_arrays(levels)
    found.names = labels["names"]
    return found


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
        _plain(table.select([name]))
        values = np.empty(table.num_rows, dtype=object)
        values[:] = table[name].to_pylist()
        if name + _NAN in table.column_names:
            values[table[name + _NAN].to_numpy()] = math.nan
        columns[name] = pd.Series(values, index=frame.index, dtype=object)
    return pd.DataFrame({name: columns[name] for name in sorted(columns, key=int)}, index=frame.index)


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
