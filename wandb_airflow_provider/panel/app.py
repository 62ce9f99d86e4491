"""What the plugin registers of the panel. Airflow loads it in every process, so the web application comes later."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["FASTAPI_APP", "REACT_APP"]

_PREFIX = "wandb-panel"


class _LazyApp:
    """The panel's web application, made when an API server gets the first request for it."""

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        from wandb_airflow_provider.panel.routes import app

        await app(scope, receive, send)


FASTAPI_APP = {"name": "W&B panel", "app": _LazyApp(), "url_prefix": f"/{_PREFIX}"}
REACT_APP = {
    "name": "W&B",
    # Relative to the page's base, so that it is found behind a path prefix too.
    "bundle_url": f"{_PREFIX}/panel.js",
    "destination": "dag_run",
    "url_route": "wandb",
}
