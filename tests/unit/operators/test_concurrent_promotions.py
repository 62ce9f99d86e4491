from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.hooks.wandb import WandbHook, artifact_ref
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.rules import evaluate
from wandb_airflow_provider.sdk import RunSpec

pytestmark = pytest.mark.slow

PROMOTIONS = 50
PATIENCE = 300.0
# What a task imports while it runs: the processes are forked from one that has it. A name that is gone is passed over.
PRELOADED = [
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "croniter",
    "jinja2.ext",
    "requests",
    "tests.unit.conftest",
    "wandb.apis.public",
    "wandb.apis._generated.get_viewer",
    "wandb.sdk.artifacts._generated",
    "wandb.sdk.artifacts._generated.artifact_by_id",
    "wandb.sdk.artifacts._generated.artifact_created_by",
    "wandb.sdk.artifacts._generated.artifact_membership_by_name",
    "wandb.sdk.artifacts._generated.artifact_type",
    "wandb.sdk.artifacts._generated.fetch_org_info_from_entity",
    "wandb.sdk.artifacts._generated.project_artifact_collection",
    "wandb.sdk.artifacts._generated.project_artifacts",
    "wandb.sdk.artifacts._internal_artifact",
    "wandb.sdk.launch.inputs.internal",
    "wandb_airflow_provider.hooks.alias_move",
    "wandb_airflow_provider.hooks.audit_log",
    "wandb_airflow_provider.hooks.guarded_run",
    "wandb_airflow_provider.hooks.outage",
    "wandb_airflow_provider.hooks.privacy_gate",
    "wandb_airflow_provider.hooks.runs",
    "wandb_airflow_provider.hooks.stage",
    "wandb_airflow_provider.operators.admission",
    "wandb_airflow_provider.operators.decision",
    "wandb_airflow_provider.operators.promote",
    "wandb_airflow_provider.plugin",
    "wandb_airflow_provider.retry_chain",
    "wandb_airflow_provider.xcom.backend",
    "wandb_airflow_provider.xcom.seam",
]
# What wandb would find out about the machine fifty times.
SPARING = {"WANDB_X_SAVE_REQUIREMENTS": "false", "WANDB_X_DISABLE_META": "true", "WANDB_DISABLE_GIT": "true"}


def judged(version: ArtifactRef, run: RunRef, baseline: ArtifactRef | None) -> dict[str, Any]:
    """Return a verdict on a version that was compared with the baseline."""
    return evaluate(
        [{"metric": "mrr", "minimum": 0.5}],
        {"mrr": 0.6},
        candidate=version,
        run=run,
        evaluated_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
        baseline=baseline,
    ).to_json()


def test_of_fifty_promotions_at_once_one_wins_the_others_say_who_and_the_alias_is_never_absent(
    hook: WandbHook, promote: Any, holder: Any, trail: Callable[[], list[Any]], unique: str, tmp_path: Path
) -> None:
    from wandb_airflow_provider import sdk

    spec = RunSpec(wandb_run_id=unique, name="log", group="g", job_type="log", entity="local", project=unique)
    # The run stays open, so that wandb's helper process does, which all share.
    with hook.open_run(spec) as session:

        def log(number: int) -> ArtifactRef:
            file = tmp_path / f"{number}.txt"
            file.write_text(f"{unique} {number}")
            artifact = sdk.new_artifact("encoder", "model", description=None, metadata={})
            artifact.add_file(str(file), name="weights.txt")
            return artifact_ref(session.run.log_artifact(artifact).wait(), source_run=session.ref.path)

        first, *others = [log(number) for number in range(PROMOTIONS + 1)]
        # No gate has made these verdicts.
        unaudited = {"audited_verdict": False}
        assert (
            promote(judged(first, session.ref, None), dag_run_id="run-first", **unaudited).state == "success"
        )
        started = holder()
        processes = multiprocessing.get_context("forkserver")
        processes.set_forkserver_preload(PRELOADED)
        begin, over = processes.Barrier(PROMOTIONS + 1), threading.Event()
        names = ("AIRFLOW_CONN_WANDB_DEFAULT", "WANDB_SERVICE")
        environment = {**{name: os.environ[name] for name in names}, **SPARING}
        seen: set[str | None] = set()

        def read() -> None:
            while not over.is_set():
                found = holder()
                seen.add(found.digest if found else None)

        def start(number: int) -> Any:
            given = {
                "environment": environment,
                "arguments": {
                    "verdict": judged(others[number], session.ref, started),
                    "registry": "model",
                    "collection": unique,
                    "alias": "production",
                    **unaudited,
                },
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
        answers = [
            json.loads((tmp_path / f"answer-{number}.json").read_text()) for number in range(PROMOTIONS)
        ]

        (winner,) = [number for number, answer in enumerate(answers) if answer["state"] == "success"]
        assert holder().digest == others[winner].digest
        for number, answer in enumerate(answers):
            if number != winner:
                assert (answer["state"], answer["kind"]) == ("failed", "WandbPromotionLostError")
                assert f"promoted by task 'promote' of DAG run 'run-{winner}' of 'weekly'" in answer["error"]
        assert {first.digest, others[winner].digest} >= seen
        assert seen
        entries = trail()
        assert [entry.number for entry in entries] == list(range(len(entries)))
        events = {
            task: [entry.event for entry in entries if entry.task.dag_run_id == f"run-{task}"]
            for task in ("first", *range(PROMOTIONS))
        }
        for task in ("first", winner):
            assert events.pop(task)[-2:] == ["intended", "done"]
        for found in events.values():
            # One that began when the winner was through has not even announced itself. On a slow machine a promotion
            # may have had to take a further turn.
            assert found[-1] == "lost"
            assert set(found[:-1]) <= {"intended", "failed"}
