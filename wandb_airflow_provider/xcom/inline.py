"""Values that are kept in Airflow's database in whole: small bytes, and what is there while W&B is away."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from wandb_airflow_provider.xcom.index import Index, digest_of
from wandb_airflow_provider.xcom.reference import MARKER

__all__ = ["inline_bytes", "inline_files"]


def inline_bytes(value: bytes | bytearray) -> dict[str, Any]:
    """Return bytes as JSON."""
    kind = "bytearray" if isinstance(value, bytearray) else "bytes"
    return {MARKER: 1, "inline": kind, "data": base64.b64encode(value).decode()}


def inline_files(index: Index, root: Path) -> dict[str, Any]:
    """Return a whole value as JSON, with the same checks on its way back as one that is stored."""
    files = {path: base64.b64encode((root / path).read_bytes()).decode() for path in index.files}
    content = index.to_bytes()
    return {
        MARKER: 1,
        "inline": "files",
        "index": content.decode(),
        "digest": digest_of(content),
        "files": files,
    }
