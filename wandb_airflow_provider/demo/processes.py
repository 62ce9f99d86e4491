"""Child processes that end with the process that started them, whatever ends it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from wandb_airflow_provider.demo import warden
from wandb_airflow_provider.demo.errors import DemoError, ProcessExitedError

__all__ = ["ManagedProcess", "ProcessGroup", "inherited_environment", "run_to_end"]

_GRACE = 2.0
_STOP_MARGIN = 15.0


class ManagedProcess:
    """
    A running command in a session of its own, with its output in a file.

    Stopping it ends all processes that descend from it. They also end when this process does, be it by
    SIGKILL: see :mod:`wandb_airflow_provider.demo.warden`.

    :param name: What messages call it.
    :param env: The complete environment.
    :param log_path: Receives standard output and standard error; appended to.
    :param grace: Seconds between the polite request to end and the kill.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log_path: Path,
        cwd: Path,
        grace: float = _GRACE,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._grace = grace
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", warden.__file__, str(grace), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process that guards the command and is its parent."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The command's exit code, or None while it runs."""
        return self._process.poll()

    def check(self) -> None:
        """:raises ProcessExitedError: it has ended."""
        if (code := self.exit_code) is not None:
            raise ProcessExitedError(
                f"{self.name} ended unexpectedly with exit code {code}. The end of its log, {self.log_path}:\n"
                f"{self.log_tail()}"
            )

    def wait(self, timeout: float) -> int:
        """
        Wait until the command has ended by itself.

        :param timeout: Seconds.
        :raises subprocess.TimeoutExpired: it is still running.
        """
        code = self._process.wait(timeout)
        self.request_stop()
        return code

    def request_stop(self) -> None:
        """Ask it to end, without waiting."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def stop(self) -> None:
        """End it and all its descendants; returns when they are gone. Does nothing the second time."""
        self.request_stop()
        try:
            self._process.wait(self._grace + _STOP_MARGIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of its output, indented."""
        text = self.log_path.read_text(encoding="utf-8", errors="replace")
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


class ProcessGroup:
    """Several managed processes that end together; a context manager."""

    def __init__(self) -> None:
        self._processes: list[ManagedProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __iter__(self) -> Iterator[ManagedProcess]:
        return iter(self._processes)

    def add(self, process: ManagedProcess) -> ManagedProcess:
        """Take charge of a process."""
        self._processes.append(process)
        return process

    def check(self) -> None:
        """:raises ProcessExitedError: one of them has ended."""
        for process in self._processes:
            process.check()

    def stop(self) -> None:
        """End them all at once; returns when they are gone."""
        for process in self._processes:
            process.request_stop()
        while self._processes:
            self._processes[-1].stop()
            self._processes.pop()


def run_to_end(
    name: str,
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    log_path: Path,
    cwd: Path,
    timeout: float,
) -> float:
    """
    Run a command that is expected to end by itself.

    :param timeout: Seconds.
    :return: How long it took, in seconds.
    :raises DemoError: it failed, or took too long.
    """
    started = time.monotonic()
    process = ManagedProcess(name, command, env=env, log_path=log_path, cwd=cwd, grace=1.0)
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise DemoError(
            f"{name} did not end within {timeout:.0f} s. The end of its log, {log_path}:\n{process.log_tail()}"
        ) from None
    finally:
        process.stop()
    if code:
        raise DemoError(
            f"{name} failed with exit code {code}. The end of its log, {log_path}:\n{process.log_tail()}"
        )
    return time.monotonic() - started


def inherited_environment() -> dict[str, str]:
    """
    Return this process's environment without what would steer Airflow or W&B, or slow Python down.

    A developer's own ``AIRFLOW__*`` or ``WANDB_*`` settings must not reach processes that have to behave
    alike everywhere. ``PYTHONDONTWRITEBYTECODE`` would have each of them compile all of Airflow again.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "WANDB_", "_AIRFLOW", "PYTEST_", "PYTHONDONTWRITEBYTECODE"))
    }
