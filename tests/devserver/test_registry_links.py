from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import wandb
from wandb.errors import CommError

from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.artifacts import queries

OpenRun = Callable[..., wandb.Run]
FreshApi = Callable[..., wandb.Api]
Draft = Callable[..., wandb.Artifact]


@pytest.fixture
def models(open_run: OpenRun, draft: Draft) -> list[wandb.Artifact]:
    """Three versions of a model."""
    with open_run() as run:
        logged = [run.log_artifact(draft("net", {"w": str(n)}, type="model")) for n in range(3)]
    return [artifact.wait() for artifact in logged]


@pytest.fixture
def target(project: str) -> str:
    """A collection in the model registry for this test alone."""
    return f"wandb-registry-model/{project}"


def holders(api: wandb.Api, target: str) -> dict[str, str]:
    """Return which version of a registry collection holds which alias."""
    registry, collection = target.split("/")
    found = api.registries(filter={"name": registry}).collections(filter={"name": collection}).versions()
    return {alias: item.version for item in found for alias in item.aliases}


def test_link_has_its_own_number_and_aliases(
    models: list[wandb.Artifact], target: str, project: str, open_run: OpenRun, fresh_api: FreshApi
) -> None:
    with open_run() as run:
        linked = run.link_artifact(models[1], target, aliases=["staging"])
    assert (linked.version, sorted(linked.aliases), linked.is_link) == ("v0", ["latest", "staging"], True)
    assert linked.qualified_name == f"local-org/{target}:v0"
    assert linked.source_qualified_name == f"local/{project}/net:v1"

    found = fresh_api().artifact(f"{target}:staging")
    assert (found.name, found.version, found.source_version) == (f"{project}:staging", "v0", "v1")
    assert (found.source_entity, found.source_project, found.source_name) == ("local", project, "net:v1")
    assert found.digest == models[1].digest
    assert found.linked_at is not None
    assert found.source_artifact.qualified_name == f"local/{project}/net:v1"
    assert found.collection.entity == "local-org"
    assert found.source_collection.name == "net"
    assert found.url.startswith("http://127.0.0.1")
    # The source keeps its own aliases.
    assert fresh_api().artifact(f"local/{project}/net:v1").aliases == []
    assert fresh_api().artifact(f"local/{project}/net:v2").aliases == ["latest"]


def test_link_is_found_under_the_names_of_the_organisation(
    models: list[wandb.Artifact], target: str, fresh_api: FreshApi
) -> None:
    models[0].link(target)
    for path in (f"{target}:v0", f"{target}:latest", f"local-org/{target}:v0"):
        assert fresh_api().artifact(path).version == "v0"
    assert fresh_api().artifact_exists(f"{target}:v0")
    assert not fresh_api().artifact_exists(f"{target}:v1")
    with pytest.raises(CommError, match="Unable to find organization"):
        fresh_api().artifact(f"other-org/{target}:v0")


def test_alias_belongs_to_one_version_at_a_time(
    models: list[wandb.Artifact], target: str, fresh_api: FreshApi
) -> None:
    for model in models:
        model.link(target, aliases=["candidate"])
    assert holders(fresh_api(), target) == {"candidate": "v2", "latest": "v2"}

    first = fresh_api().artifact(f"{target}:v0")
    first.aliases.append("production")
    first.save()
    assert fresh_api().artifact(f"{target}:production").version == "v0"
    second = fresh_api().artifact(f"{target}:v1")
    second.aliases += ["production", "candidate"]
    second.save()
    assert holders(fresh_api(), target) == {"production": "v1", "candidate": "v1", "latest": "v2"}
    assert fresh_api().artifact(f"{target}:v0").aliases == []


def test_stale_client_does_not_take_an_alias_from_its_new_holder(
    models: list[wandb.Artifact], target: str, fresh_api: FreshApi
) -> None:
    models[0].link(target, aliases=["production"])
    models[1].link(target)
    stale = fresh_api().artifact(f"{target}:v0")
    mover = fresh_api().artifact(f"{target}:v1")
    mover.aliases.append("production")
    mover.save()
    stale.aliases.remove("production")
    stale.save()
    assert holders(fresh_api(), target)["production"] == "v1"


def test_alias_removed_through_the_link_is_gone(
    models: list[wandb.Artifact], target: str, fresh_api: FreshApi
) -> None:
    models[0].link(target, aliases=["production", "audited"])
    linked = fresh_api().artifact(f"{target}:production")
    linked.aliases.remove("production")
    linked.save()
    assert holders(fresh_api(), target) == {"audited": "v0", "latest": "v0"}
    assert not fresh_api().artifact_exists(f"{target}:production")


def test_same_version_linked_again_keeps_its_number(
    models: list[wandb.Artifact], target: str, fresh_api: FreshApi
) -> None:
    models[0].link(target)
    models[1].link(target)
    again = models[0].link(target, aliases=["production"])
    assert (again.version, again.aliases) == ("v0", ["production"])
    assert holders(fresh_api(), target) == {"latest": "v1", "production": "v0"}


def test_link_of_a_link_is_a_link_of_the_source(
    models: list[wandb.Artifact], target: str, project: str, fresh_api: FreshApi
) -> None:
    linked = models[0].link(target)
    second = linked.link(f"{target}-second", aliases=["copy"])
    assert second.source_qualified_name == f"local/{project}/net:v0"
    source = fresh_api().artifact(f"local/{project}/net:v0")
    assert [item.qualified_name for item in source.linked_artifacts] == [
        f"local-org/{target}:v0",
        f"local-org/{target}-second:v0",
    ]
    assert linked.linked_artifacts == []


def test_unlinked_version_leaves_the_source_and_its_number_unused(
    models: list[wandb.Artifact], target: str, project: str, fresh_api: FreshApi
) -> None:
    models[0].link(target, aliases=["production"])
    fresh_api().artifact(f"{target}:v0").unlink()
    assert not fresh_api().artifact_exists(f"{target}:v0")
    assert not fresh_api().artifact_exists(f"{target}:production")
    assert fresh_api().artifact_exists(f"local/{project}/net:v0")
    assert models[0].link(target).version == "v1"
    with pytest.raises(ValueError, match="is not a linked artifact"):
        fresh_api().artifact(f"local/{project}/net:v0").unlink()


def test_deleted_link_leaves_the_source(
    models: list[wandb.Artifact], target: str, project: str, fresh_api: FreshApi
) -> None:
    models[0].link(target)
    fresh_api().artifact(f"{target}:v0").delete()
    assert not fresh_api().artifact_exists(f"{target}:v0")
    assert fresh_api().artifact_exists(f"local/{project}/net:v0")


def test_deleted_source_takes_its_links_along(
    models: list[wandb.Artifact], target: str, project: str, fresh_api: FreshApi
) -> None:
    models[0].link(target, aliases=["production"])
    fresh_api().artifact(f"local/{project}/net:v0").delete(delete_aliases=True)
    assert not fresh_api().artifact_exists(f"{target}:production")


def test_draft_is_logged_before_it_is_linked(
    open_run: OpenRun, draft: Draft, target: str, fresh_api: FreshApi
) -> None:
    with open_run(id="linker") as run:
        linked = run.link_artifact(draft("fresh", {"w": "x"}, type="model"), target)
    assert (linked.version, linked.source_name) == ("v0", "fresh:v0")
    assert linked.logged_by().id == "linker"


def test_use_of_a_link_is_an_edge_of_the_source(
    models: list[wandb.Artifact],
    target: str,
    project: str,
    open_run: OpenRun,
    fresh_api: FreshApi,
    server: DevServer,
) -> None:
    models[0].link(target, aliases=["production"])
    with open_run(id="consumer") as run:
        used = run.use_artifact(f"{target}:production")
    assert [run.id for run in fresh_api().artifact(f"local/{project}/net:v0").used_by()] == ["consumer"]
    edges = queries.list_edges(server.backend, used.id)
    assert [(edge.kind, edge.used_through) for edge in edges] == [
        ("output", None),
        ("input", "local-org/wandb-registry-model"),
    ]


def test_description_and_metadata_changed_through_the_link_change_the_source(
    models: list[wandb.Artifact], target: str, project: str, fresh_api: FreshApi
) -> None:
    linked = models[0].link(target)
    linked.description = "reviewed"
    linked.metadata = {"score": 0.9}
    linked.save()
    source = fresh_api().artifact(f"local/{project}/net:v0")
    assert (source.description, source.metadata) == ("reviewed", {"score": 0.9})


def test_link_within_a_project_and_to_a_project_that_does_not_exist_yet(
    models: list[wandb.Artifact], project: str, open_run: OpenRun
) -> None:
    with open_run() as run:
        inside = run.link_artifact(models[0], "chosen")
        outside = run.link_artifact(models[0], f"{project}-other/chosen")
    assert inside.qualified_name == f"local/{project}/chosen:v0"
    assert outside.qualified_name == f"local/{project}-other/chosen:v0"


def test_link_that_cannot_be_made_is_refused(
    models: list[wandb.Artifact], open_run: OpenRun, draft: Draft, project: str, target: str
) -> None:
    with pytest.raises(CommError, match="registry 'nowhere' not found in organization 'local-org'"):
        models[0].link("wandb-registry-nowhere/x")
    with pytest.raises(CommError, match="registry 'dataset' does not accept artifacts of type 'model'"):
        models[0].link("wandb-registry-dataset/x")
    with pytest.raises(CommError, match="Invalid collection name 'what\\?'"):
        models[0].link("wandb-registry-model/what?")
    with pytest.raises(CommError, match="names like 'v3' are reserved"):
        models[0].link(target, aliases=["v7"])
    with pytest.raises(CommError, match="versions are logged there"):
        models[0].link(f"local/{project}/net")
    with pytest.raises(CommError, match="Unable to find organization"):
        models[0].link("other-org/wandb-registry-model/x")
    models[0].link(f"{project}/mixed")
    with open_run() as run:
        dataset = run.log_artifact(draft("rows", {"f": "1"})).wait()
        with pytest.raises(CommError, match="cannot link an artifact of type 'dataset'"):
            dataset.link(f"{project}/mixed")
        with pytest.raises(ValueError, match="it is a collection of linked versions"):
            run.log_artifact(draft("mixed", {"f": "1"}, type="model")).wait()


def test_history_of_an_alias_tells_what_moved_when_and_by_whom(
    models: list[wandb.Artifact], target: str, project: str, fresh_api: FreshApi, server: DevServer
) -> None:
    models[0].link(target, aliases=["production"])
    models[1].link(target, aliases=["production"])
    rolled_back = fresh_api().artifact(f"{target}:v0")
    rolled_back.aliases.append("production")
    rolled_back.save()
    fresh_api().artifact(f"{target}:v0").unlink()

    collection = queries.get_collection(server.backend, "local-org", "wandb-registry-model", project)
    assert collection is not None
    assert (collection.kind, collection.type, collection.aliases) == ("PORTFOLIO", "model", ("latest",))
    changes = queries.alias_history(server.backend, collection.id, alias="production")
    assert [(c.action, c.previous_version, c.version, c.reason) for c in changes] == [
        ("added", None, 0, "linked"),
        ("moved", 0, 1, "linked"),
        ("moved", 1, 0, "edited"),
        ("removed", 0, None, "unlinked"),
    ]
    assert {change.user for change in changes} == {"dev"}
    assert [change.at for change in changes] == sorted(change.at for change in changes)
    assert (changes[1].previous_digest, changes[1].digest) == (models[0].digest, models[1].digest)
    assert len(queries.alias_history(server.backend, collection.id)) == 6
    assert queries.alias_history(server.backend, collection.id, limit=1)[0].action == "removed"

    places = queries.list_places(server.backend, models[1].id)
    assert [(where.name, seen.version, seen.is_link) for where, seen in places] == [
        ("net", 1, False),
        (project, 1, True),
    ]
    found = queries.get_version(server.backend, collection.id, "v1")
    assert found is not None
    assert (found.source, found.aliases) == (f"local/{project}/net:v1", ("latest",))


def test_alias_given_to_several_versions_at_once_ends_with_one_of_them(
    models: list[wandb.Artifact], target: str, project: str, fresh_api: FreshApi, server: DevServer
) -> None:
    with ThreadPoolExecutor(3) as pool:
        linked = list(pool.map(lambda model: model.link(target, aliases=["production"]), models))
    assert sorted(item.version for item in linked) == ["v0", "v1", "v2"]
    assert holders(fresh_api(), target).keys() == {"production", "latest"}
    collection = queries.get_collection(server.backend, "local-org", "wandb-registry-model", project)
    assert collection is not None
    changes = queries.alias_history(server.backend, collection.id, alias="production")
    assert [change.action for change in changes] == ["added", "moved", "moved"]
    assert [change.previous_version for change in changes] == [
        None,
        *(change.version for change in changes[:-1]),
    ]
