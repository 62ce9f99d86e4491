"""``pyarrow`` tables and record batches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wandb_airflow_provider.exceptions import WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.base import Codec, is_exactly
from wandb_airflow_provider.xcom.codecs.ipc import (
    check_streams,
    describe_streams,
    read_table,
    unstorable,
    write_table,
)
from wandb_airflow_provider.xcom.settings import Limits

__all__ = ["ArrowCodec"]

_FILE = "table.arrows"


class ArrowCodec(Codec):
    """Tables and record batches as IPC streams."""

    name = "arrow"

    def accepts(self, value: Any) -> bool:
        """Accept tables and record batches."""
        return is_exactly(value, "pyarrow", "Table", "RecordBatch")

    def write(self, value: Any, folder: Path) -> Mapping[str, Any]:
        """Write the table with its schema's metadata."""
        import pyarrow as pa

        batch = isinstance(value, pa.RecordBatch)
        try:
            write_table(pa.Table.from_batches([value]) if batch else value, folder / _FILE)
        except pa.ArrowException as error:
            raise unstorable(f"A {type(value).__name__}", error) from error
        return {"batch": batch, **describe_streams(folder)}

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        """Return the table."""
        import pyarrow as pa

        check_streams(folder, meta, limits)
        table = read_table(folder / _FILE)
        if not meta.get("batch"):
            return table
        batches = table.combine_chunks().to_batches()
        if len(batches) > 1:
            raise WandbXComRefusedError("Refused a stored record batch: it has several batches.")
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
