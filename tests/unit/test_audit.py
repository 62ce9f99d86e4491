from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.audit import LEASE_SECONDS, AuditEntry, audit_name, blockers, content_digest
from wandb_airflow_provider.audit_page import history_document, history_markdown, history_text
from wandb_airflow_provider.audit_trail import AuditTrail
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.promotion import TaskMark
from wandb_airflow_provider.registry import RegistryAlias
from wandb_airflow_provider.reports.html import to_html
from wandb_airflow_provider.settings import deployment

PRODUCTION = RegistryAlias("model", "search", "production")
STAGING = RegistryAlias("model", "search", "staging")


def version(digest: str) -> ArtifactRef:
    return ArtifactRef("org", "wandb-registry-model", "search", f"v{ord(digest)}", digest, "model")


def entry(number: int, event: str = "intended", **fields: Any) -> AuditEntry:
    """Return an entry of a promotion; its decision is that of its task."""
    task = fields.pop("task", f"run-{number}")
    about = {
        "decision": task,
        "kind": "promotion",
        "at": f"2026-03-01T00:00:{number:02}+00:00",
        "target": PRODUCTION,
        "try_number": 1,
        "written_at": 1000.0 + number,
    }
    return AuditEntry(
        **{**about, "event": event, "task": TaskMark("weekly", task, "promote"), "number": number, **fields}
    )  # type: ignore[arg-type]


def test_an_intention_waits_for_all_unsettled_ones_before_it_and_for_no_other() -> None:
    entries = [
        entry(0, task="settled"),
        entry(1, task="ahead"),
        entry(2, task="elsewhere", target=STAGING),
        entry(3, task="own", decision="the try before"),
        entry(4, "done", task="settled"),
        entry(5, task="own"),
        entry(6, task="after"),
    ]
    for shuffled in itertools.islice(itertools.permutations(entries), 0, 5040, 97):
        assert [found.task.dag_run_id for found in blockers(shuffled, entries[5], 0.0)] == ["ahead"]


def test_an_intention_waits_for_that_of_a_task_of_the_same_names_in_another_airflow() -> None:
    here, there = (TaskMark("weekly", "run", "promote", deployment=name) for name in ("here", "there"))
    older = TaskMark("weekly", "run", "promote")
    own = entry(3)._replace(task=here)
    ahead = [entry(number)._replace(task=task) for number, task in enumerate((here, there, older))]
    assert [found.task for found in blockers([*ahead, own], own, 0.0)] == [there]
    assert here.recognises(older)
    assert not older.recognises(here)
    assert "there" in str(there)
    assert "there" not in str(here)


def test_an_entry_from_before_there_were_deployments_can_be_read() -> None:
    written = entry(0).to_json()
    assert written["task"].pop("deployment") == ""
    assert AuditEntry.from_text(json.dumps(written)).task == entry(0).task


def test_a_deployment_is_what_it_is_called_or_made_from_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "")
    assert deployment() == ""
    named = set()
    for address in ("https://a.example.com", "https://a.example.com/", "https://b.example.com"):
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", address)
        named.add(deployment())
    assert len(named) == 2
    assert "" not in named
    monkeypatch.setenv("AIRFLOW__WANDB__DEPLOYMENT", " eu-production ")
    assert deployment() == "eu-production"


@pytest.mark.parametrize(
    ("elapsed", "waits"), [(0.0, True), (LEASE_SECONDS - 2, True), (LEASE_SECONDS, False)]
)
def test_an_intention_is_passed_when_its_process_must_have_died(elapsed: float, waits: bool) -> None:
    own = entry(1, task="own")
    assert bool(blockers([entry(0, task="dead"), own], own, elapsed)) is waits


def test_of_any_two_intentions_at_least_one_waits_for_the_other() -> None:
    one, other = entry(0), entry(1)
    assert blockers([one, other], other, 0.0) == [one]
    assert blockers([one, other], one, 0.0) == []


def test_an_entry_is_read_back_as_it_was_written() -> None:
    written = entry(
        3, "done", before=version("a"), after=version("b"), note="because", people={"owner": "ada"}
    )
    read = AuditEntry.from_text(json.dumps(written.to_json()), number=3, written_at=1003.0)
    assert read == written._replace(data=())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps({**entry(0).to_json(), "format": 2}),
        json.dumps({**entry(0).to_json(), "event": "x"}),
    ],
)
def test_what_is_no_entry_is_refused_with_its_number(text: str) -> None:
    with pytest.raises(WandbConfigurationError, match="v7"):
        AuditEntry.from_text(text, number=7)


def test_names_of_audits_are_short_enough_and_stay_different() -> None:
    assert audit_name("model", "search") == "audit.model.search"
    names = {audit_name("model", "x" * 127 + letter) for letter in "ab"}
    assert len(names) == 2
    assert all(len(name) <= 128 for name in names)
    assert content_digest("a") != content_digest("b")


@pytest.mark.parametrize(
    ("after", "says"),
    [
        ([], None),
        ([entry(9, "done", target=STAGING, before=version("a"), after=version("b"))], None),
        (
            [entry(9, "done", target=STAGING, kind="demotion", before=version("a"), note="slow")],
            "demotion",
        ),
        (
            [entry(9, "done", target=STAGING, kind="rollback", before=version("a"), after=version("b"))],
            "rollback",
        ),
        ([entry(9, "lost", target=STAGING, kind="rollback", before=version("a"), after=version("b"))], None),
    ],
)
def test_a_stage_is_passed_until_a_rollback_or_demotion_undoes_it(
    after: list[AuditEntry], says: str | None
) -> None:
    verdict = {"passed": True, "digest": "a"}
    judged = entry(0, "passed", kind="verdict", target=STAGING, verdict=verdict)
    passed = entry(1, "done", target=STAGING, after=version("a"), verdict=verdict)
    problem = AuditTrail("e/p/audit", [judged, passed, *after]).stage_problem(STAGING, "a")
    assert (problem is None) if says is None else (problem is not None and says in problem)


@pytest.mark.parametrize("verdict", [None, {"passed": False, "digest": "a"}, {"passed": True, "digest": "b"}])
def test_a_stage_without_a_verdict_that_passed_on_the_digest_is_not_passed(verdict: Any) -> None:
    judged = entry(0, "passed", kind="verdict", target=STAGING, verdict=verdict)
    done = entry(1, "done", target=STAGING, after=version("a"), verdict=verdict)
    trail = AuditTrail("e/p/audit", [judged, done])
    assert "no verdict" in str(trail.stage_problem(STAGING, "a"))


@pytest.mark.parametrize(
    ("judged", "problem"),
    [
        ([{"target": STAGING}], False),
        ([], True),
        ([{"target": PRODUCTION}], True),
        ([{"target": STAGING, "event": "stopped"}], True),
        ([{"target": STAGING, "kind": "approval", "event": "approved"}], True),
        ([{"target": STAGING, "verdict": {"digest": "b", "evaluated_at": "T1"}}], True),
        ([{"target": STAGING, "verdict": {"digest": "a", "evaluated_at": "T2"}}], True),
    ],
)
def test_a_stage_is_passed_with_a_verdict_that_a_gate_wrote_down_for_it(
    judged: list[dict[str, Any]], problem: bool
) -> None:
    verdict = {"passed": True, "digest": "a", "evaluated_at": "T1"}
    written = [
        entry(0, **{"kind": "verdict", "event": "passed", "verdict": verdict, **fields}) for fields in judged
    ]
    done = entry(1, "done", target=STAGING, after=version("a"), verdict=verdict)
    assert bool(AuditTrail("e/p/audit", [*written, done]).stage_problem(STAGING, "a")) is problem


def test_a_history_tells_moves_by_others_open_intentions_and_gaps() -> None:
    entries = [
        entry(0, task="one"),
        entry(2, "done", task="one", after=version("a")),
        entry(3, task="died", before=version("a"), after=version("b")),
    ]
    trail = AuditTrail("e/p/audit", entries)
    history = trail.history(PRODUCTION, version("a"))
    assert history.cause == entries[1]
    assert (history.unsettled, history.missing) == ((entries[2],), (1,))
    text = history_text(history)
    assert "v3: a promotion began" in text
    assert "has no v1" in text
    assert "something else than this package" in history_text(trail.history(PRODUCTION, version("x")))
    assert "knows nothing of it" in history_text(
        AuditTrail("e/p/audit", []).history(PRODUCTION, version("x"))
    )


def test_what_people_wrote_stays_text_on_every_page() -> None:
    evil = "<script>x</script> | [click](http://x) `\x1b[2J"
    done = entry(0, "done", after=version("a"), note=evil)
    history = AuditTrail("e/p/audit", [done]).history(PRODUCTION, version("a"))
    assert "\x1b" not in history_text(history)
    markdown = history_markdown(history)
    assert "<script" not in markdown.replace("\\<", "")
    assert "[click]" not in markdown.replace("\\[", "")
    page = to_html(history_document(history))
    assert "<script" not in page
    assert "\x1b" not in page
