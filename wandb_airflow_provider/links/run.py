"""The button that opens a task's W&B run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink

from wandb_airflow_provider.identity import RUN_URL_KEY

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey

__all__ = ["WandbRunLink"]


class WandbRunLink(BaseOperatorLink):
    """Open the task's run in W&B; there as soon as the run is open, while the task still runs."""

    name = "W&B run"
    # Airflow's UI reads the URL where the task pushed it, before this class's own copy exists.
    xcom_key = RUN_URL_KEY

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL that the task pushed, or an empty string before it opened its run."""
        from airflow.providers.common.compat.sdk import XCom

        return XCom.get_value(ti_key=ti_key, key=RUN_URL_KEY) or ""
