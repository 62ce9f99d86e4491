"""Gates, versions with their verdicts, and the operators that move a registry alias of the test's own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import DAG

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.audit import AuditEntry
from wandb_airflow_provider.exceptions import WandbUnavailableError
from wandb_airflow_provider.hooks.audit_log import AuditLog
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.operators.decision import verdict_entry
from wandb_airflow_provider.operators.demote import WandbDemoteOperator
from wandb_airflow_provider.operators.gate import WandbMetricGateOperator
from wandb_airflow_provider.operators.promote import WandbPromoteOperator
from wandb_airflow_provider.operators.rollback import WandbRollbackOperator
from wandb_airflow_provider.promotion import TaskMark
from wandb_airflow_provider.registry import RegistryAlias
from wandb_airflow_provider.rules import MetricRule, Verdict, evaluate

GOOD = MetricRule(metric="eval/mrr", minimum=0.5)


def gate(**arguments: Any) -> WandbMetricGateOperator:
    with DAG("weekly", schedule=None):
        return WandbMetricGateOperator(task_id="gate", **arguments)


def own_run(hook: WandbHook, finished: Any) -> Any:
    return hook.get_run(RunRef.from_json(finished.xcom("wandb_run")))


@pytest.fixture
def written_down(hook: WandbHook, unique: str) -> Callable[..., None]:
    """``written_down(verdict, alias)`` puts a verdict into the audit, as a gate for each such alias does."""

    def write(value: dict[str, Any], *aliases: str) -> None:
        verdict, log = Verdict.from_json(value), AuditLog(hook, "model", unique)
        for alias in aliases:
            entry = AuditEntry(
                decision=uuid.uuid4().hex,
                kind="verdict",
                event="passed" if verdict.passed else "stopped",
                at=datetime.now(UTC).isoformat(),
                target=RegistryAlias("model", unique, alias),
                task=TaskMark("weekly", "run-1", "gate"),
                try_number=1,
            )
            log.append(verdict_entry(entry, verdict, {}))
        log.close()

    return write


@pytest.fixture
def judged(
    log_run: Callable[..., Any], written_down: Callable[..., None]
) -> Callable[..., tuple[ArtifactRef, dict[str, Any]]]:
    """``judged(content)`` logs a version and returns it with its verdict, which is in the audit for each alias."""

    def judge(
        content: str, mrr: float = 0.6, aliases: Sequence[str] = ("production",)
    ) -> tuple[ArtifactRef, dict[str, Any]]:
        run, version = log_run({"eval/mrr": mrr}, content)
        verdict = evaluate(
            [MetricRule(metric="eval/mrr", minimum=0.5)],
            {"eval/mrr": mrr},
            candidate=version,
            run=run,
            evaluated_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
        ).to_json()
        written_down(verdict, *aliases)
        return version, verdict

    return judge


@pytest.fixture
def promote(run_task: Callable[..., Any], unique: str) -> Callable[..., Any]:
    """``promote(verdict, ...)`` runs a promotion to ``production`` in a collection of the test's own."""

    def promote(verdict: Any, *, dag_run_id: str = "run-1", try_number: int = 1, **arguments: Any) -> Any:
        names = {"registry": "model", "collection": unique, "alias": "production"}
        with DAG("weekly", schedule=None):
            task = WandbPromoteOperator(task_id="promote", verdict=verdict, **{**names, **arguments})
        return run_task(task, dag_run_id=dag_run_id, try_number=try_number)

    return promote


@pytest.fixture
def roll_back(run_task: Callable[..., Any], unique: str) -> Callable[..., Any]:
    """``roll_back(...)`` runs a rollback of the same alias."""

    def roll_back(*, dag_run_id: str = "undo-1", try_number: int = 1, **arguments: Any) -> Any:
        names = {"registry": "model", "collection": unique, "alias": "production"}
        with DAG("undo", schedule=None):
            task = WandbRollbackOperator(task_id="undo", **{**names, **arguments})
        return run_task(task, dag_run_id=dag_run_id, try_number=try_number)

    return roll_back


@pytest.fixture
def demote(run_task: Callable[..., Any], unique: str) -> Callable[..., Any]:
    """``demote(...)`` takes the same alias away."""

    def demote(*, dag_run_id: str = "retire-1", try_number: int = 1, **arguments: Any) -> Any:
        names = {
            "registry": "model",
            "collection": unique,
            "alias": "production",
            "reason": "It is too slow.",
        }
        with DAG("retire", schedule=None):
            task = WandbDemoteOperator(task_id="retire", **{**names, **arguments})
        return run_task(task, dag_run_id=dag_run_id, try_number=try_number)

    return demote


@pytest.fixture
def trail(hook: WandbHook, unique: str) -> Callable[[], list[Any]]:
    """``trail()`` reads what the audit of the test's own collection says of changes."""
    return lambda: [entry for entry in AuditLog(hook, "model", unique).entries() if entry.kind != "verdict"]


@pytest.fixture
def holder(hook: WandbHook, unique: str) -> Callable[[], ArtifactRef | None]:
    return lambda: hook.get_alias("model", unique, "production")


@pytest.fixture
def link_dies(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """Within ``link_dies()`` the line goes down just when W&B has moved the alias."""
    return dying_after(monkeypatch, "link_to_registry")


@pytest.fixture
def removal_dies(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """Within ``removal_dies()`` the line goes down just when W&B has taken the alias away."""
    return dying_after(monkeypatch, "remove_alias")


def dying_after(monkeypatch: pytest.MonkeyPatch, name: str) -> Callable[[], AbstractContextManager[None]]:
    """Return what makes a method of the hook do its work and then fail."""
    method = getattr(WandbHook, name)

    def work_and_die(*arguments: Any) -> None:
        method(*arguments)
        raise WandbUnavailableError("the line went down")

    @contextmanager
    def dying() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(WandbHook, name, work_and_die)
            yield

    return dying
