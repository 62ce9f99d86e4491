"""What a redaction policy keeps back where others than the task's own run carry it: gates, audit, processes, spools."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param, task

from tests.dags.test_examples import pushed, states
from tests.planted import Planted, bytes_below, received
from wandb_airflow_provider import (
    WandbChildRun,
    WandbMetricGateOperator,
    WandbPromoteOperator,
    cli,
    log_artifact,
    sdk,
    wandb_pipeline,
)
from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.provenance import TRIGGERED_BY

pytestmark = pytest.mark.slow

RunDag = Callable[..., Any]
SALT = "salt-Zk55-never-to-be-sent"
POLICY = {
    "deny": ["ssn", "approval.by", "approved_by"],
    "hash": ["customer_id"],
    "salt": "variable:redaction_salt",
    "values": ["email", {"name": "plate", "regex": r"[A-Z]{2}-\d{4}-PLANTED"}],
}
PACKAGE = "planted_package_of_the_worker"
PROGRAM = "planted_program_of_the_worker.py"
# A flow as Metaflow and Kubeflow have it, and a plain run: their own code sends nothing that is planted.
FLOW = """
import os, subprocess, sys, wandb
from wandb_airflow_provider.integrations.flow_run import flow_run
from wandb_airflow_provider.integrations.step_run import StepRun
from wandb_airflow_provider.process_context import context_of

if sys.argv[2:] == ["step"]:
    step = StepRun(context_of(os.environ), key="1", task="fit", name="fit", config={})
    step.begin()
    try:
        raise ValueError(sys.argv[1])
    except ValueError as error:
        step.end(type(error).__name__)
else:
    with flow_run("Retraining", {}):
        subprocess.run([sys.executable, __file__, sys.argv[1], "step"], check=True)
    wandb.init().log({"rows": 3})
"""


@pytest.fixture
def own_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: Planted
) -> Iterator[tuple[DevServer, Path]]:
    """A server that only this test sends to, the folder of its data, and a worker about which there is much to tell."""
    packages = tmp_path / "packages"
    (packages / f"{PACKAGE}-1.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(packages))
    # Read by wandb once in a process.
    sdk.release()
    monkeypatch.delenv("WANDB_X_SAVE_REQUIREMENTS")
    for name in ("WANDB_HOST", "WANDB_USERNAME", "WANDB_USER_EMAIL"):
        monkeypatch.setenv(name, planted.email(name))
    monkeypatch.setattr(sys.modules["__main__"], "__file__", PROGRAM, raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setenv("AIRFLOW_VAR_REDACTION_SALT", SALT)
    with DevServer(tmp_path / "server", seed="places") as server:
        extra = {"entity": "local", "project": "places", "timeout": 5, "redaction": POLICY}
        connection = {"conn_type": "wandb", "host": server.url, "password": server.api_key, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_WANDB_DEFAULT", json.dumps(connection))
        yield server, tmp_path / "server"
    sdk.release()


@pytest.fixture
def planted() -> Planted:
    return Planted()


def params(planted: Planted) -> dict[str, Any]:
    return {
        "contact": Param(planted.email("params")),
        "person": Param({"ssn": planted.denied("params"), "customer_id": planted.hashed("params")}),
    }


def assert_nothing_of(planted: Planted, content: bytes) -> None:
    assert planted.places_in(content) == []
    for secret in (SALT, PACKAGE, PROGRAM, sys.executable):
        assert secret.encode() not in content, secret


def test_gates_records_of_decisions_processes_and_started_dag_runs_say_nothing_that_was_planted(
    own_server: tuple[DevServer, Path], run_dag: RunDag, planted: Planted, tmp_path: Path
) -> None:
    server, folder = own_server
    script = tmp_path / PROGRAM
    script.write_text(FLOW)
    weights = tmp_path / "weights.txt"
    weights.write_text("1 2 3")
    approved = {
        "chosen_options": ["Approve"],
        "responded_by_user": {"id": "1", "name": planted.denied("who approved")},
        "responded_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        "params_input": {"remark": planted.plate("an approval")},
    }
    with (
        DAG("places", schedule=None, params=params(planted)) as dag,
        wandb_pipeline(tags=[planted.email("a tag")]),
    ):

        @task.wandb(run_name=f"for {planted.email('a run name')}")
        def train(wandb_run: Any) -> dict[str, Any]:
            name = f"loss/{planted.email('a metric')}"
            wandb_run.define_metric(name, summary="min")
            wandb_run.log({name: 1.0, "accuracy": 0.9})
            wandb_run.summary[f"rows/{planted.plate('a summary key')}"] = 3
            return log_artifact(wandb_run, "weights", type="model", paths=weights).to_json()

        trained = train()
        gate = WandbMetricGateOperator(
            task_id="gate",
            run=trained["wandb_run"],
            candidate=trained,
            baseline_registry="model",
            baseline_collection="places",
            rules=[
                {"metric": "accuracy", "minimum": 0.5},
                {"metric": planted.email("a rule"), "minimum": 1, "on_missing": "warn", "severity": "warn"},
            ],
        )
        promote = WandbPromoteOperator(
            task_id="promote",
            verdict=gate.output,
            approval=approved,
            registry="model",
            collection="places",
            alias="production",
            note=f"{planted.email('a note')} {planted.plate('a note')}",
        )
        flow = BashOperator(
            task_id="flow",
            bash_command=f"{sys.executable} {script} {planted.email('the command line')}",
            pre_execute=WandbChildRun(wandb_config={"by": planted.email("the config of a process")}),
        )
        gate >> promote >> flow
    dag_run = run_dag(dag)

    assert set(states(dag_run).values()) == {"success"}
    shown = pushed(dag_run, "train", "wandb_metrics")
    assert [value for name, value in shown.items() if name.startswith("loss/[hmac:")] == [1.0]
    assert planted.places_in(json.dumps(shown).encode()) == []

    said = {
        "dag_id": dag_run.dag_id,
        "dag_run_id": dag_run.run_id,
        "task_id": planted.email("who triggered"),
        "run": pushed(dag_run, "wandb_pipeline_open", "wandb_run")["path"],
        "url": f"https://example.com/{planted.email('where from')}",
    }
    with DAG("places_below", schedule=None) as below, wandb_pipeline():
        BashOperator(task_id="nothing", bash_command="true")
    started = run_dag(below, run_conf={TRIGGERED_BY: said, "why": planted.email("a conf")})
    assert set(states(started).values()) == {"success"}

    content = received(server, folder)
    assert_nothing_of(planted, content)
    # All of it has arrived, without that.
    for expected in (
        b"airflow_audit",
        b"airflow/triggered/",
        b"[redacted:email] [redacted:plate]",
        b"Retraining",
        b"gate/gate/passed",
    ):
        assert expected in content, expected
    runs = {run.name: run for run in api_of(server).runs("local/places", lazy=False)}
    assert runs["fit"].summary["airflow/reason"] == "ValueError"
    assert {runs[name].state for name in ("Retraining", "flow")} == {"finished"}


def test_what_waits_in_a_spool_and_what_a_sync_uploads_holds_nothing_that_was_planted(
    own_server: tuple[DevServer, Path], run_dag: RunDag, planted: Planted, tmp_path: Path
) -> None:
    server, folder = own_server
    spool = tmp_path / "spool"
    pipeline = wandb_pipeline(on_unavailable="offline", spool=str(spool), tags=[planted.email("a tag")])
    with DAG("away", schedule=None, params=params(planted)) as dag, pipeline:

        @task.wandb(
            run_name=f"for {planted.email('a run name')}", wandb_config={"ssn": planted.denied("config")}
        )
        def breaks(wandb_run: Any) -> None:
            wandb_run.log({f"loss/{planted.email('a metric')}": 1.0, "customer_id": planted.hashed("log")})
            raise ValueError(f"{planted.email('an exception')} {planted.plate('an exception')}")

        breaks()
    with server.away():
        dag_run = run_dag(dag)
    assert states(dag_run) == {
        "wandb_pipeline_open": "success",
        "breaks": "failed",
        "wandb_pipeline_close": "success",
    }

    waiting = bytes_below(spool)
    assert_nothing_of(planted, waiting)
    assert server.api_key.encode() not in waiting
    assert b"[redacted:email] [redacted:plate]" in waiting

    assert cli.main(["sync", str(spool), "--conn-id", "wandb_default"]) == 0
    runs = api_of(server).runs("local/places", lazy=False)
    assert {run.job_type: run.state for run in runs} == {"pipeline": "failed", "breaks": "failed"}
    assert_nothing_of(planted, received(server, folder))


def api_of(server: DevServer) -> Any:
    import wandb

    return wandb.Api(api_key=server.api_key, overrides={"base_url": server.url})
