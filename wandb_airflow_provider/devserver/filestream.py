"""The file stream: history, events, console lines, summary, heartbeats and the end of a run."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext
from wandb_airflow_provider.devserver.history import EVENTS, HISTORY, OUTPUT, write_lines
from wandb_airflow_provider.devserver.json_text import encodable, parse_object, stored_text
from wandb_airflow_provider.devserver.run_state import state_after_exit
from wandb_airflow_provider.devserver.runs_table import get_run, is_deleted, update_run

_STREAMS = {"wandb-history.jsonl": HISTORY, "wandb-events.jsonl": EVENTS, "output.log": OUTPUT}
_SUMMARY = "wandb-summary.json"
# A message after it still has room for its lines.
_LARGEST_OFFSET = 2**62
_LARGEST_EXIT_CODE = 2**63 - 1


def receive(
    ctx: RequestContext,
    entity: str,
    project: str,
    name: str,
    body: Mapping[str, Any],
    writer: str | None = None,
) -> dict[str, Any]:
    """
    Store one message of a run and return the answer, which may ask the run to stop.

    Any message is a heartbeat. Lines carry their offset, so a message that arrives twice changes nothing.

    :param writer: In shared mode, which of the run's processes sends this: their lines are put together, and so are
        their summaries.

    :raises GraphQLError: 400 if the message is not understood; 403 if the account may not write there; 404 if there
        is no such run.
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
        for file, chunk in _files(body).items():
            changes |= _store(conn, run, file, chunk, writer)
        changes |= _state_changes(run, body, changes["heartbeat_at"])
        update_run(conn, run["pk"], changes)
    return {"stopped": True} if run["stop_requested"] else {"exitcode": None, "limits": {}}


def _files(body: Mapping[str, Any]) -> Mapping[str, Any]:
    files = body.get("files") or {}
    if not isinstance(files, Mapping):
        raise GraphQLError(f"'files' of the file stream must be an object, not {str(files)[:200]!r}.")
    return files


def _exit_code(body: Mapping[str, Any]) -> int:
    code = body.get("exitcode") or 0
    if not isinstance(code, int) or abs(code) > _LARGEST_EXIT_CODE:
        raise GraphQLError(
            f"'exitcode' of the file stream must be a number of 64 bits, not {str(code)[:80]!r}."
        )
    return code


def _store(
    conn: sqlite3.Connection, run: sqlite3.Row, file: str, chunk: Any, writer: str | None
) -> dict[str, Any]:
    offset, content = _chunk(file, chunk)
    if file == _SUMMARY:
        return {"summary": _summary(run, content[-1], writer)} if content else {}
    stream = _STREAMS.get(file)
    if stream is None:
        raise GraphQLError(
            f"the file stream does not know the file {file!r}; it knows {[*_STREAMS, _SUMMARY]}."
        )
    write_lines(conn, run["pk"], stream, offset, content, writer)
    return {}


def _chunk(file: str, chunk: Any) -> tuple[int, list[str]]:
    offset = (chunk.get("offset") or 0) if isinstance(chunk, Mapping) else None
    content = (chunk.get("content") or []) if isinstance(chunk, Mapping) else None
    if (
        not isinstance(offset, int)
        or not 0 <= offset <= _LARGEST_OFFSET
        or not isinstance(content, list)
        or not all(isinstance(line, str) for line in content)
    ):
        raise GraphQLError(
            f"a chunk of the file {file!r} needs 'offset' (from 0 on) and 'content' (a list of lines),"
            f" not {str(chunk)[:200]!r}."
        )
    return offset, [encodable(line) for line in content]


def _summary(run: sqlite3.Row, text: str, writer: str | None) -> str:
    summary = parse_object("the summary of a run", text)
    earlier = {} if writer is None else json.loads(run["summary"])
    return stored_text(earlier | summary)


def _state_changes(run: sqlite3.Row, body: Mapping[str, Any], now: str) -> dict[str, Any]:
    stored = run["state"]
    if body.get("complete"):
        exit_code = _exit_code(body)
        stored = "preempting" if body.get("preempting") else stored
        state = state_after_exit(stored, exit_code, stopped=bool(run["stop_requested"]))
        return {"state": state, "exit_code": exit_code, "finished_at": now}
    if body.get("preempting"):
        return {"state": "preempting"}
    # Only "uploaded" leaves the state alone: files may still arrive after the end.
    if stored in ("running", "preempting") or not body.get("files"):
        return {}
    return {"state": "running", "exit_code": None, "finished_at": None}
