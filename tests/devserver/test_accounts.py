from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import wandb

from wandb_airflow_provider.devserver import DEFAULT_API_KEY, DevServer

OpenRun = Callable[..., wandb.Run]


def client(server: DevServer, key: str) -> wandb.Api:
    return wandb.Api(overrides={"base_url": server.url}, api_key=key)


def test_key_belongs_to_the_default_user_whose_default_entity_is_a_team(
    server: DevServer, api: wandb.Api
) -> None:
    assert len(DEFAULT_API_KEY) == 40
    assert "-" not in DEFAULT_API_KEY
    assert (api.viewer.username, api.viewer.entity, api.default_entity) == ("dev", "local", "local")
    assert api.viewer.teams == ["local"]
    assert api.viewer.admin
    team = api.team("local")
    assert "dev" in [member.username for member in team.members]
    assert [user.username for user in api.users("dev")] == ["dev"]


def test_wrong_key_is_refused_at_once_with_the_reason(server: DevServer, open_run: OpenRun) -> None:
    wrong = "x" * 36 + "last"
    started = time.monotonic()
    with pytest.raises(wandb.errors.Error, match=r"invalid API key \(ending in 'last', 40 characters\)"):
        open_run(api_key=wrong)
    with pytest.raises(Exception, match="invalid API key"):
        client(server, wrong).runs("local/any").next()
    assert time.monotonic() - started < 10
    refused = httpx.post(f"{server.url}/graphql", json={"query": "{ viewer { id } }"})
    assert refused.status_code == 401
    assert "no API key was sent" in refused.json()["errors"][0]["message"]


def test_expired_key_says_when_it_expired(server: DevServer) -> None:
    key = server.add_account("late", expires_at=datetime.now(UTC) - timedelta(days=1))
    with pytest.raises(Exception, match=r"the API key of user 'late' expired at 20"):
        client(server, key).runs("local/any").next()


def test_read_only_key_reads_but_cannot_write(server: DevServer, open_run: OpenRun, project: str) -> None:
    key = server.add_account("reader", role="read-only", teams=("local",))
    run = open_run()
    run.finish()

    found = client(server, key).run(f"local/{project}/{run.id}")
    assert found.state == "finished"
    found.notes = "changed"
    with pytest.raises(wandb.errors.CommError, match=r"user 'reader' is read-only"):
        found.update()
    with pytest.raises(wandb.errors.CommError, match=r"user 'reader' is read-only"):
        open_run(api_key=key)
    assert client(server, server.api_key).run(f"local/{project}/{run.id}").notes is None


def test_key_of_another_team_neither_sees_nor_writes(
    server: DevServer, open_run: OpenRun, project: str
) -> None:
    key = server.add_account("stranger", teams=("elsewhere",))
    run = open_run()
    run.finish()

    stranger = client(server, key)
    assert stranger.default_entity == "elsewhere"
    with pytest.raises(wandb.errors.CommError, match="Could not find run"):
        stranger.run(f"local/{project}/{run.id}")
    with pytest.raises(wandb.errors.CommError, match=r"'stranger' is not a member of entity 'local'"):
        open_run(api_key=key)
    own = open_run(api_key=key, entity="elsewhere")
    own.finish()
    assert stranger.run(f"elsewhere/{project}/{own.id}").user.username == "stranger"


def test_bearer_token_is_a_key_too(server: DevServer) -> None:
    answer = httpx.post(
        f"{server.url}/graphql",
        json={"query": "{ viewer { username } }"},
        headers={"Authorization": f"Bearer {server.api_key}"},
    )
    assert answer.json() == {"data": {"viewer": {"username": "dev"}}}
