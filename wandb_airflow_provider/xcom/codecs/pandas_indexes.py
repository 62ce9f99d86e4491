"""The index of a ``pandas`` frame: its levels are stored as columns are, and so come back with their dtypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbXComRefusedError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_index", "index_facts", "is_level", "levels_of", "made_index", "with_freq"]

_LEVEL = "level "


def is_level(name: str) -> bool:
    """Say whether a stored column is a level of the index; those of the frame are named by their position."""
    return name.startswith(_LEVEL)


def index_facts(index: pd.Index) -> dict[str, Any]:
    """Return what it takes beside the levels to make an index; JSON, if its names are."""
    import pandas as pd

    facts: dict[str, Any] = {"names": list(index.names), "levels": index.nlevels, "freq": []}
    if isinstance(index, pd.RangeIndex):
        return {**facts, "levels": 0, "range": [index.start, index.stop, index.step]}
    several = isinstance(index, pd.MultiIndex)
    levels = _levels(index)
    freq = [_freq(level) for level in levels]
    if several and any(freq):
        # A reader finds the values that are in use, which need not follow each other as all of a level do.
        used = [len(level) for level in index.remove_unused_levels().levels]
        freq = [
            one if len(level) == in_use else None
            for one, level, in_use in zip(freq, levels, used, strict=True)
        ]
    return {**facts, "several": several, "freq": freq}


def levels_of(index: pd.Index) -> dict[str, pd.Series]:
    """Return the levels of an index as columns; none of a range."""
    import pandas as pd

    if isinstance(index, pd.RangeIndex):
        return {}
    rows = pd.RangeIndex(len(index))
    levels = [index.get_level_values(number) for number in range(index.nlevels)]
    return {
        f"{_LEVEL}{number}": pd.Series(level.array, rows, level.dtype, copy=False)
        for number, level in enumerate(levels)
    }


def made_index(facts: Mapping[str, Any], levels: Mapping[str, pd.Series]) -> pd.Index:
    """
    Return the index that was stored.

    :param levels: Its columns, as they were read.
    :raises WandbXComRefusedError: they are not those that it has.
    """
    import pandas as pd

    names = [f"{_LEVEL}{number}" for number in range(len(levels))]
    if set(names) != set(levels) or facts["levels"] != len(names) or (not names and "range" not in facts):
        raise WandbXComRefusedError(
            f"Refused a stored pandas value: its index has the levels {sorted(levels)[:5]}."
        )
    if not names:
        index: pd.Index = pd.RangeIndex(*facts["range"])
    elif facts["several"]:
        index = pd.MultiIndex.from_arrays([_index(levels[name]) for name in names])
    else:
        index = _index(levels[names[0]])
    index.names = list(facts["names"])
    return with_freq(index, facts["freq"])


def with_freq(index: pd.Index, freqs: Sequence[str | None]) -> pd.Index:
    """Return an index whose levels follow each other as they did."""
    import pandas as pd

    for number, freq in enumerate(freqs):
        if freq is not None and isinstance(index, pd.MultiIndex):
            level = index.levels[number].copy()
            level.freq = freq
            index = index.set_levels(level, level=number, verify_integrity=False)
        elif freq is not None:
            index.freq = freq
    return index


def check_index(index: pd.Index, back: pd.Index, what: str = "its index") -> None:
    """
    Compare an index with what a reader makes of it.

    :raises ValueError: it is another one.
    """
    dtypes, found = ([str(level.dtype) for level in _levels(one)] for one in (index, back))
    equal = all(one.dtype == other.dtype for one, other in zip(_levels(index), _levels(back), strict=True))
    if not equal or type(index) is not type(back) or not index.equals(back):
        raise ValueError(f"{what} of {dtypes} would come back as one of {found}")
    # Levels of which some values are not in use are the reader's own.
    freq, other_freq = getattr(index, "freq", None), getattr(back, "freq", None)
    if freq != other_freq:
        raise ValueError(f"{what} with {freq!r} would come back with {other_freq!r}")


def _index(level: pd.Series) -> pd.Index:
    import pandas as pd

    return pd.Index(level.array, dtype=level.dtype)


def _freq(level: pd.Index) -> str | None:
    import pandas as pd

    # The freq of periods is part of their dtype.
    timed = isinstance(level, pd.DatetimeIndex | pd.TimedeltaIndex)
    return str(level.freq.freqstr) if timed and level.freq is not None else None


def _levels(index: pd.Index) -> list[pd.Index]:
    import pandas as pd

    return list(index.levels) if isinstance(index, pd.MultiIndex) else [index]
