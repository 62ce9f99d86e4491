from __future__ import annotations

import logging
import threading

import pytest

from wandb_airflow_provider.exceptions import WandbNotFoundError, WandbUnavailableError
from wandb_airflow_provider.watching.notice import Notice
from wandb_airflow_provider.webhook import inbox as module
from wandb_airflow_provider.webhook.inbox import Inbox, InboxFullError


def notice(collection: str, actor: str | None = None) -> Notice:
    return Notice("org", "wandb-registry-model", collection, "production", "ADD_ARTIFACT_ALIAS", actor)


def test_no_more_notices_wait_than_may_and_one_that_waits_is_joined() -> None:
    started, go_on = threading.Event(), threading.Event()
    handled: list[Notice] = []

    def handle(given: Notice) -> str:
        started.set()
        go_on.wait(30)
        handled.append(given)
        return given.collection

    inbox = Inbox(handle, limit=2)
    try:
        running = inbox.put(notice("a"))
        assert started.wait(30)
        waiting = [inbox.put(notice("b", "ada")), inbox.put(notice("c"))]
        assert [inbox.waits(notice(name)) for name in "abcd"] == [False, True, True, False]
        assert inbox.put(notice("b", "bob")) is waiting[0]
        with pytest.raises(InboxFullError):
            inbox.put(notice("d"))
        go_on.set()
        assert [future.result(30) for future in (running, *waiting)] == ["a", "b", "c"]
        assert [found.actor for found in handled] == [None, "bob", None]
        assert inbox.put(notice("d")).result(30) == "d"
    finally:
        go_on.set()
        inbox.close()


def test_notice_about_what_is_being_looked_into_is_looked_into_again() -> None:
    started, go_on = threading.Event(), threading.Event()
    count = 0

    def handle(given: Notice) -> str:
        nonlocal count
        count += 1
        started.set()
        go_on.wait(30)
        return str(count)

    inbox = Inbox(handle, limit=1)
    try:
        first = inbox.put(notice("a"))
        assert started.wait(30)
        # The alias may have moved since it was read.
        second = inbox.put(notice("a"))
        assert second is not first
        go_on.set()
        assert (first.result(30), second.result(30)) == ("1", "2")
    finally:
        go_on.set()
        inbox.close()


def test_what_fails_is_tried_again_and_given_up_in_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.001)
    attempts: dict[str, int] = {}

    def handle(given: Notice) -> str:
        attempts[given.collection] = attempts.get(given.collection, 0) + 1
        if given.collection == "refused":
            raise WandbNotFoundError("no such registry")
        if given.collection == "away" or attempts[given.collection] < 3:
            raise WandbUnavailableError("W&B is away")
        return "reported"

    inbox = Inbox(handle, limit=10)
    try:
        with caplog.at_level(logging.WARNING, logger=module.log.name):
            found = {name: inbox.put(notice(name)) for name in ("late", "refused", "away")}
            assert {name: future.result(30) for name, future in found.items()} == {
                "late": "reported",
                "refused": "failed",
                "away": "failed",
            }
    finally:
        inbox.close()
    assert attempts == {"late": 3, "refused": 1, "away": 10}
    assert "cannot be followed up: no such registry" in caplog.text
    assert "given up after 10 attempts; a poller will report the change" in caplog.text
    assert "Traceback" not in caplog.text
