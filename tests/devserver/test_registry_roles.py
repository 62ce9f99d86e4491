from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import wandb
from wandb.apis.public.registries import Registry
from wandb.errors import CommError

from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.artifacts import queries

OpenRun = Callable[..., wandb.Run]
FreshApi = Callable[..., wandb.Api]
Draft = Callable[..., wandb.Artifact]
GraphQL = Callable[..., tuple[int, dict[str, Any]]]
People = dict[str, str]

ROLES = ("outsider", "viewer", "restricted_viewer", "member", "admin")


@pytest.fixture
def name(project: str) -> str:
    return project[-60:].strip("-")


@pytest.fixture
def registry(fresh_api: FreshApi, name: str) -> Iterator[Registry]:
    """A registry that only its members see, with the alias ``production`` protected."""
    made = fresh_api().create_registry(name, visibility="restricted")
    yield made
    if name in {item.name for item in fresh_api().registries()}:
        fresh_api().registry(name).delete()


@pytest.fixture
def people(server: DevServer, registry: Registry, fresh_api: FreshApi, name: str) -> People:
    """One key for each role in the registry, all of members of the team ``local``."""
    keys = {role: server.add_account(f"{name}-{role}", teams=("local",)) for role in ROLES}
    api = fresh_api()
    for role in ROLES[1:]:
        user = api.user(f"{name}-{role}")
        registry.add_members(user)
        registry.update_member(user, role=role)
    return keys


@pytest.fixture
def versions(open_run: OpenRun, draft: Draft) -> list[wandb.Artifact]:
    with open_run() as run:
        logged = [run.log_artifact(draft("net", {"w": str(n)}, type="model")) for n in range(3)]
    return [artifact.wait() for artifact in logged]


def local(api: wandb.Api, project: str, version: int = 0) -> wandb.Artifact:
    return api.artifact(f"local/{project}/net:v{version}")


def state(server: DevServer, registry: Registry) -> list[tuple[str, list[tuple[int, tuple[str, ...]]]]]:
    """Everything that a registry holds: each collection, and each version there with its aliases."""
    found = queries.list_collections(server.backend, registry.entity, registry.full_name)
    return [
        (
            item.name,
            [(seen.version, seen.aliases) for seen in queries.list_versions(server.backend, item.id)],
        )
        for item in found
    ]


def test_each_role_may_do_what_it_is_for(
    server: DevServer,
    registry: Registry,
    people: People,
    versions: list[wandb.Artifact],
    fresh_api: FreshApi,
    project: str,
    name: str,
) -> None:
    target = f"{registry.full_name}/net"
    versions[0].link(target, aliases=["staging"])
    before = state(server, registry)

    outsider = fresh_api(people["outsider"])
    assert name not in {item.name for item in outsider.registries()}
    with pytest.raises(ValueError, match="Failed to load registry"):
        outsider.registry(name)
    assert not outsider.artifact_exists(f"{target}:staging")
    with pytest.raises(CommError, match="has no role in registry"):
        local(outsider, project).link(target)

    for role in ("restricted_viewer", "viewer"):
        api = fresh_api(people[role])
        assert [item.name for item in api.registry(name).collections()] == ["net"]
        seen = api.artifact(f"{target}:staging")
        assert sorted(seen.aliases) == ["latest", "staging"]
        with pytest.raises(
            CommError, match=f"has the role '{role}' in registry '{name}'; this takes 'member'"
        ):
            local(api, project, 1).link(target)
        seen.aliases.append("mine")
        with pytest.raises(CommError, match=f"has the role '{role}'"):
            seen.save()
        with pytest.raises(CommError, match=f"has the role '{role}'"):
            api.artifact(f"{target}:staging").unlink()
        for change in (lambda it: it.delete(), lambda it: it.save()):
            with pytest.raises(ValueError, match="Failed to"):
                change(api.registry(name))
    assert state(server, registry) == before

    member = fresh_api(people["member"])
    linked = local(member, project, 1).link(target, aliases=["candidate"])
    assert (linked.version, sorted(linked.aliases)) == ("v1", ["candidate", "latest"])
    linked.unlink()
    found = member.registry(name)
    found.description = "by a member"
    found.save()
    found.visibility = "organization"
    with pytest.raises(ValueError, match="Failed to save registry") as refused:
        found.save()
    assert "this takes 'admin'" in str(refused.value.__cause__)
    with pytest.raises(Exception, match="this takes 'admin'"):
        found.add_members(member.viewer)
    with pytest.raises(ValueError, match="Failed to delete registry"):
        found.delete()

    admin = fresh_api(people["admin"])
    found = admin.registry(name)
    assert found.description == "by a member"
    found.add_members(admin.user(f"{name}-outsider"))
    assert fresh_api(people["outsider"]).registry(name).name == name
    found.remove_members(admin.user(f"{name}-outsider"))
    found.visibility = "organization"
    found.save()
    assert fresh_api(people["outsider"]).artifact_exists(f"{target}:staging"), "now the organisation sees it"
    found.delete()


def test_restricted_viewer_sees_but_neither_uses_nor_downloads(
    server: DevServer,
    registry: Registry,
    people: People,
    open_run: OpenRun,
    draft: Draft,
    fresh_api: FreshApi,
    project: str,
    name: str,
) -> None:
    server.add_team(f"{name}-elsewhere")
    server.add_member(f"{name}-elsewhere", "dev")
    with open_run(entity=f"{name}-elsewhere") as run:
        made = run.log_artifact(draft("net", {"w": "x"}, type="model")).wait()
    made.link(f"{registry.full_name}/net")
    path = f"{registry.full_name}/net:v0"
    md5 = "9dd4e461268c8034f5c8564e155c67a6"
    raw = f"{server.url}/artifactsV2/default/local-org/{registry.full_name}/net/id/{md5}/w"

    restricted = fresh_api(people["restricted_viewer"]).artifact(path)
    assert list(restricted.manifest.entries) == ["w"]
    with pytest.raises(Exception, match="is a restricted viewer, who may not use or download"):
        list(restricted.files())
    with pytest.raises(Exception, match=r"permission denied|404|not found"):
        restricted.download()
    with (
        open_run(api_key=people["restricted_viewer"]) as run,
        pytest.raises(Exception, match="is a restricted viewer, who may not use"),
    ):
        run.use_artifact(path)
    assert httpx.get(raw, auth=("api", people["restricted_viewer"])).status_code == 404

    with pytest.raises(Exception, match="is a restricted viewer, who may not use or download"):
        restricted.link(f"local/{project}/mine")

    viewer = fresh_api(people["viewer"]).artifact(path)
    assert [file.name for file in viewer.files()] == ["w"]
    with open_run(api_key=people["viewer"]) as run:
        assert run.use_artifact(path).digest == made.digest
    assert httpx.get(raw, auth=("api", people["viewer"])).content == b"x"


def test_teams_bring_their_members_and_the_highest_role_counts(
    server: DevServer, registry: Registry, fresh_api: FreshApi, graphql: GraphQL, name: str
) -> None:
    key = server.add_account(f"{name}-x", teams=(f"{name}-crew",))
    assert not fresh_api(key).artifact_exists(f"{registry.full_name}/none:v0")
    team = fresh_api().team(f"{name}-crew")
    registry.add_members(team)
    assert [(item.team.name, item.role) for item in registry.team_members()] == [
        (team.name, "restricted_viewer")
    ]
    rights = 'query R($name: String) { project(entityName: "local-org", name: $name) { readOnly } }'
    arguments = {"name": registry.full_name}
    assert graphql(rights, arguments, key)[1]["data"]["project"] == {"readOnly": True}
    registry.update_member(team, role="member")
    assert graphql(rights, arguments, key)[1]["data"]["project"] == {"readOnly": False}
    user = fresh_api().user(f"{name}-x")
    registry.add_members(user)
    assert graphql(rights, arguments, key)[1]["data"]["project"] == {"readOnly": False}, (
        "the team's is higher"
    )
    registry.remove_members(team)
    assert graphql(rights, arguments, key)[1]["data"]["project"] == {"readOnly": True}
    registry.update_member(user, role="admin")
    assert graphql(rights, arguments, key)[1]["data"]["project"] == {"readOnly": False}
    limited = server.create_key(f"{name}-x", read_only=True)
    assert graphql(rights, arguments, limited)[1]["data"]["project"] == {"readOnly": True}


def test_roles_go_with_what_a_member_is(
    server: DevServer, registry: Registry, fresh_api: FreshApi, name: str
) -> None:
    server.add_service_account("local", f"{name} job")
    server.add_organization(f"{name}-org", admins=())
    server.add_team(f"{name}-far", organization=f"{name}-org")
    server.add_account(f"{name}-stranger", teams=(f"{name}-far",))
    api = fresh_api()
    service = api.user(f"service-{name}-job"[:68])
    registry.add_members(api.user("dev"), service)
    assert {item.user.username: item.role for item in registry.user_members()} == {
        "dev": "admin",
        service.username: "member",
    }
    with pytest.raises(Exception, match="service accounts are 'member' or 'admin'"):
        registry.update_member(service, role="viewer")
    with pytest.raises(Exception, match="there is no registry role 'owner'"):
        registry.update_member(service, role="owner")
    with pytest.raises(Exception, match="in organization 'local-org'"):
        registry.add_members(api.user(f"{name}-stranger"))
    with pytest.raises(Exception, match="is not a member of this registry"):
        registry.update_member(api.team("local"), role="member")


def test_protected_alias_is_moved_by_admins_alone_and_a_refusal_changes_nothing(
    server: DevServer,
    registry: Registry,
    people: People,
    versions: list[wandb.Artifact],
    fresh_api: FreshApi,
    project: str,
    name: str,
) -> None:
    target = f"{registry.full_name}/net"
    server.protect_alias(name, "production")
    server.protect_alias(name, "archived")
    assert server.protected_aliases(name) == ["archived", "production"]
    admin, member = fresh_api(people["admin"]), fresh_api(people["member"])
    local(admin, project).link(target, aliases=["production"])
    before = state(server, registry)

    with pytest.raises(CommError, match="alias 'production' is protected in registry") as refused:
        local(member, project, 1).link(target, aliases=["candidate", "production"])
    assert f"only an admin of the registry may move it, and user '{name}-member' is none" in str(
        refused.value
    )
    with pytest.raises(CommError, match="alias 'archived' is protected"):
        local(member, project, 1).link(f"{registry.full_name}/new", aliases=["archived"])
    assert state(server, registry) == before, (
        "neither the link nor the other alias nor the collection was made"
    )

    local(member, project, 1).link(target, aliases=["candidate"])
    candidate = member.artifact(f"{target}:candidate")
    candidate.aliases += ["production", "checked"]
    with pytest.raises(CommError, match="only an admin of the registry may move it"):
        candidate.save()
    holder = member.artifact(f"{target}:production")
    holder.aliases.remove("production")
    with pytest.raises(CommError, match="only an admin of the registry may take it away"):
        holder.save()
    with pytest.raises(CommError, match="only an admin of the registry may take it away"):
        member.artifact(f"{target}:production").unlink()
    with pytest.raises(Exception, match="alias 'production' is protected"):
        member.artifact_collection("model", target).delete()
    # Not even the owner of the source may delete what a registry protects.
    with pytest.raises(CommError, match="has the protected alias 'production' in registry"):
        local(fresh_api(), project).delete(delete_aliases=True)
    assert state(server, registry) == [("net", [(1, ("candidate", "latest")), (0, ("production",))])]

    moved = admin.artifact(f"{target}:candidate")
    moved.aliases.append("production")
    moved.save()
    assert member.artifact(f"{target}:production").version == "v1"
    server.unprotect_alias(name, "production")
    rolled_back = fresh_api(people["member"]).artifact(f"{target}:v0")
    rolled_back.aliases.append("production")
    rolled_back.save()
    assert fresh_api().artifact(f"{target}:production").version == "v0"
    assert server.protected_aliases(name) == ["archived"]


def test_alias_that_cannot_be_protected_is_refused(server: DevServer, name: str) -> None:
    with pytest.raises(Exception, match="moves by itself"):
        server.protect_alias("model", "latest")
    with pytest.raises(Exception, match="reserved for version numbers"):
        server.protect_alias("model", "v3")
    with pytest.raises(ValueError, match="has no registry 'nowhere' in organization 'local-org'"):
        server.protect_alias("nowhere", "production")


def test_runs_and_artifacts_are_not_logged_into_a_registry(
    graphql: GraphQL, registry: Registry, people: People
) -> None:
    run = """mutation U($m: String) { upsertBucket(input: {modelName: $m, entityName: "local-org", name: "r"}) {
        inserted } }"""
    status, answer = graphql(run, {"m": registry.full_name})
    assert status == 400
    assert "names a registry: runs are not logged there" in answer["errors"][0]["message"]
    create = """mutation C($m: String!) { createArtifact(input: {entityName: "local-org", projectName: $m,
        artifactTypeName: "model", artifactCollectionName: "x", digest: "d"}) { artifact { id } } }"""
    status, answer = graphql(create, {"m": registry.full_name}, people["viewer"])
    assert status == 403
    misplaced = (
        'mutation M { upsertModel(input: {entityName: "local", name: "wandb-registry-x"}) { inserted } }'
    )
    status, answer = graphql(misplaced, {})
    assert status == 400
    assert "registries, which belong to an organization" in answer["errors"][0]["message"]
