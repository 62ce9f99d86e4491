"""``pandas`` data frames and series, with index, labels, dtypes, categories, time zones and nested columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.base import Codec, is_exactly
from wandb_airflow_provider.xcom.codecs.ipc import (
    check_streams,
    describe_streams,
    read_table,
    unstorable,
    write_table,
)
from wandb_airflow_provider.xcom.codecs.pandas_categories import category_facts, with_categories
from wandb_airflow_provider.xcom.codecs.pandas_frames import converted, known_types, read_frame, without_views
from wandb_airflow_provider.xcom.codecs.pandas_indexes import (
    check_index,
    index_facts,
    is_level,
    levels_of,
    made_index,
)
from wandb_airflow_provider.xcom.codecs.pandas_integers import narrowed_bytes, narrowing
from wandb_airflow_provider.xcom.codecs.pandas_labels import read_labels, write_labels
from wandb_airflow_provider.xcom.codecs.pandas_objects import NAN, object_column, object_columns, objects_of
from wandb_airflow_provider.xcom.codecs.pandas_repeats import spelled_bytes, storing_once
from wandb_airflow_provider.xcom.index import UNPACKED_BYTES
from wandb_airflow_provider.xcom.settings import Limits

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["PandasCodec"]

_DATA, _OTHERS = "table.arrows", "others.arrows"
_AT_A_TIME = 4


class PandasCodec(Codec):
    """
    Frames and series as Arrow streams.

    Columns are stored by position and their labels beside them, so that labels of any type, several levels of them
    and repeated ones come back; levels of an index are columns, too. A column of Python objects is passed if Arrow
    gives back the same objects.
    """

    name = "pandas"

    def accepts(self, value: Any) -> bool:
        """Accept frames and series, and no subclasses, which would come back as something else."""
        return is_exactly(value, "pandas", "DataFrame", "Series")

    def write(self, value: Any, folder: Path) -> Mapping[str, Any]:
        """Write the frame."""
        import pandas as pd
        import pyarrow as pa

        what = f"A pandas {type(value).__name__}"
        meta: dict[str, Any] = {"series": isinstance(value, pd.Series), "attrs": dict(value.attrs)}
        frame = value.to_frame() if isinstance(value, pd.Series) else value.copy(deep=False)
        frame.attrs = {}
        frame.flags.allows_duplicate_labels = True
        if not value.flags.allows_duplicate_labels:
            meta["no_duplicates"] = True
        meta["name"] = value.name if isinstance(value, pd.Series) else None
        meta["index"] = index_facts(frame.index)
        meta["labels"] = None if meta["series"] else write_labels(frame.columns, folder, what)
        _check_json(meta, what)
        index = frame.index
        frame.columns = pd.RangeIndex(frame.shape[1]).astype(str)
        frame.index = pd.RangeIndex(len(index))
        for name, level in levels_of(index).items():
            frame[name] = level
        meta["categories"] = category_facts(frame.items(), what)
        objects = object_columns(frame)
        arrow = [str(name) for name, dtype in frame.dtypes.items() if isinstance(dtype, pd.ArrowDtype)]
        meta["arrow"] = arrow
        try:
            columns: dict[str, Any] = {name: pa.chunked_array(pa.array(frame[name])) for name in arrow}
            for name in objects:
                columns |= object_column(name, list(frame[name]))
            others = pa.table(columns)
            plain = frame.drop(columns=[*objects, *arrow]) if columns else frame
            table = pa.Table.from_pandas(plain, preserve_index=False)
            _check_types(plain, table)
            check_index(index, made_index(meta["index"], _levels(table, others, meta)))
            table, facts = _small(table, plain)
            meta |= facts
            write_table(table, folder / _DATA)
            if columns:
                write_table(others, folder / _OTHERS)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise unstorable(what, error) from error
        about = describe_streams(folder)
        types = {name: (str(plain[name].dtype), table.schema.field(name).type) for name in meta["narrow"]}
        about[UNPACKED_BYTES] += narrowed_bytes(meta["narrow"], len(index), types)
        about[UNPACKED_BYTES] += sum(spelled_bytes(table[name]) for name in meta["repeated"])
        return {**meta, **about}

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        """Return the frame, whose memory is its own."""
        import pandas as pd

        found = check_streams(folder, meta, limits)
        if _DATA not in found:
            raise WandbXComRefusedError(f"Refused a stored pandas value: it has no file {_DATA!r}.")
        more = meta.get(UNPACKED_BYTES, 0) - sum(stream.unpacked_bytes for stream in found.values())
        try:
            frame, levels = read_frame(folder / _DATA, found[_DATA], meta["narrow"], meta["repeated"], more)
            if _OTHERS in found:
                others = _others(read_table(folder / _OTHERS), meta)
                levels |= {name: column for name, column in others.items() if is_level(name)}
                frame = _with_others(frame, others)
            for name, fact in meta["categories"].items():
                place = levels if is_level(name) else frame
                place[name] = with_categories(place[name], fact)
            index = made_index(meta["index"], levels)
            if frame.shape[1]:
                frame.index = index
            else:
                frame = pd.DataFrame(index=index)
            if meta["series"]:
                value: Any = frame.iloc[:, 0].rename(meta["name"])
            else:
                frame.columns = read_labels(meta["labels"], folder)
                value = frame
            value.attrs = dict(meta["attrs"])
            if meta.get("no_duplicates"):
                value.flags.allows_duplicate_labels = False
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise WandbXComRefusedError(f"Refused a stored pandas value: {error!r}.") from error
        return value


def _small(table: pa.Table, frame: pd.DataFrame) -> tuple[pa.Table, dict[str, Any]]:
    """Return a table of a frame with less to compress, and what a reader must know of it."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        once, narrow = storing_once(table, frame, pool), narrowing(frame, pool)
    columns: dict[str, Any] = {name: done.result() for name, done in once.items()}
    repeated = [name for name, column in columns.items() if column is not None]
    lowest = {}
    for name, done in narrow.items():
        if (found := done.result()) is not None:
            columns[name], how = found
            lowest[name] = list(how)
    for name in (*repeated, *lowest):
        table = table.set_column(table.schema.get_field_index(name), name, columns[name])
    return table, {"repeated": repeated, "narrow": lowest}


def _levels(table: pa.Table, others: pa.Table, meta: Mapping[str, Any]) -> dict[str, pd.Series]:
    """Return the levels of an index as a reader finds them."""
    names = [name for name in table.column_names if is_level(name)]
    plain = table.select(names)
    plain = plain.replace_schema_metadata(known_types(plain.schema).metadata)
    levels = dict(converted(plain).items()) if names else {}
    names = [name for name in others.column_names if is_level(name)]
    levels |= _others(others.select(names), meta)
    for name in set(levels) & set(meta["categories"]):
        levels[name] = with_categories(levels[name], meta["categories"][name])
    return levels


def _others(table: pa.Table, meta: Mapping[str, Any]) -> dict[str, pd.Series]:
    """Return columns of Python objects, and those that pandas leaves to Arrow."""
    import pandas as pd

    columns: dict[str, pd.Series] = {}
    for name in table.column_names:
        if name.endswith(NAN):
            continue
        if name in meta["arrow"]:
            columns[name] = pd.Series(pd.arrays.ArrowExtensionArray(table[name]))
            continue
        without_views(table.select([name]).schema, categories=False)
        columns[name] = pd.Series(objects_of(table, name), dtype=object)
    return columns


def _with_others(frame: pd.DataFrame, others: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Return the frame with others of its columns."""
    import pandas as pd

    columns = {str(name): frame[name] for name in frame.columns}
    columns |= {name: column for name, column in others.items() if not is_level(name)}
    if len({len(column) for column in columns.values()}) > 1:
        raise WandbXComRefusedError("Refused a stored pandas value: its columns differ in length.")
    rows = pd.RangeIndex(len(next(iter(columns.values())))) if columns else frame.index
    return pd.DataFrame({name: columns[name] for name in sorted(columns, key=int)}, rows, copy=False)


def _check_types(frame: pd.DataFrame, table: pa.Table) -> None:
    """
    Compare the types of columns with what a reader makes of them, but for those of categories.

    :raises ValueError: one is another.
    """
    import pandas as pd

    empty = table.schema.empty_table().replace_schema_metadata(known_types(table.schema).metadata)
    back = converted(empty).dtypes
    for name, dtype in frame.dtypes.items():
        if back[name] != dtype and not isinstance(dtype, pd.CategoricalDtype):
            raise ValueError(f"a column of {dtype!r} would come back as one of {back[name]!r}")


def _check_json(meta: Mapping[str, Any], what: str) -> None:
    try:
        same = json.loads(json.dumps(meta, allow_nan=False)) == meta
    except (TypeError, ValueError):
        same = False
    if not same:
        raise unstorable(what, "its name, the names of its index, or its attrs are more than JSON")
