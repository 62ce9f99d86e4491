"""The operator that creates automations, against the dev server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG

from wandb_airflow_provider import MetricCondition, WandbCreateAutomationOperator, webhook_payload
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.hooks import automations

RunTask = Callable[..., Any]


def operator(**arguments: Any) -> WandbCreateAutomationOperator:
    given = {
        "task_id": "automation",
        "name": "deploy",
        "event": "run_state",
        "action": "nothing",
        **arguments,
    }
    with DAG("dag"):
        return WandbCreateAutomationOperator(**given)


@pytest.fixture
def saved(server: Any, hook: Any) -> Callable[..., Any]:
    """``saved(name)`` reads an automation back."""

    def read(name: str, entity: str = "local") -> Any:
        (found,) = hook.get_conn().automations(entity, name=name)
        return found

    return read


@pytest.fixture
def outcomes(run_task: RunTask) -> Callable[[dict[str, Any]], list[str]]:
    """``outcomes(arguments)`` runs the operator twice and returns what it had to do."""

    def run_twice(arguments: dict[str, Any]) -> list[str]:
        found = []
        for _ in range(2):
            ended = run_task(operator(**arguments))
            assert ended.state == "success", ended.error
            assert set(ended.xcom()) == {"name", "id", "outcome"}
            found.append(ended.xcom()["outcome"])
        return found

    return run_twice


@pytest.fixture
def collection(server: Any, hook: Any, log_run: Any, unique: str) -> str:
    """A collection of the registry ``model`` with one version."""
    _, version = log_run({"loss": 1.0}, content=unique)
    hook.link_to_registry(version, "model", unique)
    return unique


@pytest.mark.slow
def test_automation_on_an_alias_is_created_once_changed_when_asked_to_and_else_left_alone(
    server: Any,
    run_task: RunTask,
    outcomes: Callable[..., list[str]],
    saved: Callable[..., Any],
    collection: str,
) -> None:
    webhook = server.add_webhook_integration(f"hook-{collection[:50]}", "http://127.0.0.1:9/x", secret="s")
    wanted = {
        "name": collection,
        "event": "alias_added",
        "action": "webhook",
        "integration": f"hook-{collection[:50]}",
        "registry": "model",
        "collection": "{{ params.collection }}",
        "alias": "production",
        "description": "Starts {{ dag.dag_id }}",
        "params": {"collection": collection},
    }
    assert outcomes(wanted) == ["created", "unchanged"]
    found = saved(collection, "local-org")
    assert (found.scope.name, found.description, found.enabled) == (collection, "Starts dag", True)
    assert found.event.event_type == "ADD_ARTIFACT_ALIAS"
    assert '"production"' in found.event.filter.model_dump_json().replace("\\", "")
    assert (found.action.integration.id, found.action.request_payload) == (webhook, webhook_payload())

    changes: list[dict[str, Any]] = [
        {"alias": "staging"},
        {"alias": "staging", "payload": {"text": "${alias}"}},
        {"alias": "staging", "enabled": False},
        {"event": "artifact_linked", "alias": "staging", "action": "nothing", "integration": None},
    ]
    for change in changes:
        assert outcomes({**wanted, **change}) == ["updated", "unchanged"], change
    assert saved(collection, "local-org").id == found.id

    elsewhere = run_task(operator(**{**wanted, "collection": None}))
    assert elsewhere.state == "failed"
    assert isinstance(elsewhere.error, WandbConfigurationError)
    assert f"which watches {collection!r}" in str(elsewhere.error)


def test_automation_that_another_task_creates_at_the_same_time_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
    run_task: RunTask,
    hook: Any,
    outcomes: Callable[..., list[str]],
    unique: str,
) -> None:
    hook.get_conn().create_project(unique, "local")
    wanted = {"name": unique, "states": ["failed"]}
    assert outcomes(wanted) == ["created", "unchanged"]
    find, looks = automations._named, []

    def find_late(*names: Any) -> Any:
        looks.append(names)
        return find(*names) if len(looks) > 1 else None

    monkeypatch.setattr(automations, "_named", find_late)
    ended = run_task(operator(**wanted))
    assert (ended.state, ended.error) == ("success", None)
    assert ended.xcom()["outcome"] == "unchanged"
    assert len(looks) == 2


def test_automations_on_runs_say_what_they_wait_for(
    server: Any, hook: Any, outcomes: Callable[..., list[str]], saved: Callable[..., Any], unique: str
) -> None:
    hook.get_conn().create_project(unique, "local")
    server.add_slack_integration("acme", f"alerts-{unique}")
    conditions: dict[str, dict[str, Any]] = {
        "RUN_METRIC": {"event": "run_metric", "metric": MetricCondition("loss", above=2.5, window=3)},
        "RUN_METRIC_CHANGE": {
            "event": "run_metric",
            "metric": MetricCondition("loss", increases_by=0.2, window=5, aggregate="max"),
            "run_name": "train",
        },
        "RUN_STATE": {"event": "run_state", "states": ["failed", "finished"]},
    }
    notice = {"integration": f"acme/alerts-{unique}", "title": "Look", "message": "at {{ run_id }}"}
    for kind, condition in conditions.items():
        wanted = {"name": f"{unique} {kind}", "action": "notification", "severity": "warn"}
        assert outcomes({**wanted, **condition, **notice}) == ["created", "unchanged"], kind
        found = saved(f"{unique} {kind}")
        assert (found.event.event_type, found.scope.name) == (kind, unique)
        assert (found.action.title, found.action.message) == ("Look", "at manual__1")
        assert found.action.severity == "WARN"
    text = json.dumps([saved(f"{unique} {kind}").event.model_dump() for kind in conditions])
    plain = text.replace("\\", "")
    for part in ('"threshold": 2.5', '"window_size": 3', "train", "0.2", "FAILED"):
        assert part.replace(" ", "") in plain.replace(" ", ""), part


def test_automation_on_created_versions_watches_a_collection_of_a_project(
    server: Any, run_task: RunTask, saved: Callable[..., Any], log_run: Any, unique: str
) -> None:
    log_run({"loss": 1.0}, content=unique)
    task = operator(
        name=unique,
        event="artifact_created",
        action="nothing",
        project=unique,
        collection="encoder",
        artifact_type="model",
    )
    ended = run_task(task)
    assert (ended.state, ended.xcom()["outcome"]) == ("success", "created"), ended.error
    assert (saved(unique).scope.name, saved(unique).event.event_type) == ("encoder", "CREATE_ARTIFACT")


@pytest.mark.parametrize(
    ("arguments", "error", "why"),
    [
        ({"project": "nowhere"}, "WandbNotFoundError", "nowhere"),
        ({"event": "alias_added", "registry": "nowhere"}, "WandbNotFoundError", "no registry 'nowhere'"),
        (
            {"event": "alias_added", "registry": "model", "collection": "nowhere"},
            "WandbNotFoundError",
            "leave collection out",
        ),
        (
            {"event": "alias_added", "registry": "model", "action": "webhook", "integration": "nowhere"},
            "WandbNotFoundError",
            "the SDK cannot",
        ),
    ],
)
def test_what_the_automation_needs_and_w_and_b_lacks_is_named(
    run_task: RunTask, hook: Any, unique: str, arguments: dict[str, Any], error: str, why: str
) -> None:
    task = operator(**{"states": ["failed"] if "event" not in arguments else [], **arguments})
    ended = run_task(task)
    assert ended.state == "failed"
    names = [kind.__name__ for kind in type(ended.error).__mro__]
    assert (error in names, why in str(ended.error)) == (True, True), ended.error


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"event": "removed"}, "event is 'removed'"),
        ({"action": "mail"}, "action is 'mail'"),
        ({"name": " "}, "needs a name"),
        ({"name": "n" * 256}, "needs a name"),
        ({"states": []}, "needs states="),
        ({"states": ["killed"]}, "states is 'killed'"),
        ({"states": ["failed"], "alias": "production"}, "no use for alias"),
        ({"states": ["failed"], "action": "webhook", "integration": "x"}, "events of artifacts only"),
        ({"states": ["failed"], "action": "notification"}, "needs integration="),
        ({"states": ["failed"], "title": "Look"}, "no use for title"),
        ({"event": "run_metric"}, "needs metric="),
        ({"event": "run_metric", "metric": MetricCondition("loss")}, "exactly one of"),
        ({"event": "run_metric", "metric": MetricCondition("loss", 1, 2)}, "exactly one of"),
        ({"event": "run_metric", "metric": MetricCondition("loss", float("nan"))}, "expected a number"),
        ({"event": "run_metric", "metric": MetricCondition("loss", changes_by=0)}, "more than 0"),
        ({"event": "run_metric", "metric": MetricCondition("loss", 1, window=0)}, "at least 1"),
        ({"event": "alias_added", "registry": "a/b"}, "a/b"),
        ({"event": "alias_added", "registry": "model", "alias": "v3"}, "v3"),
        ({"event": "alias_added", "collection": "c"}, "artifact_type"),
        ({"event": "artifact_created", "registry": "model"}, "artifact_linked"),
        ({"event": "alias_added", "registry": "model", "states": ["failed"]}, "no use for states"),
    ],
)
def test_impossible_automation_is_refused_when_the_dag_is_parsed(arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(WandbConfigurationError, match=why):
        operator(**arguments)
