from __future__ import annotations

from typing import Any

import pytest

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.registry import ProjectAlias, RegistryAlias
from wandb_airflow_provider.waiting.alias import AliasWish, Holder, Observation

TARGET = RegistryAlias("model", "search", "production")


def held(number: int, **more: Any) -> Observation:
    ref = ArtifactRef("org", "wandb-registry-model", "search", f"v{number}", str(number) * 32, "model")
    return Observation(ref, **more)


FREE = Observation()


@pytest.mark.parametrize(
    ("wish", "observed", "since", "expected"),
    [
        (AliasWish(), FREE, None, "wait"),
        (AliasWish(), held(1), None, "done"),
        (AliasWish(digest="1" * 32), held(1), None, "done"),
        (AliasWish(digest="2" * 32), held(1), None, "wait"),
        (AliasWish(not_version="v1"), held(1), None, "wait"),
        (AliasWish(not_version="v1"), held(2), None, "done"),
        (AliasWish("moved"), held(1), Holder("v1"), "wait"),
        (AliasWish("moved"), held(2), Holder("v1"), "done"),
        (AliasWish("moved"), held(2), Holder(), "done"),
        (AliasWish("moved"), FREE, Holder("v1"), "wait"),
        (AliasWish("moved"), held(2), None, "wait"),
        (AliasWish("removed"), held(1), None, "wait"),
        (AliasWish("removed"), FREE, Holder("v1"), "done"),
        (AliasWish(tag="ok"), held(1), None, "wait"),
        (AliasWish(tag="ok"), held(1, tags=("new", "ok")), None, "done"),
        (AliasWish(metadata={"a": 1}), held(1, metadata={"a": 2}), None, "wait"),
        (AliasWish(metadata={"a": 1}), held(1, metadata={"a": 1, "b": 2}), None, "done"),
        (AliasWish(metadata={"a.b": 1}), held(1, metadata={"a": {"b": 1}}), None, "done"),
        (AliasWish(metadata={"a.b": 1}), held(1, metadata={"a.b": 1}), None, "done"),
        (AliasWish(metadata={"a.b": 1}), held(1, metadata={"a": 1}), None, "wait"),
        (AliasWish("moved", tag="ok"), held(2), Holder("v1"), "wait"),
        (AliasWish(), Observation(missing="no registry"), None, "wait"),
        (AliasWish(missing="fail"), Observation(missing="no registry"), None, "failed"),
        (AliasWish("removed", missing="fail"), Observation(missing="no registry"), None, "failed"),
        (AliasWish(missing="fail"), FREE, None, "wait"),
    ],
)
def test_a_holder_ends_the_waiting_when_it_has_all_that_is_asked(
    wish: AliasWish, observed: Observation, since: Holder | None, expected: str
) -> None:
    assert wish.judge(TARGET, observed, since).status == expected


def test_the_value_names_the_alias_its_holder_and_the_one_before() -> None:
    value = AliasWish().judge(TARGET, held(2), Holder("v1", "1" * 32)).value
    assert value is not None
    assert (value["registry"], value["collection"], value["alias"]) == ("model", "search", "production")
    assert (value["version"], value["previous_version"], value["previous_digest"]) == ("v2", "v1", "1" * 32)
    assert ArtifactRef.from_json(value) == held(2).ref
    unchanged = AliasWish().judge(TARGET, held(1), Holder("v1", "1" * 32)).value
    assert unchanged is not None
    assert unchanged["previous_version"] is None
    project = ProjectAlias(None, "p", "search", "best")
    found = AliasWish().judge(project, held(1), None).value
    assert found is not None
    assert (found["project"], found["alias"]) == ("wandb-registry-model", "best")


def test_a_holder_survives_its_json_and_may_be_a_version_alone() -> None:
    assert Holder.from_json(Holder("v1", "d").to_json()) == Holder("v1", "d")
    assert Holder.from_json("v3") == Holder("v3")
    assert Holder.from_json(None) is None


@pytest.mark.parametrize(
    "wish",
    [AliasWish("gone"), AliasWish("removed", tag="x")],  # type: ignore[arg-type]
)
def test_a_wish_that_can_never_come_true_is_refused(wish: AliasWish) -> None:
    with pytest.raises(WandbConfigurationError):
        wish.check()
