"""Rules about the slices of a table that a run logged. Pure: no network, no clock, no wandb."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import fsum
from typing import Any, ClassVar, Literal

from wandb_airflow_provider.rules.bounds import Bounds, is_finite, number_text
from wandb_airflow_provider.rules.comparison import BoundedRule
from wandb_airflow_provider.rules.evidence import (
    EVALUATED,
    Demand,
    Evidence,
    Figure,
    RunEvidence,
    describe_fault,
    look_up,
    mean,
    measure,
    median,
)
from wandb_airflow_provider.rules.outcome import BASELINE_REASONS, VALUE_REASONS, Outcome, Reason

__all__ = ["TableRule"]

_AGGREGATES = ("mean", "median", "min", "max", "sum", "count")
_WHOLE = "all"
_MAX_SLICES = 500


class TableRule(BoundedRule):
    """
    What a column of a table must satisfy, in the whole of it or in every slice.

    ``TableRule(table="eval/ranks", column="reciprocal_rank", by="language", min_samples=50, minimum=0.5)`` wants
    a mean reciprocal rank of at least 0.5 in every language that has at least 50 examples.

    :param table: Key under which the evaluated run logged the table.
    :param column: Column of numbers; true and false count as 1 and 0.
    :param aggregate: ``mean``, ``median``, ``min``, ``max``, ``sum`` or ``count`` of the column's cells.
    :param by: Column or columns whose values make the slices. Default: the whole table.
    :param min_samples: Slices of fewer rows are reported and not judged; when no slice is left, or the whole table
        is judged and has fewer, that is too few.
    :param expect: Slices that must be there and be judged; without one of them the rule fails.
    :param against: Key of another table of the *evaluated run itself* to compare with, slice by slice. Default, with
        a change bound: the table of the same name of the run that evaluated the alias's current holder. A slice
        that only the baseline has fails; one that only the candidate has falls under ``when_no_baseline``.
    :param baseline_run: ``entity/project/run_id`` of the run to compare with.

    The bounds, and the further options, are those of :class:`~wandb_airflow_provider.rules.MetricRule`.
    """

    kind: ClassVar[str] = "table"

    table: str
    column: str
    aggregate: Literal["mean", "median", "min", "max", "sum", "count"] = "mean"
    by: str | tuple[str, ...] = ()
    min_samples: int = 1
    expect: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse options that contradict each other or have no effect."""
        self.require_text("table")
        self.require_text("column")
        for option in ("by", "expect"):
            value = getattr(self, option)
            names = (value,) if isinstance(value, str) else tuple(value)
            if not all(isinstance(name, str) and name for name in names):
                self.refuse(f"{option!r} must be names, got {value!r}")
            vars(self)[option] = names
        self.check_bounds()
        if self.aggregate not in _AGGREGATES:
            self.refuse(f"'aggregate' must be one of {', '.join(_AGGREGATES)}, got {self.aggregate!r}")
        self.require_count("min_samples")
        if self.min_samples is None:
            self.refuse("'min_samples' must be a whole number of at least 1, got None")
        if self.expect and not self.by:
            self.refuse("'expect' has no effect without 'by'")
        self.check_comparison()

    @property
    def subject(self) -> str:
        """The figure, and its slices."""
        slices = f" by {', '.join(self.by)}" if self.by else ""
        return f"{self.aggregate} {self.column} of {self.table}{slices}"

    @property
    def threshold(self) -> str:
        """The bounds, and which slices they are about."""
        if self.by:
            return f"{self.bounds.text(self.versus)} in every slice of at least {self.min_samples} rows"
        few = f" on at least {self.min_samples} rows" if self.min_samples > 1 else ""
        return self.bounds.text(self.versus) + few

    def demands(self) -> Iterator[Demand]:
        """Yield the table, of the evaluated run and of the baseline."""
        yield Demand(EVALUATED, "table", self.table)
        if self.needs_baseline:
            yield Demand(self.baseline_subject, "table", self.against or self.table)

    def judge(self, evidence: Evidence) -> Outcome:
        """Judge every slice. The first one that does not hold gives the reason; all are in the details."""
        found = self._slices(evidence.run, self.table)
        if isinstance(found, Figure):
            sentence = f"the evaluated run's table {self.table!r} {_describe(found)}"
            return self.outcome(VALUE_REASONS[found.fault], sentence)
        if len(found) > _MAX_SLICES:
            return self.outcome("too_many_slices", f"{self.subject}: more than {_MAX_SLICES} slices")
        held: dict[str, Figure] | None = {}
        if self.needs_baseline:
            read = self._baseline(evidence)
            if isinstance(read, Figure):
                sentence = f"{self.subject} cannot be compared: the baseline's table {_describe(read)}"
                return self.outcome(BASELINE_REASONS[read.fault], sentence, _worst(self.bounds, found))
            held = read
        return self._judge_slices(found, held)

    def agrees(self, outcome: Outcome) -> bool:
        """Return whether an outcome that does not stop follows from its own figures."""
        if self.excused(outcome):
            return outcome.value is None
        slices = outcome.details.get("slices")
        if not isinstance(slices, list) or not slices or {"name", "value", "samples"} - set(slices[0]):
            return False
        judged = [part for part in slices if part.get("reason") != "not_judged"]
        if not judged or not set(self.expect) <= {part["name"] for part in judged}:
            return False
        for part in judged:
            baseline = part.get("baseline_value")
            if part["value"] is None or part["samples"] < self.min_samples:
                return False
            if self.needs_baseline and baseline is None and not self.excuses_no_baseline(part["reason"]):
                return False
            if any(self.bounds.broken(part["value"], baseline)):
                return False
        return outcome.value in [part["value"] for part in judged]

    def _judge_slices(self, found: dict[str, Figure], held: dict[str, Figure] | None) -> Outcome:
        """:param held: The baseline's slices; None when there is no baseline at all."""
        large = {n: f for n, f in found.items() if (f.samples or 0) >= self.min_samples}
        small = [_row(name, found[name], "not_judged") for name in found if name not in large]
        lost = [name for name in self.expect if name not in large]
        if self.by and held:
            lost += [n for n, f in held.items() if (f.samples or 0) >= self.min_samples and n not in large]
        worst = _worst(self.bounds, large)
        if not large and not lost:
            most = max((figure.samples or 0 for figure in found.values()), default=0)
            what = f"no slice has {self.min_samples} rows, the largest" if self.by else f"{self.table!r}"
            sentence = f"{self.subject}: {what} has {most}, {self.min_samples} are needed"
            return self.outcome("too_few", sentence, samples=most, details={"slices": small})
        rows, failures = small, list[tuple[Reason, str]]()
        for name, figure in large.items():
            baseline = None if held is None else held.get(name)
            reason, text = self._judge_slice(figure, baseline, has_baseline=bool(held and name in held))
            rows = [*rows, _row(name, figure, reason, baseline)]
            if reason not in ("passed", "no_baseline_allowed"):
                failures.append((reason, f"{name}: {text}" if self.by else text))
        for name in dict.fromkeys(lost):
            failures.insert(0, ("slice_missing", f"{name} is not there with {self.min_samples} rows"))
        # What only lacks a baseline gives the reason where nothing else is wrong: a policy may let it be a warning.
        failures.sort(key=lambda failure: failure[0] == "no_baseline")
        figures = {
            "details": {"slices": rows},
            "samples": sum(figure.samples or 0 for figure in large.values()),
        }
        if not self.by and held and _WHOLE in held:
            figures["baseline"] = held[_WHOLE].value
        if failures:
            texts = "; ".join(text for _, text in failures[:5])
            more = f"; and {len(failures) - 5} more" if len(failures) > 5 else ""
            return self.outcome(failures[0][0], f"{self.subject}: {texts}{more}", worst, **figures)
        allowed = any(row["reason"] == "no_baseline_allowed" for row in rows)
        what = (
            f"all {len(large)} slices satisfy"
            if self.by
            else f"{number_text(worst or 0, self.unit)} satisfies"
        )
        return self.outcome(
            "no_baseline_allowed" if allowed else "passed",
            f"{self.subject}: {what} {self.threshold}" + ("; not all have a baseline yet" if allowed else ""),
            worst,
            **figures,
        )

    def _judge_slice(
        self, figure: Figure, baseline: Figure | None, *, has_baseline: bool
    ) -> tuple[Reason, str]:
        if figure.value is None:
            # 'on_missing' is about the table: it must not let the other slices pass.
            reason = "slice_missing" if figure.fault == "missing" else VALUE_REASONS[figure.fault]
            return reason, f"{self.column} {describe_fault(figure)}"
        if has_baseline and baseline is not None and baseline.value is None:
            return BASELINE_REASONS[
                baseline.fault
            ], f"the baseline's {self.column} {describe_fault(baseline)}"
        against = baseline.value if baseline is not None else None
        broken = list(self.bounds.broken(figure.value, against))
        if broken:
            texts = "; ".join(text for _, text in broken)
            return broken[0][0], f"{number_text(figure.value, self.unit)} {texts}"
        if self.needs_baseline and against is None:
            if self.when_no_baseline != "pass":
                return "no_baseline", "has no baseline to compare with"
            return "no_baseline_allowed", "has no baseline yet"
        return "passed", ""

    def _baseline(self, evidence: Evidence) -> dict[str, Figure] | Figure | None:
        if self.against:
            found = self._slices(evidence.run, self.against)
            missing = isinstance(found, Figure) and found.fault == "missing"
            return None if missing and not evidence.has_holder else found
        runs = evidence.baselines.get(self.baseline_subject, ())
        if runs is None:
            return None
        return self._slices(runs[0], self.table) if runs else Figure(None, "missing")

    def _slices(self, run: RunEvidence, key: str) -> dict[str, Figure] | Figure:
        table = run.tables.get(key)
        if table is None:
            entry = measure(look_up(run.summary, key))
            return Figure(None, entry.fault if entry.value is None else "wrong_type", entry.found)
        cells = table.column(self.column)
        keys = [table.column(name) for name in self.by]
        absent = [name for name in (self.column, *self.by) if name not in table.columns]
        if cells is None or absent:
            return Figure(None, "missing", f"has no column {', '.join(map(repr, absent))}")
        if not cells:
            return Figure(None, "missing", "has no rows")
        groups: dict[str, list[Any]] = {}
        for index, cell in enumerate(cells):
            name = ", ".join(str(key[index]) for key in keys if key is not None) if self.by else _WHOLE
            groups.setdefault(name, []).append(cell)
        return {name: self._aggregate(group) for name, group in sorted(groups.items())}

    def _aggregate(self, cells: list[Any]) -> Figure:
        figures = [measure(cell, truths=True) for cell in cells]
        wrong = next((figure for figure in figures if figure.value is None), None)
        if wrong is not None:
            return wrong._replace(samples=len(cells))
        values = [figure.value for figure in figures if figure.value is not None]
        try:
            value = {
                "mean": lambda: mean(values),
                "median": lambda: median(values),
                "min": lambda: min(values),
                "max": lambda: max(values),
                "sum": lambda: fsum(values),
                "count": lambda: float(len(values)),
            }[self.aggregate]()
        except OverflowError:
            return Figure(None, "not_finite", "a sum beyond the range of numbers", len(cells))
        if not is_finite(value):
            return Figure(None, "not_finite", value, len(cells))
        return Figure(value, samples=len(cells))


def _describe(figure: Figure) -> str:
    return str(figure.found) if figure.fault == "missing" and figure.found else describe_fault(figure)


def _worst(bounds: Bounds, slices: Mapping[str, Figure]) -> float | None:
    values = [figure.value for figure in slices.values() if figure.value is not None]
    if not values:
        return None
    return min(values) if bounds.from_below else max(values)


def _row(name: str, figure: Figure, reason: str, baseline: Figure | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "value": figure.value,
        "baseline_value": baseline.value if baseline is not None else None,
        "samples": figure.samples,
        "reason": reason,
    }
