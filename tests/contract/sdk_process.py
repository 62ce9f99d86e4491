"""A process of another Python environment that runs flows with the wandb SDK installed there."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

_HERE = Path(__file__).parent


class SdkProcess:
    """
    Context manager around ``python -m flows`` in one environment.

    :ivar version: The version of wandb there.
    :ivar flows: The names of the flows.
    """

    def __init__(self, python: Path, home: Path) -> None:
        self._python = python
        self._home = home
        self.version = ""
        self.flows: list[str] = []

    def __enter__(self) -> SdkProcess:
        self._process = subprocess.Popen(
            [self._python, "-m", "flows"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._home,
            # Nothing of this process: neither its login nor its settings.
            env={"PATH": os.environ["PATH"], "HOME": str(self._home), "PYTHONPATH": str(_HERE)},
        )
        hello = self._answer()
        self.version, self.flows = hello["wandb"], hello["flows"]
        return self

    def run(self, flow: str, call: Callable[..., Any], **ground: str) -> tuple[str | None, list[str]]:
        """
        Run one flow.

        :param call: Calls a method of the dev server for the flow: takes its name and keyword arguments.
        :returns: The traceback of its failure or None, and what it left out because the SDK does not offer it.
        """
        self._tell({"flow": flow, **ground})
        while "call" in (answer := self._answer()):
            try:
                reply = {"value": call(answer["call"], **answer["arguments"])}
            except Exception as error:  # The flow fails with it, and the next one finds the process in order.
                reply = {"raised": repr(error)}
            self._tell(reply)
        return answer["error"], answer["left_out"]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _tell(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self._python} -m flows ended with exit code {self._process.wait(10)}"
        answer: dict[str, Any] = json.loads(line)
        return answer
