"""Texts and numbers that repeat: each is stored once, which is less to compress, to send and to unpack."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING

from wandb_airflow_provider.exceptions import WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.pandas_indexes import is_level

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["repeats_numbers", "spelled_bytes", "spelled_out", "storing_once"]

_MIN_ROWS = 1 << 12
_SAMPLE = 1 << 12
_MOST_OF_SAMPLE = 0.8
_MOST = 1 << 16


def storing_once(
    table: pa.Table, frame: pd.DataFrame, pool: Executor
) -> dict[str, Future[pa.ChunkedArray | None]]:
    """Begin to make references of the columns of a frame whose values repeat; the others become None."""
    import numpy as np
    import pyarrow as pa

    if table.num_rows < _MIN_ROWS:
        return {}
    found = {}
    for name, dtype in frame.dtypes.items():
        column = table[str(name)]
        floats = pa.types.is_float64(column.type) and isinstance(dtype, np.dtype)
        texts = pa.types.is_large_string(column.type) or pa.types.is_string(column.type)
        if (floats or texts) and not is_level(str(name)):
            found[str(name)] = pool.submit(_once, column)
    return found


def repeats_numbers(kind: str, stored: pa.DataType) -> bool:
    """Say whether a column of numbers may have been stored as one of references."""
    import pyarrow as pa

    return kind == "float64" and pa.types.is_dictionary(stored) and pa.types.is_float64(stored.value_type)


def spelled_bytes(column: pa.ChunkedArray) -> int:
    """
    Return what the values of a column take when each is spelled out.

    :raises WandbXComRefusedError: it is none of references to texts or numbers.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        raise WandbXComRefusedError(
            f"Refused a stored pandas value: a column of {column.type} repeats nothing."
        )
    kind = column.type.value_type
    if pa.types.is_float64(kind):
        return len(column) * 8
    if not (pa.types.is_large_string(kind) or pa.types.is_string(kind)):
        raise WandbXComRefusedError(f"Refused a stored pandas value: it has repeated values of {kind}.")
    total = 8 * len(column)
    for chunk in column.chunks:
        lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
        total += pc.sum(lengths.take(chunk.indices)).as_py() or 0
    return total


def spelled_out(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of references as one of the values."""
    return column.cast(column.type.value_type)


def _once(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    import numpy as np
    import pyarrow as pa

    kind = column.type
    if pa.types.is_floating(kind):
        # By their bits: there are several zeros.
        column = pa.chunked_array([chunk.view(pa.int64()) for chunk in column.chunks], pa.int64())
    step = max(1, len(column) // _SAMPLE)
    sample = column.take(pa.array(np.arange(0, len(column), step)))
    if len(sample.unique()) > _MOST_OF_SAMPLE * len(sample):
        return None
    encoded = column.dictionary_encode()
    values = encoded.chunk(0).dictionary
    if len(values) > _MOST:
        return None
    narrow = pa.uint8() if len(values) <= 1 << 8 else pa.uint16()
    chunks = [
        pa.DictionaryArray.from_arrays(
            chunk.indices.cast(narrow), values.view(kind) if pa.types.is_floating(kind) else values
        )
        for chunk in encoded.chunks
    ]
    return pa.chunked_array(chunks)
