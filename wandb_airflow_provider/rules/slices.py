"""The slices of a table: its rows by the values of some of its columns. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from wandb_airflow_provider.rules.evidence import TableData

__all__ = ["WHOLE", "Slice", "slice_names", "slices_of"]

Slice: TypeAlias = tuple[tuple[str, str], ...]
"""What the rows of a slice have in common: of each column the type and the text of the value."""
WHOLE: Slice = ()
"""The one slice of a table that is not cut."""


def slices_of(table: TableData, by: Sequence[str]) -> dict[Slice, list[int]]:
    """
    Return the places of the rows of each slice.

    Rows are of one slice when their values are of the same types and the same, not when they read the same: ``None``
    and the word "None" are two, and so are "a, b" beside "c" and "a" beside "b, c".
    """
    columns = [table.column(name) or [] for name in by]
    found: dict[Slice, list[int]] = {}
    for index in range(len(table.rows)):
        found.setdefault(tuple(_mark(cells[index]) for cells in columns), []).append(index)
    return dict(sorted(found.items()))


def slice_names(slices: Iterable[Slice]) -> dict[Slice, str]:
    """Return a name for each slice, no two alike: its values; where two would read the same, with quotes."""
    plain = {key: ", ".join(text for _, text in key) if key else "all" for key in slices}
    often = Counter(plain.values())
    names = {key: name if often[name] == 1 else _quoted(key) for key, name in plain.items()}
    return names if len(set(names.values())) == len(names) else {key: _quoted(key) for key in plain}


def _mark(value: Any) -> tuple[str, str]:
    return type(value).__name__, str(value)


def _quoted(key: Slice) -> str:
    return ", ".join(repr(text) if kind == "str" else text for kind, text in key)
