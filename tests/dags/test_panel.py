"""What the panel answers about DAG runs that were run in this process, and to whom."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from airflow.sdk import DAG, task, task_group
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.dags.conftest import Ledger
from tests.dags.test_cross_dag import one_task
from wandb_airflow_provider import wandb_pipeline
from wandb_airflow_provider.links.run import WandbAnyTaskRunLink
from wandb_airflow_provider.panel.app import FASTAPI_APP, REACT_APP
from wandb_airflow_provider.provenance import TRIGGERED_BY

RunDag = Callable[..., Any]


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch, airflow_db: None) -> Iterator[Callable[[str | None], str]]:
    """``token(role)`` logs somebody in; with None as a user to whom nothing is allowed."""
    from airflow.api_fastapi.app import create_auth_manager, purge_cached_app
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    monkeypatch.setenv(
        "AIRFLOW__API_AUTH__JWT_SECRET", "a secret that is long enough for the test's tokens" * 2
    )
    purge_cached_app()
    manager: Any = create_auth_manager()

    def log_in(role: str | None) -> str:
        return str(manager.generate_jwt(SimpleAuthManagerUser(username="somebody", role=role)))

    yield log_in
    purge_cached_app()


@pytest.fixture
def browser(airflow_db: None) -> Iterator[TestClient]:
    """A client of an API server that is at the path ``/team`` of its host."""
    server = FastAPI(root_path="/team")
    server.mount(FASTAPI_APP["url_prefix"], FASTAPI_APP["app"])
    with TestClient(server) as client:
        yield client


def address(dag_run: Any, dag_id: str | None = None) -> str:
    return f"/team/wandb-panel/dags/{dag_id or dag_run.dag_id}/runs/{quote(dag_run.run_id, safe='')}"


def dag_with_every_state(dag_id: str) -> Any:
    with DAG(dag_id, schedule=None) as dag, wandb_pipeline():

        @task.wandb
        def prepare(wandb_run: Any) -> list[int]:
            wandb_run.define_metric("loss", summary="min")
            wandb_run.log({"loss": 2.0, "rows": 3})
            wandb_run.log({"loss": 4.0, "flag": True, "bad": float("nan"), "text": "word"})
            return [1, 2]

        @task_group
        def training(rates: Any) -> None:
            @task.wandb
            def fit(rate: int, wandb_run: Any) -> None:
                wandb_run.summary["rate"] = rate

            @task.wandb
            def broken(wandb_run: Any) -> None:
                wandb_run.summary["reached"] = 7
                raise ValueError("no luck")

            fit.expand(rate=rates)
            broken()

        @task.short_circuit
        def never() -> bool:
            return False

        @task
        def left_out() -> None:
            raise AssertionError

        @task
        def forger(ti: Any) -> None:
            ti.xcom_push(key="wandb_run_url", value="javascript:alert(1)")
            ti.xcom_push(key="wandb_run", value={"url": "data:text/html,<script>alert(1)</script>"})
            ti.xcom_push(key="wandb_metrics", value={"<b>": 1, "word": "<script>", "list": [1]})

        training(prepare())
        never() >> left_out()
        forger()
    return dag


@pytest.mark.slow
def test_the_panel_holds_the_tree_with_states_durations_metrics_and_links(
    ledger: Ledger, run_dag: RunDag, browser: TestClient, token: Callable[..., str]
) -> None:
    dag_run = run_dag(dag_with_every_state("panel_of_all"))
    runs = ledger.runs()
    browser.cookies.set("_token", token("viewer"))
    answer = browser.get(address(dag_run))

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    root = runs[f"panel_of_all · {dag_run.run_id}"]
    assert (found["state"], found["url"], found["has_runs"]) == ("failed", root.url, True)
    nodes = {node["label"]: node for node in found["nodes"]}
    assert set(nodes) == {"prepare", "training", "never", "left_out", "forger"}
    assert nodes["prepare"]["metrics"] == {"loss.min": 2.0, "rows": 3}
    assert nodes["prepare"]["url"] == runs["prepare"].url
    assert nodes["prepare"]["seconds"] > 0
    assert (nodes["left_out"]["state"], nodes["left_out"]["seconds"]) == ("skipped", None)
    assert (nodes["training"]["kind"], nodes["training"]["state"]) == ("group", "failed")
    below = {node["label"]: node for node in nodes["training"]["children"]}
    assert (below["broken"]["state"], below["broken"]["metrics"]) == ("failed", {"reached": 7})
    assert below["broken"]["url"] == runs["training.broken"].url
    assert below["fit"]["kind"] == "mapped"
    assert [(n["label"], n["metrics"], n["url"]) for n in below["fit"]["children"]] == [
        (f"fit[{index}]", {"rate": index + 1}, runs[f"training.fit[{index}]"].url) for index in range(2)
    ]
    # What a task may push itself leads nowhere but to web pages, and shows nothing but numbers.
    assert (nodes["forger"]["url"], nodes["forger"]["metrics"]) == (None, {"<b>": 1})


def test_only_those_who_may_read_the_dag_see_its_panel(
    ledger: Ledger, run_dag: RunDag, browser: TestClient, token: Callable[..., str]
) -> None:
    with DAG("panel_guarded", schedule=None) as dag:

        @task
        def nothing() -> None: ...

        nothing()
    dag_run = run_dag(dag)

    assert browser.get(address(dag_run)).status_code == 401
    for cookie in ("forged", token(None)):
        browser.cookies.set("_token", cookie)
        assert browser.get(address(dag_run)).status_code == 403
    bearer = {"Authorization": f"Bearer {token('viewer')}"}
    seen = browser.get(address(dag_run), headers=bearer)
    assert (seen.status_code, seen.json()["has_runs"]) == (200, False)
    # Neither an id that stands for all DAGs nor another one's run gives more.
    assert browser.get(address(dag_run, "~"), headers=bearer).status_code == 404
    assert browser.get(address(dag_run, "other"), headers=bearer).status_code == 404


def test_the_page_s_code_is_served_before_anybody_logs_in(browser: TestClient) -> None:
    answer = browser.get("/team/wandb-panel/panel.js")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "AirflowPlugin" in answer.text


@pytest.mark.slow
def test_linked_dag_runs_are_shown_to_those_who_may_read_them(
    ledger: Ledger,
    run_dag: RunDag,
    browser: TestClient,
    token: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    source = run_dag(one_task("panel_source"))
    conf = {TRIGGERED_BY: {"dag_id": "panel_source", "dag_run_id": source.run_id}}
    started = run_dag(one_task("panel_started"), run_conf=conf)
    browser.cookies.set("_token", token("viewer"))

    (above,) = browser.get(address(started)).json()["triggered_by"]
    root = ledger.runs()[f"panel_source · {source.run_id}"]
    assert (above["dag_id"], above["state"], above["url"]) == ("panel_source", "success", root.url)

    manager: Any = get_auth_manager()
    allowed = type(manager).is_authorized_dag

    def not_the_source(self: Any, *, details: Any = None, **arguments: Any) -> bool:
        return details.id != "panel_source" and allowed(self, details=details, **arguments)

    monkeypatch.setattr(type(manager), "is_authorized_dag", not_the_source)
    assert browser.get(address(started)).json()["triggered_by"] == []


def test_the_button_of_any_task_leads_where_the_task_said(ledger: Ledger, run_dag: RunDag) -> None:
    from airflow.models.taskinstancekey import TaskInstanceKey

    with DAG("any_task_link", schedule=None) as dag:

        @task
        def pushes(url: str, ti: Any) -> None:
            ti.xcom_push(key="wandb_run_url", value=url)

        @task
        def pushes_nothing() -> None: ...

        pushes.expand(url=["https://wandb.example.com/e/p/runs/1", "javascript:alert(1)"])
        pushes_nothing()
    dag_run = run_dag(dag)

    def link(task_id: str, map_index: int = -1) -> str:
        key = TaskInstanceKey("any_task_link", task_id, dag_run.run_id, 1, map_index)
        return WandbAnyTaskRunLink().get_link(None, ti_key=key)

    assert link("pushes", 0) == "https://wandb.example.com/e/p/runs/1"
    assert link("pushes", 1) == ""
    assert link("pushes_nothing") == ""


def test_the_tab_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb_airflow_provider.plugin import WandbPlugin

    def registered() -> tuple[list[Any], list[Any]]:
        WandbPlugin.on_load()
        return WandbPlugin.fastapi_apps, WandbPlugin.react_apps

    assert registered() == ([FASTAPI_APP], [REACT_APP])
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW__WANDB__DAG_RUN_PANEL", "False")
        assert registered() == ([], [])
    registered()


@pytest.mark.slow
def test_loading_the_plugin_makes_no_web_application() -> None:
    code = (
        "import sys, wandb_airflow_provider.plugin;"
        " assert not {'fastapi', 'wandb_airflow_provider.panel.routes'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)
