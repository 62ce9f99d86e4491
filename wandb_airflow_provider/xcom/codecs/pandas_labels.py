"""The labels of the columns of a ``pandas`` frame: plain text in the index of the value, others as a stream."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.ipc import read_table, unstorable, write_table
from wandb_airflow_provider.xcom.codecs.pandas_categories import category_facts, with_categories
from wandb_airflow_provider.xcom.codecs.pandas_frames import known_types, without_views
from wandb_airflow_provider.xcom.codecs.pandas_indexes import check_index, index_facts, with_freq
from wandb_airflow_provider.xcom.codecs.pandas_objects import NAN, object_column, object_columns, objects_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["read_labels", "write_labels"]

_FILE = "labels.arrows"
_TEXT = ("object", "str", "string")
_MOST_IN_INDEX = 10_000


def write_labels(columns: pd.Index, folder: Path, what: str) -> dict[str, Any]:
    """
    Write labels that are more than a range or plain text, and return what it takes beside the file, as JSON.

    :raises WandbConfigurationError: Arrow would give back others.
    """
    import pandas as pd
    import pyarrow as pa

    names = list(columns.names)
    if isinstance(columns, pd.RangeIndex):
        return {"range": [columns.start, columns.stop, columns.step], "names": names}
    if _is_plain_text(columns):
        # Another file would be two more requests.
        return {"text": list(columns), "dtype": str(columns.dtype), "names": names}
    levels = [columns.get_level_values(level) for level in range(columns.nlevels)]
    what = f"The labels of the columns of {what}"
    frame = pd.DataFrame({str(number): level for number, level in enumerate(levels)})
    objects = object_columns(frame)
    facts = category_facts(frame.items(), what)
    about = {"levels": columns.nlevels, "objects": objects, "categories": facts, "names": names}
    about["freq"] = index_facts(columns)["freq"]
    try:
        plain = pa.Table.from_pandas(frame.drop(columns=objects), preserve_index=False)
        # Without a column, a table has no rows to which another could be added.
        parts = {name: plain[name] for name in plain.column_names}
        for name in objects:
            parts |= object_column(name, list(frame[name]))
        table = pa.table(parts).replace_schema_metadata(plain.schema.metadata)
        check_index(columns, _made(about, table), "it")
        write_table(table, folder / _FILE)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise unstorable(what, error) from error
    return about


def read_labels(labels: Mapping[str, Any], folder: Path) -> pd.Index:
    """
    Return the labels.

    :raises WandbXComRefusedError: they are not what :func:`write_labels` writes; or what pandas raises about them.
    """
    import pandas as pd

    if "range" in labels:
        found: pd.Index = pd.RangeIndex(*labels["range"])
        found.names = labels["names"]
        return found
    if "text" in labels:
        if labels["dtype"] not in _TEXT or any(type(text) is not str for text in labels["text"]):
            raise WandbXComRefusedError(
                "Refused a stored pandas value: the labels of its columns are no text."
            )
        found = pd.Index(labels["text"], dtype=labels["dtype"])
        found.names = labels["names"]
        return found
    return _made(labels, read_table(folder / _FILE))


def _made(labels: Mapping[str, Any], table: pa.Table) -> pd.Index:
    """Return the labels of a table."""
    import pandas as pd

    objects = [name for name in table.column_names if name.removesuffix(NAN) in labels["objects"]]
    others = table.drop_columns(objects)
    frame = others.replace_schema_metadata(known_types(without_views(others.schema)).metadata).to_pandas()
    for name in labels["objects"]:
        without_views(table.select([name]).schema, categories=False)
        frame[name] = pd.Series(objects_of(table, name), dtype=object)
    for name, fact in labels["categories"].items():
        frame[name] = with_categories(frame[name], fact)
    levels = [frame[str(level)] for level in range(labels["levels"])]
    found = (
        pd.Index(levels[0], dtype=levels[0].dtype) if len(levels) == 1 else pd.MultiIndex.from_arrays(levels)
    )
    found.names = labels["names"]
    return with_freq(found, labels.get("freq", ()))


def _is_plain_text(columns: pd.Index) -> bool:
    import pandas as pd

    kind = str(columns.dtype)
    if columns.nlevels > 1 or kind not in _TEXT or len(columns) > _MOST_IN_INDEX:
        return False
    if any(type(label) is not str for label in columns):
        return False
    return bool(pd.Index(list(columns), dtype=kind).dtype == columns.dtype)
