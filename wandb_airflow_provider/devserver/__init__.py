"""A local W&B-compatible backend for development and tests."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wandb_airflow_provider.devserver.auth import DEFAULT_API_KEY
    from wandb_airflow_provider.devserver.server import DevServer, DevServerError

__all__ = ["DEFAULT_API_KEY", "DevServer", "DevServerError"]

_HOMES = {"DEFAULT_API_KEY": "auth", "DevServer": "server", "DevServerError": "server"}


def __getattr__(name: str) -> Any:
    # Imported on first use: pytest loads the plugin beside this everywhere, and the command reads its arguments first.
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
