"""The process beside an API server that reads aliases from W&B."""

from __future__ import annotations

import json
import logging
import os
import selectors
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbPermanentError, WandbUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wandb_airflow_provider.artifacts import ArtifactRef

__all__ = ["AliasReader"]

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 60.0
_END_SECONDS = 5.0


class AliasReader:
    """
    Reads aliases through one process, which is started when it is first needed and again when it has ended.

    One read at a time; safe to share between threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def warm_up(self) -> None:
        """Start the process and have it load wandb, which takes a second or two."""
        try:
            self._ask({})
        except WandbUnavailableError as error:
            log.warning("The process that reads aliases for webhooks could not be started yet: %s", error)

    def read(self, wandb_conn_id: str, target: Mapping[str, str]) -> ArtifactRef | None:
        """
        Return the version that holds an alias now.

        :param target: The alias, as the process's hook takes it.
        :return: None when nothing holds it.
        :raises WandbPermanentError: W&B refuses the connection, or does not know the registry.
        :raises WandbUnavailableError: W&B could not be read.
        """
        from wandb_airflow_provider.artifacts import ArtifactRef

        answer = self._ask({"connection": _connection(wandb_conn_id), "target": dict(target)})
        if "error" in answer:
            kind = WandbPermanentError if answer.get("permanent") else WandbUnavailableError
            raise kind(answer["error"])
        return ArtifactRef.from_json(answer["ref"]) if answer["ref"] is not None else None

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                answer: dict[str, Any] = json.loads(_line(process, _ANSWER_SECONDS))
            except (OSError, ValueError, TimeoutError) as error:
                # Its answers could belong to another question from now on.
                self._end()
                raise WandbUnavailableError(
                    f"The process that reads W&B for webhooks did not answer: {type(error).__name__}: {error}"
                ) from error
            return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "wandb_airflow_provider.webhook.reader_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _line(process: subprocess.Popen[bytes], timeout: float) -> bytes:
    """Return the next line of a process's output."""
    assert process.stdout is not None
    deadline = time.monotonic() + timeout
    found = b""
    # Not select(), which takes no descriptor above 1023, as a busy API server hands them out.
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not found.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"nothing within {timeout:.0f} s")
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                raise OSError(f"it has ended with {process.wait()}")
            found += chunk
    return found


def _connection(conn_id: str) -> dict[str, Any]:
    """Return an Airflow connection as the process takes it. It goes through a pipe, never into arguments."""
    from airflow.models.connection import Connection
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    try:
        conn = Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException as error:
        raise WandbPermanentError(
            f"There is no Airflow connection {conn_id!r} that the API server could read the alias through."
        ) from error
    fields = ("conn_id", "conn_type", "host", "schema", "login", "password", "port", "extra")
    return {name: getattr(conn, name) for name in fields}
