from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import DAG

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import (
    WandbConfigurationError,
    WandbInvalidNameError,
    WandbPromotionRefusedError,
    WandbUnavailableError,
)
from wandb_airflow_provider.hooks.audit_log import AuditLog
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.operators.promote import WandbPromoteOperator
from wandb_airflow_provider.promotion import PromotionRecord
from wandb_airflow_provider.registry import RegistryAlias
from wandb_airflow_provider.rules import MetricRule, Verdict, evaluate

APPROVED = {
    "chosen_options": ["Approve"],
    "params_input": {"reason": "looks good"},
    "responded_at": datetime(2026, 3, 1, 13, tzinfo=UTC),
    "responded_by_user": {"id": "7", "name": "grace"},
}


def test_a_first_promotion_moves_the_alias_and_records_verdict_approval_and_task(
    hook: WandbHook, judged: Any, promote: Any, holder: Any, unique: str
) -> None:
    version, verdict = judged("a")
    finished = promote(verdict, approval=APPROVED, note="week 9")
    assert (finished.state, finished.error) == ("success", None)
    pushed = finished.xcom()
    assert (pushed["changed"], pushed["previous"]) == (True, None)
    assert pushed["current"] == holder().to_json()
    assert pushed["current"]["source"] == version.path
    assert holder().digest == version.digest
    metadata = hook.artifact_metadata(version)
    record = PromotionRecord.find(metadata, RegistryAlias("model", unique, "production"))
    assert record is not None
    assert record.state == "completed"
    assert record.verdict == Verdict.from_json(verdict)
    assert record.approval == {
        "by": "grace",
        "at": "2026-03-01T13:00:00+00:00",
        "params": {"reason": "looks good"},
    }
    assert (record.task.dag_id, record.task.dag_run_id, record.note) == ("weekly", "run-1", "week 9")
    own = hook.get_run(RunRef.from_json(finished.xcom("wandb_run")))
    assert record.wandb_run == own.ref.path
    assert own.summary["promotion/changed"] is True
    assert own.summary["promotion/approved_by"] == "grace"
    used = hook.get_conn().run(own.ref.path).used_artifacts()
    assert [artifact.digest for artifact in used] == [version.digest]


@pytest.mark.slow
def test_a_second_promotion_names_the_previous_holder(
    hook: WandbHook, judged: Any, promote: Any, holder: Any, unique: str
) -> None:
    old, old_verdict = judged("a")
    promote(old_verdict)
    first = holder()
    new, verdict = judged("b")
    finished = promote(verdict, dag_run_id="run-2")
    assert finished.xcom()["previous"]["path"] == first.path
    assert holder().digest == new.digest
    record = PromotionRecord.find(hook.artifact_metadata(new), RegistryAlias("model", unique, "production"))
    assert record is not None
    assert record.previous is not None
    assert record.previous.digest == old.digest


@pytest.mark.slow
def test_promoting_what_already_holds_the_alias_changes_nothing(
    hook: WandbHook, judged: Any, promote: Any, holder: Any, unique: str
) -> None:
    version, verdict = judged("a")
    promote(verdict)
    before = holder(), hook.artifact_metadata(version)
    finished = promote(verdict, dag_run_id="run-2")
    assert finished.state == "success"
    assert finished.xcom()["changed"] is False
    assert (holder(), hook.artifact_metadata(version)) == before


@pytest.mark.slow
def test_a_retry_after_a_crash_between_the_move_and_the_record_still_knows_the_previous_holder(
    judged: Any, promote: Any, link_dies: Any
) -> None:
    old, old_verdict = judged("a")
    promote(old_verdict)
    _, verdict = judged("b")
    with link_dies():
        crashed = promote(verdict, dag_run_id="run-2")
    assert isinstance(crashed.error, WandbUnavailableError)
    finished = promote(verdict, dag_run_id="run-2", try_number=2)
    assert finished.state == "success"
    assert finished.xcom()["changed"] is True
    assert finished.xcom()["previous"]["digest"] == old.digest


@pytest.mark.slow
def test_the_loser_of_two_promotions_at_once_names_the_winner_and_is_not_retried(
    judged: Any, promote: Any, holder: Any, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, verdict = judged("a")
    rival, _ = judged("b")
    link = WandbHook.link_to_registry

    def overtaken(self: WandbHook, source: ArtifactRef, *where: Any) -> ArtifactRef:
        linked = link(self, source, *where)
        link(self, rival, *where)
        return linked

    monkeypatch.setattr(WandbHook, "link_to_registry", overtaken)
    finished = promote(verdict, retries=3)
    assert finished.state == "failed"
    assert isinstance(finished.error, WandbPromotionRefusedError)
    assert rival.digest in str(finished.error)
    assert holder().digest == rival.digest


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"collection": "{{ 'a b' }}"}, WandbInvalidNameError, "a b"),
        ({"alias": "{{ 'v3' }}"}, WandbInvalidNameError, "v3"),
        ({"dry_run": "perhaps"}, WandbConfigurationError, "perhaps"),
    ],
)
def test_a_promotion_with_wrong_input_is_refused_before_anything_is_sent(
    server: Any, hook: WandbHook, promote: Any, arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    before = len(server.requests())
    finished = promote(**{"verdict": sound_verdict(), **arguments}, retries=2)
    assert finished.state == "failed"
    assert isinstance(finished.error, error)
    assert says in str(finished.error)
    assert len(server.requests()) == before


@pytest.mark.slow
def test_input_that_decides_nothing_is_refused_and_in_the_audit_of_the_alias_that_was_asked_for(
    server: Any, promote: Any, trail: Any
) -> None:
    before, sound = len(server.requests()), sound_verdict()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"verdict": None}, "verdict"),
        ({"verdict": "{broken"}, "JSON"),
        ({"verdict": {"passed": True}}, "format"),
        ({"verdict": {**sound, "outcomes": [{**sound["outcomes"][0], "value": -1.0}]}}, "say otherwise"),
        ({"approval": "yes"}, "chosen_options"),
        ({"stages": ["dev", "{{ 'x' }}"], "alias": "{{ 'production' }}"}, "stages"),
    ]
    for arguments, says in wrong:
        finished = promote(**{"verdict": sound, **arguments}, retries=2)
        assert finished.state == "failed"
        assert isinstance(finished.error, WandbConfigurationError)
        assert says in str(finished.error)
    assert "LinkArtifact" not in {request.operation for request in server.requests()[before:]}
    assert [(entry.event, says in entry.why) for entry, (_, says) in zip(trail(), wrong, strict=True)] == [
        ("refused", True)
    ] * len(wrong)


def test_an_approval_that_nobody_gave_refuses_the_promotion(
    hook: WandbHook, promote: Any, supervisor: Any, run_task: Any, unique: str
) -> None:
    with DAG("weekly", schedule=None):
        task = WandbPromoteOperator(
            task_id="promote",
            registry="model",
            collection=unique,
            alias="production",
            verdict=sound_verdict(),
            approval="{{ none }}",
        )
        task.approval = _RendersToNone()
    finished = run_task(task)
    assert isinstance(finished.error, WandbPromotionRefusedError)
    assert "no answer" in str(finished.error)


class _RendersToNone:
    """As the XComArg of an approval that pushed nothing."""

    def resolve(self, context: Any) -> None:
        return None


def test_what_was_not_approved_or_did_not_pass_is_refused_and_kept_in_the_audit(
    server: Any, judged: Any, promote: Any, holder: Any, trail: Any
) -> None:
    version, passed = judged("a")
    _, failed = judged("b", mrr=0.4)
    before = len(server.requests())
    rejected = promote(passed, approval={**APPROVED, "chosen_options": ["Reject"]}, retries=2)
    unanswered = promote(passed, approval={**APPROVED, "chosen_options": []}, dag_run_id="run-2")
    worse = promote(failed, dag_run_id="run-3")
    for finished, says in (
        (rejected, "grace"),
        (unanswered, "not approved"),
        (worse, "must be at least 0.5"),
    ):
        assert finished.state == "failed"
        assert isinstance(finished.error, WandbPromotionRefusedError)
        assert says in str(finished.error)
    sent = {request.operation for request in server.requests()[before:]}
    assert not sent & {"LinkArtifact", "UpdateArtifact"}
    assert holder() is None
    entries = trail()
    assert [(entry.kind, entry.event, entry.why) for entry in entries] == [
        ("promotion", "refused", str(finished.error)) for finished in (rejected, unanswered, worse)
    ]
    assert entries[0].after.digest == version.digest
    assert entries[2].verdict == failed


def test_a_refusal_that_the_audit_cannot_take_is_a_refusal_all_the_same(
    judged: Any, promote: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, failed = judged("a", mrr=0.4)

    def away(self: Any, entry: Any) -> None:
        raise WandbUnavailableError("the line is down")

    monkeypatch.setattr(AuditLog, "append", away)
    finished = promote(failed, retries=2)
    assert isinstance(finished.error, WandbPromotionRefusedError)
    assert "the line is down" in caplog.text


def test_nothing_is_promoted_when_the_audit_cannot_be_written(
    judged: Any, promote: Any, holder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, verdict = judged("a")

    def away(self: Any, entry: Any) -> None:
        raise WandbUnavailableError("the line is down")

    monkeypatch.setattr(AuditLog, "append", away)
    finished = promote(verdict, retries=2)
    assert (finished.state, type(finished.error)) == ("up_for_retry", WandbUnavailableError)
    assert holder() is None


@pytest.mark.slow
def test_what_only_explains_a_promotion_cannot_fail_it_once_the_alias_has_moved(
    judged: Any,
    promote: Any,
    holder: Any,
    trail: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from wandb.apis.public import Run

    version, verdict = judged("a")
    link = WandbHook.link_to_registry

    def away(self: Any) -> None:
        raise WandbUnavailableError("the line is down")

    with monkeypatch.context() as patch:

        def link_and_go(*arguments: Any) -> None:
            link(*arguments)
            patch.setattr(AuditLog, "trail", away)

        patch.setattr(WandbHook, "link_to_registry", link_and_go)
        patch.setattr(Run, "used_artifacts", away)
        finished = promote(verdict, retries=2)

    assert (finished.state, finished.xcom()["changed"]) == ("success", True)
    assert holder().digest == version.digest
    assert [entry.event for entry in trail()] == ["intended", "done"]


def test_a_version_with_another_digest_than_the_verdict_s_is_refused_and_nothing_is_written(
    server: Any, judged: Any, promote: Any, holder: Any
) -> None:
    version, verdict = judged("a")
    other, _ = judged("b")
    before = len(server.requests())
    finished = promote(verdict, candidate="encoder:latest")
    assert isinstance(finished.error, WandbPromotionRefusedError)
    assert other.digest in str(finished.error)
    assert version.digest in str(finished.error)
    sent = {request.operation for request in server.requests()[before:]}
    assert not sent & {"LinkArtifact", "UpdateArtifact"}
    assert holder() is None
    forged = {
        **verdict,
        "digest": other.digest,
        "candidate": {**verdict["candidate"], "digest": other.digest},
    }
    assert isinstance(promote(forged).error, WandbPromotionRefusedError)


@pytest.mark.slow
def test_a_rollback_restores_the_recorded_holder_and_a_retry_goes_no_further(
    judged: Any, promote: Any, roll_back: Any, holder: Any
) -> None:
    versions = []
    for number, content in enumerate("abc"):
        version, verdict = judged(content)
        versions.append(version)
        promote(verdict, dag_run_id=f"run-{number}")
    finished = roll_back(note="complaints")
    assert (finished.state, finished.error) == ("success", None)
    assert finished.xcom()["changed"] is True
    assert finished.xcom()["previous"]["digest"] == versions[2].digest
    assert holder().digest == versions[1].digest
    again = roll_back(try_number=2)
    assert again.xcom()["previous"]["digest"] == versions[2].digest
    assert holder().digest == versions[1].digest
    roll_back(dag_run_id="undo-2")
    assert holder().digest == versions[0].digest
    first = roll_back(dag_run_id="undo-3")
    assert isinstance(first.error, WandbPromotionRefusedError)
    assert "version='v" in str(first.error)
    named = roll_back(dag_run_id="undo-4", version="v2")
    assert named.state == "success"
    assert holder().digest == versions[2].digest


def test_a_rollback_of_an_alias_that_nothing_holds_is_refused(hook: WandbHook, roll_back: Any) -> None:
    finished = roll_back()
    assert isinstance(finished.error, WandbPromotionRefusedError)
    assert "Nothing holds" in str(finished.error)


@pytest.mark.slow
def test_a_rolled_back_version_can_be_promoted_again(
    judged: Any, promote: Any, roll_back: Any, holder: Any
) -> None:
    first, first_verdict = judged("a")
    promote(first_verdict)
    second, verdict = judged("b")
    promote(verdict, dag_run_id="run-2")
    roll_back()
    finished = promote(verdict, dag_run_id="run-3")
    assert finished.xcom()["changed"] is True
    assert finished.xcom()["previous"]["digest"] == first.digest
    assert holder().digest == second.digest


@pytest.mark.parametrize(
    "names", [{"alias": "v3"}, {"collection": "a b"}, {"registry": ""}, {"alias": "a/b"}, {"alias": "a:b"}]
)
def test_a_name_that_w_and_b_refuses_is_found_when_the_dag_is_parsed(names: dict[str, str]) -> None:
    with DAG("weekly", schedule=None), pytest.raises(WandbInvalidNameError):
        WandbPromoteOperator(
            task_id="promote",
            verdict={},
            **{"registry": "model", "collection": "search", "alias": "production", **names},
        )


def sound_verdict() -> dict[str, Any]:
    return evaluate(
        [MetricRule(metric="m", minimum=0)],
        {"m": 1},
        candidate=ArtifactRef("local", "p", "encoder", "v0", "d" * 32, "model"),
        run=RunRef("local", "p", "run1"),
        evaluated_at=datetime(2026, 3, 1, tzinfo=UTC),
    ).to_json()
