"""Artifact names, aliases, paths and references."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wandb_airflow_provider.artifacts import (
    ArtifactRef,
    split_artifact_path,
    validate_alias,
    validate_artifact_name,
)
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbInvalidNameError

REF = ArtifactRef(
    "acme",
    "churn",
    "encoder",
    "v3",
    digest="d1",
    type="model",
    size_bytes=7,
    source_run="acme/churn/1a2b",
    aliases=("latest",),
)


@pytest.mark.parametrize("name", ["encoder", "a", "A-b_c.9", "x" * 128])
def test_a_name_that_w_and_b_takes_is_returned(name: str) -> None:
    assert validate_artifact_name(name) == name


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a:b", "modèle", "x" * 129, "name\n", None, 3])
def test_a_name_that_w_and_b_refuses_is_quoted(name: Any) -> None:
    with pytest.raises(WandbInvalidNameError, match="W&B refuses the artifact name"):
        validate_artifact_name(name)


@pytest.mark.parametrize("alias", ["production", "team production", "x" * 128, "v", "v1.2"])
def test_an_alias_that_w_and_b_takes_is_returned(alias: str) -> None:
    assert validate_alias(alias) == alias


@pytest.mark.parametrize("alias", ["", " ", "a/b", "a:b", "x" * 129, "v0", "v12", None])
def test_an_alias_that_w_and_b_refuses_is_quoted(alias: Any) -> None:
    with pytest.raises(WandbInvalidNameError, match="alias"):
        validate_alias(alias)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("encoder", (None, None, "encoder", "latest")),
        ("encoder:v3", (None, None, "encoder", "v3")),
        ("churn/encoder:production", (None, "churn", "encoder", "production")),
        ("acme/churn/encoder:v0", ("acme", "churn", "encoder", "v0")),
    ],
)
def test_a_path_is_split(path: str, parts: tuple[Any, ...]) -> None:
    assert split_artifact_path(path) == parts


@pytest.mark.parametrize("path", ["", "/encoder", "a//encoder", "a/b/c/d", "a b:v1", "encoder:a/b", "e:a:b"])
def test_a_path_with_a_wrong_part_is_refused(path: str) -> None:
    with pytest.raises(WandbInvalidNameError):
        split_artifact_path(path)


@given(st.text(max_size=60))
def test_a_path_is_split_or_refused_and_nothing_else(path: str) -> None:
    try:
        _, _, name, alias = split_artifact_path(path)
    except WandbInvalidNameError:
        return
    assert validate_artifact_name(name)
    assert alias


def test_a_reference_survives_xcom() -> None:
    value = REF.to_json()
    assert value["path"] == str(REF) == "acme/churn/encoder:v3"
    assert ArtifactRef.from_json(value) == REF
    assert ArtifactRef.from_json({**value, "folder": "/data"}) == REF


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("acme/churn/encoder:v3", "Expected an artifact reference"),
        ({"entity": "acme"}, r"lacks \['digest', 'name', 'project', 'type', 'version'\]"),
        ({**REF.to_json(), "version": "latest"}, "only a pinned one such as 'v3'"),
    ],
)
def test_a_forged_or_unpinned_reference_is_refused(value: Any, message: str) -> None:
    with pytest.raises(WandbConfigurationError, match=message):
        ArtifactRef.from_json(value)
