"""The hook: what it reads, and one clear error for each way in which it cannot."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from wandb_airflow_provider import sdk
from wandb_airflow_provider.exceptions import (
    WandbArtifactNotFoundError,
    WandbAuthenticationError,
    WandbConfigurationError,
    WandbInvalidNameError,
    WandbNotFoundError,
    WandbPermanentError,
    WandbPermissionError,
    WandbRunDeletedError,
    WandbUnavailableError,
)
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.sdk import RunSpec

WRONG_KEY = "0" * 40


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    sdk.release()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses: bound, so that nobody else takes it, and not listening."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def spec(**fields: Any) -> RunSpec:
    return RunSpec(**{"wandb_run_id": "r1", "name": "r1", "group": "g", "job_type": "t", **fields})


def written(server: Any) -> list[str]:
    """What the server has accepted besides reads."""
    return [
        request.operation or f"{request.method} {request.path}"
        for request in server.requests()
        if request.status < 400
        if request.operation.startswith(("Upsert", "Create", "Link")) or request.path != "/graphql"
    ]


def opening() -> None:
    with WandbHook().open_run(spec(entity="local", project="p")):
        pass


REACH = {"open": opening, "read": lambda: WandbHook().get_artifact("local/p/encoder:latest")}


def test_constructing_a_hook_reads_nothing(server: Any) -> None:
    server.backend.requests.clear()
    WandbHook("there_is_no_such_connection", entity="e", project="p")
    assert server.requests() == []


def test_a_missing_connection_is_named_with_the_way_to_create_it() -> None:
    with pytest.raises(WandbConfigurationError, match=r"no Airflow connection 'acme'.*AIRFLOW_CONN_ACME"):
        _ = WandbHook("acme").connection


def test_no_project_anywhere_is_said_before_anything_is_sent(
    server: Any, connect: Callable[..., None]
) -> None:
    connect(server)
    server.backend.requests.clear()
    with pytest.raises(WandbConfigurationError, match="No W&B project: pass project="):
        _ = WandbHook().project
    assert server.requests() == []


def test_arguments_win_over_the_connection_and_the_key_s_default_comes_last(
    server: Any, connect: Callable[..., None]
) -> None:
    connect(server, extra={"entity": "acme", "project": "churn"})
    assert (WandbHook().entity, WandbHook().project) == ("acme", "churn")
    assert WandbHook(entity="other", project="another").entity == "other"
    connect(server, extra={"entity": ""})
    assert WandbHook().entity == "local"


@pytest.mark.parametrize("action", ["open", "read"])
def test_a_wrong_key_is_said_at_once_and_nothing_is_written(
    server: Any, connect: Callable[..., None], action: str
) -> None:
    connect(server, password=WRONG_KEY)
    server.backend.requests.clear()
    began = time.monotonic()
    with pytest.raises(WandbAuthenticationError, match=r"'wandb_default'.*valid W&B API key") as caught:
        REACH[action]()
    assert time.monotonic() - began < 15, "the SDK waits 20 s for a host that does not answer"
    assert WRONG_KEY not in str(caught.value)
    assert written(server) == []


@pytest.mark.slow
@pytest.mark.parametrize("action", ["open", "read"])
def test_an_unreachable_host_is_an_error_that_a_retry_can_help(
    server: Any, connect: Callable[..., None], closed_port: int, action: str
) -> None:
    connect(server, host=f"http://127.0.0.1:{closed_port}", extra={"timeout": 1})
    began = time.monotonic()
    with pytest.raises(WandbUnavailableError, match=r"'wandb_default'.*A retry can help") as caught:
        REACH[action]()
    assert not isinstance(caught.value, WandbPermanentError)
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_a_connection_without_a_host_does_not_go_where_another_one_has_logged_in(
    server: Any,
    hook: WandbHook,
    connect: Callable[..., None],
    unique: str,
    closed_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed_port}")
    connect(server, "wandb_other", host="", password=WRONG_KEY, extra={"timeout": 1})
    server.backend.requests.clear()
    with hook.open_run(spec(entity="local", project=unique)):
        with (
            pytest.raises(WandbUnavailableError),
            WandbHook("wandb_other").open_run(spec(wandb_run_id="r2", entity="local", project=unique)),
        ):
            pass
        with pytest.raises(WandbUnavailableError):
            WandbHook("wandb_other").get_conn()
    assert not [request for request in server.requests() if request.status == 401]


def test_an_unknown_project_is_refused_where_creation_is_not_allowed(
    server: Any, connect: Callable[..., None], unique: str
) -> None:
    connect(server, extra={"allow_project_creation": False})
    server.backend.requests.clear()
    with pytest.raises(
        WandbNotFoundError, match=rf"local/{unique} does not exist.*allow_project_creation=false"
    ):
        WandbHook().open_run(spec(entity="local", project=unique))
    assert written(server) == []


def test_a_known_project_is_used_where_creation_is_not_allowed(
    server: Any, connect: Callable[..., None], hook: WandbHook, log_run: Callable[..., Any], unique: str
) -> None:
    log_run({"a": 1})
    connect(server, extra={"allow_project_creation": False, "project": unique})
    with WandbHook().open_run(spec(entity="local", project=unique)) as session:
        assert session.ref.project == unique


def test_a_read_only_key_may_not_write_and_is_told_so(
    server: Any, connect: Callable[..., None], unique: str
) -> None:
    key = server.add_account("reader", role="read-only", teams=["local"])
    connect(server, password=key)
    with (
        pytest.raises(WandbPermissionError, match="may not do this"),
        WandbHook().open_run(spec(entity="local", project=unique)),
    ):
        pass


def test_a_run_is_read_as_it_is_now(hook: WandbHook, log_run: Callable[..., Any]) -> None:
    ref, _ = log_run({"loss": 0.5})
    record = hook.get_run(ref)
    assert (record.ref.path, record.state, record.summary["loss"]) == (ref.path, "finished", 0.5)
    assert [found.ref.path for found in hook.list_runs(ref.entity, ref.project, {})] == [ref.path]


def test_a_run_that_does_not_exist_is_named(hook: WandbHook, log_run: Callable[..., Any]) -> None:
    ref, _ = log_run({"loss": 0.5})
    with pytest.raises(WandbNotFoundError, match=f"{ref.project}/absent"):
        hook.get_run(RunRef(ref.entity, ref.project, "absent"))


def test_the_id_of_a_deleted_run_is_explained_with_the_way_out(
    hook: WandbHook, log_run: Callable[..., Any]
) -> None:
    ref, _ = log_run({"loss": 0.5})
    hook.get_conn().run(ref.path).delete()
    with (
        pytest.raises(
            WandbRunDeletedError, match=r"never allows the id of a deleted run again. With wandb_ret"
        ),
        hook.open_run(spec(wandb_run_id=ref.wandb_run_id, entity=ref.entity, project=ref.project)),
    ):
        pass


def test_an_artifact_that_does_not_exist_is_named(hook: WandbHook, log_run: Callable[..., Any]) -> None:
    _, ref = log_run({"loss": 0.5}, "weights")
    assert hook.get_artifact(ref.path).digest == ref.digest
    for absent in (
        f"{ref.entity}/{ref.project}/encoder:champion",
        f"{ref.entity}/{ref.project}/decoder:latest",
    ):
        with pytest.raises(WandbArtifactNotFoundError, match=absent):
            hook.get_artifact(absent)


def test_metadata_is_merged(hook: WandbHook, log_run: Callable[..., Any]) -> None:
    _, ref = log_run({"loss": 0.5}, "weights")
    hook.update_artifact_metadata(ref, {"a": 1, "b": 2})
    hook.update_artifact_metadata(ref, {"b": 3})
    assert hook.artifact_metadata(ref) == {"a": 1, "b": 3}


def test_an_alias_that_does_not_exist_is_none_and_one_that_does_is_its_version(
    hook: WandbHook, log_run: Callable[..., Any], unique: str
) -> None:
    run, ref = log_run({"loss": 0.5}, "weights")
    assert hook.get_alias("model", unique, "production") is None
    linked = hook.link_to_registry(ref, "model", unique, ["production"])
    held = hook.get_alias("model", unique, "production")
    assert held == linked
    assert (held.digest, held.source, held.source_run) == (ref.digest, ref.path, run.path)
    assert held.project == "wandb-registry-model"
    assert hook.get_alias("model", unique, "staging") is None


def test_an_alias_of_a_server_that_is_down_is_an_error_and_not_absence(
    server: Any, connect: Callable[..., None], closed_port: int
) -> None:
    connect(server, host=f"http://127.0.0.1:{closed_port}", extra={"timeout": 1})
    with pytest.raises(WandbUnavailableError):
        WandbHook().get_alias("model", "encoder", "production")


@pytest.mark.parametrize(
    "names",
    [("bad registry", "encoder", "production"), ("model", "bad/name", "a"), ("model", "encoder", "v1")],
)
def test_a_registry_name_that_w_and_b_refuses_is_refused_before_anything_is_sent(
    server: Any, hook: WandbHook, names: tuple[str, str, str]
) -> None:
    server.backend.requests.clear()
    with pytest.raises(WandbInvalidNameError):
        hook.get_alias(*names)
    assert server.requests() == []


def test_testing_a_good_connection_says_whose_key_it_is(hook: WandbHook) -> None:
    good, sentence = hook.test_connection()
    assert good
    assert sentence.startswith("The key belongs to 'dev' with the teams [")
    assert sentence.endswith("runs go to 'local'.")


def test_testing_without_an_entity_says_where_runs_go(server: Any, connect: Callable[..., None]) -> None:
    connect(server, extra={"entity": ""})
    assert WandbHook().test_connection()[1].endswith("runs go to the key's default entity 'local'.")


def test_testing_a_key_of_another_team_says_so(server: Any, connect: Callable[..., None]) -> None:
    key = server.add_account("guest", teams=["guests"])
    connect(server, password=key)
    good, sentence = WandbHook().test_connection()
    assert not good
    assert sentence.startswith("The key belongs to 'guest', who is not a member of 'local'; only of [")
    assert "guests" in sentence


def test_testing_a_wrong_key_says_so(server: Any, connect: Callable[..., None]) -> None:
    connect(server, password=WRONG_KEY)
    good, sentence = WandbHook().test_connection()
    assert not good
    assert "valid W&B API key" in sentence
    assert WRONG_KEY not in sentence


def test_testing_an_unreachable_host_says_so(
    server: Any, connect: Callable[..., None], closed_port: int
) -> None:
    connect(server, host=f"http://127.0.0.1:{closed_port}", extra={"timeout": 1})
    good, sentence = WandbHook().test_connection()
    assert not good
    assert f"127.0.0.1:{closed_port}" in sentence
    assert "A retry can help" in sentence


def test_testing_a_connection_that_cannot_be_understood_says_why(
    server: Any, connect: Callable[..., None]
) -> None:
    connect(server, extra={"entiti": "acme"})
    good, sentence = WandbHook().test_connection()
    assert not good
    assert sentence.startswith("Connection 'wandb_default' has unknown extra fields ['entiti']; known are [")


def test_a_key_reaches_no_log(
    server: Any, hook: WandbHook, unique: str, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    with hook.open_run(spec(entity="local", project=unique)) as session:
        session.run.log({"a": 1})
    hook.test_connection()
    captured = capfd.readouterr()
    assert server.api_key not in caplog.text + captured.out + captured.err


def test_a_helper_process_that_does_not_end_is_killed(
    hook: WandbHook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sdk.process, "_RELEASE_TIMEOUT", 1.0)
    assert hook.entity == "local"
    hook.get_conn()
    (helper,) = [child for child in psutil.Process().children() if child.name() == "wandb-core"]
    helper.suspend()

    sdk.release()

    assert not helper.is_running() or helper.status() == psutil.STATUS_ZOMBIE
    assert "did not end within 1 s and is killed" in caplog.text
