"""The figures of a run that are shown beside its name: numbers of its summary. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

__all__ = ["key_metrics"]

_MOST = 12
# Of an open run each look asks for the whole summary, about half a millisecond for a hundred keys.
_LOOKED_AT = 24
# Of W&B, of this package, and of a run's stages.
_OTHERS = ("_", "airflow/")
# What `define_metric(..., summary=...)` makes of a figure.
_AGGREGATES = frozenset({"min", "max", "mean", "best", "last", "first"})


def key_metrics(summary: Any) -> dict[str, float]:
    """
    Return at most 12 finite numbers among the first 24 keys of a summary, by name: W&B keeps them in no order.

    What is nested is left out, but for ``{"loss": {"min": 0.1}}``, which W&B makes of
    ``define_metric("loss", summary="min")``: that is ``loss.min``.

    :param summary: A mapping, or the summary of an open run, which is none.
    """
    found: dict[str, float] = {}
    for name, value in _flat(summary):
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf:
            found[name] = value
            if len(found) == _MOST:
                break
    return found


def _flat(summary: Any) -> Iterator[tuple[str, Any]]:
    names = [name for name in summary.keys() if not name.startswith(_OTHERS) and "/airflow/" not in name]  # noqa: SIM118
    for name in sorted(names)[:_LOOKED_AT]:
        value = summary[name]
        # By its class: of the nested part of an open run's summary, an attribute is a key.
        if hasattr(type(value), "keys"):
            yield from ((f"{name}.{key}", value[key]) for key in value.keys() if key in _AGGREGATES)  # noqa: SIM118
        else:
            yield name, value
