"""The buttons that open a task's W&B run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink

from wandb_airflow_provider.identity import RUN_URL_KEY

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey

__all__ = ["WandbAnyTaskRunLink", "WandbRunLink", "web_url"]

_NAME = "W&B run"


class WandbRunLink(BaseOperatorLink):
    """Open the task's run in W&B; there as soon as the run is open, while the task still runs."""

    name = _NAME
    # Airflow's UI reads the URL where the task pushed it, before this class's own copy exists.
    xcom_key = RUN_URL_KEY

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL that the task pushed, or an empty string before it opened its run."""
        from airflow.providers.common.compat.sdk import XCom

        return XCom.get_value(ti_key=ti_key, key=RUN_URL_KEY) or ""


class WandbAnyTaskRunLink(BaseOperatorLink):
    """
    The same button on a task of any operator that pushed the URL of a run.

    Of the operators that bring :class:`WandbRunLink` Airflow shows that one alone, because both have one name.
    """

    name = _NAME
    xcom_key = RUN_URL_KEY

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL that the task pushed, or an empty string. Called in the API server, never by a task."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        query = XComModel.get_many(
            key=RUN_URL_KEY,
            run_id=ti_key.run_id,
            dag_ids=ti_key.dag_id,
            task_ids=ti_key.task_id,
            map_indexes=ti_key.map_index,
        )
        with create_session() as session:
            found = session.execute(query.with_only_columns(XComModel.value)).first()
        return (found and web_url(stored_value(found[0]))) or ""


def stored_value(stored: Any) -> Any:
    """Return an XCom as its task pushed it, read as JSON alone: decoding it with Airflow could create any class."""
    if not isinstance(stored, str):
        return stored
    try:
        return json.loads(stored)
    except ValueError:
        return stored


def web_url(value: Any) -> str | None:
    """Return the value if it is an address that a browser may be sent to: anyone who writes XComs can forge it."""
    if not isinstance(value, str):
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return value if parts.scheme in ("http", "https") and parts.netloc else None
