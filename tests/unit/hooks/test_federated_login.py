"""Connections that log in with an identity token file: runs, reads, rotation, and every way in which it goes wrong."""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wandb_airflow_provider import sdk
from wandb_airflow_provider.exceptions import (
    WandbAuthenticationError,
    WandbConfigurationError,
    WandbUnavailableError,
)
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.sdk import RunSpec
from wandb_airflow_provider.triggers.reader import WandbReader

OTHERS_KEY = "f" * 40


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    sdk.release()


@pytest.fixture
def token(server: Any, connect: Callable[..., None], unique: str, tmp_path: Path) -> Path:
    """The file from which ``wandb_default`` logs in as ``robot``."""
    server.add_account("robot", teams=("local",))
    server.add_account("successor", teams=("local",))
    path = tmp_path / "token"
    path.write_text(server.issue_identity_token("robot") + "\n")
    connect(server, password=None, extra={"project": unique, "identity_token_file": str(path)})
    return path


def log_one(project: str, name: str, **metrics: Any) -> RunRef:
    spec = RunSpec(wandb_run_id=f"{project}-{name}", name=name, group="g", job_type="t")
    with WandbHook().open_run(spec._replace(entity="local", project=project)) as session:
        session.run.log(metrics)
        return session.ref


def username(wandb_conn_id: str = "wandb_default") -> Any:
    return WandbHook(wandb_conn_id).get_conn().viewer.username


def exchanges(server: Any) -> int:
    return len(server.requests(path="/oidc/token"))


def test_a_run_and_what_is_read_of_it_need_no_key_and_leave_no_trace_of_the_token(
    server: Any,
    token: Path,
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: Any,
) -> None:
    caplog.set_level(logging.DEBUG)
    # The worker's own logins are not the connection's.
    monkeypatch.setenv("WANDB_API_KEY", OTHERS_KEY)
    monkeypatch.setenv("WANDB_CREDENTIALS_FILE", str(tmp_path / "credentials.json"))
    before = dict(os.environ)
    hook, seen = WandbHook(), len(server.requests())

    ref = log_one(unique, "a", loss=0.5)
    record = hook.get_run(ref)

    assert record.summary["loss"] == 0.5
    assert [run.user for run in server.runs(unique)] == ["robot"]
    changed = {name for name in before.keys() | os.environ.keys() if before.get(name) != os.environ.get(name)}
    assert changed <= {"WANDB_SERVICE"}
    assert not (tmp_path / "credentials.json").exists()
    secret = token.read_text().strip()
    captured = capfd.readouterr()
    said = [caplog.text, captured.out, captured.err, repr(hook.connection), json.dumps(record.config)]
    said += [json.dumps(request.as_json()) for request in server.requests()[seen:]]
    assert not [text for text in said if secret in text]
    from airflow.sdk.log import redact

    assert secret not in str(redact(f"the token is {secret}"))


def test_a_token_that_is_replaced_between_two_tasks_is_the_next_one_s_login(
    server: Any, token: Path, unique: str
) -> None:
    log_one(unique, "a", loss=1)
    token.write_text(server.issue_identity_token("successor"))
    log_one(unique, "b", loss=1)
    assert [run.user for run in server.runs(unique)] == ["robot", "successor"]


def test_connections_of_one_process_and_server_do_not_share_a_login(
    server: Any, token: Path, connect: Callable[..., None], unique: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text(server.issue_identity_token("successor"))
    connect(server, "wandb_other", password=None, extra={"identity_token_file": str(other)})
    connect(server, "wandb_key")
    assert [username(), username("wandb_other"), username("wandb_key")] == ["robot", "successor", "dev"]
    log_one(unique, "a", loss=1)
    spec = RunSpec(wandb_run_id=f"{unique}-key", name="k", group="g", job_type="t", project=unique)
    with WandbHook("wandb_key").open_run(spec._replace(entity="local")):
        sdk_clients = [username(), username("wandb_other")]
    assert sdk_clients == ["robot", "successor"]
    log_one(unique, "b", loss=1)
    assert [run.user for run in server.runs(unique)] == ["robot", "dev", "robot"]


def jwt(claims: Any) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (*parts, b"signature"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot be read here: No such file or directory\. Every worker"),
        ("", r"is empty\. Let the identity provider write"),
        (" \n", r"is empty"),
        ("0" * 40, r"holds 40 characters that are no JSON Web Token"),
        ("a.b.c", r"no JSON Web Token"),
        (jwt(["a"]), r"no JSON Web Token"),
        (jwt({"sub": "x"}) + "\nroot:x:0:0", r"no JSON Web Token"),
    ],
)
def test_a_file_without_a_token_is_said_before_anything_is_sent(
    content: str | None, message: str, server: Any, token: Path, unique: str
) -> None:
    token.unlink() if content is None else token.write_text(content)
    before = len(server.requests())
    for use in (username, lambda: log_one(unique, "a")):
        with pytest.raises(WandbConfigurationError, match=message) as caught:
            use()
        assert f"{str(token)!r} of connection 'wandb_default'" in str(caught.value)
        assert not content or content.strip() == "" or content not in str(caught.value)
    assert not WandbHook().test_connection()[0]
    assert len(server.requests()) == before


def test_a_file_that_may_not_be_read_or_is_a_folder_is_said(
    server: Any, token: Path, tmp_path: Path, connect: Callable[..., None]
) -> None:
    connect(server, password=None, extra={"identity_token_file": str(tmp_path)})
    good, sentence = WandbHook().test_connection()
    assert not good
    assert "cannot be read here: Is a directory" in sentence


def test_a_token_that_has_expired_is_said_before_anything_is_sent(server: Any, token: Path) -> None:
    token.write_text(jwt({"exp": 1_700_000_000}))
    before = len(server.requests())
    with pytest.raises(WandbAuthenticationError, match="expired at 2023-11-14T22:13:20"):
        username()
    assert len(server.requests()) == before


def test_a_token_without_an_end_or_with_a_strange_one_is_left_to_w_and_b(server: Any, token: Path) -> None:
    for end in ({}, {"exp": True}, {"exp": "tomorrow"}, {"exp": 1e300}):
        token.write_text(jwt(end))
        with pytest.raises(WandbAuthenticationError, match="not issued by an issuer that this server trusts"):
            username()


def test_w_and_b_s_reason_for_refusing_a_token_is_said_in_one_sentence(
    server: Any, token: Path, unique: str
) -> None:
    token.write_text(server.issue_identity_token("robot", audience="sts.example.com"))
    expected = (
        "W&B refuses the identity token: the identity token is for the audience 'sts.example.com'; expected"
    )
    good, sentence = WandbHook().test_connection()
    assert (good, "\n" in sentence) == (False, False)
    assert expected in sentence
    assert sentence.endswith("issuer, audience and subject are those that the W&B organization expects.")
    with pytest.raises(WandbAuthenticationError, match=r"refuses the identity token: .* for the audience"):
        log_one(unique, "a")
    assert not server.runs(unique)


def test_testing_a_good_token_says_whose_it_is(server: Any, token: Path) -> None:
    good, sentence = WandbHook().test_connection()
    assert good, sentence
    assert sentence.startswith("The identity token belongs to 'robot' with the teams [")


def test_a_server_that_cannot_exchange_tokens_now_is_worth_a_retry(
    server: Any, token: Path, connect: Callable[..., None]
) -> None:
    connect(server, password=None, extra={"timeout": 1, "identity_token_file": str(token)})
    server.faults.fail(429, path="/oidc/token", times=None)
    try:
        with pytest.raises(WandbUnavailableError, match="A retry can help"):
            username()
    finally:
        server.faults.clear()


def test_a_client_whose_access_token_is_revoked_logs_in_anew_after_one_error(
    server: Any, token: Path, unique: str
) -> None:
    log_one(unique, "a")
    hook = WandbHook()
    before = exchanges(server)
    assert len(hook.list_runs("local", unique, {})) == 1
    server.revoke_access_tokens("robot")
    with pytest.raises(WandbAuthenticationError, match="or its identity token one that W&B accepts"):
        hook.list_runs("local", unique, {})
    assert len(hook.list_runs("local", unique, {})) == 1
    assert exchanges(server) == before + 2


class Reader(WandbReader):
    """Reads who it is, as a trigger reads aliases."""

    def _read(self, hook: WandbHook, targets: Any, strict: Any) -> dict[Any, Any]:
        for target in targets:
            hook.list_runs("local", target, {})
        return {target: hook.get_conn().viewer.username for target in targets}

    def _failed(self, error: Any) -> Any:
        return type(error)

    def _forget(self) -> None:
        pass


def test_a_triggerer_that_lives_longer_than_its_tokens_goes_on_with_what_the_file_holds_then(
    server: Any, token: Path, unique: str
) -> None:
    log_one(unique, "a")
    # So short that each request asks for another one.
    token.write_text(server.issue_identity_token("robot", access_seconds=60))
    reader = Reader("wandb_default")
    try:
        assert reader.read([unique]) == {unique: "robot"}
        before = exchanges(server)
        token.write_text(server.issue_identity_token("successor", access_seconds=60))
        # The client knows by what name it has logged in; W&B sees the new one.
        assert reader.read([unique]) == {unique: "robot"}
        assert exchanges(server) > before
        server.distrust_identity_tokens()
        assert reader.read([unique]) == {unique: WandbAuthenticationError}
        token.unlink()
        assert reader.read([unique]) == {unique: WandbConfigurationError}
        token.write_text(server.issue_identity_token("successor"))
        assert reader.read([unique]) == {unique: "successor"}
    finally:
        reader.close()
