"""``config["airflow"]``: where a run comes from."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

from wandb_airflow_provider import WandbPythonOperator
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.provenance import TRIGGERED_BY, git_commit, map_index, triggered_by


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "dag.py").write_text("first")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_a_clean_checkout_is_named_by_its_commit(checkout: Path) -> None:
    git(checkout, "tag", "v1")
    assert git_commit(str(checkout)) == git(checkout, "rev-parse", "HEAD")


def test_changed_files_are_told(checkout: Path) -> None:
    (checkout / "dag.py").write_text("changed")
    assert git_commit(str(checkout)) == git(checkout, "rev-parse", "HEAD") + "-dirty"


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path) -> None:
    assert git_commit(str(tmp_path)) is None


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert git_commit(str(checkout)) is None


@pytest.mark.parametrize(("index", "expected"), [(None, -1), (-1, -1), (0, 0), (7, 7)])
def test_a_task_that_is_not_mapped_has_index_minus_one(index: int | None, expected: int) -> None:
    assert map_index(SimpleNamespace(map_index=index)) == expected


def context(conf: Any = None, events: Any = None) -> Any:
    return {"dag_run": SimpleNamespace(conf=conf), "triggering_asset_events": events}


def event(extra: Any) -> Any:
    return SimpleNamespace(
        asset=SimpleNamespace(uri="wandb://registry/model/search?alias=production"),
        extra=extra,
        source_dag_id="weekly",
        source_run_id="run-1",
        source_task_id="train",
        source_map_index=-1,
    )


@pytest.mark.parametrize("conf", [None, {}, {"rows": 3}, {TRIGGERED_BY: "weekly"}])
def test_a_dag_run_that_nothing_started_names_nothing(conf: Any) -> None:
    assert triggered_by(context(conf)) == []


def test_a_triggering_dag_run_is_named() -> None:
    source = {"dag_id": "weekly", "dag_run_id": "run-1", "task_id": "trigger", "run": "e/p/root"}
    assert triggered_by(context({TRIGGERED_BY: source})) == [{"kind": "dag_run", **source}]


@pytest.mark.parametrize(
    ("extra", "run"),
    [
        ({"wandb_run": {"path": "e/p/train"}}, "e/p/train"),
        ({"from_trigger": True, "payload": {"source_run": "e/p/train"}}, "e/p/train"),
        ({"from_trigger": True, "payload": "text"}, None),
        ({"wandb_run": "text"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_an_asset_event_names_the_run_behind_it_when_it_tells_one(extra: Any, run: str | None) -> None:
    (found,) = triggered_by(context(events={"asset": [event(extra)]}))
    assert (found["kind"], found["dag_id"], found["task_id"], found["run"]) == (
        "asset",
        "weekly",
        "train",
        run,
    )


def test_an_event_of_an_alias_names_the_version_that_moved() -> None:
    moved = {"source_run": "e/p/train", "path": "acme/wandb-registry-model/search:v3"}
    (found,) = triggered_by(context(events={"asset": [event({"from_trigger": True, "payload": moved})]}))
    assert found["artifact"] == "acme/wandb-registry-model/search:v3"


def test_the_provenance_of_a_task_is_json_and_masks_secret_params(
    hook: WandbHook, run_task: Callable[..., Any]
) -> None:
    with DAG("weekly", schedule=None, params={"rows": 3, "api_key": "not for anybody"}):
        operator = WandbPythonOperator(task_id="train", python_callable=lambda: None, owner="research")
    finished = run_task(operator, try_number=2)
    found = hook.get_run(RunRef.from_json(finished.xcom("wandb_run"))).config["airflow"]
    assert json.loads(json.dumps(found)) == found
    assert found["params"] == {"rows": 3, "api_key": "***"}
    assert {key: found[key] for key in ("dag_id", "dag_run_id", "task_id", "map_index", "try_number")} == {
        "dag_id": "weekly",
        "dag_run_id": "manual__1",
        "task_id": "train",
        "map_index": -1,
        "try_number": 2,
    }
    assert (found["run_type"], found["owner"]) == ("manual", "research")
    assert found["logical_date"] == "2026-03-01T00:00:00+00:00"
    assert found["triggered_by"] == []
