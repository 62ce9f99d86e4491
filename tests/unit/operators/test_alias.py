from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from airflow.sdk import DAG

from wandb_airflow_provider.cli import main
from wandb_airflow_provider.exceptions import (
    WandbConfigurationError,
    WandbPermissionError,
    WandbPromotionLostError,
    WandbPromotionRefusedError,
    WandbUnavailableError,
)
from wandb_airflow_provider.hooks.alias_history import read_audit
from wandb_airflow_provider.hooks.audit_log import AuditLog
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.operators.demote import WandbDemoteOperator
from wandb_airflow_provider.operators.promote import WandbPromoteOperator

STAGES = ["dev", "staging", "production"]


def test_a_dry_run_says_what_would_change_and_writes_nothing(
    server: Any, judged: Any, promote: Any, roll_back: Any, demote: Any, trail: Any
) -> None:
    old, old_verdict = judged("a")
    new, verdict = judged("b")
    promote(old_verdict)
    entries, before = trail(), len(server.requests())
    tried = promote(verdict, dag_run_id="run-2", dry_run=True).xcom()
    undone = roll_back(dry_run="{{ true }}")
    taken = demote(dry_run=True).xcom()
    stayed = promote(old_verdict, dag_run_id="run-3", dry_run=True).xcom()
    refused = promote(verdict, dag_run_id="run-4", dry_run=True, expected_holder="v7")
    for request in server.requests()[before:]:
        assert "mutation" not in str(request.operation).lower()
        assert request.operation not in ("UpsertBucket", "CreateArtifact", "LinkArtifact", "UpdateArtifact")
    assert (tried["dry_run"], tried["changed"], tried["would_change"]) == (True, False, True)
    assert (tried["previous"]["digest"], tried["current"]["digest"]) == (old.digest, new.digest)
    assert isinstance(undone.error, WandbPromotionRefusedError)
    assert (taken["would_change"], taken["previous"]["digest"], taken["current"]) == (True, old.digest, None)
    assert stayed["would_change"] is False
    assert isinstance(refused.error, WandbPromotionRefusedError)
    assert trail() == entries


@pytest.mark.slow
def test_a_version_reaches_a_stage_only_through_those_before_it(
    server: Any, judged: Any, promote: Any, roll_back: Any, demote: Any, trail: Any, holder: Any
) -> None:
    _, verdict = judged("a", aliases=STAGES)
    _, other = judged("b", aliases=STAGES)

    def stage(alias: str, judgement: Any = verdict) -> Any:
        return promote(judgement, dag_run_id=f"to-{alias}-{len(trail())}", alias=alias, stages=STAGES)

    too_early = stage("production")
    assert isinstance(too_early.error, WandbPromotionRefusedError)
    assert "was never promoted to" in str(too_early.error)
    assert holder() is None
    assert stage("dev").state == "success"
    assert "/".join(("model", "")) in str(stage("production").error)
    assert stage("staging").state == "success"
    assert stage("dev", other).state == "success"
    # What follows a version at a stage does not undo that the version has passed it.
    assert stage("production").state == "success"
    assert demote(alias="staging", dag_run_id="retire-staging").state == "success"
    assert demote().state == "success"
    again = stage("production")
    assert "lost" in str(again.error)
    assert "It is too slow." in str(again.error)
    skipping = stage("staging", other)
    assert skipping.state == "success"
    assert [entry.event for entry in trail()].count("refused") == 3


@pytest.mark.slow
def test_a_demotion_takes_the_alias_away_once_and_keeps_why(
    hook: WandbHook,
    judged: Any,
    promote: Any,
    demote: Any,
    holder: Any,
    trail: Any,
    unique: str,
    removal_dies: Any,
) -> None:
    version, verdict = judged("a")
    promote(verdict)
    held = holder()
    wrong = demote(dag_run_id="retire-0", expected_holder="v9")
    assert isinstance(wrong.error, WandbPromotionRefusedError)
    assert "'v9' is expected" in str(wrong.error)
    with removal_dies():
        crashed = demote(expected_holder=version.digest)
    assert isinstance(crashed.error, WandbUnavailableError)
    finished = demote(try_number=2, expected_holder=version.digest)
    assert finished.state == "success"
    pushed = finished.xcom()
    assert (pushed["changed"], pushed["previous"]["path"], pushed["current"]) == (True, held.path, None)
    assert holder() is None
    assert hook.get_artifact(f"{held.entity}/{held.project}/{unique}:v0").digest == version.digest
    assert demote(dag_run_id="retire-2").xcom()["changed"] is False
    assert [(entry.kind, entry.event) for entry in trail()][2:] == [
        ("demotion", "refused"),
        ("demotion", "intended"),
        ("demotion", "done"),
        ("demotion", "unchanged"),
    ]
    assert {entry.note for entry in trail()[2:]} == {"It is too slow."}
    history = read_audit("model", unique)
    assert history.cause is not None
    assert (history.holder, history.cause.event, history.unsettled) == (None, "done", ())


def test_a_demotion_needs_a_reason(demote: Any) -> None:
    assert isinstance(demote(reason="{{ ' ' }}").error, WandbConfigurationError)
    with DAG("retire", schedule=None), pytest.raises(TypeError):
        WandbDemoteOperator(task_id="retire", registry="model", collection="c", alias="a")  # type: ignore[call-arg]


@pytest.mark.slow
def test_a_protected_alias_is_explained_and_that_it_failed_is_in_the_audit(
    server: Any, connect: Any, judged: Any, promote: Any, trail: Any, unique: str
) -> None:
    _, verdict = judged("a")
    key = server.add_account(f"{unique}-apprentice", teams=["local"])
    connect(server, "apprentice", password=key, extra={"project": unique})
    server.protect_alias("model", unique)
    try:
        finished = promote(verdict, alias=unique, wandb_conn_id="apprentice", retries=2)
    finally:
        server.unprotect_alias("model", unique)
    assert isinstance(finished.error, WandbPermissionError)
    assert "only a registry admin" in str(finished.error)
    assert [entry.event for entry in trail()] == ["intended", "failed"]
    assert trail()[1].why == str(finished.error)
    assert trail()[1].people["wandb_user"] == f"{unique}-apprentice"
    # Its outcome is known, so that nobody has to wait for it.
    assert promote(verdict, alias=unique, dag_run_id="run-2").state == "success"


@pytest.mark.slow
def test_a_promotion_that_the_gate_did_not_compare_with_the_holder_of_now_is_refused(
    judged: Any, promote: Any, holder: Any
) -> None:
    _, first = judged("a")
    promote(first, expected_holder="nothing")
    rival, second = judged("b")
    assert promote(second, dag_run_id="run-2", expected_holder="v0").state == "success"
    _, third = judged("c")
    late = promote(third, dag_run_id="run-3", expected_holder="verdict")
    assert isinstance(late.error, WandbPromotionRefusedError)
    assert "compared it with nothing" in str(late.error)
    assert "'run-2'" in str(late.error)
    assert holder().digest == rival.digest


def test_a_retry_does_not_overwrite_who_was_promoted_since_its_first_try(
    judged: Any, promote: Any, holder: Any, link_dies: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, verdict = judged("a")
    rival, other = judged("b")
    with link_dies():
        assert isinstance(promote(verdict).error, WandbUnavailableError)
    with monkeypatch.context() as patch:
        # The first try left its intention open, for the time that its process might still live.
        patch.setattr("wandb_airflow_provider.audit.LEASE_SECONDS", 0.0)
        assert promote(other, dag_run_id="run-2").state == "success"
    retried = promote(verdict, try_number=2)
    assert isinstance(retried.error, WandbPromotionLostError)
    assert "DAG run 'run-2'" in str(retried.error)
    assert holder().digest == rival.digest


@pytest.mark.slow
def test_the_page_answers_why_with_verdict_approver_promotion_and_runs(
    server: Any,
    judged: Any,
    run_task: Any,
    promote: Any,
    roll_back: Any,
    unique: str,
    capsys: pytest.CaptureFixture[str],
    hook: WandbHook,
) -> None:
    _, first_verdict = judged("a")
    promote(first_verdict, note="the first | one")
    second, verdict = judged("b", mrr=0.75)
    with DAG("weekly", schedule=None):
        task = WandbPromoteOperator(
            task_id="promote",
            registry="model",
            collection=unique,
            alias="production",
            verdict=verdict,
            approval={
                "chosen_options": ["Approve"],
                "params_input": {},
                "responded_at": "2026-03-01T13:00:00+00:00",
                "responded_by_user": {"id": "7", "name": "grace"},
            },
        )
    finished = run_task(task, dag_run_id="run-2")
    assert finished.state == "success"
    assert main(["why", f"model/{unique}:production"]) == 0
    page = capsys.readouterr().out
    for says in ("grace", "0.75", ">= 0.5", second.source_run, "'run-2'", "local", f"{unique}:v0"):
        assert str(says) in page
    roll_back(note="worse in German")
    history = read_audit("model", unique)
    assert history.cause is not None
    assert history.promotion is not None
    assert (history.cause.kind, history.promotion.note) == ("rollback", "the first | one")
    assert main(["why", f"model/{unique}:production", "--markdown"]) == 0
    markdown = capsys.readouterr().out
    assert "the first \\| one" in markdown
    assert "worse in German" in markdown
    assert main(["why", f"model/{unique}:production", "--json"]) == 0
    assert '"holder"' in capsys.readouterr().out
    assert main(["why", f"model/{unique}:production", "--html"]) == 0
    assert "worse in German" in capsys.readouterr().out


@pytest.mark.slow
def test_the_registry_leads_to_the_page_that_says_why_a_version_has_its_alias(
    server: Any, hook: WandbHook, judged: Any, promote: Any, roll_back: Any, demote: Any, unique: str
) -> None:
    def shown() -> list[str]:
        page = httpx.get(f"{server.url}/orgs/local-org/registry/model", headers={"Accept": "text/html"}).text
        section = page.partition(f">{unique}</a>")[2].partition("</section>")[0]
        return re.findall(r'<td><a href="([^"]+)">production</a></td>', section)

    def why(finished: Any) -> str:
        ref = RunRef.from_json(finished.xcom("wandb_run"))
        assert finished.xcom()["page"] == ref.url
        run = hook.get_conn().run(ref.path)
        (entry,) = [value for key, value in run.summary_metrics.items() if key.endswith("/page")]
        return httpx.get(f"{server.url}/files/{ref.path}/{entry['path']}", auth=("api", server.api_key)).text

    first = promote(judged("a")[1], note="the first")
    page = first.xcom()["page"]
    assert "Why does model" in why(first)
    second = promote(judged("b")[1], dag_run_id="run-2", note="the second")
    assert shown() == [second.xcom()["page"], page]
    undone = roll_back(note="worse in German")
    assert shown() == [second.xcom()["page"], undone.xcom()["page"]]
    for said in ("worse in German", "It was promoted before that", "the first", "eval/mrr", "0.6"):
        assert said in why(undone)
    taken = demote()
    assert "point to nothing" in why(taken)
    assert "It is too slow." in why(taken)


@pytest.mark.slow
def test_an_entry_whose_copy_was_changed_is_read_from_its_file_and_said_so(
    hook: WandbHook, judged: Any, promote: Any, unique: str
) -> None:
    _, verdict = judged("a")
    promote(verdict)
    log = AuditLog(hook, "model", unique)
    before = log.entries()
    hook.update_artifact_metadata(f"{log.path}:v2", {"airflow_audit": "{}"})
    after = log.entries()
    assert [entry.altered for entry in after] == [False, False, True]
    assert after[2]._replace(altered=False) == before[2]
    hook.get_conn().artifact(f"{log.path}:v0").delete(delete_aliases=True)
    assert read_audit("model", unique).missing == (0,)
