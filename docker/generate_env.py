"""
``python3 docker/generate_env.py > .env``: the variables of docker-compose.yaml, with new secrets.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / ".env.example"
_EMPTY = re.compile(r"^([A-Z][A-Z0-9_]*)=$", re.MULTILINE)


def generate(example: str) -> str:
    """Return the example with a new secret for each variable that has no value."""
    return _EMPTY.sub(lambda found: f"{found[1]}={_secret(found[1])}", example)


def _secret(name: str) -> str:
    # Of hexadecimal digits, which need no quoting in an URL, in JSON or in a shell.
    if name == "AIRFLOW_FERNET_KEY":
        return base64.urlsafe_b64encode(os.urandom(32)).decode()
    return secrets.token_hex(20)


if __name__ == "__main__":
    sys.stdout.write(generate(EXAMPLE.read_text(encoding="utf-8")))
