"""Webhooks from the dev server to a real API server, alone and beside a poller."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.system.conftest import WEBHOOK_SECRET
from tests.system.dags.webhooks import CONN_ID, POLLED_CONN_ID
from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.polling import wait_for
from wandb_airflow_provider.devserver import DevServer

pytestmark = pytest.mark.slow

Move = Callable[[str, str], None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, airflow_cluster: AirflowCluster) -> Iterator[DevServer]:
    """A W&B whose webhook ``airflow`` is the cluster's receiver, and that two of its connections lead to."""
    with DevServer(tmp_path_factory.mktemp("devserver")) as running:
        running.add_webhook_integration(
            "airflow", f"{airflow_cluster.url}/wandb/webhook", secret=WEBHOOK_SECRET
        )
        for conn_id in (CONN_ID, POLLED_CONN_ID):
            connection = {
                "connection_id": conn_id,
                "conn_type": "wandb",
                "host": running.url,
                "password": running.api_key,
                "extra": json.dumps({"entity": "local", "project": "webhooks"}),
            }
            airflow_cluster.api.request("POST", "/connections", json=connection)
        yield running


@pytest.fixture(scope="module")
def move(server: DevServer) -> Iterator[Move]:
    """``move(collection, content)`` gives the alias ``production`` to a version with this content."""
    import wandb

    settings = wandb.Settings(base_url=server.url, api_key=server.api_key, console="off", silent=True)

    def move_alias(collection: str, content: str) -> None:
        artifact = wandb.Artifact(collection, type="model")
        with artifact.new_file("weights.txt") as file:
            file.write(content)
        logged = run.log_artifact(artifact).wait()
        run.link_artifact(logged, f"wandb-registry-model/{collection}", aliases=["production"])

    with wandb.init(entity="local", project="webhooks", settings=settings, reinit="create_new") as run:
        yield move_alias
    wandb.teardown()


def test_each_move_of_an_alias_starts_one_dag_run_by_webhook_alone_and_beside_a_poller(
    airflow_cluster: AirflowCluster, server: DevServer, move: Move
) -> None:
    api = airflow_cluster.api
    created = airflow_cluster.run_dag("webhook_automation")
    assert api.xcom("webhook_automation", created.dag_run_id, "create")["outcome"] == "created"
    dags = {"webhook_pushed": "pushed", "webhook_pushed_and_polled": "pushed-and-polled"}
    for dag_id in dags:
        airflow_cluster.wait_for_dag(dag_id)
        api.unpause(dag_id)

    def watched(dag_id: str) -> bool | None:
        """Tell whether the watcher has read that nothing holds the alias yet."""
        assets = api.request("GET", "/assets", params={"dag_ids": [dag_id]})["assets"]
        (asset,) = assets
        store = api.request("GET", f"/assets/{asset['id']}/state-store")
        return True if store["total_entries"] else None

    for dag_id in dags:
        wait_for(f"the watcher of {dag_id}", lambda dag_id=dag_id: watched(dag_id), timeout=60)

    for number in range(2):
        known = {dag_id: frozenset(run.dag_run_id for run in api.dag_runs(dag_id)) for dag_id in dags}
        for collection in dags.values():
            move(collection, f"content {number}")
        for dag_id, collection in dags.items():
            assert len(known[dag_id]) == number
            run = airflow_cluster.wait_for_new_run(dag_id, known[dag_id])
            ended = airflow_cluster.wait_for_run(dag_id, run.dag_run_id)
            (payload,) = api.xcom(dag_id, ended.dag_run_id, "receive")
            assert (payload["version"], payload["collection"]) == (f"v{number}", collection)
            assert payload["previous_version"] == (f"v{number - 1}" if number else None)
            assert payload["change"] == ("moved" if number else "added")

    server.settle_automations()
    deliveries = server.webhook_deliveries("airflow")
    assert len(deliveries) == 4
    # 202 where a busy machine takes longer than W&B waits.
    assert {delivery.attempts[-1].status for delivery in deliveries} <= {200, 202}
    for dag_id in dags:
        assert len(api.dag_runs(dag_id)) == 2


def test_what_is_no_webhook_of_w_and_b_is_refused(airflow_cluster: AirflowCluster) -> None:
    import httpx

    url = f"{airflow_cluster.url}/wandb/webhook"
    headers = {"Content-Type": "application/json", "X-Wandb-Signature": "bm90aGluZw=="}
    assert httpx.post(url, content=b"{}", headers=headers, trust_env=False).status_code == 401
    assert httpx.post(url, content=b"x" * 100_000, headers=headers, trust_env=False).status_code == 413
    log = airflow_cluster.log_path("api-server").read_text("utf-8")
    assert "refused with 401" in log
    assert WEBHOOK_SECRET not in log
