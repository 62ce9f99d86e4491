"""Registries: links, aliases that move, search, and unlinking."""

from __future__ import annotations

import uuid

from flows import Ground, flow


@flow
def link_and_move_an_alias(ground: Ground) -> None:
    collection = f"{ground.project}-classifier"
    target = f"wandb-registry-model/{collection}"
    with ground.init() as run:
        for content in ("first", "second"):
            artifact = run.log_artifact(ground.artifact("weights", content, type="model")).wait()
            run.link_artifact(artifact, target, aliases=["production"])
    api = ground.api()
    linked = api.artifact(f"{target}:production")
    assert (linked.version, linked.source_version) == ("v1", "v1")
    assert linked.is_link
    assert linked.source_project == ground.project
    first = api.artifact(f"{target}:v0")
    first.aliases.append("production")
    first.save()
    assert ground.api().artifact(f"{target}:production").version == "v0"
    assert "production" not in ground.api().artifact(f"{target}:v1").aliases
    ground.api().artifact(f"{target}:v1").unlink()
    assert not ground.api().artifact_exists(f"{target}:v1")


@flow
def link_an_artifact_that_is_not_logged_yet(ground: Ground) -> None:
    target = f"wandb-registry-model/{ground.project}-direct"
    with ground.init() as run:
        run.link_artifact(ground.artifact("direct", "x", type="model"), target, aliases=["staging"])
    assert ground.api().artifact(f"{target}:staging").source_name == "direct:v0"


@flow
def create_search_and_delete_a_registry(ground: Ground) -> None:
    name = f"flow-{uuid.uuid4().hex[:8]}"
    api = ground.api()
    registry = api.create_registry(name, visibility="organization", organization="local-org")
    assert registry.name == name
    registry.description = "for tests"
    registry.save()
    with ground.init() as run:
        artifact = run.log_artifact(ground.artifact("weights", "w", type="model")).wait()
        run.link_artifact(artifact, f"wandb-registry-{name}/classifier", aliases=["production"])
    found = api.registries(organization="local-org", filter={"name": name})
    assert [entry.name for entry in found] == [name]
    versions = list(found.collections().versions(filter={"alias": "production"}))
    assert [version.source_name for version in versions] == ["weights:v0"]
    ground.api().registry(name, organization="local-org").delete()
    assert list(ground.api().registries(organization="local-org", filter={"name": name})) == []
