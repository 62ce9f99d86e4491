"""The file stream: history, events, console lines, summary, heartbeats and the end of a run."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext
from wandb_airflow_provider.devserver.history import EVENTS, HISTORY, OUTPUT, portable, write_lines
from wandb_airflow_provider.devserver.run_state import state_after_exit
from wandb_airflow_provider.devserver.runs_table import get_run, is_deleted, update_run
from wandb_airflow_provider.devserver.store import dumps

_STREAMS = {"wandb-history.jsonl": HISTORY, "wandb-events.jsonl": EVENTS, "output.log": OUTPUT}
_SUMMARY = "wandb-summary.json"


def receive(
    ctx: RequestContext, entity: str, project: str, name: str, body: Mapping[str, Any]
) -> dict[str, Any]:
    """
    Store one message of a run and return the answer, which may ask the run to stop.

    Any message is a heartbeat. Lines carry their offset, so a message that arrives twice changes nothing.

    :raises GraphQLError: 403 if the account may not write there; 404 if there is no such run.
    """
    ctx.user.require_write(entity)
    with ctx.store.write() as conn:
        run = get_run(conn, entity, project, name)
        if run is None:
            reason = "was deleted" if is_deleted(conn, entity, project, name) else "does not exist"
            raise GraphQLError(
                f"run '{entity}/{project}/{name}' {reason}: nothing can be streamed to it.", 404
            )
        changes: dict[str, Any] = {"heartbeat_at": stamp(ctx.now())}
        for file, chunk in (body.get("files") or {}).items():
            changes |= _store(conn, run["pk"], file, chunk)
        changes |= _state_changes(run["state"], body, changes["heartbeat_at"])
        update_run(conn, run["pk"], changes)
    return {"stopped": True} if run["stop_requested"] else {"exitcode": None, "limits": {}}


def _store(conn: sqlite3.Connection, pk: int, file: str, chunk: Mapping[str, Any]) -> dict[str, Any]:
    content = chunk.get("content") or []
    if file == _SUMMARY:
        return {"summary": dumps(portable(json.loads(content[-1])))} if content else {}
    stream = _STREAMS.get(file)
    if stream is None:
        raise GraphQLError(
            f"the file stream does not know the file {file!r}; it knows {[*_STREAMS, _SUMMARY]}."
        )
    write_lines(conn, pk, stream, int(chunk.get("offset") or 0), content)
    return {}


def _state_changes(stored: str, body: Mapping[str, Any], now: str) -> dict[str, Any]:
    if body.get("complete"):
        exit_code = int(body.get("exitcode") or 0)
        state = state_after_exit("preempting" if body.get("preempting") else stored, exit_code)
        return {"state": state, "exit_code": exit_code, "finished_at": now}
    if body.get("preempting"):
        return {"state": "preempting"}
    # Only "uploaded" leaves the state alone: files may still arrive after the end.
    if stored in ("running", "preempting") or not body.get("files"):
        return {}
    return {"state": "running", "exit_code": None, "finished_at": None}
