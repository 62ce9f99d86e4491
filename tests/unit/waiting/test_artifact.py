from __future__ import annotations

from typing import Any

import pytest

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.waiting.artifact import ArtifactObservation, ArtifactWish, Version


def version(number: int, aliases: tuple[str, ...] = (), **more: Any) -> Version:
    ref = ArtifactRef(
        "acme", "search", "encoder", f"v{number}", str(number % 10) * 32, "model", aliases=aliases
    )
    return Version(ref, **more)


VERSIONS = ArtifactObservation(
    (
        version(10, ("latest",), metadata={"loss": 0.3}),
        version(9, ("best",), tags=("good",), metadata={"loss": 0.1, "eval": {"passed": True}}),
        version(2, metadata={"loss": 0.1}),
    )
)


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (ArtifactWish(), "v10"),
        (ArtifactWish(alias="best"), "v9"),
        (ArtifactWish(tag="good"), "v9"),
        (ArtifactWish(metadata={"loss": 0.1}), "v9"),
        (ArtifactWish(metadata={"eval.passed": True}), "v9"),
        (ArtifactWish(metadata={"loss": 0.1}, alias="latest"), None),
        (ArtifactWish(newer_than="v9"), "v10"),
        (ArtifactWish(newer_than="v10"), None),
        (ArtifactWish(newer_than="v2", tag="good"), "v9"),
    ],
)
def test_the_newest_version_that_has_all_that_is_asked_ends_the_waiting(
    wish: ArtifactWish, expected: str | None
) -> None:
    decision = wish.judge("encoder", VERSIONS)
    assert decision.status == ("wait" if expected is None else "done")
    assert (decision.value or {}).get("version") == expected


def test_the_value_names_the_version_before() -> None:
    value = ArtifactWish(alias="best").judge("encoder", VERSIONS).value
    assert value is not None
    assert (value["previous_version"], value["previous_digest"]) == ("v2", "2" * 32)


def test_an_artifact_that_does_not_exist_fails_only_when_that_is_asked_for() -> None:
    absent = ArtifactObservation(missing="there is none")
    assert ArtifactWish().judge("encoder", absent).status == "wait"
    failed = ArtifactWish(missing="fail").judge("encoder", absent)
    assert (failed.status, failed.reason) == ("failed", "not_found")


@pytest.mark.parametrize(
    "wish",
    [ArtifactWish(alias="v3"), ArtifactWish(newer_than="latest")],  # type: ignore[arg-type]
)
def test_a_wish_that_can_never_come_true_is_refused(wish: ArtifactWish) -> None:
    with pytest.raises(WandbConfigurationError):
        wish.check()
