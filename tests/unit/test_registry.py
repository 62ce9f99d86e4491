from __future__ import annotations

import pytest

from wandb_airflow_provider.exceptions import WandbInvalidNameError
from wandb_airflow_provider.registry import RegistryAlias


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
    "uri",
    [
        "wandb://registry/model?alias=production",
        "wandb://registry/model/search",
        "wandb://registry/model/search?alias=v3",
        "wandb://registry/model/search?alias=a&alias=b",
        "wandb://acme/model/search?alias=production",
        "s3://registry/model/search?alias=production",
        "wandb://registry/a/b/c?alias=production",
    ],
)
def test_another_uri_is_refused(uri: str) -> None:
    with pytest.raises(WandbInvalidNameError):
        RegistryAlias.from_uri(uri)


@pytest.mark.parametrize("names", [("", "c", "a"), ("r", "a b", "a"), ("r", "c", "v1"), (None, "c", "a")])
def test_a_name_that_w_and_b_refuses_is_refused(names: tuple[str, str, str]) -> None:
    with pytest.raises(WandbInvalidNameError):
        RegistryAlias(*names)
