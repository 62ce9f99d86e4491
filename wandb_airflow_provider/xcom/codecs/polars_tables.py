"""``polars`` data frames and series."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wandb_airflow_provider.exceptions import WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.base import Codec, is_exactly
from wandb_airflow_provider.xcom.codecs.ipc import check_streams, describe_streams, unstorable
from wandb_airflow_provider.xcom.codecs.packing import pack, unpack
from wandb_airflow_provider.xcom.index import UNPACKED_BYTES
from wandb_airflow_provider.xcom.settings import Limits

__all__ = ["PolarsCodec"]

_FILE = "table.arrows"


class PolarsCodec(Codec):
    """Frames and series in the IPC streams that polars itself writes, which keep its own types; compressed as files."""

    name = "polars"

    def accepts(self, value: Any) -> bool:
        """Accept frames and series, and no lazy frames, which are computations."""
        return is_exactly(value, "polars", "DataFrame", "Series")

    def write(self, value: Any, folder: Path) -> Mapping[str, Any]:
        """Write the frame."""
        import polars as pl

        series = isinstance(value, pl.Series)
        frame = value.to_frame() if isinstance(value, pl.Series) else value
        if any(dtype == pl.Object for dtype in frame.dtypes):
            raise unstorable("A polars frame", "it has a column of Python objects")
        if frame.height and not frame.width:
            raise unstorable("A polars frame", f"it has {frame.height} rows and no columns")
        frame.write_ipc_stream(
            folder / _FILE, compression="uncompressed", compat_level=pl.CompatLevel.newest()
        )
        values = describe_streams(folder)[UNPACKED_BYTES]
        unpacked = max(values, pack(folder)[UNPACKED_BYTES])
        return {"series": series, "rows": frame.height, UNPACKED_BYTES: unpacked}

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        """Return the frame."""
        import polars as pl

        unpack(folder, meta)
        if any(stream.packed for stream in check_streams(folder, meta, limits).values()):
            # Polars would unpack as much as its columns have rows, whatever the buffers declare.
            raise WandbXComRefusedError("Refused a stored polars frame: its buffers are compressed.")
        try:
            frame = pl.read_ipc_stream(folder / _FILE)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise WandbXComRefusedError(f"Refused a stored polars frame: {error}.") from error
        if not frame.width and meta.get("rows"):
            raise WandbXComRefusedError("Refused a stored polars frame: it has rows and no columns.")
        return frame.to_series() if meta.get("series") else frame
