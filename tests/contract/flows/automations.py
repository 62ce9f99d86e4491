"""Automations: created, listed, changed and deleted."""

from __future__ import annotations

from flows import Ground, flow
from wandb.automations import DoNothing, OnAddArtifactAlias


@flow
def automation_on_an_alias(ground: Ground) -> None:
    with ground.init() as run:
        run.log_artifact(ground.artifact("watched", "x", type="model")).wait()
    api = ground.api()
    collection = api.artifact_collection("model", f"{ground.path}/watched")
    event = OnAddArtifactAlias(scope=collection, filter={"alias": {"$regex": "production"}})
    name = f"{ground.project}-promoted"
    created = api.create_automation(event >> DoNothing(), name=name, description="tells")
    assert created.name == name
    assert [entry.name for entry in api.automations(ground.entity, name=name)] == [name]
    changed = api.update_automation(created, description="tells more", enabled=False)
    assert (changed.description, changed.enabled) == ("tells more", False)
    assert api.delete_automation(changed)
    assert list(ground.api().automations(ground.entity, name=name)) == []
