from __future__ import annotations

import base64
import gzip
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from wandb_airflow_provider.devserver import DevServer, queries

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCRIPT = """
import wandb
with wandb.init(project="p", entity="local") as run:
    run.log({"loss": 1})
api = wandb.Api()
print(api.viewer.username, api.run(run.path).summary["loss"])
"""
Client = Callable[[], subprocess.CompletedProcess[str]]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[DevServer]:
    with DevServer(tmp_path / "data") as server:
        yield server


@pytest.fixture
def client(own: DevServer, tmp_path: Path) -> Client:
    """A process that logs a run with an identity token file as its only credentials."""
    folders = ("HOME", "WANDB_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR")
    environment = {
        **{name: value for name, value in os.environ.items() if name != "WANDB_API_KEY"},
        **dict.fromkeys(folders, str(tmp_path)),
        "WANDB_BASE_URL": own.url,
        "WANDB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        "WANDB_CREDENTIALS_FILE": str(tmp_path / "credentials.json"),
        "WANDB_SILENT": "true",
    }
    return lambda: subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def exchange(server: DevServer, assertion: str, grant: str = GRANT) -> httpx.Response:
    return httpx.post(f"{server.url}/oidc/token", data={"grant_type": grant, "assertion": assertion})


def viewer(server: DevServer, token: str) -> httpx.Response:
    document = {"query": "{ viewer { username apiKeys { edges { node { id } } } } }"}
    return httpx.post(f"{server.url}/graphql", json=document, headers={"Authorization": f"Bearer {token}"})


@pytest.mark.slow
def test_client_with_an_identity_token_file_works_until_its_token_is_expired(
    own: DevServer, client: Client, tmp_path: Path
) -> None:
    own.add_account("robot", teams=("local",))
    (tmp_path / "token").write_text(own.issue_identity_token("robot") + "\n")
    logged = client()
    assert (logged.returncode, logged.stdout) == (0, "robot 1\n"), logged.stderr
    assert [run.user for run in queries.list_runs(own.backend, "local", "p")] == ["robot"]
    assert [record.status for record in own.requests(path="/oidc/token")] == [200]

    assert own.expire_access_tokens("robot") == 1
    refused = client()
    assert refused.returncode == 1
    assert "the access token of user 'robot' expired at" in refused.stderr
    (tmp_path / "credentials.json").unlink()
    own.clock.advance(3600)
    refused = client()
    assert refused.returncode == 1
    assert "the identity token of 'robot@example.com' expired at" in refused.stderr


def test_access_token_lasts_an_hour_and_is_listed_nowhere(own: DevServer) -> None:
    answer = exchange(own, own.issue_identity_token(seconds=60)).json()
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3600)
    found = viewer(own, answer["access_token"]).json()["data"]["viewer"]
    assert (found["username"], len(found["apiKeys"]["edges"])) == ("dev", 1)
    own.clock.advance(3601)
    late = viewer(own, answer["access_token"])
    assert late.status_code == 401
    assert "the access token of user 'dev' expired at" in late.json()["error"]


def test_identity_token_that_was_changed_or_comes_from_elsewhere_is_refused(
    own: DevServer, tmp_path: Path
) -> None:
    token = own.issue_identity_token()
    header, claims, signature = token.split(".")
    other = base64.urlsafe_b64encode(json.dumps({"sub": "dev", "exp": 9e9}).encode()).decode().rstrip("=")
    none = base64.urlsafe_b64encode(b'{"alg": "none"}').decode().rstrip("=")
    with DevServer(tmp_path / "elsewhere") as elsewhere:
        foreign = elsewhere.issue_identity_token()
    for bad in (f"{header}.{other}.{signature}", f"{none}.{other}.", foreign, "", "a.b", "ü.ü.ü", claims):
        refused = exchange(own, bad)
        assert refused.status_code == 400, bad
        assert refused.json()["error"] in ("invalid_grant", "invalid_request")
    assert exchange(own, token, "password").json()["error"] == "unsupported_grant_type"
    assert httpx.post(f"{own.url}/oidc/token", content=b"\xff\xfe").status_code == 400
    assert exchange(own, "x" * 70_000).status_code == 400
    assert exchange(own, token).status_code == 200
    with pytest.raises(ValueError, match="has no user 'nobody'"):
        own.issue_identity_token("nobody")


def test_no_more_is_read_of_a_token_request_than_it_may_have(own: DevServer) -> None:
    address = urlsplit(own.url)
    head = f"POST /oidc/token HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 200000000\r\n\r\n"
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=30) as connection:
        connection.sendall(head.encode() + b"x" * 65_537)
        # Nobody who sends on without a key keeps the server's memory.
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400"), answer
    packed = gzip.compress(b"x" * 1_000_000)
    refused = httpx.post(f"{own.url}/oidc/token", content=packed, headers={"Content-Encoding": "gzip"})
    assert (refused.status_code, refused.json()["error"]) == (
        400,
        "the body unpacks to more than 65536 bytes.",
    )


def test_token_for_another_audience_is_refused_and_the_account_s_organization_is_one(own: DevServer) -> None:
    for audience in ("wandb", "local-org"):
        assert exchange(own, own.issue_identity_token(audience=audience)).status_code == 200
    refused = exchange(own, own.issue_identity_token(audience="sts.example.com"))
    assert (refused.status_code, refused.json()) == (
        400,
        {
            "error": "invalid_grant",
            "error_description": "the identity token is for the audience 'sts.example.com'; expected 'local-org' or "
            "'wandb'.",
        },
    )


def test_service_account_is_named_by_itself_and_a_user_by_the_email_address(own: DevServer) -> None:
    key = own.add_service_account("local", "scheduler")
    name = viewer(own, key).json()["data"]["viewer"]["username"]
    for username, subject in ((name, name), ("dev", "dev@example.com")):
        token = own.issue_identity_token(username)
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        assert claims["sub"] == subject
        access = exchange(own, token).json()["access_token"]
        assert viewer(own, access).json()["data"]["viewer"]["username"] == username


def test_distrusted_tokens_are_refused_and_later_ones_are_not(own: DevServer) -> None:
    token = own.issue_identity_token()
    access = exchange(own, token).json()["access_token"]
    own.distrust_identity_tokens()
    assert (
        "not issued by an issuer that this server trusts" in exchange(own, token).json()["error_description"]
    )
    assert viewer(own, access).status_code == 200
    assert exchange(own, own.issue_identity_token()).status_code == 200


def test_revoked_access_tokens_are_unknown_and_keys_and_others_stay(own: DevServer) -> None:
    own.add_account("robot", teams=("local",))
    tokens = [
        exchange(own, own.issue_identity_token(name)).json()["access_token"] for name in ("dev", "robot")
    ]
    assert own.revoke_access_tokens("robot") == 1
    assert [viewer(own, token).status_code for token in (*tokens, own.api_key)] == [200, 401, 200]
    assert own.revoke_access_tokens() == 1
    assert viewer(own, tokens[0]).status_code == 401


def test_access_token_lasts_as_long_as_its_identity_token_says(own: DevServer) -> None:
    answer = exchange(own, own.issue_identity_token(access_seconds=60)).json()
    assert answer["expires_in"] == 60
    own.clock.advance(61)
    assert viewer(own, answer["access_token"]).status_code == 401


def test_tokens_can_be_had_over_the_controls_and_stand_in_no_record(own: DevServer) -> None:
    with httpx.Client(base_url=f"{own.url}/_control/") as client:
        token = client.post("identity-token", json={"username": "dev", "seconds": 60}).json()["token"]
        access = exchange(own, token).json()["access_token"]
        nobody = client.post("identity-token", json={"username": "nobody"})
        assert (nobody.status_code, "no user 'nobody'" in nobody.text) == (400, True)
        client.post("distrust-identity-tokens")
        assert exchange(own, token).status_code == 400
        record = client.get("requests").text
    assert not [secret for secret in (token, access) if secret in record]
