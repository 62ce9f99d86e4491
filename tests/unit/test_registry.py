from __future__ import annotations

import pytest

from wandb_airflow_provider.exceptions import WandbInvalidNameError
from wandb_airflow_provider.registry import ProjectAlias, RegistryAlias


def test_an_address_survives_its_uri() -> None:
    target = RegistryAlias("model", "semantic-search", "team production")
    assert target.uri() == "wandb://registry/model/semantic-search?alias=team+production"
    assert RegistryAlias.from_uri(target.uri()) == target
    assert RegistryAlias.from_uri(target.uri(conn="other")) == target
    assert RegistryAlias.from_json(target.to_json()) == target
    assert str(target) == "model/semantic-search:team production"


def test_the_prefix_of_the_registry_s_project_is_dropped() -> None:
    assert RegistryAlias("wandb-registry-model", "search", "production").registry == "model"


@pytest.mark.parametrize(
    ("uri", "normal"),
    [
        ("wandb://registry/model/search/?alias=a+b", "wandb://registry/model/search?alias=a+b"),
        ("wandb://registry/model/search?alias=a%20b", "wandb://registry/model/search?alias=a+b"),
        ("wandb://registry/wandb-registry-model/search?alias=a", "wandb://registry/model/search?alias=a"),
        (
            "wandb://registry/model/search?conn=other&alias=a",
            "wandb://registry/model/search?alias=a&conn=other",
        ),
    ],
)
def test_all_uris_of_an_alias_have_one_form(uri: str, normal: str) -> None:
    assert RegistryAlias.normal_uri(uri) == normal
    assert RegistryAlias.normal_uri(normal) == normal


def test_an_alias_of_a_project_prints_as_w_and_b_takes_it() -> None:
    assert str(ProjectAlias("acme", "search", "encoder", "best")) == "acme/search/encoder:best"
    assert str(ProjectAlias(None, "search", "encoder", "best")) == "search/encoder:best"
    for wrong in (
        ("a/b", "p", "c", "a"),
        (None, "", "c", "a"),
        (None, "p", "c d", "a"),
        (None, "p", "c", "v1"),
    ):
        with pytest.raises(WandbInvalidNameError):
            ProjectAlias(*wrong)


@pytest.mark.parametrize(
    "uri",
    [
        "wandb://registry/model?alias=production",
        "wandb://registry/model/search",
        "wandb://registry/model/search?alias=v3",
        "wandb://registry/model/search?alias=a&alias=b",
        "wandb://acme/model/search?alias=production",
        "s3://registry/model/search?alias=production",
        "wandb://registry/a/b/c?alias=production",
        "wandb://registry/model/search?alias=production&version=v3",
        "wandb://registry/model/search?alias=production&conn=",
        "wandb://registry/model/search?alias=production&conn=a&conn=b",
        "wandb://registry/model/search?alias=production#now",
    ],
)
def test_another_uri_is_refused(uri: str) -> None:
    with pytest.raises(WandbInvalidNameError):
        RegistryAlias.from_uri(uri)


@pytest.mark.parametrize("names", [("", "c", "a"), ("r", "a b", "a"), ("r", "c", "v1"), (None, "c", "a")])
def test_a_name_that_w_and_b_refuses_is_refused(names: tuple[str, str, str]) -> None:
    with pytest.raises(WandbInvalidNameError):
        RegistryAlias(*names)
