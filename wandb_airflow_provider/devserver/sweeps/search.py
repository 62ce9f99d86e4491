"""The search behind sweeps: grid points, suggestions, early termination, asked of a process that is kept."""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

_SCRIPT = Path(__file__).with_name("search_process.py")


@dataclass(frozen=True)
class Inspection:
    """
    What the search says of a configuration.

    :param error: Why it cannot be searched, or None.
    :param warnings: What does not follow the schema, one sentence each.
    :param points: All points of a grid, each as ``{parameter: {"value": ...}}``, in order; None of other methods.
    """

    error: str | None
    warnings: tuple[str, ...]
    points: tuple[dict[str, Any], ...] | None


class SearchProcess:
    """The process that has W&B's ``sweeps`` package; started by the first question, ended by the end of its input."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        # The pipes belong to the parent.
        os.register_at_fork(after_in_child=self._forget)

    @property
    def pid(self) -> int | None:
        """The id of the process, or None if none was started."""
        return None if self._process is None else self._process.pid

    def ask(self, call: str, **arguments: Any) -> Any:
        """
        Return the answer to a question.

        :raises GraphQLError: 400 if the ``sweeps`` package is missing or the search failed.
        """
        question = json.dumps({"call": call, "arguments": arguments}) + "\n"
        with self._lock:
            # The process may have been ended from outside since the last question; an answer depends on nothing else.
            line = self._ask(question) or self._ask(question)
        if not line:
            raise GraphQLError(
                f"the process that searches for a sweep's next run ended twice at the question {call!r}."
            )
        answer = json.loads(line)
        if "failure" in answer:
            raise GraphQLError(f"the search of the sweep failed: {answer['failure']}")
        return answer["result"]

    def _ask(self, question: str) -> str:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(question)
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            self._close()
        return line

    def close(self) -> None:
        """End the process, if it runs."""
        with self._lock:
            self._close()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            if importlib.util.find_spec("sweeps") is None:
                raise GraphQLError(
                    "sweeps on the dev server need the package 'sweeps', which is not installed: install the extra"
                    " 'sweeps', as in pip install 'wandb-airflow-provider[sweeps]'."
                )
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", str(_SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                },
            )
        return self._process

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            # It would end by itself at the end of its input, unless a question keeps it busy.
            process.kill()
            process.communicate()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        if self._process is not None:
            self._process.returncode = 0
            self._process = None


_PROCESS = SearchProcess()
atexit.register(_PROCESS.close)


def inspect(config: dict[str, Any]) -> Inspection:
    """Check a configuration, and list the points of a grid."""
    return _inspect(json.dumps(config))


@lru_cache(maxsize=64)
def _inspect(config: str) -> Inspection:
    found = _PROCESS.ask("inspect", config=json.loads(config))
    points = None if found["points"] is None else tuple(found["points"])
    return Inspection(found["error"], tuple(found["warnings"]), points)


def suggest(config: dict[str, Any], runs: Sequence[dict[str, Any]], seed: str) -> dict[str, Any]:
    """
    Return the parameters of the next run of a random or bayes search, as ``{parameter: {"value": ...}}``.

    :param runs: The sweep's runs, each with ``name``, ``state``, ``config``, ``summaryMetrics`` and
        ``sampledHistory``.
    :param seed: The same configuration, runs and seed give the same parameters.
    """
    found: dict[str, Any] = _PROCESS.ask("suggest", config=config, runs=list(runs), seed=seed)
    return found


def runs_to_stop(config: dict[str, Any], runs: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of the running runs that ``early_terminate`` of the configuration ends."""
    found: list[str] = _PROCESS.ask("stop", config=config, runs=list(runs))
    return found
