"""Personal data and secrets planted everywhere in a DAG: what of them reaches the server, with a policy and without."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, BaseHook, Param, Variable, task
from airflow.sdk.exceptions import AirflowFailException

from tests.planted import Planted, received
from wandb_airflow_provider import (
    WandbLogArtifactOperator,
    download_artifact,
    log_artifact,
    wandb_pipeline,
)
from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.sampling import horvitz_thompson

pytestmark = pytest.mark.slow

PASSWORD, VARIABLE_SECRET, SALT = "pg-Wd83-planted", "var-Qx71-planted", "salt-Zk55-never-to-be-sent"
ON_CONNECTION = {
    "deny": ["ssn", "*.full_name"],
    "hash": ["customer_id"],
    "salt": "variable:redaction_salt",
    "max_table_rows": 20,
}
IN_DAG = {
    "values": ["email", {"name": "plate", "regex": r"[A-Z]{2}-\d{4}-PLANTED"}],
    "statistics": ["salaries"],
    "sample": {"inference/*": 0.2},
}


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[DevServer]:
    """A server that only one test sends to."""
    with DevServer(tmp_path / "server", seed="redaction") as server:
        yield server


def planted_dag(planted: Planted, folder: Path, *, policy: dict[str, Any] | None) -> DAG:
    """Return a DAG with something to hide in every place that this package sends from."""
    (folder / "weights.txt").write_text("1 2 3")
    secrets = "{{ conn.planted_db.password }} {{ var.value.planted_api_key }}"
    with (
        DAG(
            "planted",
            schedule=None,
            default_args={"owner": planted.email("the owner")},
            params={
                "note": Param("none"),
                "contact": Param(f"of {planted.email('params')}"),
                "person": Param(
                    {"full_name": planted.denied("params"), "customer_id": planted.hashed("params")}
                ),
            },
        ) as dag,
        wandb_pipeline(
            tags=[planted.email("a tag of the pipeline")],
            config={"pipeline": {"ssn": planted.denied("pipeline config")}},
            redaction=policy,
        ),
    ):

        @task.wandb(
            run_name=f"train for {planted.email('the run name')} {secrets}",
            tags=[planted.plate("a tag"), secrets],
            wandb_config={
                "data": {"list": [{"ssn": planted.denied("config")}], "by": planted.email("config")},
                "customer_id": planted.hashed("config"),
                "dsn": f"postgres://{secrets}@db",
            },
        )
        def train(wandb_run: Any) -> None:
            import wandb

            BaseHook.get_connection("planted_db")
            wandb_run.config["contact"] = planted.email("a config item")
            wandb_run.config.update({"more": {"ssn": planted.denied("a config update")}})
            wandb_run.config.buyer = {"customer_id": planted.hashed("a config attribute")}
            wandb_run.config.setdefaults({"late": planted.email("a config default")})
            wandb_run.tags = (*wandb_run.tags, planted.email("a later tag"))
            wandb_run.notes = f"asked by {planted.email('the notes')}"
            wandb_run.define_metric(f"loss/{planted.email('a defined metric')}", step_metric="epoch")
            wandb_run.log(
                {f"loss/{planted.email('a metric name')}": 1.0, "epoch": 1, "ssn": planted.denied("log")}
            )
            wandb_run.log({"text": planted.plate("log"), "nested": {"customer_id": planted.hashed("log")}})
            wandb.log({"by_module": planted.email("wandb.log")})
            wandb_run.log({"html": wandb.Html(f"<b>{planted.email('html')}</b>")})
            wandb_run.summary["contact"] = planted.email("a summary item")
            wandb_run.summary.update({"who": {"ssn": planted.denied("summary"), "age": 3}, "where": {"x": 1}})
            wandb_run.summary["where"]["again"] = planted.email("a nested summary item")
            wandb_run.alert(planted.email("an alert title"), planted.plate("an alert"))
            columns = ["age", "customer_id", "full_name", "remark"]
            rows = [
                [
                    n,
                    f"{planted.hashed('a table')}-{n}",
                    planted.denied("a table"),
                    planted.email("a table cell"),
                ]
                for n in range(50)
            ]
            wandb_run.log({"people": wandb.Table(columns=columns, data=rows)})
            wandb_run.log({"salaries": wandb.Table(columns=["who"], data=[[planted.denied("statistics")]])})
            artifact = wandb.Artifact(
                "own",
                type="data",
                metadata={"ssn": planted.denied("own metadata")},
                description=planted.email("a description"),
            )
            artifact.add(wandb.Table(columns=columns, data=rows[:2]), "inside")
            wandb_run.log_artifact(artifact).wait()
            log_artifact(
                wandb_run,
                "by-helper",
                type="data",
                paths=folder / "weights.txt",
                metadata={
                    "from": planted.email("helper metadata"),
                    "secret": Variable.get("planted_api_key"),
                },
            )
            if policy:
                wandb_run.log({"secret": PASSWORD})
                for n in range(1, 401):
                    wandb_run.log(
                        {"inference/ms": float(n), "inference/prompt": planted.email("a sampled log")}
                    )

        stored = WandbLogArtifactOperator(
            task_id="store",
            name="weights",
            type="model",
            paths=[str(folder / "weights.txt")],
            metadata={
                "approved_by": planted.email("metadata"),
                "ssn": planted.denied("metadata"),
                "key": secrets,
            },
        )

        @task.wandb(trigger_rule="all_done")
        def breaks(wandb_run: Any) -> None:
            download_artifact(wandb_run, "weights:latest", folder / "down")
            try:
                raise ValueError(f"{planted.email('the cause')} {PASSWORD}")
            except ValueError as error:
                conn = BaseHook.get_connection("planted_db")
                raise AirflowFailException(
                    f"{planted.email('an exception')} {planted.plate('an exception')} {conn.password}: {error}"
                ) from error

        train() >> stored >> breaks()
    return dag


@pytest.fixture
def run_planted(
    own_server: DevServer,
    run_dag: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[[bool], tuple[Planted, bytes, dict[str, Any]]]:
    server = own_server

    def run(with_policy: bool) -> tuple[Planted, bytes, dict[str, Any]]:
        import wandb

        extra: dict[str, Any] = {"entity": "local", "project": "planted"}
        if with_policy:
            extra["redaction"] = ON_CONNECTION
        connection = {"conn_type": "wandb", "host": server.url, "password": server.api_key, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_WANDB_DEFAULT", json.dumps(connection))
        monkeypatch.setenv("AIRFLOW_CONN_PLANTED_DB", f"postgres://someone:{PASSWORD}@db.example.com/x")
        monkeypatch.setenv("AIRFLOW_VAR_PLANTED_API_KEY", VARIABLE_SECRET)
        monkeypatch.setenv("AIRFLOW_VAR_REDACTION_SALT", SALT)
        planted = Planted()
        for name in ("WANDB_HOST", "WANDB_USERNAME", "WANDB_USER_EMAIL"):
            monkeypatch.setenv(name, planted.email(name))
        dag = planted_dag(planted, tmp_path, policy=IN_DAG if with_policy else None)
        dag_run = run_dag(dag, run_conf={"note": f"conf of {planted.email('the conf')}"})
        assert {ti.task_id: str(ti.state) for ti in dag_run.get_task_instances()} == {
            "wandb_pipeline_open": "success",
            "train": "success",
            "store": "success",
            "breaks": "failed",
            "wandb_pipeline_close": "success",
        }
        api = wandb.Api(api_key=server.api_key, overrides={"base_url": server.url})
        runs = {run.config["airflow"]["task_id"]: run for run in api.runs("local/planted", lazy=False)}
        return planted, received(server, tmp_path / "server"), runs

    return run


def test_with_a_policy_nothing_that_was_planted_reaches_the_server(run_planted: Any) -> None:
    planted, content, runs = run_planted(True)

    assert planted.places_in(content) == []
    for secret in (PASSWORD, VARIABLE_SECRET, SALT, sys.executable):
        assert secret.encode() not in content
    # The tree of runs and what is no one's business to hide are still there.
    root, train, breaks = runs[None], runs["train"], runs["breaks"]
    assert breaks.config["airflow"]["parent_run"] == "/".join(root.path)
    assert root.summary["airflow/tasks/failed"] == 1
    assert root.summary["airflow/reason"].startswith(
        "breaks: AirflowFailException: [redacted:email] [redacted:plate]"
    )
    assert train.config["customer_id"].startswith("[hmac:")
    assert train.config["data"] == {"list": [{}], "by": "[redacted:email]"}
    assert (train.summary["people/rows_sent"], train.summary["people/rows_total"]) == (20, 50)
    # Of what is sampled the totals are exact, and the rows estimate them.
    assert train.summary["sampling/inference/ms/count"] == 400
    assert train.summary["sampling/inference/ms/sum"] == 400 * 401 / 2
    rows = list(train.scan_history(keys=["inference/ms", "sample_weight/inference"]))
    assert len(rows) == train.summary["sampling/inference/ms/kept"] < 150
    estimate = horvitz_thompson((row["inference/ms"], row["sample_weight/inference"]) for row in rows)
    assert abs(estimate.total - 400 * 401 / 2) < 4 * estimate.standard_error


def test_without_a_policy_it_does_and_only_the_secrets_that_airflow_knows_are_masked(
    run_planted: Any,
) -> None:
    planted, content, _ = run_planted(False)

    assert set(planted.found) == set(planted.places_in(content))
    assert sys.executable.encode() in content
    for secret in (PASSWORD, VARIABLE_SECRET):
        assert secret.encode() not in content
