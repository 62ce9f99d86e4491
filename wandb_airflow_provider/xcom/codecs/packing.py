"""
Files of a value, compressed on their way: for a library that does not keep to what a compressed format declares.

What a store holds, and what its digests are of, is the compressed file; the index says how much all of them unpack to,
so that a reader can refuse that before it begins, and never writes a byte more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wandb_airflow_provider.exceptions import WandbXComRefusedError
from wandb_airflow_provider.xcom.index import UNPACKED_BYTES

__all__ = ["pack", "unpack"]

_SUFFIX = ".zst"
_COMPRESSION = "zstd"
_PIECE_BYTES = 1 << 20


def pack(folder: Path) -> dict[str, Any]:
    """Compress every file in a folder, and return what the index says of it."""
    import pyarrow as pa

    unpacked = 0
    for path in sorted(folder.iterdir()):
        unpacked += path.stat().st_size
        with (
            path.open("rb") as source,
            pa.OSFile(f"{path}{_SUFFIX}", "wb") as file,
            pa.CompressedOutputStream(file, _COMPRESSION) as target,
        ):
            while piece := source.read(_PIECE_BYTES):
                target.write(piece)
        path.unlink()
    return {UNPACKED_BYTES: unpacked}


def unpack(folder: Path, meta: Mapping[str, Any]) -> None:
    """
    Put what was packed beside it.

    :raises WandbXComRefusedError: it is not what :func:`pack` writes, or unpacks to more than its index says.
    """
    import pyarrow as pa

    left = meta.get(UNPACKED_BYTES, 0)
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            with (
                pa.OSFile(str(path)) as file,
                pa.CompressedInputStream(file, _COMPRESSION) as source,
                path.with_suffix("").open("wb") as target,
            ):
                while piece := source.read(min(_PIECE_BYTES, left + 1)):
                    left -= len(piece)
                    if left < 0:
                        raise WandbXComRefusedError(
                            f"Refused the stored file {path.name!r}: it unpacks to more than the "
                            f"{meta.get(UNPACKED_BYTES, 0)} bytes that its index says."
                        )
                    target.write(piece)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                # Of this worker's disk.
                raise
            raise WandbXComRefusedError(
                f"Refused the stored file {path.name!r}: it cannot be unpacked ({error})."
            ) from error
        path.unlink()
