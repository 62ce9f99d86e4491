"""
``python missing_constraints.py CONSTRAINTS FREEZE``: constraints for an image that has packages already.

Prints what ``pip freeze`` says of the image, and of the constraints those lines whose package it lacks.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==\S+")


def merge(constraints: str, freeze: str) -> list[str]:
    """Return the lines of both, those of the image first; it wins."""
    kept = [line for line in freeze.splitlines() if _PINNED.match(line)]
    present = {_name(line) for line in kept}
    return kept + [line for line in constraints.splitlines() if _name(line) not in present | {""}]


def _name(line: str) -> str:
    found = _PINNED.match(line)
    return re.sub(r"[-_.]+", "-", found[1]).lower() if found else ""


if __name__ == "__main__":
    print("\n".join(merge(*(Path(name).read_text(encoding="utf-8") for name in sys.argv[1:3]))))
