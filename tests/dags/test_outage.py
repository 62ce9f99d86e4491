"""A DAG run during an outage of W&B: after a sync, W&B shows what it shows of a run without one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from airflow.sdk import DAG, TriggerRule, task
from moto.server import ThreadedMotoServer

from tests.dags.conftest import Ledger
from tests.dags.test_examples import DAGS, load, pushed, states
from wandb_airflow_provider import cli, wandb_pipeline
from wandb_airflow_provider.spool.store import Spool

pytestmark = pytest.mark.slow

# Differ between any two runs of a DAG.
_TIMES = ("airflow/seconds", "airflow/wall_seconds", "airflow/task_seconds")


@pytest.fixture
def ledger(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    use_project(ledger, monkeypatch, ledger.project)
    yield ledger
    ledger.server.come_back()


def use_project(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, project: str) -> None:
    connection = {
        "conn_type": "wandb",
        "host": ledger.server.url,
        "password": ledger.server.api_key,
        "extra": {"entity": "local", "project": project, "timeout": 1},
    }
    monkeypatch.setenv("AIRFLOW_CONN_WANDB_DEFAULT", json.dumps(connection))
    ledger.project = project


@task.wandb
def measure(wandb_run: Any, number: int = 0) -> int:
    for step in range(10):
        wandb_run.log({"metric": number * 10 + step})
    return number


def workflow(spool: str) -> DAG:
    with DAG("overtaken", schedule=None) as dag, wandb_pipeline(on_unavailable="offline", spool=spool):

        @task.wandb
        def breaks(wandb_run: Any) -> None:
            wandb_run.log({"metric": -1})
            raise ValueError("no data")

        @task.wandb(trigger_rule=TriggerRule.ALL_DONE)
        def last(wandb_run: Any) -> None:
            wandb_run.summary["best"] = 0.5

        first = measure.override(task_id="first")()
        fits = measure.override(task_id="fit").expand(number=[1, 2])
        first >> fits >> last()
        first >> breaks()
    return dag


def tree(ledger: Ledger, dag_run: Any) -> dict[str, Any]:
    """Return what W&B shows of a DAG run, without ids and times."""
    runs = {name.replace(dag_run.run_id, "RUN"): run for name, run in ledger.runs().items()}
    names = {"/".join(run.path): name for name, run in runs.items()}
    shown = {}
    for name, run in runs.items():
        airflow = run.config["airflow"]
        shown[name] = {
            "state": run.state,
            "history": [row["metric"] for row in run.scan_history(["metric"])],
            "rows": len(list(run.scan_history())),
            "job_type": run.job_type,
            "group": run.group.replace(dag_run.run_id, "RUN"),
            "tags": sorted(run.tags),
            "parent": names.get(airflow["parent_run"]),
            "upstream": sorted(names[path] for path in airflow["upstream_runs"]),
            "task": [airflow["task_id"], airflow["map_index"], airflow["try_number"]],
            "summary": {
                key: value
                for key, value in run.summary_metrics.items()
                if not key.startswith("_") and key not in (*_TIMES, "timeline")
            },
        }
        if "timeline" in run.summary_metrics:
            (logged,) = [artifact for artifact in run.logged_artifacts() if artifact.type == "run_table"]
            table = logged.get("timeline")
            rows = [dict(zip(table.columns, row, strict=True)) for row in table.data]
            shown[name]["timeline"] = sorted(
                [row["task_id"], row["map_index"], row["try_number"], row["state"], names.get(row["run"])]
                for row in rows
            )
    return shown


def test_after_a_sync_the_tree_and_all_metrics_equal_those_of_a_run_without_outage(
    ledger: Ledger,
    run_dag: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spool = str(tmp_path / "spool")
    expected_run = run_dag(workflow(spool))
    expected = tree(ledger, expected_run)
    assert Spool(spool).entries() == ([], [])
    use_project(ledger, monkeypatch, f"{ledger.project[:40]}-outage")

    with ledger.server.away():
        dag_run = run_dag(workflow(spool))
    assert states(dag_run) == states(expected_run)
    assert states(dag_run)["wandb_pipeline_close"] == "success"
    assert pushed(dag_run, "first", "wandb_run")["offline"] is True
    assert len(Spool(spool).entries()[0]) == 7

    key = tmp_path / "key"
    key.write_text(f"{ledger.server.api_key}\n")
    capsys.readouterr()
    assert cli.main(["sync", spool, "--host", ledger.server.url, "--key-file", str(key)]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == "7 uploaded, 0 failed, 0 waiting"
    assert told.err.splitlines()[0].startswith("1 of 7: local/")
    assert ledger.server.api_key not in told.out + told.err
    assert tree(ledger, dag_run) == expected
    assert list(Path(spool).iterdir()) == []


def shared_run(spool: str) -> DAG:
    pipeline = wandb_pipeline(strategy="single", on_unavailable="offline", spool=spool, config={"a": 1})
    with DAG("taken_in_turn", schedule=None) as dag, pipeline:

        @task.wandb(wandb_config={"lr": 0.1}, tags=["hot"])
        def train(wandb_run: Any) -> None:
            wandb_run.define_metric("best", summary="max")
            for loss in (3, 2, 1):
                wandb_run.log({"loss": loss, "best": loss})
            raise ValueError("no more data")

        @task.wandb(trigger_rule=TriggerRule.ALL_DONE)
        def check(wandb_run: Any) -> None:
            wandb_run.log({"error": 7})
            wandb_run.log({"error": 8}, step=5)
            wandb_run.summary["worst"] = 8
            wandb_run.config.update({"depth": 4})

        train() >> check()
    return dag


def one_run(ledger: Ledger, dag_run: Any) -> dict[str, Any]:
    """Return what W&B shows of the one run of a DAG run, without ids and times."""
    (run,) = ledger.runs().values()
    times = tuple(name.removeprefix("airflow/") for name in _TIMES)
    keys = ("train/step", "train/loss", "train/best", "check/step", "check/error")
    (logged,) = [artifact for artifact in run.logged_artifacts() if artifact.type == "run_table"]
    return {
        "name": run.name.replace(dag_run.run_id, "RUN"),
        "state": run.state,
        "tags": sorted(run.tags),
        "rows": [
            {key: row[key] for key in keys if row.get(key) is not None}
            for row in run.scan_history()
            if any(row.get(key) is not None for key in keys)
        ],
        "config": {key: value for key, value in run.config.items() if not key.endswith("airflow")},
        "summary": {
            key: value
            for key, value in run.summary_metrics.items()
            if not key.startswith("_") and not key.endswith((*times, "timeline"))
        },
        "parts": sorted(key for key in run.config if key.endswith("airflow")),
        "timeline": [
            [row["task_id"], row["try_number"], row["state"], row["started_at"] is not None]
            for row in (
                dict(zip(table.columns, values, strict=True))
                for table in [logged.get("timeline")]
                for values in table.data
            )
        ],
    }


def test_one_run_that_the_tasks_write_in_turn_is_after_a_sync_as_without_an_outage(
    ledger: Ledger, run_dag: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spool = str(tmp_path / "spool")
    expected = one_run(ledger, run_dag(shared_run(spool)))
    assert expected["summary"]["airflow/reason"] == "train: ValueError: no more data"
    assert [row[0] for row in expected["timeline"]] == ["train", "check"]
    assert Spool(spool).entries() == ([], [])
    use_project(ledger, monkeypatch, f"{ledger.project[:40]}-outage")

    with ledger.server.away():
        dag_run = run_dag(shared_run(spool))
    assert dag_run.state == "success"
    waiting = Spool(spool).entries()[0]
    assert [manifest.history_rows for manifest in waiting] == [0, 3, 2, 1]
    assert len({manifest.run for manifest in waiting}) == 1

    key = tmp_path / "key"
    key.write_text(f"{ledger.server.api_key}\n")
    copy = str(shutil.copytree(spool, tmp_path / "copy"))
    for folder in (spool, copy):
        assert cli.main(["sync", folder, "--host", ledger.server.url, "--key-file", str(key)]) == 0
        assert one_run(ledger, dag_run) == expected
        assert list(Path(folder).iterdir()) == []


@pytest.fixture
def s3_spool(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3").create_bucket(Bucket="bucket")
    yield "s3://bucket/wandb-spool"
    server.stop()


@pytest.mark.filterwarnings("ignore:Your installed version of s3fs")
def test_the_outage_example_keeps_its_runs_in_an_object_store_until_the_sync_example_uploads_them(
    ledger: Ledger, run_dag: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, s3_spool: str
) -> None:
    monkeypatch.setenv("WANDB_SPOOL", s3_spool)
    with ledger.server.away():
        dag_run = run_dag(load(DAGS / "example_outage.py"))
    assert dag_run.state == "success"
    assert ledger.server.runs(ledger.project) == []
    assert [entry.state for entry in Spool(s3_spool).entries()[0]] == ["closed"] * 4

    assert run_dag(load(DAGS / "example_sync_spool.py")).state == "success"

    assert Spool(s3_spool).entries() == ([], [])
    runs = ledger.runs()
    assert set(runs) == {f"example_outage · {dag_run.run_id}", "prepare", "train"}
    assert {run.state for run in runs.values()} == {"finished"}
    assert len(list(runs["train"].scan_history(["loss"]))) == 50


def test_skipping_an_outage_leaves_the_user_s_tasks_green_and_nothing_in_w_and_b(
    ledger: Ledger, run_dag: Callable[..., Any]
) -> None:
    with DAG("skipped_outage", schedule=None) as dag, wandb_pipeline(on_unavailable="skip"):
        measure()
    with ledger.server.away():
        dag_run = run_dag(dag)
    assert set(states(dag_run).values()) == {"success"}
    assert ledger.server.runs(ledger.project) == []
