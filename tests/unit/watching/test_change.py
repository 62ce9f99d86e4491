from __future__ import annotations

import pytest

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.registry import ProjectAlias, RegistryAlias
from wandb_airflow_provider.watching.change import (
    AliasChange,
    Claim,
    Seen,
    claim_key,
    observe_change,
    seen_key,
)

TARGET = RegistryAlias("model", "search", "production")


def version(number: int) -> ArtifactRef:
    return ArtifactRef("org", "wandb-registry-model", "search", f"v{number}", f"digest{number}", "model")


def change(before: Seen | None, after: ArtifactRef | None) -> AliasChange:
    _, found = observe_change(TARGET, before, after, first="fire")
    assert found is not None
    return found


def test_both_sides_find_the_same_change_with_the_same_key() -> None:
    before = Seen("v1", "digest1", 7)
    polled = change(before, version(2))
    pushed = change(Seen.from_json(before.to_json()), version(2))
    assert polled.idempotency_key == pushed.idempotency_key
    assert polled.to_json() == pushed.to_json()
    assert pushed.to_json(actor="ada") == {**polled.to_json(), "actor": "ada"}


def test_a_move_back_and_forth_has_a_key_for_each_time() -> None:
    seen: Seen = Seen("v1", "digest1", 1)
    keys = []
    for number in (2, 1, 2, 1):
        found = change(seen, version(number))
        keys.append(found.idempotency_key)
        seen = found.after
    assert len(set(keys)) == 4
    assert seen.sequence == 5


def test_a_claim_holds_for_its_change_and_half_a_minute() -> None:
    found, other = change(Seen("v1", "digest1", 1), version(2)), change(Seen("v1", "digest1", 1), version(3))
    claim = Claim.from_json(Claim.of(found, 1000.0).to_json())
    assert claim is not None
    cases = [(found, 1000.0, True), (found, 1029.0, True), (found, 990.0, True), (found, 1031.0, False)]
    assert [claim.holds(which, now) for which, now, _ in cases] == [expected for *_, expected in cases]
    assert not claim.holds(other, 1000.0)


@pytest.mark.parametrize(
    ("seen", "now", "expected"),
    [
        (None, 0.0, True),
        (Seen("v1", "d", 1), 0.0, True),
        (Seen("v2", "d", 2), 0.0, False),
        (None, 31.0, False),
    ],
)
def test_a_report_is_under_way_until_it_is_stored(seen: Seen | None, now: float, expected: bool) -> None:
    claim = Claim.of(change(Seen("v1", "digest1", 1), version(2)), 0.0)
    assert claim.is_under_way(seen, now) is expected


@pytest.mark.parametrize(
    "value", [None, [], {}, {"change": 1}, {"change": "a"}, {"change": "a", "at": "now"}]
)
def test_what_is_no_claim_claims_nothing(value: object) -> None:
    assert Claim.from_json(value) is None


def test_each_alias_has_keys_of_its_own() -> None:
    targets = (TARGET, ProjectAlias("acme", "churn", "search", "production"))
    keys = {key for one in targets for key in (seen_key(one), claim_key(one, "poll"), claim_key(one, "push"))}
    assert len(keys) == 6
