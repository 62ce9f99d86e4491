"""A ``pandas`` frame out of the batches of a stream, without the table ever being in memory beside all of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.ipc import open_table
from wandb_airflow_provider.xcom.codecs.ipc_headers import Declared

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

__all__ = ["index_of", "read_frame", "without_views"]

_NUMBERS = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
    *(f"{kind}64[{unit}]" for kind in ("datetime", "timedelta") for unit in ("s", "ms", "us", "ns")),
)
_PARTS = 16


def read_frame(path: Path, stream: Declared) -> pd.DataFrame:
    """
    Return the frame of a stream, whose memory is its own.

    Columns of plain numbers are unpacked into it batch by batch, all others are converted a few at a time.

    :param stream: What it declares.
    :raises WandbXComRefusedError: it is not what pandas' columns are written as.
    """
    import pandas as pd
    import pyarrow as pa

    pool = pa.default_memory_pool()
    with open_table(path) as reader:
        schema = without_views(reader.schema)
        if len(set(schema.names)) < len(schema):
            raise WandbXComRefusedError("Refused a stored pandas value: it has several columns of one name.")
        numbers = _numbers(schema)
        _check_numbers(numbers, stream)
        blocks = list(_blocks(schema, numbers, stream.rows))
        others = [name for name in schema.names if name not in numbers]
        kept = []
        begin = 0
        for batch in reader:
            batch.validate(full=True)
            for names, block in blocks:
                for row, name in zip(block, names, strict=True):
                    row[begin : begin + batch.num_rows] = batch.column(name).to_numpy(zero_copy_only=False)
            kept.append(batch.select(others))
            begin += batch.num_rows
            del batch
            # Arrow would keep what each batch took for a while.
            pool.release_unused()
        if begin != stream.rows:
            raise WandbXComRefusedError(
                f"Refused a stored pandas value: it has {begin} rows, and declares {stream.rows}."
            )
    table = pa.Table.from_batches(kept, pa.schema([schema.field(name) for name in others], schema.metadata))
    del kept
    levels = _levels(schema)
    index = index_of(table)
    table = table.drop_columns(levels)
    parts = {names[0]: pd.DataFrame(block.T, index, names, copy=False) for names, block in blocks}
    for names in _in_parts(schema, set(table.column_names)):
        parts[names[0]] = _converted(table.select(names), index)
        table = table.drop_columns(names)
        pool.release_unused()
    found = [parts[name] for name in schema.names if name in parts]
    return pd.concat(found, axis=1) if len(found) > 1 else found[0] if found else pd.DataFrame(index=index)


def index_of(table: pa.Table) -> pd.Index:
    """Return the index of a table that was made of a frame; one that has levels in the table."""
    return table.select(_levels(table.schema)).to_pandas().index


def without_views(schema: pa.Schema, *, categories: bool = True) -> pa.Schema:
    """
    Return a schema of no types by which many rows share one stretch of memory, which pandas would copy for each.

    :param categories: A column may be of categories, which pandas shares as well.
    :raises WandbXComRefusedError: it has one.
    """
    import pyarrow as pa

    def shares(dtype: pa.DataType, categories: bool = False) -> bool:
        kinds = pa.types
        if isinstance(dtype, pa.BaseExtensionType):
            return shares(dtype.storage_type)
        if kinds.is_dictionary(dtype):
            return not categories or shares(dtype.value_type)
        return (
            kinds.is_string_view(dtype)
            or kinds.is_binary_view(dtype)
            or kinds.is_list_view(dtype)
            or kinds.is_large_list_view(dtype)
            or kinds.is_run_end_encoded(dtype)
            or any(shares(dtype.field(number).type) for number in range(dtype.num_fields))
        )

    wrong = [field.name for field in schema if shares(field.type, categories)]
    if wrong:
        raise WandbXComRefusedError(
            f"Refused a stored pandas value: the columns {wrong[:5]} are views, or hold categories."
        )
    return schema


def _numbers(schema: pa.Schema) -> dict[str, str]:
    """Return the columns that are nothing but numbers, with the names of their types in pandas."""
    import numpy as np
    import pyarrow as pa

    found = {}
    for column in (schema.pandas_metadata or {}).get("columns", []):
        name, kind = column["field_name"], column["numpy_type"]
        known = kind in _NUMBERS and name in schema.names and name not in _index_columns(schema)
        if known and schema.field(name).type == pa.from_numpy_dtype(np.dtype(kind)):
            found[name] = kind
    return found


def _check_numbers(numbers: dict[str, str], stream: Declared) -> None:
    """Refuse columns that would take more memory than their buffers; at most, each bit of those is a byte."""
    import numpy as np

    needed = stream.rows * sum(np.dtype(kind).itemsize for kind in numbers.values())
    if needed > 8 * stream.unpacked_bytes:
        raise WandbXComRefusedError(
            f"Refused a stored pandas value: it declares {stream.rows} rows, and has {stream.unpacked_bytes} bytes."
        )


def _blocks(
    schema: pa.Schema, numbers: dict[str, str], rows: int
) -> Iterator[tuple[list[str], np.ndarray[Any, Any]]]:
    """Yield memory for each run of neighbouring columns of one type."""
    import numpy as np

    for kind, names in groupby(schema.names, numbers.get):
        if kind is not None:
            run = list(names)
            yield run, np.empty((len(run), rows), kind)


def _in_parts(schema: pa.Schema, others: set[str]) -> Iterator[list[str]]:
    """Yield neighbouring columns of the others, a few at a time."""
    most = -(-len(others) // _PARTS)
    for is_other, names in groupby(schema.names, others.__contains__):
        run = list(names)
        if is_other:
            yield from (run[start : start + most] for start in range(0, len(run), most))


def _converted(table: pa.Table, index: pd.Index) -> pd.DataFrame:
    import pandas as pd
    from pandas.api.types import is_extension_array_dtype

    part = table.to_pandas()
    for name, dtype in part.dtypes.items():
        if is_extension_array_dtype(dtype) and not isinstance(dtype, pd.StringDtype):
            # Arrow gives some of these its own memory, which may only be read.
            part[name] = part[name].copy()
    part.index = index
    return part


def _levels(schema: pa.Schema) -> list[str]:
    return [name for name in _index_columns(schema) if isinstance(name, str)]


def _index_columns(schema: pa.Schema) -> list[Any]:
    return list((schema.pandas_metadata or {}).get("index_columns", []))
