"""What keeps a version from an alias although its task was given a verdict that passed: nothing stands behind it."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG

from wandb_airflow_provider.exceptions import (
    WandbArtifactNotFoundError,
    WandbConfigurationError,
    WandbPromotionLostError,
    WandbPromotionRefusedError,
    WandbUnavailableError,
)
from wandb_airflow_provider.hooks.audit_log import AuditLog
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.operators.gate import WandbMetricGateOperator
from wandb_airflow_provider.operators.promote import WandbPromoteOperator
from wandb_airflow_provider.operators.rollback import WandbRollbackOperator

STAGES = ["dev", "production"]
APPROVED = {
    "chosen_options": ["Approve"],
    "params_input": {},
    "responded_at": "2026-03-01T13:00:00+00:00",
    "responded_by_user": {"id": "7", "name": "grace"},
}


class Pushed:
    """As the XComArg of a task that pushed this."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def resolve(self, context: Any) -> Any:
        return self.value


class Store:
    """A task state store that outlives a try."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def set(self, key: str, value: Any, **options: Any) -> None:
        self.values[key] = value

    def given_to(self, context: Any) -> None:
        """Take the place of the task's own, which not every Airflow has."""
        context["task_state_store"] = self


def test_a_verdict_that_somebody_else_wrote_into_the_xcom_promotes_nothing(
    judged: Any, promote: Any, run_task: Any, supervisor: Any, holder: Any, trail: Any, unique: str
) -> None:
    _, forged = judged("a", aliases=[])
    names = {"registry": "model", "collection": unique, "alias": "production"}
    with DAG("weekly", schedule=None):
        gate = WandbMetricGateOperator(
            task_id="gate",
            rules=[{"metric": "eval/mrr", "minimum": 0.5}],
            run="e/p/r",
            candidate="encoder:v0",
        )
        task = WandbPromoteOperator(task_id="promote", verdict=gate.output, **names)
    supervisor.xcoms[("gate", "return_value", -1)] = forged
    finished = run_task(task)
    assert (finished.state, type(finished.error)) == ("failed", WandbPromotionRefusedError)
    assert "nothing shows that a gate gave it" in str(finished.error)
    assert "audited_verdict=False" in str(finished.error)
    assert holder() is None
    assert [(entry.event, entry.why) for entry in trail()] == [("refused", str(finished.error))]

    _, real = judged("b")
    better = {**real["outcomes"][0], "value": 0.99}
    for altered in (
        {**real, "outcomes": [better]},
        {**real, "evaluated_at": "2026-03-02T12:00:00+00:00"},
        {**real, "baseline": forged["candidate"]},
    ):
        # A dry run checks the same, and costs no run for each.
        assert isinstance(promote(altered, dry_run=True).error, WandbPromotionRefusedError)
    assert promote(real, dry_run=True).xcom()["would_change"] is True
    assert promote(forged, audited_verdict=False).state == "success"


@pytest.mark.slow
def test_with_stages_each_alias_needs_a_verdict_of_its_own(
    judged: Any, promote: Any, written_down: Any, holder: Any
) -> None:
    _, lenient = judged("a", aliases=["dev"])
    assert promote(lenient, alias="dev", stages=STAGES).state == "success"
    refused = promote(lenient, stages=STAGES)
    assert isinstance(refused.error, WandbPromotionRefusedError)
    assert ":dev', and with stages each alias needs one of its own" in str(refused.error)
    assert holder() is None
    written_down(lenient, "production")
    assert promote(lenient, stages=STAGES).state == "success"

    # What came to a stage by a verdict that was not given for it has not passed it.
    _, other = judged("b")
    assert promote(other, alias="dev", dag_run_id="run-2").state == "success"
    beside = promote(other, dag_run_id="run-2", stages=STAGES)
    assert "has no verdict that passed on its digest" in str(beside.error)
    with DAG("weekly", schedule=None), pytest.raises(WandbConfigurationError, match="leave out"):
        WandbPromoteOperator(
            task_id="promote",
            verdict=None,
            registry="model",
            collection="c",
            alias="dev",
            stages=STAGES,
            audited_verdict=False,
        )


@pytest.mark.slow
def test_an_approval_of_something_else_or_by_nobody_promotes_nothing(
    judged: Any, promote: Any, holder: Any
) -> None:
    _, verdict = judged("a")
    by_nobody = {**APPROVED, "responded_by_user": None}
    for approval, says in (
        ({**APPROVED, "responded_at": "2026-03-01T11:59:59+00:00"}, "is of '2026-03-01T12:00:00+00:00'"),
        ({**APPROVED, "responded_at": None}, "approved at None"),
        ({**APPROVED, "responded_at": "2026-03-01T13:00:00"}, "Clear the task of the approval"),
        (by_nobody, "Nobody approved"),
    ):
        finished = promote(verdict, approval=approval, dry_run=True)
        assert isinstance(finished.error, WandbPromotionRefusedError)
        assert says in str(finished.error)
    assert holder() is None
    taken = promote(verdict, approval=by_nobody, allow_default_approval=True)
    assert (taken.state, taken.xcom()["approval"]["by"]) == ("success", None)


@pytest.mark.slow
def test_an_expected_holder_that_its_task_did_not_push_refuses_every_change(
    judged: Any, promote: Any, roll_back: Any, demote: Any, holder: Any
) -> None:
    _, first = judged("a")
    promote(first)
    version, verdict = judged("b")
    promote(verdict, dag_run_id="run-2")
    for finished in (
        promote(first, dag_run_id="run-3", expected_holder=Pushed(None), dry_run=True),
        roll_back(expected_holder=Pushed(None)),
        demote(expected_holder=Pushed(None), dry_run=True),
    ):
        assert isinstance(finished.error, WandbPromotionRefusedError)
        assert "its task pushed nothing" in str(finished.error)
    assert holder().digest == version.digest
    given = demote(dag_run_id="retire-2", expected_holder=Pushed(version.digest), dry_run=True)
    assert given.xcom()["would_change"] is True


@pytest.mark.slow
def test_a_cleared_task_does_not_undo_what_was_decided_since(
    judged: Any, promote: Any, roll_back: Any, demote: Any, written_down: Any, holder: Any, trail: Any
) -> None:
    _, january = judged("a")
    promote(january)
    assert promote(january, try_number=2, dry_run=True).xcom()["would_change"] is False
    later, february = judged("b")
    promote(february, dag_run_id="run-2")
    for cleared in (promote(january, try_number=3), promote(january, try_number=3, dry_run=True)):
        assert isinstance(cleared.error, WandbPromotionRefusedError)
        for says in ("this very task gave it the alias", f"digest {later.digest!r}", "version='v0'"):
            assert says in str(cleared.error)
    assert holder().digest == later.digest
    assert [entry.event for entry in trail()][-1] == "refused"
    # A rollback is a decision too, and one that named its reason.
    assert roll_back(version="v0").state == "success"
    cleared = promote(february, dag_run_id="run-2", try_number=2, dry_run=True)
    assert isinstance(cleared.error, WandbPromotionRefusedError)
    # Judged again, it is a new decision.
    again = {**february, "evaluated_at": "2026-03-08T12:00:00+00:00"}
    written_down(again, "production")
    assert promote(again, dag_run_id="run-2", try_number=3).xcom()["changed"] is True
    assert demote().state == "success"
    assert promote(again, dag_run_id="run-4").xcom()["changed"] is True
    for cleared in (roll_back(version="v0", try_number=2), demote(try_number=2)):
        assert isinstance(cleared.error, WandbPromotionRefusedError)
        assert "a new DAG run does" in str(cleared.error)
    assert holder().digest == later.digest


@pytest.mark.slow
def test_what_was_deleted_since_it_was_judged_is_refused_in_the_audit(
    hook: WandbHook, judged: Any, promote: Any, trail: Any
) -> None:
    version, verdict = judged("a")
    hook.get_conn().artifact(version.path).delete(delete_aliases=True)
    finished = promote(verdict, retries=2)
    assert isinstance(finished.error, WandbArtifactNotFoundError)
    (entry,) = trail()
    assert (entry.event, entry.why, entry.after.path) == ("refused", str(finished.error), version.path)


@pytest.mark.slow
def test_a_rollback_names_a_version_that_held_the_alias(
    judged: Any, promote: Any, roll_back: Any, holder: Any
) -> None:
    promote(judged("a")[1])
    promote(judged("b")[1], dag_run_id="run-2")
    # In the collection, and not by way of this alias.
    promote(judged("c")[1], dag_run_id="run-3", alias="staging")
    for version, error, says in (
        ("v2", WandbPromotionRefusedError, "never held"),
        ("{{ 'latest' }}", WandbConfigurationError, "'latest'"),
    ):
        for finished in (roll_back(version=version), roll_back(version=version, dry_run=True)):
            assert isinstance(finished.error, error)
            assert says in str(finished.error)
    assert holder().version == "v1"
    assert roll_back(version="v0").state == "success"
    meant = roll_back(version="v2", dag_run_id="undo-2", allow_never_promoted=True)
    assert (meant.state, holder().version) == ("success", "v2")
    with DAG("undo", schedule=None), pytest.raises(WandbConfigurationError, match="latest"):
        WandbRollbackOperator(
            task_id="undo", registry="model", collection="c", alias="production", version="latest"
        )


@pytest.mark.slow
def test_a_task_of_another_airflow_with_the_same_names_is_another_task(
    judged: Any,
    promote: Any,
    supervisor: Any,
    trail: Any,
    link_dies: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, verdict = judged("a")
    monkeypatch.setenv("AIRFLOW__WANDB__DEPLOYMENT", "berlin")
    with link_dies():
        assert isinstance(promote(verdict).error, WandbUnavailableError)
    # The other Airflow has a database of its own.
    supervisor.task_store.clear()
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW__WANDB__DEPLOYMENT", "lisbon")
        elsewhere = promote(verdict, try_number=2)
        assert (elsewhere.state, elsewhere.xcom()["changed"]) == ("success", False)
    finished = promote(verdict, try_number=2)
    assert (finished.state, finished.xcom()["changed"]) == ("success", True)
    assert [(entry.event, entry.task.deployment) for entry in trail()] == [
        ("intended", "berlin"),
        ("unchanged", "lisbon"),
        ("done", "berlin"),
    ]


@pytest.mark.slow
def test_a_retry_knows_the_previous_holder_from_airflow_alone_when_its_record_is_gone(
    hook: WandbHook, judged: Any, promote: Any, link_dies: Any
) -> None:
    store = Store()
    old, old_verdict = judged("a")
    promote(old_verdict)
    version, verdict = judged("b")
    with link_dies():
        crashed = promote(verdict, dag_run_id="run-2", pre_execute=store.given_to)
    assert isinstance(crashed.error, WandbUnavailableError)
    hook.update_artifact_metadata(version, {"airflow_promotion": {}})
    finished = promote(verdict, dag_run_id="run-2", try_number=2, pre_execute=store.given_to)
    assert (finished.state, finished.xcom()["changed"]) == ("success", True)
    assert finished.xcom()["previous"]["digest"] == old.digest
    # It is over: a later clear has nothing to complete.
    assert (
        promote(verdict, dag_run_id="run-2", try_number=3, pre_execute=store.given_to).xcom()["changed"]
        is False
    )


@pytest.mark.slow
def test_a_retry_of_a_demotion_knows_from_airflow_alone_what_it_began(
    hook: WandbHook, judged: Any, promote: Any, demote: Any, trail: Any, removal_dies: Any, unique: str
) -> None:
    store = Store()
    version, verdict = judged("a")
    promote(verdict)
    with removal_dies():
        assert isinstance(demote(pre_execute=store.given_to).error, WandbUnavailableError)
    audit = AuditLog(hook, "model", unique)
    hook.get_conn().artifact(f"{audit.path}:v{trail()[-1].number}").delete(delete_aliases=True)
    finished = demote(try_number=2, pre_execute=store.given_to)
    assert (finished.state, finished.xcom()["changed"]) == ("success", True)
    assert finished.xcom()["previous"]["digest"] == version.digest
    assert demote(try_number=3, pre_execute=store.given_to).xcom()["changed"] is False


@pytest.mark.slow
def test_a_retry_of_a_demotion_does_not_take_the_alias_from_who_got_it_since(
    judged: Any, promote: Any, demote: Any, holder: Any, removal_dies: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(judged("a")[1])
    rival, verdict = judged("b")
    with removal_dies():
        assert isinstance(demote().error, WandbUnavailableError)
    with monkeypatch.context() as patch:
        # The time that the process of the first try might still live is over.
        patch.setattr("wandb_airflow_provider.audit.LEASE_SECONDS", 0.0)
        assert promote(verdict, dag_run_id="run-2").state == "success"
    retried = demote(try_number=2)
    assert isinstance(retried.error, WandbPromotionLostError)
    assert "DAG run 'run-2'" in str(retried.error)
    assert holder().digest == rival.digest
