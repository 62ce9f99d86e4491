"""An alias's history as people read it: "why is this version in production?" on one page. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbConfigurationError

if TYPE_CHECKING:
    from wandb_airflow_provider.artifacts import ArtifactRef
    from wandb_airflow_provider.audit import AuditEntry
    from wandb_airflow_provider.audit_trail import AliasHistory

__all__ = ["decision_html", "history_markdown", "history_text"]

_MOST_DECISIONS = 50
_VERBS = {"promotion": "promoted", "rollback": "restored by a rollback", "demotion": "demoted"}
_ESCAPED = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>|#"})


def history_text(history: AliasHistory) -> str:
    """Return the page as plain text, without anything that a terminal would obey."""
    return "\n".join(_plain(line) for line in _lines(history, _Text()))


def history_markdown(history: AliasHistory) -> str:
    """Return the page as Markdown; what people wrote stands in it as text."""
    return "\n".join(_lines(history, _Markdown()))


def decision_html(entry: AuditEntry) -> str:
    """Return one decision as a page of HTML without scripts or styles."""
    lines = "\n".join(_plain(line) for line in _decision(entry, _Text()))
    return f"<!doctype html><meta charset='utf-8'><pre>{html.escape(lines)}</pre>\n"


class _Text:
    def head(self, text: str, level: int) -> list[str]:
        return [text, ("=" if level == 1 else "-") * len(text)]

    def item(self, name: str, value: str | None) -> str:
        return f"  {name + ':':<16}{value if value else '—'}"

    def says(self, text: str) -> str:
        return " ".join(text.splitlines())

    def code(self, text: str) -> str:
        return text

    def table(self, rows: list[tuple[str, ...]]) -> list[str]:
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return [
            "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]


class _Markdown(_Text):
    def head(self, text: str, level: int) -> list[str]:
        return [f"{'#' * level} {self.says(text)}"]

    def item(self, name: str, value: str | None) -> str:
        return f"- {name}: {value if value else '—'}"

    def says(self, text: str) -> str:
        return _plain(text.replace("\n", " ")).translate(_ESCAPED)

    def code(self, text: str) -> str:
        return f"`{_plain(text).replace('`', '')}`"

    def table(self, rows: list[tuple[str, ...]]) -> list[str]:
        head, *rest = ["| " + " | ".join(self.says(cell) for cell in row) + " |" for row in rows]
        return [head, "|" + "---|" * len(rows[0]), *rest]


def _lines(history: AliasHistory, write: _Text) -> Iterator[str]:
    holder, cause, promotion = history.holder, history.cause, history.promotion
    yield from write.head(f"Why does {history.target} point to {holder or 'nothing'}?", 1)
    yield ""
    if cause is not None:
        yield from _decision(cause, write)
    elif history.changes:
        last = history.changes[-1]
        yield write.says(
            f"The alias was changed by something else than this package: by v{last.number} of the audit, "
            f"{last.after or 'nothing'} should hold it."
        )
    elif holder is not None:
        yield write.says("The audit knows nothing of it: this package did not give it the alias.")
    else:
        yield write.says("Nothing holds it, and the audit knows of no change.")
    if promotion is not None and promotion is not cause:
        yield ""
        yield from write.head("It was promoted before that", 2)
        yield ""
        yield from _decision(promotion, write)
    evidence = promotion or cause
    if evidence is not None and evidence.verdict is not None:
        yield ""
        yield from _verdict(evidence.verdict, write)
    if history.entries:
        yield ""
        yield from write.head("All decisions, newest first", 2)
        yield ""
        shown = [entry for entry in reversed(history.entries) if not _is_settled_intention(entry, history)]
        yield from write.table(
            [
                ("", "When", "What", "From", "To", "By", "Why"),
                *(_row(entry) for entry in shown[:_MOST_DECISIONS]),
            ]
        )
        if len(shown) > _MOST_DECISIONS:
            yield write.says(f"and {len(shown) - _MOST_DECISIONS} older ones.")
    warnings = list(_warnings(history))
    if warnings:
        yield ""
        yield from write.head("To be looked at", 2)
        yield ""
        yield from (f"- {write.says(warning)}" for warning in warnings)
    yield ""
    yield write.says(f"Audit: {history.audit}")


def _decision(entry: AuditEntry, write: _Text) -> Iterator[str]:
    approval, people, links = entry.approval or {}, entry.people, entry.links
    what = f"{entry.kind} ({entry.event}), entry v{entry.number} of the audit"
    if entry.event == "done":
        what = f"{_VERBS[entry.kind]}, entry v{entry.number} of the audit"
    yield write.item("What", write.says(what))
    yield write.item("When", write.says(entry.at))
    yield write.item("Alias", write.code(str(entry.target)))
    yield write.item("Version", _version(entry.after, write))
    yield write.item("Before", _version(entry.before, write))
    yield write.item("By", write.says(f"{entry.task}, try {entry.try_number}"))
    for name, key in (("Started by", "started_by"), ("DAG's owner", "owner"), ("W&B user", "wandb_user")):
        if people.get(key):
            yield write.item(name, write.says(str(people[key])))
    if approval:
        by = approval.get("by") or "nobody: the default was taken"
        yield write.item("Approved by", write.says(f"{by}, {approval.get('at')}"))
        if approval.get("params"):
            yield write.item("Approval form", write.says(str(approval["params"])))
    if entry.note:
        yield write.item("Note", write.says(entry.note))
    if entry.why:
        yield write.item("Why", write.says(entry.why))
    if entry.verdict:
        yield write.item("Verdict", write.says(entry.verdict_summary or ""))
    if entry.after is not None and entry.after.source_run:
        yield write.item("Logged by run", write.code(entry.after.source_run))
    for path in entry.data:
        yield write.item("Made from", write.code(path))
    for name, value in entry.code.items():
        if value:
            yield write.item(name.replace("_", " ").capitalize(), write.code(str(value)))
    for name, value in links.items():
        if value:
            yield write.item(name.replace("_", " ").capitalize(), write.says(str(value)))


def _verdict(value: Mapping[str, Any], write: _Text) -> Iterator[str]:
    from wandb_airflow_provider.rules import Verdict

    yield from write.head("Its verdict", 2)
    yield ""
    try:
        verdict = Verdict.from_json(value)
    except WandbConfigurationError as error:
        yield write.says(f"It cannot be read any more: {error}")
        return
    yield write.item("Judged at", write.says(verdict.evaluated_at.isoformat(timespec="seconds")))
    yield write.item("Evaluated run", write.code(verdict.run.path))
    yield write.item("Compared with", write.code(str(verdict.baseline)) if verdict.baseline else "nothing")
    yield ""
    rows = [
        (
            str(row["metric"]),
            _figure(row["value"]),
            _figure(row["baseline_value"]),
            str(row["threshold"]),
            str(row["result"]),
        )
        for row in verdict.rows()
    ]
    yield from write.table([("Metric", "Value", "Baseline", "Rule", "Result"), *rows])


def _row(entry: AuditEntry) -> tuple[str, ...]:
    approval = entry.approval or {}
    by = approval.get("by") or entry.people.get("started_by") or entry.task.dag_id
    why = entry.why or entry.note or entry.verdict_summary or ""
    return (
        f"v{entry.number}",
        entry.at[:19] + "Z",
        f"{entry.kind} {entry.event}",
        _short(entry.before),
        _short(entry.after),
        _one_line(str(by)),
        _one_line(why),
    )


def _warnings(history: AliasHistory) -> Iterator[str]:
    for entry in history.unsettled:
        yield f"v{entry.number}: a {entry.kind} began at {entry.at} and has no outcome; {entry.task}."
    for entry in history.entries:
        if entry.altered:
            yield f"v{entry.number}: its copy in the metadata was changed; this page shows the logged file."
    if history.missing:
        numbers = ", ".join(f"v{number}" for number in history.missing)
        yield f"The audit has no {numbers}: deleted, or never completed."


def _is_settled_intention(entry: AuditEntry, history: AliasHistory) -> bool:
    return entry.event == "intended" and entry not in history.unsettled


def _version(ref: ArtifactRef | None, write: _Text) -> str:
    return f"{write.code(ref.path)} (digest {write.code(ref.digest)})" if ref else "nothing"


def _short(ref: ArtifactRef | None) -> str:
    return f"{ref.name}:{ref.version}" if ref else "nothing"


def _figure(value: float | None) -> str:
    return "—" if value is None else f"{value:.6g}"


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 100 else text[:99] + "…"


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in text)
