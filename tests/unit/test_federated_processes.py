"""Processes of their own that log in with the identity token of their connection: a task's, a sync's, a report's."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.docker.operators.docker import DockerOperator
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, BaseOperator

from wandb_airflow_provider import sdk
from wandb_airflow_provider.child_process import WandbChildRun
from wandb_airflow_provider.environment import wandb_environment
from wandb_airflow_provider.hooks.report_process import ReportProcess
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.spool.sync_process import SyncProcess

SCRIPT = f"{sys.executable} -c \"import wandb; wandb.init().log({{'loss': 1}}); wandb.finish()\""


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    sdk.release()


@pytest.fixture
def token(
    server: Any,
    connect: Callable[..., None],
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The file from which ``wandb_default`` logs in as ``robot``, beside another login of the worker's."""
    server.add_account("robot", teams=("local",))
    path = tmp_path / "token"
    path.write_text(server.issue_identity_token("robot"))
    connect(server, password=None, extra={"project": unique, "identity_token_file": str(path)})
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    monkeypatch.setenv("WANDB_CREDENTIALS_FILE", str(tmp_path / "credentials.json"))
    return path


def task_of(kind: Any, **arguments: Any) -> Any:
    with DAG("federated", schedule=None):
        return kind(task_id="work", **arguments)


class Look(BashOperator):
    """Keeps what its process gets."""

    environment: dict[str, str]

    def execute(self, context: Any) -> Any:
        Look.environment = dict(self.env or {})
        return super().execute(context)


@pytest.mark.slow
def test_a_process_on_the_worker_gets_the_path_of_the_file_and_writes_no_access_token(
    server: Any, token: Path, unique: str, run_task: Callable[..., Any], tmp_path: Path
) -> None:
    finished = run_task(task_of(Look, bash_command=SCRIPT, pre_execute=WandbChildRun()))
    assert finished.state == "success"
    (run,) = server.runs(unique)
    assert (run.user, run.state, run.summary["loss"]) == ("robot", "finished", 1)
    given = Look.environment
    assert given["WANDB_IDENTITY_TOKEN_FILE"] == str(token)
    assert given["WANDB_API_KEY"] == ""
    assert token.read_text() not in json.dumps(given)
    assert not (tmp_path / "credentials.json").exists()
    said = [message for message in finished.supervisor.sent if type(message).__name__ != "MaskSecret"]
    assert token.read_text() not in repr(said)


class InContainer(DockerOperator):
    def execute(self, context: Any) -> Any:
        return {**self.environment, **self._private_environment}


def test_a_container_gets_no_credentials_and_the_warning_says_what_it_needs(
    server: Any, token: Path, run_task: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    finished = run_task(task_of(InContainer, image="train", pre_execute=WandbChildRun()))
    assert finished.state == "success"
    given = finished.xcom("return_value")
    assert not {name for name in given if name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")}
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [
        text
        for text in said
        if "Mount a token of its own there, name it in WANDB_IDENTITY_TOKEN_FILE" in text
    ]


class Tells(BaseOperator):
    def execute(self, context: Any) -> Any:
        return [wandb_environment(context, secrets=secrets) for secrets in ("none", "value")]


def test_the_environment_names_the_file_and_nothing_secret(
    server: Any, token: Path, run_task: Callable[..., Any], tmp_path: Path
) -> None:
    without, with_login = run_task(task_of(Tells)).xcom("return_value")
    added = {name: value for name, value in with_login.items() if without.get(name) != value}
    assert added == {"WANDB_IDENTITY_TOKEN_FILE": str(token), "WANDB_CREDENTIALS_FILE": "/dev/null"}


@pytest.mark.slow
def test_an_offline_run_is_uploaded_with_the_token(
    server: Any, token: Path, unique: str, tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"WANDB_MODE": "offline", "WANDB_ENTITY": "local", "WANDB_PROJECT": unique}
    subprocess.run(["bash", "-c", SCRIPT], cwd=tmp_path, env=environment, check=True, capture_output=True)
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    said = SyncProcess(WandbHook().connection, scratch, 300).upload(folder, continues=False)
    assert [(run.user, run.summary["loss"]) for run in server.runs(unique)] == [("robot", 1)], said


@pytest.mark.slow
def test_a_report_is_written_with_the_token(server: Any, token: Path, unique: str) -> None:
    hook = WandbHook()
    with hook.translate_errors("create the project"):
        hook.get_conn().create_project(unique, "local")
    order = {
        "id": None,
        "entity": "local",
        "project": unique,
        "title": "Weekly",
        "description": "",
        "blocks": [],
    }
    report_id, url = ReportProcess(hook).save(order)
    assert report_id
    assert url.startswith(server.url)
    assert {request.status for request in server.requests(op="upsertView")} <= {200}
