"""
A copy of a ``.wandb`` file whose history goes on where W&B's ends.

A run that is opened without W&B counts its steps from 0, also where W&B has an earlier part of it. wandb 0.31 counts
on from there when such a file is uploaded; an older one, or a file that an older one wrote, repeats the steps.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from wandb_airflow_provider.spool.transaction_log import (
    BLOCK_BYTES,
    CHUNK_HEADER_BYTES,
    FILE_HEADER_BYTES,
    FIRST,
    FULL,
    HISTORY,
    LAST,
    MIDDLE,
    TransactionLogError,
    fields,
    integers,
    messages,
    raw_fields,
)

__all__ = ["continued_folder"]

COUNTS_ON = (0, 31)
"""The first wandb that does it by itself."""

# Field numbers, as in the other module.
_SUMMARY, _HEADER = 3, 21
_VERSION_INFO, _PRODUCER = 1, 1
_ITEM, _STEP, _STEP_NUMBER = 1, 2, 1
_KEY, _NESTED_KEY, _VALUE_JSON = 1, 2, 16
_STEP_KEY = b"_step"


def continued_folder(run_folder: Path, last_step: int, scratch: Path) -> Path:
    """
    Return a folder to upload for a run's own, whose steps come after ``last_step``; that folder where nothing is to do.

    :param last_step: The last step of the history that W&B has.
    :param scratch: Where a copy is made; all but the ``.wandb`` file are links.
    :raises TransactionLogError: the file is not in the format known.
    """
    files = list(run_folder.glob("run-*.wandb"))
    if len(files) != 1:
        raise TransactionLogError(f"{run_folder} holds {len(files)} '.wandb' files instead of one.")
    (file,) = files
    data = file.read_bytes()
    found = list(messages(data, file))
    first = next((step for message in found if (step := _step(message)) is not None), None)
    if first is None or first > last_step or (_wandb_counts_on() and _written_by(found) >= COUNTS_ON):
        return run_folder
    shift = last_step + 1 - first
    copy = scratch / "continued" / run_folder.name
    copy.mkdir(parents=True)
    for path in run_folder.iterdir():
        if path != file:
            os.symlink(path.absolute(), copy / path.name)
    body = b"".join(_chunks((_shifted(message, shift) for message in found), FILE_HEADER_BYTES))
    (copy / file.name).write_bytes(data[:FILE_HEADER_BYTES] + body)
    return copy


def _wandb_counts_on() -> bool:
    return _release(version("wandb")) >= COUNTS_ON


def _written_by(found: list[bytes]) -> tuple[int, ...]:
    """Return the version of wandb that wrote a file."""
    for message in found:
        for number, value in fields(message):
            if number == _HEADER and isinstance(value, bytes):
                info = dict(fields(value)).get(_VERSION_INFO)
                producer = dict(fields(info)).get(_PRODUCER) if isinstance(info, bytes) else None
                if isinstance(producer, bytes):
                    return _release(producer.decode())
    return ()


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _step(message: bytes) -> int | None:
    """Return the step of a row of history, None of anything else."""
    for number, value in fields(message):
        if number == HISTORY and isinstance(value, bytes):
            step = dict(fields(value)).get(_STEP, b"")
            return integers(step).get(_STEP_NUMBER, 0) if isinstance(step, bytes) else None
    return None


def _shifted(message: bytes, shift: int) -> bytes:
    """Return a message with ``shift`` added to the step of its row of history or of its summary."""
    parts = []
    for number, value, raw in raw_fields(message):
        if number in (HISTORY, _SUMMARY) and isinstance(value, bytes):
            raw = _field(number, b"".join(_shifted_parts(value, shift, history=number == HISTORY)))
        parts.append(raw)
    return b"".join(parts)


def _shifted_parts(record: bytes, shift: int, *, history: bool) -> Iterator[bytes]:
    for number, value, raw in raw_fields(record):
        if number == _ITEM and isinstance(value, bytes) and _is_step(value):
            yield _field(_ITEM, _shifted_item(value, shift))
        elif history and number == _STEP and isinstance(value, bytes):
            counted = integers(value).get(_STEP_NUMBER, 0) + shift
            yield _field(_STEP, _number(_STEP_NUMBER << 3) + _number(counted))
        else:
            yield raw


def _is_step(item: bytes) -> bool:
    names = [value for number, value in fields(item) if number in (_KEY, _NESTED_KEY) and value]
    return names == [_STEP_KEY]


def _shifted_item(item: bytes, shift: int) -> bytes:
    parts = []
    for number, value, raw in raw_fields(item):
        if number == _VALUE_JSON and isinstance(value, bytes):
            raw = _field(_VALUE_JSON, json.dumps(json.loads(value) + shift).encode())
        parts.append(raw)
    return b"".join(parts)


def _field(number: int, value: bytes) -> bytes:
    return _number(number << 3 | 2) + _number(len(value)) + value


def _number(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*digits, value))


def _chunks(found: Iterator[bytes], position: int) -> Iterator[bytes]:
    """Yield messages as LevelDB's log holds them: cut where a block ends, each piece with its checksum."""
    for message in found:
        rest, begun = message, False
        while rest or not begun:
            left = BLOCK_BYTES - position % BLOCK_BYTES
            if left < CHUNK_HEADER_BYTES:
                yield bytes(left)
                position += left
                left = BLOCK_BYTES
            piece, rest = rest[: left - CHUNK_HEADER_BYTES], rest[left - CHUNK_HEADER_BYTES :]
            kind = (MIDDLE if begun else FIRST) if rest else (LAST if begun else FULL)
            checked = bytes((kind,)) + piece
            yield zlib.crc32(checked).to_bytes(4, "little") + len(piece).to_bytes(2, "little") + checked
            position += CHUNK_HEADER_BYTES + len(piece)
            begun = True
