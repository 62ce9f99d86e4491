from __future__ import annotations

from typing import Any

import pytest

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import (
    WandbAuthenticationError,
    WandbConfigurationError,
    WandbInvalidNameError,
    WandbNotFoundError,
    WandbPermanentError,
    WandbPermissionError,
    WandbUnavailableError,
)
from wandb_airflow_provider.registry import RegistryAlias
from wandb_airflow_provider.waiting import (
    AliasWish,
    Decision,
    Observation,
    Seen,
    decide,
    next_delay,
    observe_change,
)

TARGET = RegistryAlias("model", "search", "production")


def version(number: int, digest: str | None = None) -> ArtifactRef:
    return ArtifactRef(
        "org",
        "wandb-registry-model",
        "search",
        f"v{number}",
        digest or str(number) * 32,
        "model",
        source=f"acme/search/encoder:v{number}",
        source_run="acme/search/train1",
    )


@pytest.mark.parametrize(
    ("observed", "wish", "now", "expected"),
    [
        (None, AliasWish(), 0, ("wait", "not_yet")),
        (None, AliasWish(), 100, ("timed_out", "timeout")),
        (Observation(), AliasWish(), 99.9, ("wait", "not_yet")),
        (Observation(), AliasWish(), 100, ("timed_out", "timeout")),
        (Observation(version(1)), AliasWish(), 0, ("done", "alias_found")),
        (Observation(version(1)), AliasWish(), 1000, ("done", "alias_found")),
        (Observation(version(1)), AliasWish(digest="1" * 32), 0, ("done", "alias_found")),
        (Observation(version(1)), AliasWish(digest="2" * 32), 0, ("wait", "not_yet")),
        (Observation(version(1)), AliasWish(not_version="v1"), 0, ("wait", "not_yet")),
        (Observation(version(2)), AliasWish(not_version="v1"), 0, ("done", "alias_found")),
        (Observation(version(1)), AliasWish(not_version="v1"), 100, ("timed_out", "timeout")),
        (Observation(error=WandbUnavailableError("down")), AliasWish(), 99, ("wait", "unavailable")),
        (Observation(error=WandbUnavailableError("down")), AliasWish(), 100, ("timed_out", "timeout")),
        (Observation(error=WandbAuthenticationError("no")), AliasWish(), 0, ("failed", "authentication")),
        (Observation(error=WandbAuthenticationError("no")), AliasWish(), 100, ("failed", "authentication")),
        (Observation(error=WandbPermissionError("no")), AliasWish(), 0, ("failed", "permission")),
        (Observation(error=WandbNotFoundError("no")), AliasWish(), 0, ("failed", "not_found")),
        (Observation(error=WandbInvalidNameError("no")), AliasWish(), 0, ("failed", "configuration")),
        (Observation(error=WandbPermanentError("no")), AliasWish(), 0, ("failed", "refused")),
    ],
)
def test_what_follows_from_an_observation(
    observed: Observation | None, wish: AliasWish, now: float, expected: tuple[str, str]
) -> None:
    decision = decide(TARGET, wish, observed, now=now, end_time=100)
    assert (decision.status, decision.reason) == expected
    assert (decision.ref is not None) == (decision.status == "done")


def test_a_timeout_says_what_was_last_seen() -> None:
    sentence = decide(TARGET, AliasWish(digest="2" * 32), Observation(version(1)), now=1, end_time=1).sentence
    assert "model/search:production" in sentence
    assert "1" * 32 in sentence
    down = Observation(error=WandbUnavailableError("the line is down"))
    assert "the line is down" in decide(TARGET, AliasWish(), down, now=1, end_time=1).sentence


def test_a_final_decision_survives_the_event_and_anything_else_is_refused() -> None:
    decision = decide(TARGET, AliasWish(), Observation(version(1)), now=0, end_time=1)
    assert Decision.from_json(decision.to_json()) == decision
    wrong: list[Any] = [
        None,
        "done",
        {},
        {"status": "wait", "reason": "not_yet"},
        {**decision.to_json(), "status": "great"},
        {**decision.to_json(), "ref": None},
        {**decision.to_json(), "status": "failed"},
        {**decision.to_json(), "reason": None},
    ]
    for value in wrong:
        with pytest.raises(WandbConfigurationError):
            Decision.from_json(value)


@pytest.mark.parametrize(
    ("failures", "jitter", "expected"),
    [(0, 0, 60), (0, 1, 66), (1, 0, 120), (2, 0, 240), (4, 0, 600), (1000, 0, 600)],
)
def test_failures_in_a_row_slow_the_polling_down(failures: int, jitter: float, expected: float) -> None:
    assert next_delay(60, failures, jitter) == pytest.approx(expected)


def test_an_interval_longer_than_the_cap_is_kept() -> None:
    assert next_delay(3600, 5, 0) == 3600


@pytest.mark.parametrize(
    ("before", "now", "kind"),
    [
        (Seen("v1", "1" * 32, 4), version(1), None),
        (Seen("v1", "1" * 32, 4), version(2), "moved"),
        (Seen("v1", "1" * 32, 4), version(1, "9" * 32), "moved"),
        (Seen("v1", "1" * 32, 4), None, "removed"),
        (Seen(None, None, 4), version(1), "added"),
        (Seen(None, None, 4), None, None),
    ],
)
def test_a_change_is_told_by_version_and_digest(
    before: Seen, now: ArtifactRef | None, kind: str | None
) -> None:
    after, change = observe_change(TARGET, before, now)
    assert (change.kind if change else None) == kind
    assert after.sequence == (5 if kind else 4)
    assert (after.version, after.digest) == ((now.version, now.digest) if now else (None, None))


def test_a_first_observation_is_the_baseline_unless_it_is_to_fire() -> None:
    assert observe_change(TARGET, None, version(1)) == (Seen("v1", "1" * 32), None)
    assert observe_change(TARGET, None, None, first="fire") == (Seen(), None)
    _, change = observe_change(TARGET, None, version(1), first="fire")
    assert change is not None
    assert change.kind == "added"


def test_an_event_names_both_versions_and_its_key_tells_repeats_from_equal_moves() -> None:
    seen, _ = observe_change(TARGET, None, version(1))
    after, change = observe_change(TARGET, seen, version(2))
    assert change is not None
    event = change.to_json()
    assert (event["change"], event["version"], event["previous_version"]) == ("moved", "v2", "v1")
    assert (event["digest"], event["previous_digest"]) == ("2" * 32, "1" * 32)
    assert (event["source_run"], event["source"]) == ("acme/search/train1", "acme/search/encoder:v2")
    _, repeated = observe_change(TARGET, seen, version(2))
    assert repeated is not None
    assert repeated.to_json() == event
    back, _ = observe_change(TARGET, after, version(1))
    _, again = observe_change(TARGET, back, version(2))
    assert again is not None
    assert again.idempotency_key != change.idempotency_key


@pytest.mark.parametrize("value", [None, "x", {}, {"sequence": "1"}, []])
def test_a_stored_state_that_cannot_be_understood_counts_as_none(value: Any) -> None:
    assert Seen.from_json(value) is None
    assert Seen.from_json(Seen("v1", "d", 3).to_json()) == Seen("v1", "d", 3)
