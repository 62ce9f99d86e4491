"""Rules that ask whether a change is more than noise, by per-example results. Pure but for scipy's arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from wandb_airflow_provider.record import Record
from wandb_airflow_provider.rules.bounds import change_text, is_finite, number_text
from wandb_airflow_provider.rules.comparison import ComparingRule
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
from wandb_airflow_provider.rules.outcome import BASELINE_REASONS, VALUE_REASONS, Outcome, Reason

__all__ = ["PairedRule"]

_LEAST_PAIRS = 30
_MAX_RESAMPLES = 1_000_000


class PairedRule(ComparingRule):
    """
    Whether the candidate is better than its baseline, or not worse by more than a margin, beyond noise.

    Both must have been measured on the same examples, one row for each: in two tables, or in two columns of one.
    ``PairedRule(table="eval/ranks", column="reciprocal_rank", key="query_id", change_above=-0.01)`` holds when,
    with 95 % confidence, the mean reciprocal rank has fallen by less than 0.01 against the current holder. The
    mean difference is tested by a paired bootstrap or a permutation test; see
    :func:`~wandb_airflow_provider.rules.paired_tests.paired_test`. Needs the extra ``statistics``.

    :param table: Key under which the evaluated run logged the per-example results.
    :param column: Column of numbers; true and false count as 1 and 0.
    :param key: Column that names the example. Needed to pair the rows of two tables.
    :param change_above: The true mean change must be more than this; negative allows a loss.
    :param change_below: The true mean change must be less than this, where small figures are good.
    :param test: ``bootstrap`` or ``permutation``.
    :param confidence: 0.95 lets one candidate in twenty pass whose true change is exactly the bound.
    :param min_samples: Fewer pairs are too few.
    :param max_unpaired: Share of the examples of either side that the other may lack.
    :param resamples: How often to resample.
    :param seed: Of the resampling.
    :param against: Key of another table of the *evaluated run itself*. Default: the table of the same name of the
        run that evaluated the alias's current holder.
    :param against_column: Column of the same table that holds the baseline's figures, instead.
    :param baseline_run: ``entity/project/run_id`` of the run to compare with.
    """

    kind: ClassVar[str] = "paired"
    quantities: ClassVar[tuple[str, ...]] = ("change_above", "change_below")

    table: str
    column: str
    key: str | None = None
    change_above: float | None = None
    change_below: float | None = None
    test: Literal["bootstrap", "permutation"] = "bootstrap"
    confidence: float = 0.95
    min_samples: int = _LEAST_PAIRS
    max_unpaired: float = 0.0
    resamples: int = 9999
    seed: int = 0
    against_column: str | None = None
    unit: str | None = None

    def check(self) -> None:
        """Refuse options that contradict each other or have no effect."""
        for option in ("table", "column"):
            self.require_text(option)
        for option in ("key", "against_column", "unit"):
            self.require_text(option, optional=True)
        if (self.change_above is None) == (self.change_below is None):
            self.refuse("give either change_above or change_below")
        if (
            isinstance(self.bound, bool)
            or not isinstance(self.bound, int | float)
            or not is_finite(self.bound)
        ):
            self.refuse(f"the bound of the change must be a finite number, got {self.bound!r}")
        if self.test not in ("bootstrap", "permutation"):
            self.refuse(f"'test' must be 'bootstrap' or 'permutation', got {self.test!r}")
        if not isinstance(self.confidence, float) or not 0.5 < self.confidence < 1:
            self.refuse(f"'confidence' must lie between 0.5 and 1, got {self.confidence!r}")
        share = self.max_unpaired
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            self.refuse(f"'max_unpaired' must be a share of at least 0 and less than 1, got {share!r}")
        for option, least in (("min_samples", 2), ("resamples", 99), ("seed", 0)):
            self.require_count(option, least)
            if getattr(self, option) is None:
                self.refuse(f"{option!r} must be a whole number, got None")
        if self.resamples > _MAX_RESAMPLES or (1 - self.confidence) * (self.resamples + 1) < 1:
            self.refuse(
                f"{self.resamples} resamples cannot show a confidence of {self.confidence}, or are too many"
            )
        if self.against_column is not None and (self.against or self.baseline_run):
            self.refuse("give 'against_column', 'against' or 'baseline_run', not two of them")
        if self.against_column == self.column or self.against == self.table:
            self.refuse("it is compared with itself: 'against' and 'against_column' must be others")
        if self.against_column is None and self.key is None:
            self.refuse("'key' is needed to pair the rows of two tables: name the column of the example's id")
        self.check_comparison()

    @property
    def bound(self) -> Any:
        """The change that must be exceeded."""
        return self.change_above if self.change_above is not None else self.change_below

    @property
    def alternative(self) -> Literal["greater", "less"]:
        """On which side of the bound the change must lie."""
        return "greater" if self.change_above is not None else "less"

    @property
    def needs_baseline(self) -> bool:
        """Whether the rule compares with a baseline: always."""
        return True

    @property
    def needs_holder(self) -> bool:
        """Whether the rule compares with the alias's current holder."""
        return self.against_column is None and super().needs_holder

    @property
    def needs_scipy(self) -> bool:
        """Whether the rule is judged by a statistical test: always."""
        return True

    @property
    def subject(self) -> str:
        """The figure whose change is tested."""
        return f"mean {self.column} of {self.table}"

    @property
    def threshold(self) -> str:
        """The change, and how sure it must be."""
        sign = ">" if self.alternative == "greater" else "<"
        versus = f" against column {self.against_column}" if self.against_column else self.versus
        sure = f"{self.confidence * 100:.6g} % confidence ({self.test})"
        return f"change {sign} {change_text(self.bound, unit=self.unit)}{versus} with {sure}"

    def demands(self) -> Iterator[Demand]:
        """Yield the tables of per-example results."""
        yield Demand(EVALUATED, "table", self.table)
        if self.against_column is None:
            yield Demand(self.baseline_subject, "table", self.against or self.table)

    def judge(self, evidence: Evidence) -> Outcome:
        """Pair the examples, and test the mean difference."""
        mine = self._values(evidence.run, self.table, self.column)
        if isinstance(mine, _Unusable):
            reason = mine.reason or VALUE_REASONS[mine.figure.fault]
            return self.outcome(reason, f"the evaluated run's table {self.table!r} {mine.text}")
        value = mean(list(mine.values()))
        theirs = self._baseline(evidence)
        if theirs is None:
            if len(mine) < self.min_samples:
                return self._too_few(len(mine), "examples")
            if self.when_no_baseline == "pass":
                shown = f"{self.subject} = {number_text(value, self.unit)}; there is no baseline yet"
                return self.outcome("no_baseline_allowed", shown, value, samples=len(mine))
            missing = self.tells_baseline_missing(self.subject)
            return self.outcome("no_baseline", missing, value, samples=len(mine))
        if isinstance(theirs, _Unusable):
            reason = theirs.reason or BASELINE_REASONS[theirs.figure.fault]
            return self.outcome(
                reason, f"{self.subject} cannot be compared: the baseline {theirs.text}", value
            )
        keys = [key for key in mine if key in theirs]
        alone = max(1 - len(keys) / len(mine), 1 - len(keys) / len(theirs))
        if alone > self.max_unpaired:
            sentence = (
                f"{self.subject}: of {len(mine)} examples of the candidate and {len(theirs)} of the baseline, "
                f"{len(keys)} are the same"
            )
            return self.outcome("pairs_incomplete", sentence, value, samples=len(keys))
        if len(keys) < self.min_samples:
            return self._too_few(len(keys), "pairs")
        return self._tested([mine[key] for key in keys], [theirs[key] for key in keys])

    def _too_few(self, count: int, what: str) -> Outcome:
        sentence = f"{self.subject} rests on {count} {what}, {self.min_samples} are needed"
        return self.outcome("too_few", sentence, samples=count)

    def _tested(self, mine: list[float], theirs: list[float]) -> Outcome:
        from wandb_airflow_provider.rules.paired_tests import paired_test

        found = paired_test(
            mine,
            theirs,
            test=self.test,
            alternative=self.alternative,
            margin=self.bound,
            confidence=self.confidence,
            resamples=self.resamples,
            seed=self.seed,
        )
        details = {"test": self.test, "confidence": self.confidence} | {
            name: figure for name, figure in found._asdict().items() if figure is not None
        }
        change = change_text(found.change, unit=self.unit)
        if found.limit is not None:
            side = "above" if self.alternative == "greater" else "below"
            limit = change_text(found.limit, unit=self.unit)
            tested = f"with {self.confidence * 100:.6g} % confidence {side} {limit}"
        else:
            tested = f"p = {found.p_value:.4g}"
        value, baseline = mean(mine), mean(theirs)
        shown = f"{self.subject} changed by {change} from {number_text(baseline, self.unit)} on {len(mine)} examples, "
        figures = {"baseline": baseline, "samples": len(mine), "details": details}
        if self._shown(details):
            return self.outcome("passed", shown + tested, value, **figures)
        needed = f"; needed: {self.threshold}"
        return self.outcome("change_not_shown", shown + tested + needed, value, **figures)

    def _shown(self, details: Any) -> bool:
        """Return whether the test's figures say that the change lies beyond the bound."""
        if self.test == "permutation":
            p_value = details.get("p_value")
            return isinstance(p_value, float) and p_value <= 1 - self.confidence + 1e-12
        limit = details.get("limit")
        if not isinstance(limit, float):
            return False
        # A NaN is on neither side.
        return bool(limit > self.bound if self.alternative == "greater" else limit < self.bound)

    def agrees(self, outcome: Outcome) -> bool:
        """Return whether an outcome that does not stop follows from its own figures."""
        if self.excused(outcome):
            return outcome.value is None
        if outcome.value is None:
            return False
        enough = (outcome.samples or 0) >= self.min_samples
        if outcome.baseline_value is None:
            return enough and self.excuses_no_baseline(outcome.reason)
        return outcome.reason == "passed" and enough and self._shown(outcome.details)

    def _baseline(self, evidence: Evidence) -> dict[Any, float] | _Unusable | None:
        if self.against_column:
            return self._values(evidence.run, self.table, self.against_column)
        if self.against:
            found = self._values(evidence.run, self.against, self.column)
            # A table that is there, and has no such column or no rows, is a baseline that lacks its figures.
            missing = isinstance(found, _Unusable) and found.figure.fault == "missing"
            absent = missing and self.against not in evidence.run.tables
            return None if absent and not evidence.has_holder else found
        runs = evidence.baselines.get(self.baseline_subject, ())
        if runs is None:
            return None
        return self._values(runs[0], self.table, self.column) if runs else _unusable(Figure(None, "missing"))

    def _values(self, run: RunEvidence, name: str, column: str) -> dict[Any, float] | _Unusable:
        """Return the figure of each example."""
        table = run.tables.get(name)
        if table is None:
            entry = measure(look_up(run.summary, name))
            return _unusable(entry if entry.value is None else Figure(None, "wrong_type", entry.value))
        wanted = [column] if self.key is None else [column, self.key]
        absent = [title for title in wanted if title not in table.columns]
        if absent:
            return _Unusable(Figure(None, "missing"), f"has no column {', '.join(map(repr, absent))}")
        cells = table.column(column) or []
        names = (table.column(self.key) or []) if self.key else range(len(cells))
        keys = [str(name) for name in names]
        if not cells:
            return _Unusable(Figure(None, "missing"), "has no rows")
        # Two rows that nobody named need not be the same example.
        if any(name is None or name != name for name in names):
            return _Unusable(Figure(None), f"has a row without {self.key!r}", "pairs_ambiguous")
        if len(set(keys)) < len(keys):
            return _Unusable(Figure(None), f"has the same {self.key!r} in several rows", "pairs_ambiguous")
        figures = [measure(cell, truths=True) for cell in cells]
        wrong = next((figure for figure in figures if figure.value is None), None)
        if wrong is not None:
            # One cell without a figure is not a table that is not there, which 'on_missing' could excuse.
            reason: Reason | None = "pairs_incomplete" if wrong.fault == "missing" else None
            return _Unusable(wrong, f"has a row whose {column} {describe_fault(wrong)}", reason)
        return {
            key: figure.value for key, figure in zip(keys, figures, strict=True) if figure.value is not None
        }


class _Unusable(Record):
    """Why a table's figures cannot be compared."""

    figure: Figure
    text: str
    reason: Reason | None = None


def _unusable(figure: Figure) -> _Unusable:
    return _Unusable(figure, describe_fault(figure))
