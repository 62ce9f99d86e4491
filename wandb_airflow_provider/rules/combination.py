"""Rules that hold when all, or any, of others hold. Pure: no network, no clock, no wandb."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from wandb_airflow_provider.rules.evidence import Demand, Evidence
from wandb_airflow_provider.rules.outcome import Outcome
from wandb_airflow_provider.rules.rule import Rule

__all__ = ["AllOf", "AnyOf"]


class _Combination(Rule):
    rules: tuple[Rule, ...]

    joiner: ClassVar[str] = " and "

    def check(self) -> None:
        """Read the rules; refuse none, and any with a severity of its own: it is the combination that stops."""
        from wandb_airflow_provider.rules.parsing import parse_rule

        given: Any = self.rules
        if not isinstance(given, list | tuple) or not given:
            self.refuse(f"'rules' must be a list of rules, got {given!r}")
        vars(self)["rules"] = rules = tuple(parse_rule(rule) for rule in given)
        for rule in rules:
            policies = (rule.on_missing, getattr(rule, "when_no_baseline", "fail"))
            if rule.severity != "block" or "warn" in policies:
                self.refuse(
                    f"the rule {str(rule)!r} in it cannot only warn; give the combination the severity 'warn'"
                )
        if self.on_missing != "fail":
            self.refuse("'on_missing' has no effect on a combination; give it to the rules in it")

    @property
    def subject(self) -> str:
        """What the rules inside are about."""
        return f"{self.kind} of {', '.join(dict.fromkeys(rule.subject for rule in self.rules))}"

    @property
    def threshold(self) -> str:
        """The demands inside."""
        return self.joiner.join(f"({rule})" for rule in self.rules)

    @property
    def needs_baseline(self) -> bool:
        """Whether a rule inside compares with a baseline."""
        return any(rule.needs_baseline for rule in self.rules)

    @property
    def needs_holder(self) -> bool:
        """Whether a rule inside compares with the alias's current holder."""
        return any(rule.needs_holder for rule in self.rules)

    @property
    def needs_scipy(self) -> bool:
        """Whether a rule inside is judged by a statistical test."""
        return any(rule.needs_scipy for rule in self.rules)

    def demands(self) -> Iterator[Demand]:
        """Yield what the rules inside have to see."""
        for rule in self.rules:
            yield from rule.demands()

    @abstractmethod
    def holds(self, parts: tuple[Outcome, ...]) -> bool:
        """Return whether enough of the rules hold."""

    def agrees(self, outcome: Outcome) -> bool:
        """Return whether an outcome that does not stop follows from its parts."""
        same = tuple(part.rule for part in outcome.parts) == self.rules
        return same and outcome.reason == "passed" and self.holds(outcome.parts)


class AllOf(_Combination):
    """
    Hold when every one of the rules holds; alone it says no more than the rules by themselves, within an
    :class:`AnyOf` it does.

    :param rules: The rules; they may be combinations.
    """

    kind: ClassVar[str] = "all"

    def holds(self, parts: tuple[Outcome, ...]) -> bool:
        """Return whether all of the rules hold."""
        return bool(parts) and all(part.passed for part in parts)

    def judge(self, evidence: Evidence) -> Outcome:
        """Judge every rule."""
        parts = tuple(rule.judge(evidence) for rule in self.rules)
        if self.holds(parts):
            return self.outcome("passed", f"all {len(parts)} rules hold", parts=parts)
        broken = "; ".join(part.sentence for part in parts if not part.passed)
        return self.outcome("not_all_hold", broken, parts=parts)


class AnyOf(_Combination):
    """
    Hold when at least one of the rules holds.

    :param rules: The rules; they may be combinations.
    """

    kind: ClassVar[str] = "any"
    joiner: ClassVar[str] = " or "

    def holds(self, parts: tuple[Outcome, ...]) -> bool:
        """Return whether one of the rules holds."""
        return any(part.passed for part in parts)

    def judge(self, evidence: Evidence) -> Outcome:
        """Judge every rule, also after one that holds."""
        parts = tuple(rule.judge(evidence) for rule in self.rules)
        if self.holds(parts):
            # What holds by a figure tells more than what holds because nothing was there.
            held = next((part for part in parts if part.passed and part.saw), None)
            said = held or next(part for part in parts if part.passed)
            return self.outcome("passed", said.sentence, parts=parts)
        return self.outcome(
            "none_holds", "none of these holds: " + "; ".join(part.sentence for part in parts), parts=parts
        )
