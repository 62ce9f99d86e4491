"""Rules about one metric of a run: its summary, or its history. Pure: no network, no clock, no wandb."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import fsum
from typing import Any, ClassVar, Literal

from wandb_airflow_provider.rules.bounds import is_finite, number_text
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
)
from wandb_airflow_provider.rules.outcome import BASELINE_REASONS, VALUE_REASONS, Outcome

__all__ = ["MetricRule"]

_AGGREGATES = ("last", "min", "max", "mean", "slope")


class MetricRule(BoundedRule):
    """
    What one metric of the evaluated run must satisfy. Every bound that is given must hold.

    ``MetricRule(metric="eval/mrr", minimum=0.5)`` is a threshold;
    ``MetricRule(metric="eval/mrr", min_change=-0.01)`` allows a loss of at most 0.01 against the baseline;
    ``MetricRule(metric="latency", max_change=0.1, relative=True, unit="ms")`` allows a growth of at most 10 %;
    ``MetricRule(metric="train/loss", aggregate="slope", window=50, maximum=0)`` wants a loss that does not rise.

    :param metric: Key of the run's summary; ``name.max`` reaches into a nested value. With ``aggregate``, key of
        the run's history.
    :param minimum: The value must be at least this.
    :param above: The value must be more than this.
    :param maximum: The value must be at most this.
    :param below: The value must be less than this.
    :param min_change: Value minus baseline must be at least this; negative allows a loss.
    :param max_change: Value minus baseline must be at most this.
    :param relative: Changes are fractions of the baseline's magnitude: 0.1 is 10 %.
    :param unit: What the metric is measured in. Bounds given as text may then have a unit: ``"200 ms"``.
    :param aggregate: ``last``, ``min``, ``max`` or ``mean`` of the logged history, or ``slope``, its least-squares
        change per step. Default: the summary's value.
    :param window: Only the last so many logged points of the history. Fewer are too few.
    :param min_samples: On how many values the figure must rest: points of the history or, with ``samples``, what
        that metric says.
    :param samples: Metric of the summary that says on how many examples the figure rests.
    :param against: Metric of the *evaluated run itself* that holds the baseline's figure, measured on the
        same data (``production/mrr``). Default: the metric of the same name, measured when the current
        holder of the alias was evaluated.
    :param baseline_run: ``entity/project/run_id`` of the run to compare with.
    :param last_good: Compare with the median of so many runs before this one that a gate let pass, or of as many as
        there are; the outcome says of how many.
    :param when_no_baseline: What to make of there being no baseline at all, as before a first promotion: ``fail``,
        ``warn`` or ``pass``. A baseline that is there but lacks the figure always fails.
    :param on_missing: What to make of a metric that was not logged, or too few values: ``fail``, ``warn``, ``pass``.
    :param severity: ``block``, or ``warn`` to report only.
    :raises WandbConfigurationError: no bound, a bound that is not a finite number, bounds that no value can
        satisfy, or an option without effect.
    """

    kind: ClassVar[str] = "metric"

    metric: str
    aggregate: Literal["last", "min", "max", "mean", "slope"] | None = None
    window: int | None = None
    min_samples: int | None = None
    samples: str | None = None
    last_good: int | None = None

    def check(self) -> None:
        """Refuse options that contradict each other or have no effect."""
        self.require_text("metric")
        self.require_text("samples", optional=True)
        self.check_bounds()
        if self.aggregate is not None and self.aggregate not in _AGGREGATES:
            self.refuse(f"'aggregate' must be one of {', '.join(_AGGREGATES)}, got {self.aggregate!r}")
        least = 2 if self.aggregate == "slope" else 1
        for option in ("window", "min_samples"):
            self.require_count(option, least)
        self.require_count("last_good")
        if self.window is not None and self.aggregate is None:
            self.refuse("'window' has no effect without 'aggregate'")
        if self.aggregate is not None and self.samples is not None:
            self.refuse("give 'aggregate' or 'samples', not both")
        if self.min_samples is not None and self.samples is None and self.aggregate is None:
            self.refuse(
                "'min_samples' has no effect without 'samples', the metric that counts them, or 'aggregate'"
            )
        if self.samples is not None and self.min_samples is None:
            self.refuse("'samples' has no effect without 'min_samples'")
        if self.window is not None and (self.min_samples or 0) > self.window:
            self.refuse("'min_samples' is more than the window holds")
        if self.against == self.metric:
            self.refuse("'against' is the metric itself")
        self.check_comparison()

    @property
    def subject(self) -> str:
        """The metric, and what is taken of its history."""
        if self.aggregate is None:
            return self.metric
        window = f" over the last {self.window} points" if self.window else ""
        return f"{self.aggregate} of {self.metric}{window}"

    @property
    def threshold(self) -> str:
        """The bounds, as a person reads them: ``>= 0.5 and change >= -1 %``."""
        needed = f" on at least {self.min_samples} samples" if self.min_samples else ""
        return self.bounds.text(self.versus) + needed

    def demands(self) -> Iterator[Demand]:
        """Yield the summary or the history, of the evaluated run and of the baseline."""
        part: Literal["summary", "history"] = "history" if self.aggregate else "summary"

        def demand(subject: str, key: str) -> Demand:
            return Demand(subject, part, key if part == "history" else "")

        yield demand(EVALUATED, self.metric)
        if self.samples:
            yield Demand(EVALUATED, "summary")
        if self.needs_baseline:
            yield demand(self.baseline_subject, self.against or self.metric)

    def judge(self, evidence: Evidence) -> Outcome:
        """Judge the rule. Whatever is missing or not a finite number fails."""
        name, figure = self.subject, self._figure(evidence.run, self.metric)
        if figure.value is None:
            sentence = f"the evaluated run's {name} {describe_fault(figure)}"
            return self.outcome(VALUE_REASONS[figure.fault], sentence)
        value, samples = figure.value, figure.samples
        if self.samples is not None:
            count = measure(look_up(evidence.run.summary, self.samples))
            if count.value is None:
                sentence = (
                    f"{name} rests on nobody knows how many examples: {self.samples} {describe_fault(count)}"
                )
                return self.outcome(VALUE_REASONS[count.fault], sentence)
            samples = int(count.value)
            if count.value < (self.min_samples or 0):
                sentence = f"{name} rests on {samples} examples, {self.min_samples} are needed"
                return self.outcome("too_few", sentence, samples=samples)
        baseline, about = None, ""
        figures: dict[str, Any] = {"samples": samples}
        if self.needs_baseline:
            source = self.against or self.metric
            held = self.baseline_figure(evidence, lambda run: self._figure(run, source))
            if held is None and self.when_no_baseline != "pass" and not any(self.bounds.broken(value, None)):
                return self.outcome("no_baseline", self.tells_baseline_missing(name), value, samples=samples)
            if held is not None and held.value is None:
                sentence = f"{name} cannot be compared: the baseline's {source} {describe_fault(held)}"
                return self.outcome(BASELINE_REASONS[held.fault], sentence, value, samples=samples)
            baseline = held.value if held is not None else None
            if self.last_good and held is not None:
                runs = len(evidence.baselines[self.baseline_subject] or ())
                figures["details"] = {"baseline_runs": runs}
                about = f"; of {self.last_good} good runs there are {runs}" if runs < self.last_good else ""
        shown = f"{name} = {number_text(value, self.unit)}"
        broken = list(self.bounds.broken(value, baseline))
        if broken:
            sentence = f"{shown}: " + "; ".join(text for _, text in broken) + about
            return self.outcome(broken[0][0], sentence, value, baseline=baseline, **figures)
        if self.needs_baseline and baseline is None:
            return self.outcome(
                "no_baseline_allowed", f"{shown}; there is no baseline yet", value, samples=samples
            )
        sentence = f"{shown} satisfies {self.threshold}{about}"
        return self.outcome("passed", sentence, value, baseline=baseline, **figures)

    def agrees(self, outcome: Outcome) -> bool:
        """Return whether an outcome that does not stop follows from its own figures."""
        if self.excused(outcome):
            return outcome.value is None
        if outcome.value is None or (outcome.samples or 0) < (self.min_samples or 0):
            return False
        if self.needs_baseline and outcome.baseline_value is None:
            if not self.excuses_no_baseline(outcome.reason):
                return False
        elif outcome.reason != "passed":
            return False
        return not any(self.bounds.broken(outcome.value, outcome.baseline_value))

    def _figure(self, run: RunEvidence, key: str) -> Figure:
        if self.aggregate is None:
            return measure(look_up(run.summary, key))
        points = run.history.get(key) or ()
        if self.window is not None:
            points = points[-self.window :]
        needed = self.min_samples or self.window or (2 if self.aggregate == "slope" else 1)
        if not points:
            return Figure(None, "missing")
        if len(points) < needed:
            return Figure(None, "too_few", needed, len(points))
        figures = [measure(found) for _, found in points]
        wrong = next((figure for figure in figures if figure.value is None), None)
        if wrong is not None:
            # A point without a figure is not a history that is not there, which 'on_missing' could excuse.
            return wrong if wrong.fault != "missing" else wrong._replace(fault="wrong_type")
        values = [figure.value for figure in figures if figure.value is not None]
        value = _aggregate(self.aggregate, [step for step, _ in points], values)
        if value is None or not is_finite(value):
            return Figure(None, "not_finite", value)
        return Figure(value, samples=len(values))


def _aggregate(aggregate: str, steps: Sequence[float], values: Sequence[float]) -> float | None:
    """Return None where it is not defined: a slope needs steps that differ."""
    if aggregate == "last":
        return values[-1]
    if aggregate in ("min", "max"):
        return min(values) if aggregate == "min" else max(values)
    try:
        center = mean(values)
        if aggregate == "mean":
            return center
        middle = fsum(steps) / len(steps)
        spread = fsum((step - middle) ** 2 for step in steps)
        rise = fsum((step - middle) * (value - center) for step, value in zip(steps, values, strict=True))
    except OverflowError:
        return None
    return rise / spread if spread else None
