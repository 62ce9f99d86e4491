"""The Airflow plugin, found through its entry point. It changes nothing until a feature of it is used."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin

from wandb_airflow_provider.links.run import WandbRunLink
from wandb_airflow_provider.macros import environment, exports

__all__ = ["WandbPlugin"]


class WandbPlugin(AirflowPlugin):
    """
    Register the link class, which the API server needs to show the button of a task it did not parse.

    With ``[wandb] auto_instrument`` also the listener; without it, there is none.
    """

    name = "wandb"
    operator_extra_links = [WandbRunLink()]  # noqa: RUF012
    macros = [environment, exports]  # noqa: RUF012

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Add the listener if the configuration asks for it."""
        from wandb_airflow_provider import settings

        cls.listeners = []
        if settings.auto_instrument():
            from wandb_airflow_provider.listeners.listener import WandbListener

            cls.listeners.append(WandbListener())
