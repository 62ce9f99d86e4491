"""Per-example results of a candidate beside its baseline's: which examples changed most. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from wandb_airflow_provider.reports.facts import QueryTable
from wandb_airflow_provider.rules import Demand, PairedRule, Rule, RunEvidence, TableRule, Verdict
from wandb_airflow_provider.rules.bounds import number_text
from wandb_airflow_provider.rules.evidence import EVALUATED, HOLDER, TableData, measure, run_subject

__all__ = ["QuerySource", "cell_text", "changes", "find_source", "query_table"]

MOST_ROWS = 20


class QuerySource(NamedTuple):
    """
    Where per-example results are.

    :param key: Column that names the example; None pairs the rows of one table by their place.
    :param against: Another table, and ``against_column`` another column, of the evaluated run itself.
    :param subject: Whose table is the baseline, where neither is given.
    """

    table: str
    column: str
    key: str | None = None
    against: str | None = None
    against_column: str | None = None
    subject: str = HOLDER

    def demands(self) -> list[Demand]:
        """Return the tables to read of the evaluated run."""
        tables = dict.fromkeys(filter(None, (self.table, self.against)))
        return [Demand(EVALUATED, "table", table) for table in tables]

    @property
    def needs_baseline(self) -> bool:
        """Whether the baseline is a table of another run."""
        return not (self.against or self.against_column)


def find_source(verdict: Verdict) -> QuerySource | None:
    """Return the first per-example results that a rule of the verdict judged; paired ones are preferred."""
    rules = list(_rules(verdict))
    for rule in rules:
        if isinstance(rule, PairedRule):
            subject = run_subject(rule.baseline_run) if rule.baseline_run else HOLDER
            return QuerySource(rule.table, rule.column, rule.key, rule.against, rule.against_column, subject)
    for rule in rules:
        if isinstance(rule, TableRule):
            return QuerySource(rule.table, rule.column)
    return None


def changes(
    source: QuerySource, evaluated: RunEvidence, baseline: RunEvidence | None
) -> list[tuple[str, float | None, float | None]] | None:
    """
    Return each example with the candidate's and the baseline's figure, largest loss first; None without the table.

    A figure that is missing or not finite is None, and its example comes last. Of examples of one name the last
    counts.
    """
    table = evaluated.tables.get(source.table)
    if table is None or table.column(source.column) is None:
        return None
    values = _figures(table, source.key, source.column)
    other: TableData | None = table
    if source.against:
        other = evaluated.tables.get(source.against)
    elif not source.against_column:
        other = baseline.tables.get(source.table) if baseline is not None and source.key else None
    column = source.against_column or source.column
    before = (
        _figures(other, source.key, column) if other is not None and other.column(column) is not None else {}
    )
    rows = [(key, value, before.get(key)) for key, value in values.items()]
    rows += [(key, None, value) for key, value in before.items() if key not in values]
    return sorted(rows, key=_rank)


def query_table(
    source: QuerySource, rows: list[tuple[str, float | None, float | None]], *, whole: bool = False
) -> tuple[QueryTable, list[list[object]]]:
    """
    Return what is said of the examples, and the rows to show as plain values: both ends of those that changed.

    :param whole: Return all rows, of which only statistics will be shown.
    """
    differences = [value - before for _, value, before in rows if value is not None and before is not None]
    compared = any(before is not None for _, _, before in rows)
    name = source.key or "row"
    columns = [
        name,
        source.column,
        *([f"{source.column}.baseline", f"{source.column}.change"] if compared else []),
    ]
    shown = rows
    if not whole and len(rows) > MOST_ROWS:
        half = MOST_ROWS // 2
        shown = [*rows[:half], *_rises(rows)[-half:]] if compared else rows[:MOST_ROWS]
    cells: list[list[object]] = [
        [key, value, *([before, _difference(value, before)] if compared else [])]
        for key, value, before in shown
    ]
    said = f"{len(rows)} examples"
    if compared:
        rose, fell = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
        said += f": {rose} rose, {fell} fell, {len(differences) - rose - fell} are as before"
        lonely = len(rows) - len(differences)
        said += f", {lonely} cannot be compared" if lonely else ""
    said += f". Shown are {len(shown)}." if len(shown) < len(rows) else "."
    return QueryTable(f"{source.table}: {source.column}", tuple(columns), (), said), cells


def cell_text(value: object) -> str:
    """Return a cell as people read it."""
    if value is None:
        return "—"
    return (
        number_text(value) if isinstance(value, float | int) and not isinstance(value, bool) else str(value)
    )


def _rules(verdict: Verdict) -> Iterable[Rule]:
    waiting = list(verdict.outcomes)
    while waiting:
        outcome = waiting.pop(0)
        yield outcome.rule
        waiting.extend(outcome.parts)


def _figures(table: TableData, key: str | None, column: str) -> dict[str, float | None]:
    names = table.column(key) if key else None
    values = table.column(column) or []
    if names is None:
        names = [str(index) for index in range(len(values))]
    return {str(name): measure(value, truths=True).value for name, value in zip(names, values, strict=True)}


def _difference(value: float | None, before: float | None) -> float | None:
    return value - before if value is not None and before is not None else None


def _rises(
    rows: list[tuple[str, float | None, float | None]],
) -> list[tuple[str, float | None, float | None]]:
    return [row for row in rows if _difference(row[1], row[2]) is not None]


def _rank(row: tuple[str, float | None, float | None]) -> tuple[int, float, str]:
    key, value, before = row
    change = _difference(value, before)
    if change is not None:
        return 0, change, key
    return (1, value, key) if value is not None else (2, 0.0, key)
