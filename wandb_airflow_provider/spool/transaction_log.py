"""
What a run's ``.wandb`` file holds, counted without W&B: rows of history, the exit code, the artifacts.

The file is a log in LevelDB's format; each entry is one protobuf message of which only field numbers are looked at,
so that the counts do not come from the same code that uploads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["RunLog", "TransactionLogError", "read_transaction_log"]

_FILE_HEADER = b":W&B"
FILE_HEADER_BYTES = 7
BLOCK_BYTES = 32768
CHUNK_HEADER_BYTES = 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4

# Field numbers of wandb's protobuf messages, which old files pin for all times.
HISTORY, _ARTIFACT, _RUN, _EXIT = 2, 8, 17, 18
_ARTIFACT_TYPE, _ARTIFACT_NAME, _EXIT_CODE = 4, 5, 1
_RUN_STARTING_STEP, _RUN_RESUMED = 14, 18


class TransactionLogError(ValueError):
    """The file is no ``.wandb`` file that can be read."""


class RunLog(NamedTuple):
    """
    The counts of one ``.wandb`` file.

    :param exit_code: None for a run that was never finished.
    :param artifacts: ``type/name`` of the artifacts that were logged.
    :param resumed: W&B had the run already when it was opened online.
    """

    history_rows: int = 0
    exit_code: int | None = None
    artifacts: tuple[str, ...] = ()
    resumed: bool = False
    starting_step: int = 0


def read_transaction_log(path: Path) -> RunLog:
    """
    Count what a ``.wandb`` file holds; an entry cut off at its end, as after a kill, is not counted.

    :raises TransactionLogError: it is not in the format known.
    """
    rows, exit_code, artifacts = 0, None, dict[str, None]()
    resumed, starting_step, opened = False, 0, False
    for message in messages(path.read_bytes(), path):
        for number, value in fields(message):
            if number == HISTORY:
                rows += 1
            elif number == _EXIT and isinstance(value, bytes):
                exit_code = _signed(integers(value).get(_EXIT_CODE, 0))
            elif number == _ARTIFACT and isinstance(value, bytes):
                texts = _texts(value)
                artifacts[f"{texts.get(_ARTIFACT_TYPE, '')}/{texts.get(_ARTIFACT_NAME, '')}"] = None
            elif number == _RUN and isinstance(value, bytes) and not opened:
                opened = True
                numbers = integers(value)
                resumed, starting_step = (
                    bool(numbers.get(_RUN_RESUMED)),
                    _signed(numbers.get(_RUN_STARTING_STEP, 0)),
                )
    return RunLog(rows, exit_code, tuple(artifacts), resumed, starting_step)


def messages(data: bytes, path: Path) -> Iterator[bytes]:
    """Yield the entries of a file, without one that is cut off at its end."""
    if not data.startswith(_FILE_HEADER):
        raise TransactionLogError(f"{path} does not begin like a W&B transaction log.")
    position, parts = FILE_HEADER_BYTES, list[bytes]()
    while position + CHUNK_HEADER_BYTES <= len(data):
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < CHUNK_HEADER_BYTES:
            position += left
            continue
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        kind = data[position + 6]
        start = position + CHUNK_HEADER_BYTES
        position = start + length
        if kind == 0 or position > len(data):
            return
        if kind not in (FULL, FIRST, MIDDLE, LAST):
            raise TransactionLogError(f"{path} has a chunk of the unknown kind {kind}.")
        if kind in (FULL, FIRST):
            parts = []
        parts.append(data[start:position])
        if kind in (FULL, LAST):
            yield b"".join(parts)


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protobuf message, floating point numbers left out."""
    for number, value, _ in raw_fields(message):
        if value is not None:
            yield number, value


def raw_fields(message: bytes) -> Iterator[tuple[int, int | bytes | None, bytes]]:
    """Yield number, value and encoding of each field of a protobuf message; None stands for a floating point number."""
    position = 0
    while position < len(message):
        start = position
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        value: int | bytes | None = None
        if kind == 0:
            value, position = _varint(message, position)
        elif kind == 2:
            length, position = _varint(message, position)
            value = message[position : position + length]
            position += length
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        else:
            raise TransactionLogError(f"A record has a field of the unknown kind {kind}.")
        yield number, value, message[start:position]


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(message):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise TransactionLogError("A record ends within a number.")


def integers(message: bytes) -> dict[int, int]:
    """Return the fields of a protobuf message that are whole numbers."""
    return {number: value for number, value in fields(message) if isinstance(value, int)}


def _texts(message: bytes) -> dict[int, str]:
    return {
        number: value.decode("utf-8", "replace")
        for number, value in fields(message)
        if isinstance(value, bytes)
    }


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
