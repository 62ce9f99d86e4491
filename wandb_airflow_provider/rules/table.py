"""Rules about the slices of a table that a run logged. Pure: no network, no clock, no wandb."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import fsum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

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

if TYPE_CHECKING:
    from wandb_airflow_provider.rules.slices import Slice

__all__ = ["TableRule"]

_AGGREGATES = ("mean", "median", "min", "max", "sum", "count")
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
        is judged and has fewer, that is too few. A baseline's slice of fewer rows is none to compare with.
    :param expect: Slices that must be there and be judged; without one of them the rule fails. Of several columns the
        values with commas between: ``de, short``.
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
        if self.against == self.table:
            self.refuse("'against' is the table itself")
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
        held: dict[Slice, Figure] | None = {}
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
        if len({part["name"] for part in slices}) < len(slices):
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

    def _judge_slices(self, found: dict[Slice, Figure], held: dict[Slice, Figure] | None) -> Outcome:
        """:param held: The baseline's slices; None when there is no baseline at all."""
        from wandb_airflow_provider.rules.slices import WHOLE, slice_names

        names = slice_names({**found, **(held or {})})
        large = {key: figure for key, figure in found.items() if self._is_large(figure)}
        small = [_row(names[key], found[key], "not_judged") for key in found if key not in large]
        judged = {names[key] for key in large}
        lost = [name for name in self.expect if name not in judged]
        if self.by and held:
            lost += [names[key] for key, f in held.items() if self._is_large(f) and key not in large]
        worst = _worst(self.bounds, large)
        if not large and not lost:
            most = max((figure.samples or 0 for figure in found.values()), default=0)
            what = f"no slice has {self.min_samples} rows, the largest" if self.by else f"{self.table!r}"
            sentence = f"{self.subject}: {what} has {most}, {self.min_samples} are needed"
            return self.outcome("too_few", sentence, samples=most, details={"slices": small})
        rows, failures = small, list[tuple[Reason, str]]()
        for key, figure in large.items():
            baseline = held.get(key) if held else None
            reason, text = self._judge_slice(figure, baseline)
            rows = [*rows, _row(names[key], figure, reason, baseline)]
            if reason not in ("passed", "no_baseline_allowed"):
                failures.append((reason, f"{names[key]}: {text}" if self.by else text))
        for name in dict.fromkeys(lost):
            failures.insert(0, ("slice_missing", f"{name} is not there with {self.min_samples} rows"))
        # What only lacks a baseline gives the reason where nothing else is wrong: a policy may let it be a warning.
        failures.sort(key=lambda failure: failure[0] == "no_baseline")
        figures = {
            "details": {"slices": rows},
            "samples": sum(figure.samples or 0 for figure in large.values()),
        }
        if not self.by and held and WHOLE in held:
            figures["baseline"] = held[WHOLE].value
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

    def _is_large(self, figure: Figure) -> bool:
        return (figure.samples or 0) >= self.min_samples

    def _judge_slice(self, figure: Figure, baseline: Figure | None) -> tuple[Reason, str]:
        if figure.value is None:
            # 'on_missing' is about the table: it must not let the other slices pass.
            reason = "slice_missing" if figure.fault == "missing" else VALUE_REASONS[figure.fault]
            return reason, f"{self.column} {describe_fault(figure)}"
        if baseline is not None and baseline.value is None:
            return (
                BASELINE_REASONS[baseline.fault],
                f"the baseline's {self.column} {describe_fault(baseline)}",
            )
        against = baseline.value if baseline is not None else None
        broken = list(self.bounds.broken(figure.value, against))
        if broken:
            texts = "; ".join(text for _, text in broken)
            return broken[0][0], f"{number_text(figure.value, self.unit)} {texts}"
        if self.needs_baseline and (baseline is None or not self._is_large(baseline)):
            if baseline is not None and not self.by:
                few = baseline._replace(fault="too_few", found=self.min_samples)
                return "baseline_too_few", f"the baseline's table {describe_fault(few)}"
            # Nor is what holds against a handful of rows shown to hold.
            if self.when_no_baseline != "pass":
                few_rows = f" of {self.min_samples} rows" if baseline is not None else ""
                return "no_baseline", f"has no baseline{few_rows} to compare with"
            return "no_baseline_allowed", "has no baseline yet"
        return "passed", ""

    def _baseline(self, evidence: Evidence) -> dict[Slice, Figure] | Figure | None:
        if self.against:
            found = self._slices(evidence.run, self.against)
            # A table that is there, and has no such column or no rows, is a baseline that lacks its figures.
            missing = isinstance(found, Figure) and found.fault == "missing" and not found.found
            return None if missing and not evidence.has_holder else found
        runs = evidence.baselines.get(self.baseline_subject, ())
        if runs is None:
            return None
        return self._slices(runs[0], self.table) if runs else Figure(None, "missing")

    def _slices(self, run: RunEvidence, key: str) -> dict[Slice, Figure] | Figure:
        from wandb_airflow_provider.rules.slices import slices_of

        table = run.tables.get(key)
        if table is None:
            entry = measure(look_up(run.summary, key))
            return Figure(None, entry.fault if entry.value is None else "wrong_type", entry.found)
        cells = table.column(self.column)
        absent = [name for name in (self.column, *self.by) if name not in table.columns]
        if cells is None or absent:
            return Figure(None, "missing", f"has no column {', '.join(map(repr, absent))}")
        if not cells:
            return Figure(None, "missing", "has no rows")
        groups = slices_of(table, self.by)
        return {name: self._aggregate([cells[row] for row in rows]) for name, rows in groups.items()}

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


def _worst(bounds: Bounds, slices: Mapping[Slice, Figure]) -> float | None:
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
