from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import wandb
from wandb.apis.public.registries import Registry
from wandb.errors import CommError

from wandb_airflow_provider.devserver import DevServer, auth

OpenRun = Callable[..., wandb.Run]
FreshApi = Callable[..., wandb.Api]
Draft = Callable[..., wandb.Artifact]


@pytest.fixture
def name(project: str) -> str:
    """A name for a registry that only this test uses."""
    return project[-60:].strip("-")


@pytest.fixture
def registry(fresh_api: FreshApi, name: str) -> Iterator[Registry]:
    made = fresh_api().create_registry(name, visibility="organization", description="for this test")
    yield made
    if name in {item.name for item in fresh_api().registries()}:
        fresh_api().registry(name).delete()


def test_first_registries_are_there_and_accept_their_type(fresh_api: FreshApi) -> None:
    api = fresh_api()
    assert {"model", "dataset"} <= {item.name for item in api.registries()}
    model = api.registry("model")
    assert (model.organization, model.entity, model.full_name) == (
        "local-org",
        "local-org",
        "wandb-registry-model",
    )
    assert (model.allow_all_artifact_types, list(model.artifact_types)) == (False, ["model"])
    assert model.visibility == "organization"


def test_registry_is_created_with_what_was_asked(fresh_api: FreshApi, name: str, registry: Registry) -> None:
    assert (registry.name, registry.description, registry.visibility) == (
        name,
        "for this test",
        "organization",
    )
    assert (registry.allow_all_artifact_types, list(registry.artifact_types)) == (True, [])
    found = fresh_api().registry(name, organization="local-org")
    assert (found.id, found.created_at) == (registry.id, registry.created_at)
    with pytest.raises(ValueError, match="please use a different name"):
        fresh_api().create_registry(name, visibility="organization")


def test_registry_settings_are_changed_and_types_only_added(
    fresh_api: FreshApi, name: str, registry: Registry, open_run: OpenRun, draft: Draft
) -> None:
    registry.description = "changed"
    registry.allow_all_artifact_types = False
    registry.artifact_types.append("report")
    registry.visibility = "restricted"
    registry.save()
    found = fresh_api().registry(name)
    assert (found.description, found.allow_all_artifact_types, list(found.artifact_types), found.visibility) == (
        "changed", False, ["report"], "restricted",
    )  # fmt: skip
    with open_run() as run:
        dataset = run.log_artifact(draft("rows", {"f": "1"})).wait()
    with pytest.raises(CommError, match="does not accept artifacts of type 'dataset'; it accepts 'report'"):
        dataset.link(f"{registry.full_name}/x")
    found.artifact_types.append("dataset")
    found.save()
    assert dataset.link(f"{registry.full_name}/x").version == "v0"


def test_renamed_registry_keeps_its_collections(
    fresh_api: FreshApi, name: str, registry: Registry, open_run: OpenRun, draft: Draft
) -> None:
    with open_run() as run:
        linked = (
            run.log_artifact(draft("rows", {"f": "1"})).wait().link(f"{registry.full_name}/kept", ["gold"])
        )
    assert linked.entity == "local-org"
    registry.name = f"{name}-renamed"
    registry.save()
    with pytest.raises(ValueError, match="Failed to load registry"):
        fresh_api().registry(name)
    assert fresh_api().artifact(f"wandb-registry-{name}-renamed/kept:gold").version == "v0"
    again = fresh_api().create_registry(name, visibility="organization")
    assert list(again.collections()) == []
    again.delete()
    registry.delete()


def test_deleted_registry_is_gone_and_its_name_is_free(
    fresh_api: FreshApi, name: str, registry: Registry, open_run: OpenRun, draft: Draft, project: str
) -> None:
    with open_run() as run:
        run.log_artifact(draft("rows", {"f": "1"})).wait().link(f"{registry.full_name}/gone")
    registry.delete()
    with pytest.raises(ValueError, match="Failed to load registry"):
        fresh_api().registry(name)
    with pytest.raises(ValueError, match="Failed to delete registry"):
        registry.delete()
    assert not fresh_api().artifact_exists(f"wandb-registry-{name}/gone:v0")
    assert fresh_api().artifact_exists(f"local/{project}/rows:v0")
    again = fresh_api().create_registry(name, visibility="organization")
    assert list(again.collections()) == []


def test_unknown_organisation_is_reported(fresh_api: FreshApi) -> None:
    with pytest.raises(CommError, match=r"(?i)organization.*'nobody'.*not found"):
        fresh_api().registry("model", organization="nobody")


def test_registries_are_filtered_ordered_and_paged(fresh_api: FreshApi, name: str) -> None:
    api = fresh_api()
    made = [api.create_registry(f"{name}-{number}", visibility="organization") for number in (2, 0, 1)]
    names = [f"{name}-{number}" for number in range(3)]
    mine = {"name": {"$regex": f"^wandb-registry-{name}-"}}
    assert [item.name for item in api.registries(filter=mine, order="name")] == names
    assert [item.name for item in api.registries(filter=mine, order="-name")] == names[::-1]
    assert [item.name for item in api.registries(filter={"name": names[1]})] == names[1:2]
    paged = api.registries(filter=mine, order="name", per_page=1)
    first, cursor = next(paged).name, paged.cursor
    rest = api.registries(filter=mine, order="name", per_page=1, start=cursor)
    assert [first, *(item.name for item in rest)] == names
    for item in made:
        item.delete()


@pytest.fixture
def filled(registry: Registry, open_run: OpenRun, draft: Draft) -> Registry:
    """Three versions in the collection ``alpha`` and one in ``beta``."""
    with open_run() as run:
        for number in range(3):
            rows = draft(
                "rows", {"f": str(number)}, metadata={"score": number / 2, "split": {"name": "train"}}
            )
            logged = run.log_artifact(rows, tags=["even"] if number % 2 == 0 else ["odd"]).wait()
            logged.link(f"{registry.full_name}/alpha", aliases=["best"] if number == 1 else [])
        logged.link(f"{registry.full_name}/beta", aliases=["best"])
    return registry


def test_collections_of_registries_are_filtered_and_ordered(
    fresh_api: FreshApi, name: str, filled: Registry
) -> None:
    collection = next(item for item in filled.collections() if item.name == "beta")
    collection.tags = ["vetted"]
    collection.description = "the second"
    collection.save()
    assert [item.name for item in filled.collections()] == ["alpha", "beta"]
    assert [item.name for item in filled.collections(order="-name")] == ["beta", "alpha"]
    assert len(filled.collections(filter={"tag": "vetted"})) == 1
    assert [item.name for item in filled.collections(filter={"description": {"$regex": "second"}})] == [
        "beta"
    ]
    everywhere = fresh_api().registries(filter={"name": name}).collections(filter={"name": {"$regex": "alp"}})
    assert [(item.project, item.entity, item.is_sequence()) for item in everywhere] == [
        (f"wandb-registry-{name}", "local-org", False)
    ]
    assert sorted(collection.aliases) == ["best", "latest"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (None, ["alpha:v2", "alpha:v1", "alpha:v0", "beta:v0"]),
        ({"alias": "best"}, ["alpha:v1", "beta:v0"]),
        ({"tag": "even"}, ["alpha:v2", "alpha:v0", "beta:v0"]),
        ({"$or": [{"tag": "odd"}, {"alias": "latest"}]}, ["alpha:v2", "alpha:v1", "beta:v0"]),
        ({"$and": [{"tag": "even"}, {"alias": {"$nin": ["latest"]}}]}, ["alpha:v0"]),
        ({"metadata.score": {"$gte": 0.5}}, ["alpha:v2", "alpha:v1", "beta:v0"]),
        ({"metadata.split.name": "test"}, []),
        ({"metadata.missing": {"$exists": False}}, ["alpha:v2", "alpha:v1", "alpha:v0", "beta:v0"]),
        ({"version": "v1"}, ["alpha:v1"]),
        ({"created_at": {"$gt": "2999-01-01"}}, []),
    ],
)
def test_versions_in_registries_are_filtered(
    filled: Registry, condition: dict[str, object] | None, expected: list[str]
) -> None:
    assert [item.name for item in filled.versions(filter=condition)] == expected


def test_versions_are_found_through_registries_and_collections(
    fresh_api: FreshApi, name: str, filled: Registry
) -> None:
    registries = fresh_api().registries(filter={"name": name})
    assert [item.name for item in registries.versions(filter={"alias": "best"}, per_page=1)] == [
        "alpha:v1",
        "beta:v0",
    ]
    chosen = registries.collections(filter={"name": "beta"}).versions()
    assert [(item.name, item.source_version, sorted(item.aliases)) for item in chosen] == [
        ("beta:v0", "v2", ["best", "latest"])
    ]
    ordered = fresh_api().registries(filter={"name": name}, order="name").collections(order="-name")
    assert [item.name for item in ordered.versions()] == ["beta:v0", "alpha:v2", "alpha:v1", "alpha:v0"]


def test_members_of_a_registry_are_added_given_a_role_and_removed(
    registry: Registry, fresh_api: FreshApi
) -> None:
    user, team = fresh_api().user("dev"), fresh_api().team("local")
    registry.add_members(user, team)
    assert {(type(item).__name__, item.role) for item in registry.members()} == {
        ("UserMember", "admin"),
        ("TeamMember", "restricted_viewer"),
    }
    registry.update_member(user, role="member")
    assert [item.role for item in registry.user_members()] == ["member"]
    registry.remove_members(user, team)
    assert registry.members() == []


def test_read_only_key_does_not_change_registries(
    filled: Registry, name: str, fresh_api: FreshApi, read_only_key: str
) -> None:
    seen = fresh_api(read_only_key).registry(name)
    assert len(list(seen.versions())) == 4
    seen.description = "taken over"
    with pytest.raises(ValueError, match="Failed to save registry") as refused:
        seen.save()
    assert "is read-only" in str(refused.value.__cause__)
    linked = fresh_api(read_only_key).artifact(f"wandb-registry-{name}/alpha:best")
    with pytest.raises(CommError, match="is read-only; it cannot write to entity 'local-org'"):
        linked.unlink()


def test_personal_entity_finds_the_organisation_of_its_user(server: DevServer, fresh_api: FreshApi) -> None:
    assert fresh_api().organization().name == auth.DEFAULT_ORGANIZATION
    personal = wandb.Api(overrides={"base_url": server.url, "entity": "dev"}, api_key=server.api_key)
    assert personal.registry("model").organization == auth.DEFAULT_ORGANIZATION
