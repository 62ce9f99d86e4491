"""What a key may do to other keys, and what admins of a team may do to service accounts, over plain requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from wandb_airflow_provider.devserver import DevServer

GENERATE = "mutation G { generateApiKey(input: {}) { apiKey { id name } } }"
DELETE = "mutation D($id: String!) { deleteApiKey(input: {id: $id}) { success } }"
KEYS = "query K { viewer { username apiKeys { edges { node { id name } } } } }"
INVITE = """mutation I($team: String!, $name: String!) { createInvite(input: {entityName: $team, username: $name}) {
    success: __typename } }"""
REMOVE = "mutation R($team: String!, $id: String!) { deleteInvite(input: {entityName: $team, id: $id}) { success } }"
MEMBERS = "query M($team: String!) { entity(name: $team) { members { id username apiKey } } }"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[DevServer]:
    with DevServer(tmp_path / "data") as server:
        server.clock.freeze()
        yield server


Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def ask(own: DevServer) -> Iterator[Ask]:
    """``ask(key, document, **variables)`` returns the status, and the data or the error."""
    with httpx.Client(base_url=own.url, timeout=30) as client:

        def send(key: str, document: str, **variables: Any) -> tuple[int, Any]:
            body = {"query": document, "variables": variables}
            answer = client.post("/graphql", json=body, auth=("api", key))
            status = answer.status_code
            return status, answer.json()["data"] if status == 200 else answer.json()["error"]

        yield send


def generated(ask: Ask, key: str) -> str:
    status, data = ask(key, GENERATE)
    assert status == 200, data
    return str(data["generateApiKey"]["apiKey"]["name"])


def ids(ask: Ask, key: str) -> dict[str, str]:
    """The keys of whoever asks: id by the name that hides the secret."""
    edges = ask(key, KEYS)[1]["viewer"]["apiKeys"]["edges"]
    return {edge["node"]["name"]: edge["node"]["id"] for edge in edges}


def hidden(key: str) -> str:
    return f"{key[:4]}...{key[-4:]}"


def test_key_that_is_made_ends_with_the_one_that_made_it(own: DevServer, ask: Ask) -> None:
    hour = timedelta(hours=1)
    assertion = own.issue_identity_token()
    grant = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
    token = httpx.post(f"{own.url}/oidc/token", data=grant).json()["access_token"]
    brief = own.add_account("brief", teams=("local",), expires_at=own.clock() + hour)
    made = [generated(ask, key) for key in (token, brief)]
    again = [generated(ask, key) for key in made]
    lasting = generated(ask, own.api_key)
    own.clock.advance(3599)
    assert [ask(key, KEYS)[0] for key in (*made, *again, lasting)] == [200] * 5
    own.clock.advance(1)
    for key in (*made, *again):
        status, said = ask(key, KEYS)
        assert (status, "expired at" in said) == (401, True)
    assert ask(lasting, KEYS)[0] == 200


def test_limited_key_deletes_no_key_that_reaches_further(own: DevServer, ask: Ask) -> None:
    whole = own.add_account("jo", teams=("local", "second"))
    limited = own.create_key("jo", teams={"second": "write"})
    reading, writing = (own.create_key("jo", teams={"second": access}) for access in ("read", "write"))
    elsewhere = own.create_key("jo", teams=["local"])
    read_only = own.create_key("jo", read_only=True)
    found = ids(ask, limited)
    for key in (whole, elsewhere, read_only):
        status, said = ask(limited, DELETE, id=found[hidden(key)])
        assert (status, said[:19]) == (403, "permission denied: ")
        assert "cannot delete a key that is for others, too" in said
        assert ask(key, KEYS)[0] == 200
    weak = own.create_key("jo", teams={"second": "read", "local": "write"})
    assert ask(weak, DELETE, id=found[hidden(writing)])[0] == 403, "it may only read there"
    for key in (reading, writing, limited):
        assert ask(limited, DELETE, id=found[hidden(key)])[0] == 200
        assert ask(key, KEYS)[0] == 401
    assert ask(whole, DELETE, id=found[hidden(elsewhere)])[0] == 200


def test_service_account_keeps_its_keys_while_it_is_in_a_team(own: DevServer, ask: Ask) -> None:
    key = own.add_service_account("first", "job")
    name = ask(key, KEYS)[1]["viewer"]["username"]
    own.add_member("second", name)
    own.add_member("first", "dev")
    member = next(
        item
        for item in ask(own.api_key, MEMBERS, team="first")[1]["entity"]["members"]
        if item["username"] == name
    )
    assert ask(own.api_key, REMOVE, team="first", id=member["id"])[0] == 200
    assert ask(key, KEYS)[0] == 200
    assert ask(key, MEMBERS, team="first")[1] == {"entity": None}
    assert ask(own.api_key, REMOVE, team="second", id=member["id"])[0] == 200
    assert ask(key, KEYS)[0] == 401


def test_service_account_is_put_into_another_team_only_by_who_administers_one_of_its_own(
    own: DevServer, ask: Ask
) -> None:
    key = own.add_service_account("theirs", "job")
    name = ask(key, KEYS)[1]["viewer"]["username"]
    admin = own.add_account("boss", teams=("mine", "theirs"))
    own.add_member("mine", "boss", role="admin")
    own.add_account("person", teams=("theirs",))

    status, said = ask(admin, INVITE, team="mine", name=name)
    assert (status, "is not of a team that user 'boss' is an admin of" in said) == (403, True), said
    members = ask(admin, MEMBERS, team="mine")[1]["entity"]["members"]
    assert [item["username"] for item in members] == ["boss"]
    assert key not in str(members)
    assert ask(admin, INVITE, team="mine", name="person")[0] == 200, "a person can be invited anywhere"
    own.add_member("theirs", "boss", role="admin")
    assert ask(admin, INVITE, team="mine", name=name)[0] == 200
    own.add_service_account("others", "job")
    assert ask(own.api_key, INVITE, team="mine", name="service-job-2")[0] == 200, "the server's admin may"
