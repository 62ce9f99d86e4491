"""Ids: one seeded source for whatever is random, and base64 global ids."""

from __future__ import annotations

import base64
import binascii
import hashlib
import random
import string
import threading
from collections.abc import Sequence

_ALPHABET = string.ascii_lowercase + string.digits


class IdSource:
    """
    Hands out random ids; the same seed gives the same ids in the same order.

    :param seed: Anything that names the sequence. A server that starts again on the same data must pass another
        one, or ids would repeat.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - ids are names, not secrets
        self._lock = threading.Lock()

    def reseed(self, seed: str) -> None:
        """Begin the sequence of another seed."""
        with self._lock:
            self._random.seed(seed)

    def token(self, length: int = 8) -> str:
        """Return lower-case letters and digits, like a run id."""
        with self._lock:
            return "".join(self._random.choices(_ALPHABET, k=length))

    def choice(self, options: Sequence[str]) -> str:
        """Return one of the options."""
        with self._lock:
            return self._random.choice(options)

    def number(self, below: int) -> int:
        """Return a whole number from 0 on, less than ``below``."""
        with self._lock:
            return self._random.randrange(below)

    def new(self, type_name: str) -> str:
        """Return a fresh global id of a type."""
        return global_id(type_name, self.token(16))


def global_id(type_name: str, *parts: object) -> str:
    """Return the base64 global id ``Type:part:part``."""
    return base64.b64encode(":".join([type_name, *map(str, parts)]).encode()).decode()


def numbered_id(type_name: str, name: str) -> str:
    """Return the global id ``Type:number`` that stands for a name, as clients expect of users and teams."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
    return global_id(type_name, number)


def decode_global_id(value: str) -> list[str] | None:
    """Return the parts of a global id, type first, or None if it is not one."""
    try:
        return base64.b64decode(value, validate=True).decode().split(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
