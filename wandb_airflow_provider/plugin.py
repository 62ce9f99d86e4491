"""The Airflow plugin, found through its entry point. It changes nothing until a feature of it is used."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin

from wandb_airflow_provider.links.run import WandbAnyTaskRunLink, WandbRunLink
from wandb_airflow_provider.macros import environment, exports
from wandb_airflow_provider.panel.app import FASTAPI_APP, REACT_APP

__all__ = ["WandbPlugin"]


class WandbPlugin(AirflowPlugin):
    """
    Register the link classes, which the API server needs to show the button of a task it did not parse.

    With ``[wandb] dag_run_panel``, which is on, also the tab of DAG runs, with ``[wandb] auto_instrument`` the
    listener, with ``[wandb] webhook_conn_id`` the receiver of webhooks; without them, there is none.
    """

    name = "wandb"
    operator_extra_links = [WandbRunLink()]  # noqa: RUF012
    global_operator_extra_links = [WandbAnyTaskRunLink()]  # noqa: RUF012
    macros = [environment, exports]  # noqa: RUF012

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Add the tab, the listener and the receiver of webhooks if the configuration asks for them."""
        from wandb_airflow_provider import settings

        cls.listeners, cls.fastapi_apps, cls.react_apps = [], [], []
        if settings.dag_run_panel():
            cls.fastapi_apps.append(FASTAPI_APP)
            cls.react_apps.append(REACT_APP)
        if settings.auto_instrument():
            from wandb_airflow_provider.listeners.listener import WandbListener

            cls.listeners.append(WandbListener())
        if settings.webhook_conn_id():
            from wandb_airflow_provider.webhook.mount import WebhookMount

            cls.fastapi_apps.append(WebhookMount())
