"""Reports in W&B, written by a process of its own that alone gets the credentials."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider import sdk
from wandb_airflow_provider.credentials import account_environment
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbUnavailableError
from wandb_airflow_provider.sdk_errors import translated

if TYPE_CHECKING:
    from wandb_airflow_provider.hooks.wandb import WandbHook

__all__ = ["ReportProcess", "find_report", "has_workspaces", "require_workspaces"]

_PATIENCE = 4.0
_START_SECONDS = 60.0


class _ReportedError(Exception):
    """What the process says went wrong."""

    def __init__(self, text: str, status: int | None) -> None:
        super().__init__(text)
        self.response = SimpleNamespace(status_code=status)


class ReportProcess:
    """Saves a report; see :mod:`wandb_airflow_provider.reports.save` for why that takes a process."""

    def __init__(self, hook: WandbHook) -> None:
        self._hook = hook
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def save(self, order: Mapping[str, Any]) -> tuple[str, str]:
        """
        Save a report, and return its id and its address.

        :param order: ``id`` of the report to replace or None, ``entity``, ``project``, ``title``, ``description``, and
            ``blocks`` as :func:`~wandb_airflow_provider.reports.blocks.to_blocks` makes them.
        :raises WandbUnavailableError: W&B could not be reached, or took too long. Retried.
        """
        connection = self._hook.connection
        action = f"write the report {order['title']!r} in {order['entity']}/{order['project']}"
        timeout = _START_SECONDS + _PATIENCE * connection.timeout
        with tempfile.TemporaryDirectory(prefix="wandb-airflow-report-") as folder:
            environment = account_environment(Path(folder), connection, sdk.base_url(connection))
            with self._lock:
                if self._stopped:
                    raise WandbUnavailableError(f"Could not {action}: the task was stopped.")
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "wandb_airflow_provider.reports.save"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    cwd=folder,
                    env=environment | {"WANDB_SILENT": "true"},
                    start_new_session=True,
                )
            try:
                output, said = self._process.communicate(json.dumps(dict(order)), timeout=timeout)
            except subprocess.TimeoutExpired as error:
                raise WandbUnavailableError(
                    f"Could not {action} through {connection}: it took more than {timeout:.0f} s. A retry can help."
                ) from error
            finally:
                self._end()
        return self._answer(output, said, action)

    def stop(self) -> None:
        """End the process, from any thread."""
        with self._lock:
            self._stopped = True
            self._end()

    def _answer(self, output: str, said: str, action: str) -> tuple[str, str]:
        connection = self._hook.connection
        try:
            answer = json.loads(output.strip().splitlines()[-1])
        except (IndexError, ValueError) as error:
            last = self._hook.privacy.text(" ".join(said.strip().splitlines()[-3:]))
            status = self._process.returncode if self._process is not None else None
            raise WandbUnavailableError(
                f"Could not {action} through {connection}: its process ended with status {status} and without an "
                f"answer. {last}"
            ) from error
        if "error" not in answer:
            return answer["id"], answer["url"]
        found = answer["error"]
        text = self._hook.privacy.text(found["text"])
        cause: Exception = _ReportedError(text, found["status"])
        if found["value_error"] and not found["status"]:
            cause = ValueError(text)
        raise translated(
            cause,
            action,
            connection,
            wrong_key=found["kind"] == "AuthenticationError" and not found["status"],
        )

    def _end(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            # The group: wandb's helper process belongs to it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def has_workspaces() -> bool:
    """Return whether wandb-workspaces, which reports in W&B need, is installed; imports nothing of it."""
    return find_spec("wandb_workspaces") is not None


def require_workspaces(owner: str) -> None:
    """
    Refuse to go on without it.

    :raises WandbConfigurationError: it is not installed.
    """
    if not has_workspaces():
        raise WandbConfigurationError(
            f"{owner}: reports in W&B need the package wandb-workspaces. Install the extra 'reports' of this package, "
            "or pass report='markdown'."
        )


def find_report(hook: WandbHook, entity: str, project: str, mark: str) -> str | None:
    """Return the id of the newest report of a project whose description holds a mark. One request for 50 reports."""
    with hook.translate_errors(f"list the reports of {entity}/{project}"):
        api = hook.get_conn()
        api.flush()  # type: ignore[no-untyped-call]
        for report in api.reports(f"{entity}/{project}"):
            if mark in (report.description or ""):
                return str(report.id)
    return None
