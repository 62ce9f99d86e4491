"""What all kinds of rules have in common. Pure: no network, no clock, no wandb."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from inspect import get_annotations
from typing import Any, ClassVar, Literal, NoReturn, Self, dataclass_transform

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.rules.evidence import Demand, Evidence
from wandb_airflow_provider.rules.outcome import ALLOWED, MISSING, Outcome, Reason

__all__ = ["Rule"]

_MISSING_POLICIES = ("fail", "warn", "pass")


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=True)
class Rule:
    """
    One demand on a candidate.

    A subclass declares its options as annotated class attributes, as with ``dataclasses``, whose generated code
    would cost every parse of a DAG file milliseconds for each class.

    :param severity: ``block`` stops a candidate that breaks the rule; ``warn`` only reports it.
    :param on_missing: What to make of a figure that is absent, or rests on too few values: ``fail``, ``warn`` or
        ``pass``. One that is there and no finite number always fails.
    """

    kind: ClassVar[str]
    fields: ClassVar[dict[str, Any]] = {}
    """Options and their defaults; ``...`` stands for none."""
    quantities: ClassVar[tuple[str, ...]] = ()
    """Options that may be text holding a number and its unit, as YAML and templates write it."""

    severity: Literal["block", "warn"] = "block"
    on_missing: Literal["fail", "warn", "pass"] = "fail"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = {
            name: vars(cls).get(name, ...)
            for name, annotation in get_annotations(cls).items()
            if not str(annotation).startswith("ClassVar")
        }
        common = cls.__mro__[1].fields or {"severity": "block", "on_missing": "fail"}  # type: ignore[attr-defined]
        cls.fields = {**own, **common}

    def __init__(self, **options: Any) -> None:
        unknown = sorted(options.keys() - self.fields.keys())
        absent = sorted(
            name for name, default in self.fields.items() if default is ... and name not in options
        )
        if unknown or absent:
            wrong = f"has unknown options {unknown}" if unknown else f"lacks {', '.join(map(repr, absent))}"
            raise WandbConfigurationError(
                f"The {self.kind} rule {options!r} {wrong}; known are {list(self.fields)}."
            )
        values = {name: options.get(name, default) for name, default in self.fields.items()}
        vars(self).update(values)
        if self.severity not in ("block", "warn"):
            self.refuse(f"'severity' must be 'block' or 'warn', got {self.severity!r}")
        self.require_policy("on_missing")
        self.check()

    def check(self) -> None:
        """Refuse options that contradict each other or have no effect."""

    @property
    @abstractmethod
    def subject(self) -> str:
        """What is judged, as a person reads it."""

    @property
    @abstractmethod
    def threshold(self) -> str:
        """What is demanded of it, as a person reads it."""

    @abstractmethod
    def demands(self) -> Iterator[Demand]:
        """Yield what has to be read to judge the rule."""

    @abstractmethod
    def judge(self, evidence: Evidence) -> Outcome:
        """Judge the rule. What was not seen, or is no finite number, does not pass for one that was."""

    @abstractmethod
    def agrees(self, outcome: Outcome) -> bool:
        """Return whether an outcome that does not stop follows from its own figures."""

    @property
    def needs_baseline(self) -> bool:
        """Whether the rule compares with a baseline."""
        return False

    @property
    def needs_holder(self) -> bool:
        """Whether the rule compares with figures of the alias's current holder."""
        return False

    @property
    def needs_scipy(self) -> bool:
        """Whether the rule is judged by a statistical test."""
        return False

    def tolerates(self, reason: str) -> bool:
        """Return whether the rule's own policy makes a warning of what was not there."""
        if reason in MISSING:
            return self.on_missing == "warn"
        return reason == "no_baseline" and getattr(self, "when_no_baseline", "fail") == "warn"

    def outcome(self, reason: Reason, sentence: str, value: float | None = None, **figures: Any) -> Outcome:
        """Return an outcome of this rule, once ``on_missing`` has had its say."""
        if reason in MISSING and self.on_missing == "pass":
            reason, sentence = "missing_allowed", f"{sentence}, which the rule allows"
        baseline = figures.pop("baseline", None)
        return Outcome(self, value, baseline, reason in ALLOWED, reason, sentence, **figures)

    def excused(self, outcome: Outcome) -> bool:
        """Return whether an outcome's reason is one that the rule's own policy lets pass, or makes a warning."""
        if outcome.reason == "missing_allowed":
            return self.on_missing == "pass"
        return outcome.reason in MISSING and self.tolerates(outcome.reason)

    def refuse(self, what: str) -> NoReturn:
        """
        Refuse the rule.

        :raises WandbConfigurationError: always.
        """
        raise WandbConfigurationError(f"The rule on {self._label()} is wrong: {what}.")

    def require_policy(self, option: str) -> None:
        """Refuse a policy that is none."""
        if getattr(self, option) not in _MISSING_POLICIES:
            self.refuse(f"{option!r} must be 'fail', 'warn' or 'pass', got {getattr(self, option)!r}")

    def require_text(self, option: str, *, optional: bool = False) -> None:
        """Refuse an option that is not a name."""
        value = getattr(self, option)
        if optional and value is None:
            return
        if not isinstance(value, str) or not value.strip():
            self.refuse(f"{option!r} must be text that is not empty, got {value!r}")

    def require_count(self, option: str, least: int = 1) -> None:
        """Refuse an option that is neither None nor a whole number of at least so many."""
        value = getattr(self, option)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            self.refuse(f"{option!r} must be a whole number of at least {least}, got {value!r}")

    def _label(self) -> str:
        for name in ("metric", "table"):
            if isinstance(value := getattr(self, name, None), str):
                return f"{name} {value!r}"
        return f"{self.kind!r}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON value: the kind, unless it is ``metric``, and the options that are not the default."""
        given = {n: v for n, default in self.fields.items() if (v := getattr(self, n)) != default}
        named = {} if self.kind == "metric" else {"kind": self.kind}
        return named | {name: self._option_json(value) for name, value in given.items()}

    @staticmethod
    def _option_json(value: Any) -> Any:
        if isinstance(value, Rule):
            return value.to_dict()
        return [Rule._option_json(item) for item in value] if isinstance(value, tuple) else value

    @classmethod
    def from_dict(cls, value: Any) -> Self:
        """
        Build a rule of this kind from its JSON value, in which a quantity may be text.

        :raises WandbConfigurationError: not a mapping, another kind, an unknown option, or a wrong rule.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise WandbConfigurationError(f"Expected a rule as a mapping of its options, got {value!r}.")
        options = {str(key): tuple(v) if isinstance(v, list) else v for key, v in value.items()}
        if (kind := options.pop("kind", cls.kind)) != cls.kind:
            raise WandbConfigurationError(f"Expected a rule of the kind {cls.kind!r}, got one of {kind!r}.")
        unit = options.get("unit", getattr(cls, "unit", None))
        for key in cls.quantities:
            if isinstance(text := options.get(key), str):
                from wandb_airflow_provider.rules.units import parse_quantity

                options[key] = parse_quantity(text, cls.unit_of(key, unit, options))
        return cls(**options)

    @classmethod
    def unit_of(cls, option: str, unit: Any, options: Mapping[str, Any]) -> str | None:
        """Return the unit in which an option is kept."""
        return unit if isinstance(unit, str) else None

    def __str__(self) -> str:
        return f"{self.subject} {self.threshold}"

    def __repr__(self) -> str:
        given = {n: v for n, default in self.fields.items() if (v := getattr(self, n)) != default}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"A rule cannot be changed; make a new one instead of setting {name!r}.")
