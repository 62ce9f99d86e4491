"""One connection from each place where Airflow keeps connections, and a key that is rotated while a DAG runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, task

from tests.dags.conftest import Ledger
from wandb_airflow_provider import WandbHook, wandb_pipeline

BACKEND = "airflow.secrets.local_filesystem.LocalFilesystemBackend"
RunDag = Callable[..., Any]
Provide = Callable[..., None]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a secrets backend that Airflow is configured with."""
    from airflow.sdk.configuration import clear_secrets_backends_cache

    path = tmp_path / "connections.json"
    path.write_text("{}")
    for section in ("SECRETS__BACKEND", "WORKERS__SECRETS_BACKEND"):
        monkeypatch.setenv(f"AIRFLOW__{section}", BACKEND)
        monkeypatch.setenv(f"AIRFLOW__{section}_KWARGS", json.dumps({"connections_file_path": str(path)}))
    clear_secrets_backends_cache()
    yield path
    clear_secrets_backends_cache()


def connection(ledger: Ledger, **more: Any) -> dict[str, Any]:
    """The same value wherever it is kept."""
    return {
        "conn_type": "wandb",
        "host": ledger.server.url,
        "password": ledger.server.api_key,
        "extra": {"entity": "local", "project": ledger.project},
        **more,
    }


@pytest.fixture
def provide(
    ledger: Ledger, airflow_db: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], None]]:
    """Return a function that puts the connection in one place, and in no other."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    def forget() -> None:
        with create_session() as session:
            session.query(Connection).filter_by(conn_id="wandb_default").delete()

    def provide(where: str) -> None:
        monkeypatch.delenv("AIRFLOW_CONN_WANDB_DEFAULT", raising=False)
        forget()
        value = connection(ledger)
        if where == "environment":
            monkeypatch.setenv("AIRFLOW_CONN_WANDB_DEFAULT", json.dumps(value))
        elif where == "metastore":
            with create_session() as session:
                session.add(
                    Connection(conn_id="wandb_default", **{**value, "extra": json.dumps(value["extra"])})
                )
        else:
            request.getfixturevalue("file").write_text(json.dumps({"wandb_default": value}))

    yield provide
    forget()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["environment", "metastore", "file"])
def test_a_connection_works_the_same_from(
    where: str, ledger: Ledger, provide: Provide, run_dag: RunDag
) -> None:
    provide(where)
    seen: list[Any] = []
    with DAG("kept", schedule=None) as dag, wandb_pipeline():

        @task.wandb
        def look(wandb_run: Any) -> None:
            wandb_run.log({"loss": 0.5})
            seen.append((WandbHook().connection, WandbHook().test_connection()))

        look()
    dag_run = run_dag(dag)

    assert dag_run.state == "success"
    ((found, (works, sentence)),) = seen
    assert (found.api_key, found.host) == (ledger.server.api_key, ledger.server.url)
    assert (found.entity, found.project) == ("local", ledger.project)
    assert works, sentence
    run = ledger.runs()["look"]
    assert (run.state, run.summary["loss"]) == ("finished", 0.5)


@pytest.mark.slow
def test_a_key_that_is_rotated_between_two_tasks_is_used_by_the_second(
    file: Path, ledger: Ledger, provide: Provide, run_dag: RunDag
) -> None:
    server = ledger.server
    provide("file")
    first_key = server.create_key()
    file.write_text(json.dumps({"wandb_default": connection(ledger, password=first_key)}))
    with DAG("rotated", schedule=None) as dag, wandb_pipeline():

        @task.wandb
        def before(wandb_run: Any) -> None:
            wandb_run.summary["first"] = WandbHook().connection.api_key == first_key

        @task
        def rotate() -> None:
            file.write_text(json.dumps({"wandb_default": connection(ledger)}))
            server.revoke_key(first_key)

        @task.wandb
        def after(wandb_run: Any) -> None:
            wandb_run.summary["first"] = WandbHook().connection.api_key == first_key
            assert WandbHook().test_connection()[0]

        before() >> rotate() >> after()
    dag_run = run_dag(dag)

    assert dag_run.state == "success"
    runs = ledger.runs()
    assert {name: run.state for name, run in runs.items() if name in ("before", "after")} == {
        "before": "finished",
        "after": "finished",
    }
    assert (runs["before"].summary["first"], runs["after"].summary["first"]) == (True, False)
    root = runs[f"rotated · {dag_run.run_id}"]
    assert (root.state, root.summary["airflow/state"]) == ("finished", "success")
