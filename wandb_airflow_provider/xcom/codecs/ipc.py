"""Tables as Arrow IPC streams of small batches, whose buffers are compressed by zstd, all processors at once."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.ipc_headers import Declared, declared
from wandb_airflow_provider.xcom.index import UNPACKED_BYTES
from wandb_airflow_provider.xcom.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

__all__ = [
    "check_streams",
    "describe_streams",
    "open_table",
    "read_table",
    "refusing_broken",
    "unstorable",
    "write_table",
]

_SUFFIX = ".arrows"
_COMPRESSION = "zstd"
# A reader has one batch in memory beside what it makes of it.
_BATCH_BYTES = 4 << 20
_MIN_BATCH_ROWS = 1 << 10
_SAMPLE_BYTES = 1 << 18
_MIN_GAIN = 0.1


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as a stream."""
    import pyarrow as pa

    options = pa.ipc.IpcWriteOptions(compression=_COMPRESSION if _gains(table) else None)
    rows = max(_MIN_BATCH_ROWS, _BATCH_BYTES * table.num_rows // max(1, table.nbytes))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
        if not table.num_rows:
            # Without a batch, categories would not be written.
            columns = [c.chunk(0) if c.num_chunks else pa.array([], c.type) for c in table.columns]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=table.schema))
    pa.default_memory_pool().release_unused()


def _gains(table: pa.Table) -> bool:
    """Say whether compression pays: for unrounded measurements, it takes longer than what it saves."""
    import pyarrow as pa

    rows = min(table.num_rows, max(1, _SAMPLE_BYTES * table.num_rows // max(1, table.nbytes)))
    sample = table.slice((table.num_rows - rows) // 2, rows)
    sizes: list[int] = []
    for compression in (_COMPRESSION, None):
        sink = pa.MockOutputStream()
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(sample)
        sizes.append(sink.size())
    return sizes[0] < (1 - _MIN_GAIN) * sizes[1]


def describe_streams(folder: Path) -> dict[str, Any]:
    """
    Return what the index says of the streams in a folder: what they unpack to.

    Each value counts as a byte at least, as it does for a reader; else a value could be written that no one can read.
    """
    found = [declared(path) for path in folder.glob(f"*{_SUFFIX}")]
    return {
        UNPACKED_BYTES: max(
            sum(stream.unpacked_bytes for stream in found), sum(stream.values for stream in found)
        )
    }


def check_streams(folder: Path, meta: Mapping[str, Any], limits: Limits) -> dict[str, Declared]:
    """
    Return what each stream in a folder declares, before any of it is unpacked.

    :raises WandbXComRefusedError: one is no stream, or they unpack to more than their index or ``limits`` say.
    """
    found = {}
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        with refusing_broken(path):
            found[path.name] = declared(path)
    values = sum(stream.values for stream in found.values())
    if values > limits.max_bytes:
        raise WandbXComRefusedError(
            f"Refused a stored table: it declares {values} values; at most {limits.max_bytes} bytes are accepted "
            "('max_value_bytes' of [wandb_xcom])."
        )
    unpacked, said = sum(stream.unpacked_bytes for stream in found.values()), meta.get(UNPACKED_BYTES, 0)
    if unpacked > said:
        raise WandbXComRefusedError(
            f"Refused a stored table: it unpacks to {unpacked} bytes, more than the {said} that its index says."
        )
    return found


@contextmanager
def open_table(path: Path) -> Iterator[pa.RecordBatchStreamReader]:
    """
    Give the batches of a stream, which :func:`check_streams` has seen, one at a time.

    :raises WandbXComRefusedError: it is no such stream.
    """
    import pyarrow as pa

    with refusing_broken(path), pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
        yield reader


def read_table(path: Path) -> pa.Table:
    """
    Return the table of a stream, which :func:`check_streams` has seen.

    :raises WandbXComRefusedError: it is no such stream.
    """
    with open_table(path) as reader:
        table = reader.read_all()
        table.validate(full=True)
        return table


def unstorable(what: str, error: object) -> WandbConfigurationError:
    """Return the error for a table that Arrow has no form for."""
    return WandbConfigurationError(
        f"{what} cannot be passed: Arrow has no form that gives back the same ({error}). Convert the column, or pass "
        "it in another form."
    )


@contextmanager
def refusing_broken(path: Path) -> Iterator[None]:
    """
    Turn what Arrow raises about a file into a refusal.

    :raises WandbXComRefusedError: instead.
    """
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, struct.error, IndexError) as error:
        raise WandbXComRefusedError(
            f"Refused the stored table {path.name!r}: it is no Arrow stream of this backend ({error})."
        ) from error
