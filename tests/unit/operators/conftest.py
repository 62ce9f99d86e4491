"""Versions with their verdicts, and the operators that move a registry alias of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import DAG

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import WandbUnavailableError
from wandb_airflow_provider.hooks.audit_log import AuditLog
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.operators.demote import WandbDemoteOperator
from wandb_airflow_provider.operators.promote import WandbPromoteOperator
from wandb_airflow_provider.operators.rollback import WandbRollbackOperator
from wandb_airflow_provider.rules import MetricRule, evaluate


@pytest.fixture
def judged(log_run: Callable[..., Any]) -> Callable[..., tuple[ArtifactRef, dict[str, Any]]]:
    """``judged(content)`` logs a version and returns it with its verdict."""

    def judge(content: str, mrr: float = 0.6) -> tuple[ArtifactRef, dict[str, Any]]:
        run, version = log_run({"eval/mrr": mrr}, content)
        verdict = evaluate(
            [MetricRule(metric="eval/mrr", minimum=0.5)],
            {"eval/mrr": mrr},
            candidate=version,
            run=run,
            evaluated_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
        )
        return version, verdict.to_json()

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
    """``trail()`` reads the audit of the test's own collection."""
    return lambda: AuditLog(hook, "model", unique).entries()


@pytest.fixture
def holder(hook: WandbHook, unique: str) -> Callable[[], ArtifactRef | None]:
    return lambda: hook.get_alias("model", unique, "production")


@pytest.fixture
def link_dies(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """Within ``link_dies()`` the line goes down just when W&B has moved the alias."""
    link = WandbHook.link_to_registry

    def link_and_die(*arguments: Any) -> None:
        link(*arguments)
        raise WandbUnavailableError("the line went down")

    @contextmanager
    def dying() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(WandbHook, "link_to_registry", link_and_die)
            yield

    return dying
