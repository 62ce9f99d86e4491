"""Rules about how old what was measured is. Pure: the time of the judgement is an argument."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import ClassVar

from wandb_airflow_provider.rules.bounds import is_finite, number_text
from wandb_airflow_provider.rules.evidence import (
    EVALUATED,
    Demand,
    Evidence,
    Figure,
    describe_fault,
    look_up,
    measure,
)
from wandb_airflow_provider.rules.outcome import VALUE_REASONS, Outcome
from wandb_airflow_provider.rules.rule import Rule

__all__ = ["AgeRule"]

_CLOCK_SKEW = 300.0
"""Seconds by which another machine's clock may be ahead."""


class AgeRule(Rule):
    """
    How old the evaluated run, or what it tells the time of, may be.

    ``AgeRule(max_age=86400)`` refuses an evaluation of the day before yesterday;
    ``{"kind": "age", "timestamp": "data/exported_at", "max_age": "7 d"}`` refuses data of the week before last.

    :param max_age: In seconds; as text with a unit of time.
    :param timestamp: Metric of the evaluated run's summary that holds a time: seconds since 1970, or ISO 8601 with
        its time zone. Default: when W&B last heard of the run.
    """

    kind: ClassVar[str] = "age"
    quantities: ClassVar[tuple[str, ...]] = ("max_age",)
    unit: ClassVar[str] = "s"

    max_age: float
    timestamp: str | None = None

    def check(self) -> None:
        """Refuse an age that is none."""
        self.require_text("timestamp", optional=True)
        age = self.max_age
        if isinstance(age, bool) or not isinstance(age, int | float) or not is_finite(age) or age <= 0:
            self.refuse(f"'max_age' must be a number of seconds above 0, got {age!r}")

    @property
    def subject(self) -> str:
        """Whose age is judged."""
        return f"age of {self.timestamp or 'the evaluated run'}"

    @property
    def threshold(self) -> str:
        """How old it may be."""
        return f"<= {_duration(self.max_age)}"

    def demands(self) -> Iterator[Demand]:
        """Yield the summary of the evaluated run, whose end comes with it."""
        yield Demand(EVALUATED, "summary")

    def judge(self, evidence: Evidence) -> Outcome:
        """Judge the age. A time without zone, or in the future, fails."""
        figure = self._moment(evidence)
        if figure.value is None:
            return self.outcome(VALUE_REASONS[figure.fault], f"the {self.subject} {describe_fault(figure)}")
        age = evidence.evaluated_at.timestamp() - figure.value
        if age < -_CLOCK_SKEW:
            return self.outcome(
                "in_the_future",
                f"{self.timestamp or 'the evaluated run'} is {_duration(-age)} in the future",
                age,
            )
        if age > self.max_age:
            return self.outcome(
                "stale", f"{self.subject} = {_duration(age)}: must be at most {_duration(self.max_age)}", age
            )
        return self.outcome("passed", f"{self.subject} = {_duration(age)} satisfies {self.threshold}", age)

    def agrees(self, outcome: Outcome) -> bool:
        """Return whether an outcome that does not stop follows from its own figures."""
        if self.excused(outcome):
            return outcome.value is None
        return outcome.value is not None and -_CLOCK_SKEW <= outcome.value <= self.max_age

    def _moment(self, evidence: Evidence) -> Figure:
        if self.timestamp is None:
            ended = evidence.run.ended_at
            return Figure(None, "missing") if ended is None else Figure(ended.timestamp())
        found = look_up(evidence.run.summary, self.timestamp)
        if not isinstance(found, str):
            return measure(found)
        try:
            moment = datetime.fromisoformat(found)
        except ValueError:
            return measure(found)
        return Figure(None, "wrong_type", found) if moment.tzinfo is None else Figure(_seconds(moment))


def _seconds(moment: datetime) -> float:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if abs(seconds) >= size:
            return number_text(round(seconds / size, 2), unit)
    return number_text(round(seconds, 1), "s")
