"""wandb's helper process, which every run and client of this process talks to, and how it is started and ended."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from wandb_airflow_provider.quick_import import quick_import

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.connection import WandbConnection

__all__ = ["clients", "has_helper", "kill_helpers", "own_url", "quiet", "release", "revive", "start"]

log = logging.getLogger(__name__)

_RELEASE_TIMEOUT = 30.0
_KILL_TIMEOUT = 5.0

# They ask through the helper, and are forgotten with it. By process, since a fork has the memory but no helper.
clients: dict[tuple[int, WandbConnection], wandb.Api] = {}
_starting: list[threading.Thread] = []
# By process, where wandb goes by itself. After a login it goes where that went, with the key of another connection too.
_own_url: dict[int, str] = {}


def start() -> None:
    """
    Import wandb and begin to start its helper process, which goes on while the caller does something else.

    Whoever calls it opens a run afterwards, or calls :func:`release`. What goes wrong is raised by the former.
    """
    with quick_import():
        import wandb

    def setup() -> None:
        with suppress(Exception):
            _silence()

    thread = threading.Thread(target=setup, name="wandb-airflow-start", daemon=True)
    _starting.append(thread)
    thread.start()
    with quick_import():
        # What wandb itself imports while it opens a run, now that there is nothing else to do.
        import wandb.apis.public  # noqa: F401


def quiet() -> None:
    """Silence wandb's own messages in this process: on stderr, each becomes an error line of the task's log."""
    while _starting:
        _starting[-1].join()
        _starting.pop()
    _silence()


def own_url() -> str:
    """Return the API URL that wandb goes to by itself, without a login of this package."""
    known = os.environ.get("WANDB_BASE_URL") or _own_url.get(os.getpid())
    if known:
        return known
    import wandb

    return str(wandb.Settings().base_url)


def release(exit_code: int = 0) -> None:
    """
    End wandb's helper process and forget its clients, within half a minute.

    Left alive, it inherits the task's supervisor socket and keeps the worker slot blocked for up to a minute
    after the task is done. While W&B cannot be reached it may never end by itself: then it is killed.

    :param exit_code: Ends runs that are still open, such as one whose opening was interrupted.
    """
    clients.clear()
    _own_url.clear()
    if "wandb" not in sys.modules:
        return
    while _starting:
        _starting.pop().join(_RELEASE_TIMEOUT)
    helpers = [child for child in psutil.Process().children() if _is_helper(child)]
    failures: list[BaseException] = []

    def teardown() -> None:
        try:
            sys.modules["wandb"].teardown(exit_code=exit_code)
        except BaseException as error:
            # SystemExit too: wandb raises it when its helper ends badly, which must not end the task.
            failures.append(error)

    thread = threading.Thread(target=teardown, name="wandb-airflow-release", daemon=True)
    thread.start()
    thread.join(_RELEASE_TIMEOUT)
    if not thread.is_alive():
        if failures:
            log.warning("wandb could not be ended cleanly: %s", failures[0])
        return
    log.warning("wandb did not end within %.0f s and is killed; unsent data stays on disk.", _RELEASE_TIMEOUT)
    kill_helpers(helpers)
    thread.join(_KILL_TIMEOUT)


def revive() -> None:
    """Forget a helper process of wandb that has died, so that the next call starts another one."""
    if "wandb" not in sys.modules:
        return
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if _is_helper(child) and child.status() != psutil.STATUS_ZOMBIE:
                return
    release()


def kill_helpers(helpers: Sequence[psutil.Process] | None = None) -> None:
    """Kill wandb's helper processes, by default all of this process; what they have written stays on disk."""
    for helper in psutil.Process().children() if helpers is None else helpers:
        if helpers is not None or _is_helper(helper):
            with suppress(psutil.NoSuchProcess):
                helper.kill()


def has_helper() -> bool:
    """Say whether a helper process of wandb is at work for this process."""
    return any(_is_helper(child) for child in psutil.Process().children())


def _silence() -> None:
    import wandb

    own = wandb.setup(wandb.Settings(silent=True, console="off")).settings
    _own_url.setdefault(os.getpid(), str(own.base_url))


def _is_helper(process: psutil.Process) -> bool:
    try:
        return bool(process.name() == "wandb-core")
    except psutil.Error:
        return False
