"""Whether a value is small enough to stay in Airflow's database, found out without serializing what is plainly so."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["is_large", "is_plainly_small"]

_NUMBER_BYTES = 8
_MAX_DEPTH = 20


def is_plainly_small(value: Any, threshold: int, marker: str) -> bool:
    """Say whether a value consists of nothing but JSON types, does not hold the marker, and is within the threshold."""
    return _left(value, threshold, marker, 0) >= 0


def is_large(value: Any, threshold: int) -> bool:
    """
    Say whether a value has more than ``threshold`` bytes as JSON.

    :raises TypeError: Airflow cannot serialize it.
    """
    if isinstance(value, str):
        # UTF-8 has at least a byte for each character.
        return len(value) > threshold or _bytes(value) > threshold
    if value is None or isinstance(value, bool | int | float):
        return False
    from wandb_airflow_provider.capabilities import serde

    return len(json.dumps(serde().serialize(value))) > threshold


def _left(value: Any, left: int, marker: str, depth: int) -> int:
    """Return what is left of the threshold after a value, below zero for one that is not plainly small."""
    kind = type(value)
    if kind is str:
        return left - _bytes(value) if len(value) <= left else -1
    if value is None or kind is bool or kind is int or kind is float:
        return left - _NUMBER_BYTES
    if depth >= _MAX_DEPTH:
        return -1
    if kind is dict:
        if marker in value:
            return -1
        for key, item in value.items():
            if type(key) is not str:
                return -1
            left = _left(item, left - len(key) - 4, marker, depth + 1)
            if left < 0:
                return -1
        return left
    if kind is list or kind is tuple:
        for item in value:
            left = _left(item, left - 2, marker, depth + 1)
            if left < 0:
                return -1
        return left
    return -1


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
