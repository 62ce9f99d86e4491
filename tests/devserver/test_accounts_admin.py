from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.apis.public import Team
from wandb.errors import CommError

from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

FreshApi = Callable[..., wandb.Api]
GraphQL = Callable[..., tuple[int, dict[str, Any]]]
OpenRun = Callable[..., wandb.Run]


def api_for(server: DevServer, key: str | None = None) -> wandb.Api:
    return wandb.Api(overrides={"base_url": server.url}, api_key=key or server.api_key)


def names(team: Team) -> list[str]:
    team.load(force=True)
    return [member.username for member in team.members]


def test_team_is_created_and_members_come_and_go(
    server: DevServer, fresh_api: FreshApi, project: str
) -> None:
    api = fresh_api()
    team = api.create_team(f"{project}-team")
    assert [(member.username, member.admin) for member in team.members] == [("dev", True)]
    user = api.create_user(f"{project}@example.com")
    assert user.username == project
    assert not user.admin
    assert team.invite(f"{project}@example.com")
    assert not team.invite(project), "who is a member cannot be invited"
    assert not team.invite("nobody-of-that-name")
    assert names(team) == ["dev", project]

    key = server.create_key(project)
    assert fresh_api(key).viewer.teams == [team.name]
    assert fresh_api(key).team(team.name).members[-1].account_type == "USER"
    assert not fresh_api(key).team(team.name).invite("dev"), "a member does not decide who else is one"
    assert not fresh_api(key).team(team.name).members[0].delete()
    assert team.members[-1].delete()
    assert not team.members[-1].delete(), "who is gone cannot be removed again"
    assert names(team) == ["dev"]
    assert fresh_api(key).viewer.teams == []


def test_taken_names_and_wrong_addresses_are_refused(fresh_api: FreshApi, project: str) -> None:
    api = fresh_api()
    api.create_user(f"{project}@example.com")
    with pytest.raises(Exception, match="has an account already"):
        api.create_user(f"{project}@example.com")
    with pytest.raises(Exception, match="'not an address' is not an e-mail address"):
        api.create_user("not an address")
    # The SDK takes a refusal for a team that exists.
    assert api.create_team("local").name == "local"


@pytest.mark.parametrize("name", ["..", "a/b", "a\nb", " "])
def test_name_that_no_address_can_hold_names_no_team(server: DevServer, name: str) -> None:
    with pytest.raises(GraphQLError, match=r"invalid name of a team|the name of a team is empty"):
        server.add_team(name)


def test_service_account_works_with_the_key_that_its_team_sees(
    server: DevServer, fresh_api: FreshApi, open_run: OpenRun, project: str
) -> None:
    team = fresh_api().create_team(f"{project}-team")
    made = team.create_service_account("nightly job")
    assert made is not None
    assert (made.name, made.account_type) == ("nightly job", "SERVICE")
    assert len(made.api_key) == 40
    run = open_run(api_key=made.api_key, entity=team.name)
    run.finish()
    found = fresh_api(made.api_key).run(f"{team.name}/{project}/{run.id}")
    assert found.user.username == made.username

    server.add_account("onlooker", teams=(team.name,))
    member = fresh_api(server.create_key("onlooker")).team(team.name)
    assert [item.api_key for item in member.members if item.username == made.username] == [None]
    assert member.create_service_account("mine") is None
    team.load(force=True)
    assert next(item for item in team.members if item.username == made.username).delete()
    with pytest.raises(CommError, match="invalid API key"):
        fresh_api(made.api_key).run(f"{team.name}/{project}/{run.id}")


def test_user_makes_lists_and_deletes_keys(server: DevServer, fresh_api: FreshApi, project: str) -> None:
    first = server.add_account(project, teams=("local",))
    viewer = fresh_api(first).viewer
    made = viewer.generate_api_key("for the night")
    assert made is not None
    assert len(made) == 40
    again = fresh_api(made).viewer
    assert again.username == project
    assert len(again.api_keys) == 2
    assert made not in again.api_keys, "a key is told once"
    assert fresh_api().user(project).api_keys == again.api_keys, "an administrator sees them"
    other = fresh_api(server.add_account(f"{project}-other", teams=("local",)))
    assert other.user(project).api_keys == []
    assert again.delete_api_key(again.api_keys[-1])
    with pytest.raises(Exception, match="invalid API key"):
        fresh_api(made).create_project("p", "local")
    assert fresh_api(first).viewer.api_keys == again.api_keys[:1]


def test_key_of_another_user_cannot_be_deleted(server: DevServer, graphql: GraphQL, project: str) -> None:
    key, other = server.add_account(project), server.add_account(f"{project}-other")
    document = "query Q { viewer { apiKeys { edges { node { id } } } } }"
    node = graphql(document, {}, key)[1]["data"]["viewer"]["apiKeys"]["edges"][0]["node"]
    delete = "mutation D($id: String!) { deleteApiKey(input: {id: $id}) { success } }"
    assert graphql(delete, node, other)[0] == 404
    assert graphql(document, {}, key)[0] == 200
    assert graphql(delete, node)[0] == 200, "an administrator may"
    assert graphql(document, {}, key)[0] == 401


def test_limited_key_reads_and_writes_only_where_it_is_for(
    server: DevServer, fresh_api: FreshApi, graphql: GraphQL, project: str
) -> None:
    server.add_account(project, teams=("local", "second", "third"))
    key = server.create_key(project, teams={"second": "write", "third": "read"})
    viewer = fresh_api(key).viewer
    assert (viewer.teams, viewer.entity) == (["second", "third"], "second")
    create = (
        'mutation C($entity: String) { upsertModel(input: {name: "p", entityName: $entity}) { inserted } }'
    )
    assert graphql(create, {"entity": "second"}, key)[0] == 200
    for entity, reason in (
        ("third", f"the API key of user '{project}' may only read entity 'third'"),
        ("local", f"the API key of user '{project}' is not for entity 'local'"),
        (project, f"the API key of user '{project}' is not for entity '{project}'"),
    ):
        status, answer = graphql(create, {"entity": entity}, key)
        assert (status, answer["errors"][0]["message"][:19]) == (403, "permission denied: ")
        assert reason in answer["errors"][0]["message"]
    read = "query R($entity: String) { entity(name: $entity) { name } }"
    assert graphql(read, {"entity": "third"}, key)[1]["data"]["entity"] == {"name": "third"}
    assert graphql(read, {"entity": "local"}, key)[1]["data"]["entity"] is None
    # What a limited key makes is limited as it is.
    made = fresh_api(key).viewer.generate_api_key()
    assert graphql(create, {"entity": "local"}, made)[0] == 403
    with pytest.raises(Exception, match="name an entity that exists"):
        server.create_key(project, teams=["nowhere"])
    with pytest.raises(ValueError, match="has no user 'nobody'"):
        server.create_key("nobody")


def test_viewer_of_a_team_reads_what_it_cannot_change(
    server: DevServer, graphql: GraphQL, project: str
) -> None:
    key = server.add_account(project, teams=("watched",))
    server.add_member("watched", project, role="viewer")
    status, answer = graphql('mutation C { upsertModel(input: {name: "p"}) { inserted } }', {}, key)
    assert (status, "is only a viewer in entity 'watched'" in answer["errors"][0]["message"]) == (403, True)
    server.add_member("watched", project, role="admin")
    assert graphql('mutation C { upsertModel(input: {name: "p"}) { inserted } }', {}, key)[0] == 200
    with pytest.raises(ValueError, match="there is no role 'boss' in a team"):
        server.add_member("watched", project, role="boss")


def test_key_ends_when_it_was_said_to(tmp_path: Path) -> None:
    moment = [datetime(2026, 5, 1, tzinfo=UTC)]
    with DevServer(tmp_path, now=lambda: moment[0]) as server:
        key = server.create_key(expires_at=moment[0] + timedelta(hours=1))
        api = api_for(server, key)
        assert api.viewer.username == "dev"
        moment[0] += timedelta(hours=1)
        with pytest.raises(Exception, match="the API key of user 'dev' expired at 2026-05-01T01:00:00"):
            api.create_project("p", "local")


def test_keys_that_were_made_outlive_a_restart(tmp_path: Path) -> None:
    with DevServer(tmp_path, api_key="a" * 40) as server:
        made = server.create_key()
    with DevServer(tmp_path, api_key="b" * 40) as server:
        for key in (made, "b" * 40):
            assert api_for(server, key).viewer.username == "dev"
        with pytest.raises(Exception, match="invalid API key"):
            api_for(server, "a" * 40).create_project("p", "local")


def test_further_organisation_has_registries_of_its_own(tmp_path: Path) -> None:
    with DevServer(tmp_path) as server:
        server.add_organization("other-org")
        server.add_team("far", organization="other-org")
        member = api_for(server, server.add_account("jo", teams=("far",)))
        assert member.organization().name == "other-org"
        assert {item.name for item in member.registries(organization="other-org")} == {"model", "dataset"}
        with pytest.raises(CommError, match=r"(?i)organization"):
            member.registry("model", organization="local-org")
        assert api_for(server).registry("model", organization="other-org").entity == "other-org"
        with pytest.raises(ValueError, match="has no organization 'nowhere'"):
            server.add_team("t", organization="nowhere")
