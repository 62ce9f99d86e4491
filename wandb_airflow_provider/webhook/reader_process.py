"""
Read aliases from W&B for an API server, which must not load wandb itself: a line of JSON in, a line of JSON out.

Credentials arrive on standard input only. Ends with its input, so with the process that started it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import IO, Any

__all__ = ["main"]


def main() -> None:
    """Answer every line until the input ends."""
    # What wandb might print must not end up among the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer every line of ``requests`` with one of ``answers``."""
    for line in requests:
        answers.write(json.dumps(_answer(json.loads(line))) + "\n")
        answers.flush()


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    from wandb_airflow_provider.exceptions import WandbError, WandbPermanentError

    try:
        if "connection" not in request:
            # Asked once at the start, so that the first webhook does not wait for the imports.
            from wandb_airflow_provider import sdk
            from wandb_airflow_provider.hooks.wandb import WandbHook  # noqa: F401

            sdk.start()
            return {"ready": True}
        return {"ref": _read(request)}
    except WandbError as error:
        return {"error": str(error), "permanent": isinstance(error, WandbPermanentError)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "permanent": False}


def _read(request: dict[str, Any]) -> dict[str, Any] | None:
    from airflow.sdk import Connection

    from wandb_airflow_provider.connection import WandbConnection
    from wandb_airflow_provider.hooks.wandb import WandbHook

    hook = WandbHook(request["connection"]["conn_id"])
    # This process has no database of Airflow to ask: the connection came with the request.
    vars(hook)["connection"] = WandbConnection.from_airflow(Connection(**request["connection"]))
    target = request["target"]
    ref = hook.get_alias(target["registry"], target["collection"], target["alias"])
    return ref.to_json() if ref is not None else None


if __name__ == "__main__":
    main()
