from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.audit import AuditEntry
from wandb_airflow_provider.exceptions import (
    WandbPromotionRefusedError,
)
from wandb_airflow_provider.hooks.alias_move import AliasMove
from wandb_airflow_provider.hooks.audit_log import AuditLog
from wandb_airflow_provider.hooks.wandb import WandbHook, artifact_ref
from wandb_airflow_provider.promotion import TaskMark
from wandb_airflow_provider.registry import RegistryAlias
from wandb_airflow_provider.sdk import RunSpec

PROMOTIONS = 50
PATIENCE = 300.0
PRELOADED = ["airflow.sdk", "wandb_airflow_provider.hooks.runs", "wandb_airflow_provider.hooks.outage"]


@pytest.fixture
def versions(hook: WandbHook, unique: str, tmp_path: Path) -> Iterator[Callable[[int], list[ArtifactRef]]]:
    """``versions(count)`` logs so many versions, in a run that stays open for the rest of the test."""
    from wandb_airflow_provider import sdk

    spec = RunSpec(
        wandb_run_id=uuid.uuid4().hex, name="log", group="g", job_type="log", entity="local", project=unique
    )
    with hook.open_run(spec) as session:

        def log(count: int) -> list[ArtifactRef]:
            found = []
            for number in range(count):
                file = tmp_path / f"{number}.txt"
                file.write_text(f"{unique} {number}")
                artifact = sdk.new_artifact("encoder", "model", description=None, metadata={})
                artifact.add_file(str(file), name="weights.txt")
                found.append(artifact_ref(session.run.log_artifact(artifact).wait()))
            return found

        yield log


@pytest.fixture
def moving(hook: WandbHook, unique: str) -> Iterator[Callable[..., AliasMove]]:
    """``moving(task, before, after)`` is a promotion that has not begun."""
    logs: list[AuditLog] = []

    def make(task: str, before: ArtifactRef | None, after: ArtifactRef) -> AliasMove:
        target = RegistryAlias("model", unique, "production")
        audit = AuditLog(hook, target.registry, target.collection)
        logs.append(audit)
        entry = AuditEntry(
            decision=uuid.uuid4().hex,
            kind="promotion",
            event="intended",
            at=datetime.now(UTC).isoformat(),
            target=target,
            task=TaskMark("weekly", f"run-{task}", "promote"),
            try_number=1,
            before=before,
            after=after,
        )
        return AliasMove(hook, audit, entry)

    yield make
    for audit in logs:
        audit.close()


def promote(move: AliasMove, version: ArtifactRef) -> BaseException | None:
    """Return what stopped a promotion."""
    try:
        with move.announced():
            move.give(version)
            move.complete()
    except WandbPromotionRefusedError as error:
        return error
    return None


def test_of_fifty_promotions_at_once_one_wins_the_others_say_who_and_the_alias_is_never_absent(
    hook: WandbHook, versions: Any, moving: Any, unique: str, tmp_path: Path
) -> None:
    first, *others = versions(PROMOTIONS + 1)
    assert promote(moving("first", None, first), first) is None
    started = hook.get_alias("model", unique, "production")
    assert started is not None
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        ["wandb.apis.public", "wandb_airflow_provider.hooks.alias_move", *PRELOADED]
    )
    begin, over = processes.Barrier(PROMOTIONS + 1), threading.Event()
    environment = {name: os.environ[name] for name in ("AIRFLOW_CONN_WANDB_DEFAULT", "WANDB_SERVICE")}
    seen: set[str | None] = set()

    def read() -> None:
        while not over.is_set():
            holder = hook.get_alias("model", unique, "production")
            seen.add(holder.digest if holder else None)

    def start(number: int) -> Any:
        given = {
            "environment": environment,
            "version": others[number].to_json(),
            "target": RegistryAlias("model", unique, "production").to_json(),
            "before": started.to_json(),
            "dag_run_id": f"run-{number}",
            "begin": begin,
            "patience": PATIENCE,
            "answer": str(tmp_path / f"answer-{number}.json"),
        }
        script = str(Path(__file__).with_name("promotion_process.py"))
        process = processes.Process(target=runpy.run_path, args=(script, {"given": given}), daemon=True)
        process.start()
        return process

    reader = threading.Thread(target=read)
    started_processes = [start(number) for number in range(PROMOTIONS)]
    try:
        begin.wait(PATIENCE)
        reader.start()
        for process in started_processes:
            process.join(PATIENCE)
    finally:
        for process in started_processes:
            process.kill()
        over.set()
        if reader.ident is not None:
            reader.join()
    answers = [json.loads((tmp_path / f"answer-{number}.json").read_text()) for number in range(PROMOTIONS)]

    (winner,) = [number for number, answer in enumerate(answers) if answer["error"] is None]
    holder = hook.get_alias("model", unique, "production")
    assert holder is not None
    assert holder.digest == others[winner].digest
    for number, answer in enumerate(answers):
        if number != winner:
            assert answer["kind"] == "WandbPromotionLostError"
            assert f"promoted by task 'promote' of DAG run 'run-{winner}' of 'weekly'" in answer["error"]
    assert {first.digest, others[winner].digest} >= seen
    assert seen
    entries = AuditLog(hook, "model", unique).entries()
    assert [entry.number for entry in entries] == list(range(len(entries)))
    events = {
        task: [entry.event for entry in entries if entry.task.dag_run_id == f"run-{task}"]
        for task in ("first", *range(PROMOTIONS))
    }
    outcomes = dict.fromkeys(range(PROMOTIONS), "lost")
    for task, outcome in {"first": "done", **outcomes, winner: "done"}.items():
        # On a slow machine a promotion may have had to take a further turn.
        assert events[task][0::2] == ["intended"] * (len(events[task]) // 2)
        assert events[task][1::2] == ["failed"] * (len(events[task]) // 2 - 1) + [outcome]
