"""The Airflow plugin, found through its entry point. It changes nothing until a feature of it is used."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowPlugin

from wandb_airflow_provider.links.run import WandbRunLink

__all__ = ["WandbPlugin"]


class WandbPlugin(AirflowPlugin):
    """Register the link class, which the API server needs to show the button of a task it did not parse."""

    name = "wandb"
    operator_extra_links = [WandbRunLink()]  # noqa: RUF012
