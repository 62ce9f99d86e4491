"""What the plugin registers of the receiver. Airflow loads plugins in every process, and only API servers need it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["URL_PREFIX", "WebhookMount"]

URL_PREFIX = "/wandb"


class WebhookMount(dict[str, Any]):
    """An entry of a plugin's ``fastapi_apps`` whose application is made when an API server takes it."""

    def __init__(self) -> None:
        super().__init__(name="W&B webhooks", app=self, url_prefix=URL_PREFIX)

    def get(self, key: str, default: Any = None, /) -> Any:
        """Return a field of the entry; Airflow asks for ``app`` only to mount it."""
        return self.app if key == "app" else super().get(key, default)

    @cached_property
    def app(self) -> FastAPI:
        """The application. It has a lifespan, so it cannot be a stand-in that forwards requests."""
        from wandb_airflow_provider.webhook.app import create_app

        return create_app()
