"""Which metric is drawn over which: what ``run.define_metric`` has said. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STEP = "_step"
# Numbers of the fields of the SDK's message MetricRecord, by which a config names them.
_NAME, _GLOB, _STEP_METRIC, _STEP_INDEX, _OPTIONS = "1", "2", "4", "5", "6"
_HIDDEN_OPTION = 2


@dataclass(frozen=True)
class StepAxes:
    """
    The axes of a run's metrics.

    :param exact: By metric: the metric to draw it over, or None for the run's own steps.
    :param globs: The same by the beginning of names, as ``val/*`` gives it.
    :param hidden: Metrics that are not to be drawn.
    """

    exact: dict[str, str | None] = field(default_factory=dict)
    globs: list[tuple[str, str | None]] = field(default_factory=list)
    hidden: frozenset[str] = frozenset()

    @classmethod
    def of(cls, defined: Any) -> StepAxes:
        """Read what the SDK has put into a run's config; entries of another shape count as absent."""
        entries = [item for item in defined if isinstance(item, Mapping)] if isinstance(defined, list) else []
        exact: dict[str, str | None] = {}
        globs: list[tuple[str, str | None]] = []
        hidden = set()
        for entry in entries:
            name, glob = entry.get(_NAME), entry.get(_GLOB)
            axis = _axis(entry, defined)
            if isinstance(name, str):
                exact[name] = axis
                if _HIDDEN_OPTION in _options(entry):
                    hidden.add(name)
            elif isinstance(glob, str) and glob.endswith("*"):
                globs.append((glob[:-1], axis))
        return cls(exact, globs, frozenset(hidden))

    def axis(self, key: str) -> str:
        """Return the metric to draw a metric over; ``_step`` for the run's own steps."""
        found = self.exact.get(key)
        if found is None and key not in self.exact:
            found = next((axis for start, axis in self.globs if key.startswith(start) and axis != key), None)
        return found or STEP


def _axis(entry: Mapping[str, Any], defined: list[Any]) -> str | None:
    named = entry.get(_STEP_METRIC)
    if isinstance(named, str):
        return named
    position = entry.get(_STEP_INDEX)
    # Counted from 1.
    if isinstance(position, int) and 0 < position <= len(defined):
        step = defined[position - 1]
        found = step.get(_NAME) if isinstance(step, Mapping) else None
        return found if isinstance(found, str) else None
    return None


def _options(entry: Mapping[str, Any]) -> list[Any]:
    options = entry.get(_OPTIONS)
    return options if isinstance(options, list) else []
