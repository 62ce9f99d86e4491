"""DAGs that run when an alias moves, in a W&B of the test's own; and what makes that W&B tell Airflow."""

from __future__ import annotations

from airflow.sdk import DAG, task

from wandb_airflow_provider import WandbCreateAutomationOperator, wandb_alias_asset

# The one is polled so rarely that only a webhook can start it, the other all the time. Two connections, because all
# watchers of one connection and registry are polled at the shortest of their intervals.
CONN_ID = "wandb_of_webhooks"
POLLED_CONN_ID = "wandb_of_webhooks_polled"
PUSHED = wandb_alias_asset("model", "pushed", "production", wandb_conn_id=CONN_ID, poll_interval=3600)
BOTH = wandb_alias_asset(
    "model", "pushed-and-polled", "production", wandb_conn_id=POLLED_CONN_ID, poll_interval=1
)
TWO_SERVERS_CONN_ID = "wandb_of_two_servers"
TWO_SERVERS = wandb_alias_asset(
    "model", "two-servers", "production", wandb_conn_id=TWO_SERVERS_CONN_ID, poll_interval=3600
)


@task
def receive(triggering_asset_events):
    (events,) = triggering_asset_events.values()
    return [event.extra["payload"] for event in events]


with DAG("webhook_pushed", schedule=[PUSHED], catchup=False):
    receive()

with DAG("webhook_pushed_and_polled", schedule=[BOTH], catchup=False):
    receive()

with DAG("webhook_two_servers", schedule=[TWO_SERVERS], catchup=False):
    receive()

with DAG("webhook_automation", schedule=None):
    WandbCreateAutomationOperator(
        task_id="create",
        name="airflow",
        event="alias_added",
        registry="model",
        alias="production",
        action="webhook",
        integration="airflow",
        wandb_conn_id=CONN_ID,
    )
