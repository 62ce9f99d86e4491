"""
Run flows by name: one JSON request per line of stdin, one JSON answer per line of stdout, until stdin ends.

Before that answer, a flow may ask for calls of the dev server, one per line of stdout, which are replied to on stdin.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import flows
import wandb

_OUTPUT = sys.stdout
sys.stdout = sys.stderr  # The SDK prints; stdout carries answers alone.


def answer(value: dict[str, Any]) -> None:
    _OUTPUT.write(json.dumps(value) + "\n")
    _OUTPUT.flush()


def ask(call: str, **arguments: Any) -> Any:
    """Let the process at the other end call the dev server. Raises RuntimeError with what it raised."""
    answer({"call": call, "arguments": arguments})
    reply = json.loads(sys.stdin.readline())
    if "raised" in reply:
        raise RuntimeError(f"{call}({arguments}): {reply['raised']}")
    return reply["value"]


def main() -> None:
    for module in pkgutil.iter_modules(flows.__path__):
        if module.name != "__main__":
            importlib.import_module(f"flows.{module.name}")
    wandb.setup(wandb.Settings(silent=True, console="off"))
    answer({"wandb": wandb.__version__, "flows": sorted(flows.FLOWS)})
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            os.environ["WANDB_CACHE_DIR"] = f"{folder}/cache"
            os.environ["WANDB_ARTIFACT_DIR"] = f"{folder}/artifacts"
            ground = flows.Ground(
                url=request["url"],
                api_key=request["api_key"],
                entity=request["entity"],
                project=request["project"],
                folder=Path(folder),
                ask=ask,
            )
            error = None
            try:
                flows.FLOWS[request["flow"]](ground)
            except BaseException:
                error = traceback.format_exc()
            answer({"flow": request["flow"], "error": error, "left_out": ground.left_out})
    wandb.teardown()


main()
