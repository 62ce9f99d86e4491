"""
Arrow's IPC streams. Their buffers are not compressed, the files are; so what is unpacked is read from its file.

A few bytes of a stream with compressed buffers, or whose columns have no buffers, can become more than the memory of a
worker. What a stream declares is therefore summed up from its headers, before Arrow reads any of it.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbXComRefusedError
from wandb_airflow_provider.xcom.settings import Limits

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["checked_stream", "read_table", "read_table_in_parts", "unstorable", "write_table"]

_BATCH_ROWS = 1 << 20
# Of Arrow's format: the fields of a message, and of the headers of its kinds.
_MESSAGE_HEADER_TYPE, _MESSAGE_HEADER = 1, 2
_HEADER_SCHEMA, _HEADER_DICTIONARY, _HEADER_BATCH = 1, 2, 3
_DICTIONARY_DATA = 1
_BATCH_NODES, _BATCH_COMPRESSION = 1, 3
_NODE_BYTES = 16


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as a stream."""
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=_BATCH_ROWS)
        if not table.num_rows:
            # Without a batch, categories would not be written.
            columns = [c.chunk(0) if c.num_chunks else pa.array([], c.type) for c in table.columns]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=table.schema))


def read_table(path: Path, limits: Limits) -> pa.Table:
    """
    Return the table of a stream, which stays in the file until it is used.

    :raises WandbXComRefusedError: it is no such stream, or would unpack to more than ``limits`` allow.
    """
    import pyarrow as pa

    checked_stream(path, limits)
    with refusing_broken(path):
        return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()


def read_table_in_parts(path: Path, limits: Limits) -> tuple[pa.Table, Callable[[], None]]:
    """
    Return the table of a stream, and what takes the parts of it that were used out of memory again.

    Those stay usable: what is used once more is read from the file once more.

    :raises WandbXComRefusedError: it is no such stream, or would unpack to more than ``limits`` allow.
    """
    import pyarrow as pa

    checked_stream(path, limits)
    with refusing_broken(path), path.open("rb") as file:
        if not path.stat().st_size:
            raise OSError("it is empty")
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

    def release() -> None:
        if hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)

    with refusing_broken(path):
        return pa.ipc.open_stream(pa.py_buffer(mapped)).read_all(), release


def checked_stream(path: Path, limits: Limits) -> Path:
    """
    Return the path of a stream after its headers have been read.

    :raises WandbXComRefusedError: it is compressed, or declares more values than ``limits`` allow bytes.
    """
    import pyarrow as pa

    values = 0
    with refusing_broken(path), pa.memory_map(str(path)) as file:
        for message in _messages(pa.ipc.MessageReader.open_stream(file)):
            declared = _declared(bytes(message.metadata))
            if declared.compressed:
                raise WandbXComRefusedError(
                    f"Refused the stored table {path.name!r}: it is compressed; this backend compresses none."
                )
            values += declared.values
    if values > limits.max_bytes:
        raise WandbXComRefusedError(
            f"Refused the stored table {path.name!r}: it declares {values} values; at most {limits.max_bytes} bytes "
            "are accepted ('max_value_bytes' of [wandb_xcom])."
        )
    return path


def unstorable(what: str, error: object) -> WandbConfigurationError:
    """Return the error for a table that Arrow has no form for."""
    return WandbConfigurationError(
        f"{what} cannot be passed: Arrow has no form that gives back the same ({error}). Convert the column, or pass "
        "it in another form."
    )


class refusing_broken:
    """Turn what Arrow raises about a file into a refusal."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import pyarrow as pa

        if isinstance(error, (pa.ArrowException, OSError, struct.error, IndexError)):
            raise WandbXComRefusedError(
                f"Refused the stored table {self._path.name!r}: it is no Arrow stream ({error})."
            ) from error


class _Declared(NamedTuple):
    values: int = 0
    compressed: bool = False


def _messages(reader: Any) -> Iterator[Any]:
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def _declared(metadata: bytes) -> _Declared:
    """Return how many values, nested ones too, the header of a message declares."""
    (message,) = struct.unpack_from("<I", metadata, 0)
    kind_at = _field(metadata, message, _MESSAGE_HEADER_TYPE)
    kind = metadata[kind_at] if kind_at else 0
    header = _offset(metadata, message, _MESSAGE_HEADER)
    if kind == _HEADER_SCHEMA:
        return _Declared()
    if kind == _HEADER_DICTIONARY:
        header = _offset(metadata, header, _DICTIONARY_DATA)
    elif kind != _HEADER_BATCH:
        raise IndexError(f"a message of kind {kind}")
    if _field(metadata, header, _BATCH_COMPRESSION):
        return _Declared(compressed=True)
    nodes = _offset(metadata, header, _BATCH_NODES) if _field(metadata, header, _BATCH_NODES) else 0
    rows_at = _field(metadata, header, 0)
    values = struct.unpack_from("<q", metadata, rows_at)[0] if rows_at else 0
    if nodes:
        (count,) = struct.unpack_from("<I", metadata, nodes)
        for number in range(count):
            values += abs(struct.unpack_from("<q", metadata, nodes + 4 + number * _NODE_BYTES)[0])
    return _Declared(values)


def _field(data: bytes, table: int, number: int) -> int:
    """Return where a field of a flatbuffers table is, or 0 where it is left out."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    (size,) = struct.unpack_from("<H", data, vtable)
    entry = 4 + 2 * number
    if entry >= size:
        return 0
    (offset,) = struct.unpack_from("<H", data, vtable + entry)
    return table + offset if offset else 0


def _offset(data: bytes, table: int, number: int) -> int:
    """Return where the table or vector is that a field leads to."""
    at = _field(data, table, number)
    if not at:
        raise IndexError(f"field {number} is left out")
    return at + int(struct.unpack_from("<I", data, at)[0])
