"""The examples that wait: whole DAGs, with the triggers run by ``dag.test()``."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import wandb

from tests.dags.conftest import Ledger
from tests.dags.test_examples import DAGS, load, pushed, states

RunDag = Callable[..., Any]

_PROMOTE = """
import sys, wandb
api = wandb.Api(api_key=sys.argv[1], overrides={"base_url": sys.argv[2]})
api.artifact(sys.argv[3]).link(sys.argv[4], aliases=["production"])
"""


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something in W&B beside the DAG run."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(60)
    assert not failures


def log_version(
    ledger: Ledger, folder: Path, name: str, content: str, metadata: dict[str, Any] | None = None
) -> tuple[str, str]:
    """Log a version from a run of its own, and return the paths of both."""
    settings = wandb.Settings(
        base_url=ledger.server.url,
        api_key=ledger.server.api_key,
        console="off",
        silent=True,
        disable_git=True,
    )
    with wandb.init(
        entity="local", project=ledger.project, dir=folder, settings=settings, reinit="create_new"
    ) as run:
        run.summary["loss"] = 0.25
        artifact = wandb.Artifact(name, type="model", metadata=metadata)
        with artifact.new_file("content.txt") as file:
            file.write(content)
        logged = run.log_artifact(artifact).wait()
        return run.path, logged.qualified_name


@pytest.mark.slow
def test_model_example_goes_on_when_another_version_takes_the_alias(
    ledger: Ledger, run_dag: RunDag, tmp_path: Path
) -> None:
    target = "wandb-registry-model/example-classifier"
    _, first = log_version(ledger, tmp_path, "classifier", "a")
    run, second = log_version(ledger, tmp_path, "classifier", "b")
    ledger.api().artifact(first).link(target, aliases=["production"])
    waiting = load(DAGS / "example_wait_for_model.py")
    waiting.task_dict["wait"].poke_interval = 1.0

    reads = len(ledger.server.requests("RegistryVersions"))

    def promote() -> None:
        give_up = time.monotonic() + 60
        while len(ledger.server.requests("RegistryVersions")) < reads + 2:
            assert time.monotonic() < give_up
            time.sleep(0.05)
        # A process of its own: the tasks of the DAG run end wandb in this one.
        login = [ledger.server.api_key, ledger.server.url]
        subprocess.run([sys.executable, "-c", _PROMOTE, *login, second, target], check=True)

    with meanwhile(promote):
        dag_run = run_dag(waiting)
    assert dag_run.state == "success"
    model = pushed(dag_run, "wait")
    assert (model["source"], model["source_run"]) == (second, run)
    assert model["previous_version"] in pushed(dag_run, "describe")


@pytest.mark.slow
def test_dataset_example_uses_the_version_that_passed_its_checks(
    ledger: Ledger, run_dag: RunDag, tmp_path: Path
) -> None:
    passed = {"checks": {"passed": True}, "rows": 3}
    _, good = log_version(ledger, tmp_path, "example-events", "a", passed)
    log_version(ledger, tmp_path, "example-events", "b", {"checks": {"passed": False}, "rows": 4})

    dag_run = run_dag(load(DAGS / "example_wait_for_dataset.py"))

    assert dag_run.state == "success"
    assert pushed(dag_run, "wait")["path"] == good
    assert pushed(dag_run, "count_rows") == 3
    assert [used.name for used in ledger.runs()["count_rows"].used_artifacts()] == ["example-events:v0"]


def test_run_example_goes_on_with_what_the_run_measured(
    ledger: Ledger, run_dag: RunDag, tmp_path: Path
) -> None:
    run, _ = log_version(ledger, tmp_path, "classifier", "a")

    dag_run = run_dag(load(DAGS / "example_wait_for_run.py"), run_conf={"wandb_run": run})

    assert dag_run.state == "success"
    assert pushed(dag_run, "wait")["state"] == "finished"
    assert pushed(dag_run, "read_loss") == 0.25
    missing = run_dag(load(DAGS / "example_wait_for_run.py"), run_conf={"wandb_run": f"{run}x"})
    assert states(missing)["wait"] == "failed"
