"""Categories of ``pandas`` columns: what Arrow forgets of them, by name, and how a reader puts it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.ipc import unstorable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["category_facts", "with_categories"]

# What a stored name may make of categories; any other could make a type of a gigabyte for each.
_DTYPES = ("object", "string")


def category_facts(columns: Iterable[tuple[str, pd.Series]], what: str) -> dict[str, dict[str, Any]]:
    """
    Return what it takes beside Arrow to give back the categories of columns, by the names of these.

    :raises WandbConfigurationError: Arrow would give back others.
    """
    import pandas as pd

    found = {}
    for name, column in columns:
        if isinstance(column.dtype, pd.CategoricalDtype):
            fact = _fact(column.dtype.categories, what)
            if any(fact.values()):
                found[name] = fact
    return found


def with_categories(column: pd.Series, fact: Mapping[str, Any]) -> pd.Series:
    """
    Return a column with the categories that it had.

    :raises WandbXComRefusedError: the fact is none of this module.
    """
    import pandas as pd

    if not isinstance(column.dtype, pd.CategoricalDtype):
        raise WandbXComRefusedError(f"Refused a stored pandas value: {column.dtype} has no categories.")
    return column.cat.rename_categories(_restored(column.dtype.categories, fact))


def _fact(categories: pd.Index, what: str) -> dict[str, Any]:
    import pandas as pd
    import pyarrow as pa

    freq = categories.freq if isinstance(categories, pd.DatetimeIndex | pd.TimedeltaIndex) else None
    fact = {"dtype": None, "freq": None if freq is None else freq.freqstr}
    try:
        codes = pa.array([], pa.int8())
        words = pa.DictionaryArray.from_arrays(codes, pa.array(categories, from_pandas=True))
        back = pa.table({"0": words}).to_pandas()["0"].dtype.categories
        if back.dtype != categories.dtype and str(categories.dtype) in _DTYPES:
            fact["dtype"] = str(categories.dtype)
        back = _restored(back, fact)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise unstorable(what, f"it has categories of the type {categories.dtype}: {error}") from error
    same = back.dtype == categories.dtype and back.equals(categories)
    if not same or any(type(one) is not type(other) for one, other in zip(back, categories, strict=True)):
        raise unstorable(
            what, f"it has categories of the type {categories.dtype}, which would come back as {back.dtype}"
        )
    return fact


def _restored(categories: pd.Index, fact: Mapping[str, Any]) -> pd.Index:
    if fact["dtype"] is not None:
        if fact["dtype"] not in _DTYPES:
            raise WandbXComRefusedError(
                f"Refused a stored pandas value: it has categories of {fact['dtype']!r}."
            )
        categories = categories.astype(fact["dtype"])
    if fact["freq"] is not None:
        categories = categories.copy()
        categories.freq = fact["freq"]
    return categories
