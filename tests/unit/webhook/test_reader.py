"""The process that reads aliases for an API server, and what the API server itself does not load."""

from __future__ import annotations

import fcntl
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import psutil
import pytest

from wandb_airflow_provider.exceptions import WandbPermanentError, WandbUnavailableError
from wandb_airflow_provider.plugin import WandbPlugin
from wandb_airflow_provider.provider_info import get_provider_info
from wandb_airflow_provider.settings import OPTIONS, SECTION
from wandb_airflow_provider.watching.notice import webhook_payload
from wandb_airflow_provider.webhook import reader as reader_module
from wandb_airflow_provider.webhook.reader import AliasReader

DOCS = Path(__file__).resolve().parents[3] / "docs" / "webhooks.md"


@pytest.fixture
def reader() -> Iterator[AliasReader]:
    running = AliasReader()
    yield running
    running.close()


def processes() -> list[psutil.Process]:
    """Return the reader processes of this one."""
    return [
        child
        for child in psutil.Process().children()
        if "wandb_airflow_provider.webhook.reader_process" in child.cmdline()
    ]


@pytest.mark.slow
def test_reader_tells_the_holder_and_is_started_again_when_its_process_has_ended(
    reader: AliasReader,
    hook: Any,
    log_run: Callable[..., Any],
    unique: str,
    connect: Callable[..., None],
    server: Any,
) -> None:
    target = {"registry": "model", "collection": unique, "alias": "production"}
    assert reader.read("wandb_default", target) is None
    _, logged = log_run({"loss": 1.0}, content=unique)
    hook.link_to_registry(logged, "model", unique, ["production"])
    found = reader.read("wandb_default", target)
    assert found is not None
    assert found == hook.get_alias("model", unique, "production")

    (process,) = processes()
    environment = "".join(f"{name}={value} " for name, value in process.environ().items())
    assert server.api_key not in " ".join(process.cmdline())
    assert f"WANDB_API_KEY={server.api_key}" not in environment
    process.kill()
    process.wait(10)
    assert reader.read("wandb_default", target) == found

    connect(server, "wandb_wrong", password="0" * 40)
    with pytest.raises(WandbPermanentError, match="wandb_wrong") as refused:
        reader.read("wandb_wrong", target)
    assert "0" * 40 not in str(refused.value)
    with pytest.raises(WandbPermanentError, match="no Airflow connection 'wandb_missing'"):
        reader.read("wandb_missing", target)
    reader.close()
    assert processes() == []


def test_reader_that_cannot_be_started_is_worth_another_attempt(
    reader: AliasReader, connect: Callable[..., None], server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(server)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WandbUnavailableError, match="did not answer"):
        reader.read("wandb_default", {"registry": "model", "collection": "c", "alias": "production"})
    reader.warm_up()


def test_answer_is_read_from_a_descriptor_of_any_number() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    try:
        output, answers = os.pipe()
        # As in a server that has many connections open; select() takes no number above 1023.
        with open(fcntl.fcntl(output, fcntl.F_DUPFD, 1100), "rb", buffering=0) as stdout:
            process = create_autospec(subprocess.Popen, instance=True, stdout=stdout)
            os.write(answers, b'{"ready": true}\n')
            assert reader_module._line(process, 30.0) == b'{"ready": true}\n'
            with pytest.raises(TimeoutError):
                reader_module._line(process, 0.01)
    finally:
        os.close(output)
        os.close(answers)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(("conn_id", "mounted"), [("", 0), ("wandb_webhook", 1)])
def test_plugin_mounts_the_receiver_only_when_a_connection_is_named(
    conn_id: str, mounted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WandbPlugin, "fastapi_apps", WandbPlugin.fastapi_apps)
    monkeypatch.setattr(WandbPlugin, "listeners", WandbPlugin.listeners)
    monkeypatch.setenv("AIRFLOW__WANDB__WEBHOOK_CONN_ID", conn_id)
    WandbPlugin.on_load()
    found = [entry for entry in WandbPlugin.fastapi_apps if entry.get("url_prefix") == "/wandb"]
    assert len(found) == mounted
    for entry in found:
        assert {route.path for route in entry.get("app").routes} == {"/webhook"}
        assert entry.get("app") is entry.get("app")


@pytest.mark.slow
def test_api_server_loads_no_wandb_and_other_processes_no_web_framework() -> None:
    code = (
        "import sys; from wandb_airflow_provider.webhook.mount import WebhookMount; mount = WebhookMount();"
        "assert 'fastapi' not in sys.modules; mount.get('app'); assert 'fastapi' in sys.modules;"
        "assert 'wandb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})


def test_options_and_payload_are_documented_as_they_are() -> None:
    text = DOCS.read_text("utf-8")
    options = {name: option for name, option in OPTIONS.items() if name.startswith("webhook_")}
    assert len(options) == 3
    for name, option in options.items():
        (given,) = re.findall(rf"^\| `{name}` \| (.*?) \|", text, re.MULTILINE)
        assert given == (f"`{option['default']}`" if option["default"] else "empty: off")
    assert get_provider_info()["config"][SECTION]["options"] == OPTIONS
    (quoted,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert json.loads(quoted) == webhook_payload()
