"""Reading what a run has streamed: history, samples of it, and console lines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver import history_keys
from wandb_airflow_provider.devserver.graphql.registry import (
    GraphQLError,
    RequestContext,
    connection,
    field,
    page_bounds,
)
from wandb_airflow_provider.devserver.history import (
    EVENTS,
    OUTPUT,
    has_writers,
    last_step,
    line_count,
    read_history,
    read_lines,
    sampled_history,
)

_LOG_LINE = re.compile(
    r"(?:(?P<level>ERROR|WARN|INFO|DEBUG) )?(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\dZ+:-]*) (?P<text>.*)",
    re.DOTALL,
)
_LABELLED = re.compile(r"\[(?P<label>[^]]*)\] ?(?P<text>.*)", re.DOTALL)


@field("Run", "history")
def history(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> list[str]:
    """
    Return history lines as JSON texts; ``maxStep`` is exclusive.

    ``samples`` thins out only the whole history: a range of steps is a page of a scan, which must miss nothing.
    """
    first, stop = args.get("minStep"), args.get("maxStep")
    samples = args.get("samples") if first is None and stop is None else None
    with ctx.store.read() as conn:
        return read_history(conn, parent["_pk"], first, stop, samples)


@field("Run", "events")
def events(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> list[str]:
    """Return system events as JSON texts."""
    with ctx.store.read() as conn:
        return read_history(conn, parent["_pk"], samples=args.get("samples"), stream=EVENTS)


@field("Run", "sampledHistory")
def sampled(
    ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]
) -> list[list[dict[str, Any]]]:
    """Return, for each specification, rows that have all of its keys; ``maxStep`` is inclusive."""
    answers = []
    with ctx.store.read() as conn:
        for text in args.get("specs") or []:
            spec = json.loads(text)
            if not isinstance(spec, dict) or not isinstance(spec.get("keys", []), list):
                raise GraphQLError(
                    f"a specification of sampled history must be an object with 'keys', not {text!r}."
                )
            answers.append(
                sampled_history(
                    conn,
                    parent["_pk"],
                    spec.get("keys", []),
                    spec.get("samples"),
                    spec.get("minStep"),
                    spec.get("maxStep"),
                )
            )
    return answers


@field("Run", "historyKeys")
def keys(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of the history with their types, and its last step."""
    with ctx.store.read() as conn:
        counts = history_keys.read(conn, parent["_pk"])
        return {"keys": counts, "sets": [], "lastStep": last_step(conn, parent["_pk"])}


@field("Run", "parquetHistory")
def parquet_history(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Answer that all history is still live from step 0, which makes clients read it as JSON."""
    return {"__typename": "ParquetHistory", "parquetUrls": [], "liveData": [{"_step": 0}]}


@field("Run", "logLines")
def log_lines(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Return console lines, from the start or the last ones."""
    with ctx.store.read() as conn:
        total = line_count(conn, parent["_pk"], OUTPUT)
        start, stop = page_bounds(args, total)
        lines = read_lines(conn, parent["_pk"], OUTPUT, start, stop - start)
        shared = has_writers(conn, parent["_pk"])
    nodes = [_log_line(number, text, shared) for number, text in lines]
    return connection(nodes, args, total, "LogLineConnection")


def _log_line(number: int, line: str, shared: bool) -> dict[str, Any]:
    found = _LOG_LINE.fullmatch(line)
    text = found["text"] if found else line
    # Each of several writers puts its label in brackets before what it writes.
    labelled = _LABELLED.fullmatch(text) if shared else None
    return {
        "__typename": "LogLine",
        "number": number,
        "timestamp": found["time"] if found else None,
        "level": ((found["level"] if found else None) or "").lower(),
        "label": labelled["label"] if labelled else "",
        "line": labelled["text"] if labelled else text,
    }
