"""A person's answer on a real Airflow: what is promoted, what is not, and what W&B knows of it afterwards."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.system.conftest import WANDB_ENTITY, WANDB_PROJECT, Endings
from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.devserver_process import DevServerProcess
from wandb_airflow_provider.demo.polling import wait_for
from wandb_airflow_provider.hooks.audit_log import AuditLog
from wandb_airflow_provider.hooks.wandb import WandbHook

pytestmark = pytest.mark.slow

# The other two are past their time a second after they are asked.
ASKED = ("approved.approve", "rejected.approve")


def test_an_answer_decides_and_is_kept_and_without_one_nothing_is_promoted(
    endings: Endings,
    airflow_cluster: AirflowCluster,
    wandb_server: DevServerProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = airflow_cluster.api
    run = endings.start("approvals")

    def pending() -> dict[str, Any] | None:
        found = {item.task.task_id: item for item in api.pending_approvals("approvals", run.dag_run_id)}
        return found if set(ASKED) <= set(found) else None

    questions = wait_for("both questions to be asked", pending, timeout=120)
    assert "approval-model:v0 passed all 1 rules." in questions["approved.approve"].body
    assert questions["approved.approve"].subject == "Promote the candidate in model/approval-approved?"
    path = f"/dags/approvals/dagRuns/{quote(run.dag_run_id, safe='')}/hitlDetails"
    details = api.request("GET", path)["hitl_details"]
    assigned = {entry["task_instance"]["task_id"]: entry["assigned_users"] for entry in details}
    assert assigned["rejected.approve"] == [{"id": "Anonymous", "name": "Anonymous"}]

    def parked() -> bool | None:
        return all(airflow_cluster.has_parked(questions[task_id].task) for task_id in ASKED) or None

    wait_for("the scheduler to see that both wait", parked, timeout=120)
    api.answer(questions["approved.approve"], "Approve", {"alias": "staging", "note": "Looks <good>."})
    api.answer(questions["rejected.approve"], "Reject", {"note": "Not on a Friday."})
    ended = airflow_cluster.wait_for_run("approvals", run.dag_run_id)

    states = {task.task_id: task.state for task in api.task_instances("approvals", run.dag_run_id)}
    assert {name: state for name, state in states.items() if not name.endswith("gate")} == {
        "make": "success",
        "approved.approve": "success",
        "approved.promote": "success",
        "rejected.approve": "success",
        "rejected.promote": "skipped",
        "unanswered.approve": "success",
        "unanswered.promote": "skipped",
        "too_late.approve": "failed",
        "too_late.promote": "upstream_failed",
    }
    assert ended.state == "failed"

    answers = {
        way: api.xcom("approvals", run.dag_run_id, f"{way}.approve", key="wandb_approval")
        for way in ("approved", "rejected", "unanswered", "too_late")
    }
    assert [(answer["answer"], answer["by"]) for answer in answers.values()] == [
        ("Approve", "Anonymous"),
        ("Reject", "Anonymous"),
        ("Reject", None),
        ("timeout", None),
    ]
    promoted = api.xcom("approvals", run.dag_run_id, "approved.promote")
    assert promoted["alias"] == "staging"
    assert (promoted["approval"]["by"], promoted["approval"]["at"]) == (
        "Anonymous",
        answers["approved"]["at"],
    )

    connection = wandb_server.connection(entity=WANDB_ENTITY, project=WANDB_PROJECT)
    monkeypatch.setenv("AIRFLOW_CONN_WANDB_DEFAULT", connection.to_json())
    hook = WandbHook()
    record = hook.artifact_metadata(promoted["candidate"]["path"])["airflow_promotion"]
    assert record["model/approval-approved:staging"]["note"] == "Looks <good>."
    holders = {
        way: [hook.get_alias("model", f"approval-{way}", alias) for alias in ("production", "staging")]
        for way in answers
    }
    assert holders.pop("approved")[0] is None
    assert set(map(tuple, holders.values())) == {(None, None)}
    refused = {way: AuditLog(hook, "model", f"approval-{way}").entries() for way in holders}
    assert {way: [(entry.event, entry.why) for entry in entries] for way, entries in refused.items()} == {
        "rejected": [("passed", None), ("refused", "Rejected by Anonymous.")],
        "unanswered": [("passed", None), ("refused", "Nobody answered in time.")],
        "too_late": [("passed", None), ("refused", "Nobody answered in time.")],
    }
    assert refused["rejected"][1].note == "Not on a Friday."
    approved = AuditLog(hook, "model", "approval-approved").entries()
    assert [(entry.target.alias, entry.kind, entry.event) for entry in approved] == [
        ("production", "verdict", "passed"),
        ("staging", "approval", "approved"),
        ("staging", "promotion", "intended"),
        ("staging", "promotion", "done"),
    ]

    # Airflow sends the events of what succeeded: all but the question that failed for want of an answer.
    events = api.request("GET", "/assets/events", params={"source_dag_id": "approvals", "limit": 100})
    told = [event["extra"]["wandb_decision"] for event in events["asset_events"]]
    assert sorted((one["collection"], one["kind"], one["event"]) for one in told) == [
        ("approval-approved", "approval", "approved"),
        ("approval-approved", "promotion", "done"),
        ("approval-approved", "verdict", "passed"),
        ("approval-rejected", "approval", "refused"),
        ("approval-rejected", "verdict", "passed"),
        ("approval-too_late", "verdict", "passed"),
        ("approval-unanswered", "approval", "refused"),
        ("approval-unanswered", "verdict", "passed"),
    ]
