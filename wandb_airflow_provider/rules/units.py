"""Bounds written with a unit, ``200 ms`` or ``5 %``, in the unit of the metric. Pure."""

from __future__ import annotations

import re

from wandb_airflow_provider.exceptions import WandbConfigurationError

__all__ = ["SHARE", "parse_quantity"]

SHARE = "share"
"""The unit of relative changes: ``5 %`` is 0.05 of it."""

_FACTORS: dict[str, tuple[str, float]] = {
    "ns": ("time", 1e-9),
    "us": ("time", 1e-6),
    "µs": ("time", 1e-6),
    "ms": ("time", 1e-3),
    "s": ("time", 1.0),
    "min": ("time", 60.0),
    "h": ("time", 3600.0),
    "d": ("time", 86400.0),
    "B": ("bytes", 1.0),
    "kB": ("bytes", 1e3),
    "MB": ("bytes", 1e6),
    "GB": ("bytes", 1e9),
    "TB": ("bytes", 1e12),
    "KiB": ("bytes", 2.0**10),
    "MiB": ("bytes", 2.0**20),
    "GiB": ("bytes", 2.0**30),
    "TiB": ("bytes", 2.0**40),
    "%": ("share", 0.01),
    SHARE: ("share", 1.0),
}
_QUANTITY = r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\s\d].*?)?\s*\Z"


def parse_quantity(text: str, unit: str | None) -> float:
    """
    Return a bound as a number in the unit of its metric.

    A number without a unit is in the metric's own. Units of time, of bytes and ``%`` are converted; any other
    must be the metric's, letter by letter.

    :param unit: The metric's unit; None when it has none.
    :raises WandbConfigurationError: no number, or a unit that is not of the metric's kind.
    """
    found = re.match(_QUANTITY, text)
    if found is None:
        raise WandbConfigurationError(
            f"Expected a number as the bound of a rule, with a unit or without, got {text!r}."
        )
    number, given = float(found[1]), found[2]
    if given is None or given == unit:
        return number
    if unit is None:
        raise WandbConfigurationError(
            f"The bound {text!r} has a unit, and its rule has none: say with 'unit' what the metric is measured in."
        )
    kind, factor = _FACTORS.get(given, (given, 1.0))
    own_kind, own_factor = _FACTORS.get(unit, (unit, 1.0))
    if kind != own_kind:
        raise WandbConfigurationError(
            f"The bound {text!r} cannot be converted to the metric's unit {unit!r}."
        )
    # Divided rather than multiplied by the inverse: "200 ms" is 0.2 s, not 0.19999999999999998 s.
    ratio = own_factor / factor
    return number / ratio if ratio >= 1 else number * (factor / own_factor)
