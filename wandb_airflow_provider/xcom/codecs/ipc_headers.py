"""
What an Arrow IPC stream becomes in memory, read from its headers before Arrow reads any of it.

A few bytes of a stream with compressed buffers, or whose columns have no buffers, can become more than the memory of a
worker. Each header declares how many values it has, and each compressed buffer begins with the bytes it unpacks to,
which Arrow takes as the size to unpack into: not a byte more is ever written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Declared", "declared"]

_MESSAGE_VERSION, _MESSAGE_HEADER_TYPE, _MESSAGE_HEADER = 0, 1, 2
# In messages before this version, Arrow also unpacks what their own metadata calls compressed.
_VERSION_5 = 4
_HEADER_SCHEMA, _HEADER_DICTIONARY, _HEADER_BATCH = 1, 2, 3
_DICTIONARY_DATA = 1
_BATCH_ROWS, _BATCH_NODES, _BATCH_BUFFERS, _BATCH_COMPRESSION = 0, 1, 2, 3
_COMPRESSION_CODEC = 0
_ZSTD = 1
_VECTOR_START, _STRUCT_BYTES = 4, 16
_NOT_COMPRESSED = -1


class Declared(NamedTuple):
    """
    What a stream has.

    :param rows: Of its batches, without those of dictionaries.
    :param values: Of all columns, nested ones and dictionaries too.
    :param unpacked_bytes: Its buffers as Arrow holds them.
    :param packed: Some of them are compressed.
    """

    rows: int = 0
    values: int = 0
    unpacked_bytes: int = 0
    packed: bool = False


def declared(path: Path) -> Declared:
    """
    Read the headers of a stream.

    :raises ValueError: it is of an old version, compressed by anything but zstd, or a header leads out of it.
    :raises struct.error: it ends too early; like :class:`IndexError` and what Arrow raises.
    """
    import pyarrow as pa

    total = Declared()
    with pa.memory_map(str(path)) as file:
        for message in _messages(pa.ipc.MessageReader.open_stream(file)):
            found = _of_message(bytes(message.metadata), memoryview(message.body or b""))
            total = Declared(
                total.rows + found.rows,
                total.values + found.values,
                total.unpacked_bytes + found.unpacked_bytes,
                total.packed or found.packed,
            )
    return total


def _messages(reader: Any) -> Iterator[Any]:
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def _of_message(metadata: bytes, body: memoryview) -> Declared:
    (message,) = struct.unpack_from("<I", metadata, 0)
    version_at = _field(metadata, message, _MESSAGE_VERSION)
    version = struct.unpack_from("<h", metadata, version_at)[0] if version_at else 0
    if version != _VERSION_5:
        raise ValueError(f"a message of version {version + 1}, which this backend does not write")
    kind_at = _field(metadata, message, _MESSAGE_HEADER_TYPE)
    kind = metadata[kind_at] if kind_at else 0
    header = _offset(metadata, message, _MESSAGE_HEADER)
    if kind == _HEADER_SCHEMA:
        return Declared()
    if kind == _HEADER_DICTIONARY:
        header = _offset(metadata, header, _DICTIONARY_DATA)
    elif kind != _HEADER_BATCH:
        raise ValueError(f"a message of kind {kind}")
    rows_at = _field(metadata, header, _BATCH_ROWS)
    rows = abs(struct.unpack_from("<q", metadata, rows_at)[0]) if rows_at else 0
    values = rows + sum(abs(length) for length, _ in _structs(metadata, header, _BATCH_NODES))
    buffers = list(_structs(metadata, header, _BATCH_BUFFERS))
    if any(offset < 0 or length < 0 or offset + length > len(body) for offset, length in buffers):
        raise ValueError("a buffer that is not in its message")
    packed = _is_packed(metadata, header)
    unpacked = sum(_unpacked(body, *buffer) if packed else buffer[1] for buffer in buffers if buffer[1])
    return Declared(rows if kind == _HEADER_BATCH else 0, values, unpacked, packed)


def _is_packed(metadata: bytes, header: int) -> bool:
    if not _field(metadata, header, _BATCH_COMPRESSION):
        return False
    codec_at = _field(metadata, _offset(metadata, header, _BATCH_COMPRESSION), _COMPRESSION_CODEC)
    codec = metadata[codec_at] if codec_at else 0
    if codec != _ZSTD:
        raise ValueError(f"it is compressed by the codec {codec}, which this backend does not write")
    return True


def _unpacked(body: memoryview, offset: int, length: int) -> int:
    """Return what a buffer unpacks to; one that would not become smaller was left as it is."""
    (size,) = struct.unpack_from("<q", body, offset)
    if size < _NOT_COMPRESSED:
        raise ValueError(f"a buffer that unpacks to {size} bytes")
    return length if size == _NOT_COMPRESSED else int(size)


def _structs(data: bytes, table: int, number: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs of numbers in a vector."""
    if not _field(data, table, number):
        return
    vector = _offset(data, table, number)
    (count,) = struct.unpack_from("<I", data, vector)
    for position in range(count):
        yield struct.unpack_from("<qq", data, vector + _VECTOR_START + position * _STRUCT_BYTES)


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
