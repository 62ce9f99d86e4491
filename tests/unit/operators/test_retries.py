"""Tries of a task: which run each opens, which it follows, across retries, clears, deferrals and deleted runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG

from wandb_airflow_provider.exceptions import WandbRunDeletedError
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef, TaskIdentity
from wandb_airflow_provider.operators.base import WandbBaseOperator
from wandb_airflow_provider.retry_chain import retry_link


class Work(WandbBaseOperator):
    """Logs a row, then does what the test wants."""

    def __init__(self, *, end: BaseException | None = None, refuse: bool = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.end = end
        self.refuse = refuse

    def check(self) -> None:
        if self.refuse:
            raise WandbRunDeletedError("refused before a run was open")

    def execute_in_run(self, context: Any, wandb_run: Any) -> None:
        wandb_run.log({"metric": context["ti"].try_number})
        if self.end is not None:
            raise self.end

    def execute_complete(self, context: Any, event: str) -> str:
        self.wandb_run.log({"metric": event})
        return event


@pytest.fixture
def attempt(hook: WandbHook, run_task: Callable[..., Any]) -> Callable[..., Any]:
    """``attempt(2, ...)`` runs the second try of the task; the task state store keeps what the first has put there."""

    def attempt(try_number: int, *, resume: dict[str, Any] | None = None, **arguments: Any) -> Any:
        with DAG("tries", schedule=None):
            operator = Work(task_id="work", **arguments)
        return run_task(operator, try_number=try_number, resume=resume)

    return attempt


def provenance_of(hook: WandbHook, finished: Any) -> tuple[str, Any]:
    record = hook.get_run(RunRef.from_json(finished.xcom("wandb_run")))
    return record.ref.path, record.config["airflow"]["retry_of"]


def test_each_try_names_the_last_one_that_had_a_run(hook: WandbHook, attempt: Callable[..., Any]) -> None:
    first, _ = provenance_of(hook, attempt(1, end=ValueError("no")))
    assert attempt(2, refuse=True).state == "failed"
    # Cleared: Airflow counts on, and the second try has left no run to follow.
    third, retry_of = provenance_of(hook, attempt(3))
    assert (retry_of, third != first) == (first, True)
    _, retry_of = provenance_of(hook, attempt(9))
    assert retry_of == third


def test_a_resumed_try_continues_the_run_that_the_task_had_last(
    hook: WandbHook, attempt: Callable[..., Any]
) -> None:
    first, _ = provenance_of(hook, attempt(1, wandb_retries="new", end=ValueError("no")))
    # Cleared after its policy was changed: the checkpoint belongs to that run.
    again, retry_of = provenance_of(hook, attempt(2, wandb_retries="resume"))
    assert (again, retry_of) == (first, None)
    rows = hook.get_conn().run(again).scan_history(["metric"])
    assert [row["metric"] for row in rows] == [1, 2]


def test_a_deferred_task_goes_on_in_the_same_run(hook: WandbHook, attempt: Callable[..., Any]) -> None:
    before, _ = provenance_of(hook, attempt(1, end=ValueError("no")))
    waits = TaskDeferred(trigger=TimeDeltaTrigger(timedelta(hours=1)), method_name="execute_complete")
    deferred = attempt(2, end=waits)
    first = hook.get_run(RunRef.from_json(deferred.xcom("wandb_run")))
    assert (deferred.state, first.state, first.summary["airflow/state"]) == (
        "deferred",
        "finished",
        "deferred",
    )

    done = attempt(2, resume={"event": "ready"})

    assert (done.state, done.xcom()) == ("success", "ready")
    second = hook.get_run(RunRef.from_json(done.xcom("wandb_run")))
    assert second.ref == first.ref
    assert second.config["airflow"]["retry_of"] == before
    assert (second.state, second.summary["airflow/state"]) == ("finished", "success")
    rows = list(hook.get_conn().run(second.ref.path).scan_history(["metric"]))
    assert [row["metric"] for row in rows] == [2, "ready"]


def test_a_trigger_that_fails_fails_the_run(hook: WandbHook, attempt: Callable[..., Any]) -> None:
    def broken(context: Any, event: str) -> None:
        raise RuntimeError("the job is lost")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Work, "execute_complete", lambda self, context, event: broken(context, event))
        finished = attempt(1, resume={"event": "lost"})
    record = hook.get_run(RunRef.from_json(finished.xcom("wandb_run")))
    assert (record.state, record.summary["airflow/reason"]) == ("failed", "RuntimeError: the job is lost")


def test_outside_of_its_run_an_operator_has_none() -> None:
    with DAG("tries", schedule=None):
        operator = Work(task_id="work")
    with pytest.raises(RuntimeError, match="The task 'work' has no open W&B run"):
        _ = operator.wandb_run


@pytest.mark.parametrize("policy", ["new", "resume"])
def test_a_deleted_run_is_explained_and_the_way_out_leads_to_a_new_one(
    hook: WandbHook, attempt: Callable[..., Any], policy: Any
) -> None:
    path, _ = provenance_of(hook, attempt(1, wandb_retries=policy))
    hook.get_conn().run(path).delete()

    refused = attempt(1, wandb_retries=policy)
    assert (refused.state, type(refused.error)) == ("failed", WandbRunDeletedError)
    message = str(refused.error)
    assert path.rpartition("/")[2] in message
    assert "never allows the id of a deleted run again" in message
    assert "wandb_retries='new'" in message
    if policy == "resume":
        assert type(attempt(2, wandb_retries="resume").error) is WandbRunDeletedError

    cleared, retry_of = provenance_of(hook, attempt(3, wandb_retries="new"))
    assert cleared != path
    assert retry_of == path


class Store:
    """A task state store of one task."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def get(self, key: str) -> Any:
        assert key == "wandb_run"
        return self.value


@pytest.mark.parametrize(
    ("context", "retries", "expected_run", "expected_retry_of"),
    [
        ({}, "new", 3, "e/p/2"),
        ({}, "resume", None, None),
        ({"task_state_store": Store()}, "new", 3, None),
        ({"task_state_store": Store({"run": "e/p/x", "try_number": 1, "retry_of": None})}, "new", 3, "e/p/x"),
        (
            {"task_state_store": Store({"run": "e/p/x", "try_number": 3, "retry_of": "e/p/w"})},
            "new",
            3,
            "e/p/w",
        ),
        (
            {"task_state_store": Store({"run": "e/p/x", "try_number": 1, "retry_of": None})},
            "resume",
            "x",
            None,
        ),
        (
            {"task_state_store": Store({"run": "e/other/x", "try_number": 1, "retry_of": None})},
            "resume",
            None,
            "e/other/x",
        ),
    ],
)
def test_without_a_task_state_store_the_try_before_is_computed_and_with_one_it_is_known(
    context: Any, retries: Any, expected_run: Any, expected_retry_of: str | None
) -> None:
    identity = TaskIdentity("d", "r", "t", -1, 3)
    link = retry_link(context, identity, retries, "e", "p")
    if expected_run == "x":
        assert link.wandb_run_id == "x"
    else:
        assert link.wandb_run_id == identity.wandb_run_id(retries)
    if expected_retry_of == "e/p/2":
        expected_retry_of = f"e/p/{identity._replace(try_number=2).wandb_run_id()}"
    assert link.retry_of == expected_retry_of


@pytest.mark.parametrize("retries", ["new", "resume"])
def test_a_first_try_follows_none_and_asks_nobody(retries: Any) -> None:
    identity = TaskIdentity("d", "r", "t")
    assert retry_link({"task_state_store": None}, identity, retries, "e", "p") == (
        identity.wandb_run_id(retries),
        None,
    )  # type: ignore[typeddict-item]
