"""A ``pandas`` frame out of the batches of a stream, without the table ever being in memory beside all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.ipc import open_table
from wandb_airflow_provider.xcom.codecs.ipc_headers import Declared
from wandb_airflow_provider.xcom.codecs.pandas_indexes import is_level
from wandb_airflow_provider.xcom.codecs.pandas_integers import Narrow, narrowed_bytes, narrows
from wandb_airflow_provider.xcom.codecs.pandas_repeats import repeats_numbers, spelled_bytes, spelled_out

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

__all__ = ["converted", "known_types", "read_frame", "without_views"]

_NUMBERS = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
    *(f"{kind}64[{unit}]" for kind in ("datetime", "timedelta") for unit in ("s", "ms", "us", "ns")),
)
# What a stored name may make of a column; any other is left to its Arrow type.
_TYPES = re.compile(
    r"bool|u?int(8|16|32|64)|float(16|32|64)|U?Int(8|16|32|64)|Float(32|64)|boolean|str|string"
    r"|(datetime|timedelta)64\[(s|ms|us|ns)\]"
)
_PARTS = 16
_UNRELEASED_BYTES = 12 << 20


def read_frame(
    path: Path, stream: Declared, narrow: Mapping[str, Any], repeated: Collection[str], more_bytes: int
) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """
    Return the frame of a stream, whose memory is its own, and the levels of its index.

    Columns of plain numbers are unpacked into it batch by batch, all others are converted a few at a time.

    :param stream: What it declares.
    :param narrow: How columns of whole numbers were made narrow.
    :param repeated: Columns of which each value is stored once.
    :param more_bytes: By how much both may grow.
    :raises WandbXComRefusedError: it is not what pandas' columns are written as.
    """
    import pandas as pd
    import pyarrow as pa

    pool = pa.default_memory_pool()
    with open_table(path) as reader:
        schema = known_types(without_views(reader.schema))
        if len(set(schema.names)) < len(schema):
            raise WandbXComRefusedError("Refused a stored pandas value: it has several columns of one name.")
        numbers = _numbers(schema, narrow, repeated)
        _check_numbers(numbers, stream)
        types = {name: (kind, schema.field(name).type) for name, kind in numbers.items()}
        grown = narrowed_bytes(narrow, stream.rows, types)
        grown += sum(8 * stream.rows for name in numbers if name in repeated)
        _check_growth(grown, more_bytes)
        wide = {name: Narrow.of(narrow[name], kind) for name, kind in numbers.items() if name in narrow}
        blocks = list(_blocks(schema, numbers, stream.rows))
        rows = {name: row for names, block in blocks for name, row in zip(names, block, strict=True)}
        others = [name for name in schema.names if name not in numbers]
        kept = []
        begin = unreleased = 0
        for batch in reader:
            batch.validate(full=True)
            for name, row in rows.items():
                _fill(row[begin : begin + batch.num_rows], batch.column(name))
            kept.append(batch.select(others))
            begin += batch.num_rows
            unreleased += batch.nbytes
            del batch
            if unreleased > _UNRELEASED_BYTES:
                # Arrow would keep what each batch took for a while.
                pool.release_unused()
                unreleased = 0
        if begin != stream.rows:
            raise WandbXComRefusedError(
                f"Refused a stored pandas value: it has {begin} rows, and declares {stream.rows}."
            )
    for name, how in wide.items():
        how.widen(rows[name])
    pool.release_unused()
    table = pa.Table.from_batches(kept, pa.schema([schema.field(name) for name in others], schema.metadata))
    del kept
    texts = [name for name in repeated if name not in numbers]
    _check_growth(grown + sum(spelled_bytes(table[name]) for name in texts), more_bytes)
    index = pd.RangeIndex(stream.rows)
    parts = {names[0]: pd.DataFrame(block.T, index, names, copy=False) for names, block in blocks}
    for names in _in_parts(schema, set(table.column_names)):
        part = table.select(names)
        for name in set(names) & set(texts):
            part = part.set_column(names.index(name), name, spelled_out(part[name]))
        parts[names[0]] = converted(part)
        del part
        table = table.drop_columns(names)
        pool.release_unused()
    found = [parts[name] for name in schema.names if name in parts and not is_level(name)]
    levels = {str(name): level for first in parts if is_level(first) for name, level in parts[first].items()}
    if not found:
        return pd.DataFrame(index=index), levels
    return (pd.concat(found, axis=1) if len(found) > 1 else found[0]), levels


def known_types(schema: pa.Schema) -> pa.Schema:
    """
    Return a schema with what pandas' metadata says of the types of its columns, if that is known, and nothing else.

    :raises WandbXComRefusedError: the metadata cannot be understood.
    """
    try:
        columns = (schema.pandas_metadata or {}).get("columns", [])
        named = {column["field_name"]: column["numpy_type"] for column in columns}
        known = {name: kind for name, kind in named.items() if _TYPES.fullmatch(kind)}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WandbXComRefusedError(f"Refused a stored pandas value: its metadata has {error!r}.") from error
    about = [
        {
            "name": name,
            "field_name": name,
            "pandas_type": "object",
            "numpy_type": known.get(name, "object"),
            "metadata": None,
        }
        for name in schema.names
    ]
    metadata = {"columns": about, "index_columns": [], "column_indexes": [], "pandas_version": "1"}
    return schema.with_metadata({b"pandas": json.dumps(metadata).encode()})


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


def _numbers(schema: pa.Schema, narrow: Mapping[str, Any], repeated: Collection[str]) -> dict[str, str]:
    """Return the columns that are nothing but numbers, with the names of their types in pandas."""
    import numpy as np
    import pyarrow as pa

    found = {}
    for column in (schema.pandas_metadata or {}).get("columns", []):
        name, kind = column["field_name"], column["numpy_type"]
        known = kind in _NUMBERS and name in schema.names and not is_level(name)
        if known:
            stored, plain = schema.field(name).type, pa.from_numpy_dtype(np.dtype(kind))
            as_written = stored == plain
            if name in narrow:
                as_written = narrows(kind, stored)
            elif name in repeated:
                as_written = repeats_numbers(kind, stored)
            if as_written:
                found[name] = kind
    if set(narrow) - set(found) or set(repeated) - set(schema.names) or set(narrow) & set(repeated):
        raise WandbXComRefusedError(
            "Refused a stored pandas value: it names columns as narrow or repeated that are not."
        )
    return found


def _check_growth(grown: int, most: int) -> None:
    if grown > most:
        raise WandbXComRefusedError(
            f"Refused a stored pandas value: its columns grow by {grown} bytes, and its index says {most}."
        )


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


def _fill(row: np.ndarray[Any, Any], column: pa.Array) -> None:
    """Put the values of a batch in their place; narrow ones of times as the numbers that they are stored as."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    times = row.dtype.kind in "Mm" and pa.types.is_integer(column.type)
    (row.view("i8") if times else row)[:] = column.to_numpy(zero_copy_only=False)


def _in_parts(schema: pa.Schema, others: set[str]) -> Iterator[list[str]]:
    """Yield neighbouring columns of the others, a few at a time; those of the frame apart from levels."""
    most = -(-len(others) // _PARTS)
    for (is_other, _), names in groupby(schema.names, lambda name: (name in others, is_level(name))):
        run = list(names)
        if is_other:
            yield from (run[start : start + most] for start in range(0, len(run), most))


def converted(table: pa.Table) -> pd.DataFrame:
    """Return the columns of a table with the types that :func:`known_types` left; their memory is their own."""
    import pandas as pd
    from pandas.api.types import is_extension_array_dtype

    part = table.to_pandas()
    for name, dtype in part.dtypes.items():
        if is_extension_array_dtype(dtype) and not isinstance(dtype, pd.StringDtype):
            # Arrow gives some of these its own memory, which may only be read.
            part[name] = part[name].copy()
    return part
