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
    passed = entry(1, "done", target=STAGING, after=version("a"), verdict={"passed": True, "digest": "a"})
    problem = AuditTrail("e/p/audit", [passed, *after]).stage_problem(STAGING, "a")
    assert (problem is None) if says is None else (problem is not None and says in problem)


@pytest.mark.parametrize("verdict", [None, {"passed": False, "digest": "a"}, {"passed": True, "digest": "b"}])
def test_a_stage_without_a_verdict_that_passed_on_the_digest_is_not_passed(verdict: Any) -> None:
    trail = AuditTrail("e/p/audit", [entry(1, "done", target=STAGING, after=version("a"), verdict=verdict)])
    assert "no verdict" in str(trail.stage_problem(STAGING, "a"))


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
