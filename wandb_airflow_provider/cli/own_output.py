"""The output of a command, which programs read too, apart from what Airflow says when it starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

__all__ = ["own_output"]


@contextmanager
def own_output() -> Iterator[None]:
    """Import and use Airflow: what it logs goes to the error output, and only warnings do."""
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")
    with redirect_stdout(sys.stderr):
        yield
