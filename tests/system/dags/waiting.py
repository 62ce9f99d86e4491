"""A task that starts in the triggerer, with a templated alias, and a DAG that a move of that alias starts."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from wandb_airflow_provider import WandbRegistryAliasSensor, wandb_alias_asset

COLLECTION = "system-waiting"
WATCHED = wandb_alias_asset("model", COLLECTION, "watched", poll_interval=1, first="fire")


@task
def told(triggering_asset_events: Any) -> dict[str, Any]:
    (event,) = triggering_asset_events[WATCHED]
    return dict(event.extra["payload"])


with DAG("waiting", schedule=None, params={"alias": Param("none", type="string")}):
    WandbRegistryAliasSensor(
        task_id="wait",
        registry="model",
        collection=COLLECTION,
        alias="{{ params.alias }}",
        deferrable=True,
        start_from_trigger=True,
        poke_interval=1,
        timeout=120,
    )

with DAG("watching", schedule=[WATCHED]):
    told()
