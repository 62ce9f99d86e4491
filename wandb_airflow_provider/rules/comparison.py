"""With what a rule compares: options, demands and the outcome when there is nothing. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from wandb_airflow_provider.rules.bounds import BOUNDS, CHANGE_BOUNDS, Bounds
from wandb_airflow_provider.rules.evidence import (
    EVALUATED,
    HOLDER,
    Evidence,
    Figure,
    RunEvidence,
    last_good_subject,
    median,
    run_subject,
)
from wandb_airflow_provider.rules.rule import Rule

__all__ = ["BoundedRule", "ComparingRule"]


class ComparingRule(Rule):
    """
    A rule that may compare with a baseline.

    :param against: What of the *evaluated run itself* is the baseline, measured on the same data.
    :param baseline_run: ``entity/project/run_id`` of the run to compare with.
    :param when_no_baseline: What to make of there being no baseline at all, as before a first promotion: ``fail``,
        ``warn`` or ``pass``. A baseline that is there but lacks the figure always fails.
    """

    against: str | None = None
    baseline_run: str | None = None
    when_no_baseline: Literal["fail", "warn", "pass"] = "fail"

    @property
    def baseline_subject(self) -> str:
        """Whose figures are the baseline's."""
        if self.against:
            return EVALUATED
        if self.baseline_run:
            return run_subject(self.baseline_run)
        count = getattr(self, "last_good", None)
        return last_good_subject(count) if count else HOLDER

    @property
    def needs_holder(self) -> bool:
        """Whether the rule compares with figures of the alias's current holder."""
        return self.needs_baseline and self.baseline_subject == HOLDER

    @property
    def versus(self) -> str:
        """What is compared with, as the end of a threshold."""
        if self.against:
            return f" against {self.against}"
        if self.baseline_run:
            return f" against {self.baseline_run}"
        count = getattr(self, "last_good", None)
        return f" against the median of the last {count} good runs" if count else ""

    def check_comparison(self) -> None:
        """Refuse options about a baseline that contradict each other or have no effect."""
        self.require_text("against", optional=True)
        self.require_text("baseline_run", optional=True)
        self.require_policy("when_no_baseline")
        if self.baseline_run is not None and (
            self.baseline_run.count("/") != 2 or not all(self.baseline_run.split("/"))
        ):
            self.refuse(f"'baseline_run' must be 'entity/project/run_id', got {self.baseline_run!r}")
        names = [name for name in ("against", "baseline_run", "last_good") if getattr(self, name, None)]
        if len(names) > 1:
            self.refuse(f"give {names[0]!r} or {names[1]!r}, not both")
        idle = names + (["when_no_baseline"] if self.when_no_baseline != "fail" else [])
        if idle and not self.needs_baseline:
            self.refuse(f"{idle[0]!r} has no effect without min_change or max_change")

    def baseline_figure(
        self, evidence: Evidence, figure_of: Callable[[RunEvidence], Figure]
    ) -> Figure | None:
        """
        Return the baseline's figure, of several runs the median; None when there is no baseline at all.

        :param figure_of: Reads the figure from what was read of one run.
        """
        if self.against:
            figure = figure_of(evidence.run)
            absent = figure.value is None and figure.fault == "missing" and not evidence.has_holder
            return None if absent else figure
        runs = evidence.baselines.get(self.baseline_subject, ())
        if runs is None:
            return None
        figures = [figure_of(run) for run in runs]
        wrong = next((figure for figure in figures if figure.value is None), None)
        if wrong is not None or not figures:
            return wrong or Figure(None, "missing")
        if len(figures) == 1:
            return figures[0]
        return Figure(median([figure.value for figure in figures if figure.value is not None]))

    def tells_baseline_missing(self, name: str) -> str:
        """Return the sentence that says what could be done about a missing baseline."""
        return f"{name} has no baseline to compare with; when_no_baseline='pass' allows a first one"

    def excuses_no_baseline(self, reason: str) -> bool:
        """Return whether an outcome without a baseline is one that the policy allows."""
        wanted = {"no_baseline_allowed": "pass", "no_baseline": "warn"}.get(reason)
        return wanted is not None and self.when_no_baseline == wanted


class BoundedRule(ComparingRule):
    """A rule whose figure, and whose change against a baseline, must keep bounds; all that are given."""

    quantities: ClassVar[tuple[str, ...]] = (*BOUNDS, *CHANGE_BOUNDS)

    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    min_change: float | None = None
    max_change: float | None = None
    relative: bool = False
    unit: str | None = None

    @property
    def bounds(self) -> Bounds:
        """The bounds that the figure must keep."""
        return Bounds(*(getattr(self, name) for name in Bounds._fields))

    @property
    def needs_baseline(self) -> bool:
        """Whether the rule compares with a baseline."""
        return self.bounds.compare

    @classmethod
    def unit_of(cls, option: str, unit: Any, options: Mapping[str, Any]) -> str | None:
        """Return the unit in which a bound is kept: a relative change is a share."""
        from wandb_airflow_provider.rules.units import SHARE

        return SHARE if option in CHANGE_BOUNDS and options.get("relative") is True else unit

    def check_bounds(self) -> None:
        """Refuse no bounds, bounds that no value can keep, and a unit that is none."""
        self.require_text("unit", optional=True)
        if fault := self.bounds.fault():
            self.refuse(fault)
