"""An alias's history as people read it: "why is this version in production?" on one page. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.reports.document import (
    Bullets,
    Cell,
    Document,
    Link,
    Paragraph,
    Part,
    Section,
    Table,
    cleaned,
)

if TYPE_CHECKING:
    from wandb_airflow_provider.artifacts import ArtifactRef
    from wandb_airflow_provider.audit import AuditEntry
    from wandb_airflow_provider.audit_trail import AliasHistory

__all__ = ["history_document", "history_markdown", "history_text"]

_MOST_DECISIONS = 50
_VERBS = {"promotion": "promoted", "rollback": "restored by a rollback", "demotion": "demoted"}
_ABSENT = "—"


def history_document(history: AliasHistory) -> Document:
    """Return the page, with what a terminal would obey taken out of its texts."""
    title = f"Why does {history.target} point to {history.holder or 'nothing'}?"
    return cleaned(Document(title, tuple(_sections(history))), _plain)


def history_markdown(history: AliasHistory) -> str:
    """Return the page as Markdown; what people wrote stands in it as text."""
    from wandb_airflow_provider.reports.markdown import escape, to_markdown

    document = history_document(history)
    return f"# {escape(document.title)}\n\n{to_markdown(document)}"


def history_text(history: AliasHistory) -> str:
    """Return the page as plain text."""
    document = history_document(history)
    lines = [_line(document.title), "=" * len(_line(document.title))]
    for section in document.sections:
        lines += ["", section.title, "-" * len(section.title), ""]
        for part in section.parts:
            lines += _text(part)
    return "\n".join(lines)


def _sections(history: AliasHistory) -> Iterator[Section]:
    cause, promotion = history.cause, history.promotion
    yield Section("The decision", tuple(_cause(history)))
    if promotion is not None and promotion is not cause:
        yield Section("It was promoted before that", (_decision(promotion),))
    evidence = promotion or cause
    if evidence is not None and evidence.verdict is not None:
        yield Section("Its verdict", tuple(_verdict(evidence.verdict)))
    if history.entries:
        yield Section("All decisions, newest first", (_decisions(history),))
    warnings = tuple((warning,) for warning in _warnings(history))
    if warnings:
        yield Section("To be looked at", (Bullets(warnings),))
    known = f", as of its entry v{history.entries[-1].number}" if history.entries else ""
    yield Section("Where this is from", (Paragraph((f"The audit {history.audit}{known}.",)),))


def _cause(history: AliasHistory) -> Iterator[Part]:
    if history.cause is not None:
        yield _decision(history.cause)
    elif history.changes:
        last = history.changes[-1]
        yield Paragraph(
            (
                "The alias was changed by something else than this package: by ",
                f"v{last.number} of the audit, {last.after or 'nothing'} should hold it.",
            )
        )
    elif history.holder is not None:
        yield Paragraph(("The audit knows nothing of it: this package did not give it the alias.",))
    else:
        yield Paragraph(("Nothing holds it, and the audit knows of no change.",))


def _decision(entry: AuditEntry) -> Bullets:
    return Bullets(tuple((f"{name}: ", *cells) for name, cells in _facts(entry)))


def _facts(entry: AuditEntry) -> Iterator[tuple[str, Sequence[Cell]]]:
    approval, people = entry.approval or {}, entry.people
    what = f"{entry.kind} ({entry.event}), entry v{entry.number} of the audit"
    if entry.event == "done":
        what = f"{_VERBS[entry.kind]}, entry v{entry.number} of the audit"
    yield "What", (what,)
    yield "When", (entry.at,)
    yield "Alias", (str(entry.target),)
    yield "Version", _version(entry.after)
    yield "Before", _version(entry.before)
    yield "By", (f"{entry.task}, try {entry.try_number}",)
    for name, key in (("Started by", "started_by"), ("DAG's owner", "owner"), ("W&B user", "wandb_user")):
        if people.get(key):
            yield name, (str(people[key]),)
    if approval:
        by = approval.get("by") or "nobody: the default was taken"
        yield "Approved by", (f"{by}, {approval.get('at')}",)
        if approval.get("params"):
            yield "Approval form", (str(approval["params"]),)
    if entry.note:
        yield "Note", (entry.note,)
    if entry.why:
        yield "Why", (entry.why,)
    if entry.verdict:
        yield "Verdict", (entry.verdict_summary or "",)
    if entry.after is not None and entry.after.source_run:
        yield "Logged by run", (entry.after.source_run,)
    for path in entry.data:
        yield "Made from", (path,)
    for name, value in entry.code.items():
        if value:
            yield name.replace("_", " ").capitalize(), (str(value),)
    for name, value in entry.links.items():
        if value:
            yield name.replace("_", " ").capitalize(), (Link(str(value), str(value)),)


def _verdict(value: Mapping[str, Any]) -> Iterator[Part]:
    from wandb_airflow_provider.rules import Verdict

    try:
        verdict = Verdict.from_json(value)
    except WandbConfigurationError as error:
        yield Paragraph((f"It cannot be read any more: {error}",))
        return
    held = verdict.baseline
    yield Bullets(
        (
            ("Judged at: ", verdict.evaluated_at.isoformat(timespec="seconds")),
            ("Evaluated run: ", Link(verdict.run.path, verdict.run.url)),
            ("Compared with: ", Link(str(held), held.url) if held else "nothing"),
        )
    )
    rows = tuple(
        (
            str(row["metric"]),
            _figure(row["value"]),
            _figure(row["baseline_value"]),
            str(row["threshold"]),
            str(row["result"]),
        )
        for row in verdict.rows()
    )
    yield Table(("Metric", "Value", "Baseline", "Rule", "Result"), rows)


def _decisions(history: AliasHistory) -> Table:
    shown = [entry for entry in reversed(history.entries) if not _is_settled_intention(entry, history)]
    older = len(shown) - _MOST_DECISIONS
    return Table(
        ("Entry", "When", "What", "From", "To", "By", "Why"),
        tuple(_row(entry) for entry in shown[:_MOST_DECISIONS]),
        f"and {older} older ones." if older > 0 else "",
    )


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
        _cut(str(by)),
        _cut(why),
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


def _version(ref: ArtifactRef | None) -> Sequence[Cell]:
    return (Link(ref.path, ref.url), f" (digest {ref.digest})") if ref else ("nothing",)


def _short(ref: ArtifactRef | None) -> str:
    return f"{ref.name}:{ref.version}" if ref else "nothing"


def _figure(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.6g}"


def _text(part: Part) -> Iterator[str]:
    """Yield a part as lines of plain text."""
    if isinstance(part, Paragraph):
        yield "".join(map(_line, part.pieces))
    elif isinstance(part, Bullets):
        for name, *rest in part.items:
            said = "".join(map(_line, rest))
            yield f"  {_line(name):<16}{said}" if rest else f"- {_line(name)}"
    elif isinstance(part, Table):
        rows = [[_line(cell) for cell in row] for row in (part.columns, *part.rows)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            yield (
                "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
            ).rstrip()
        if part.note:
            yield _line(part.note)


def _line(cell: Cell) -> str:
    return " ".join((cell.text if isinstance(cell, Link) else cell).splitlines())


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 100 else text[:99] + "…"


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)
