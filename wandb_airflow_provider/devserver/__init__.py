"""A local W&B-compatible backend for development and tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.devserver.auth import DEFAULT_API_KEY

if TYPE_CHECKING:
    from wandb_airflow_provider.devserver.server import DevServer, DevServerError

__all__ = ["DEFAULT_API_KEY", "DevServer", "DevServerError"]


def __getattr__(name: str) -> Any:
    # The HTTP server is imported on first use, because the command line reads its arguments first.
    if name in ("DevServer", "DevServerError"):
        from wandb_airflow_provider.devserver import server

        return getattr(server, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
