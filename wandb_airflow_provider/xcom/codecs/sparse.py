"""SciPy's sparse arrays and matrices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.arrays import read_array, write_array
from wandb_airflow_provider.xcom.codecs.base import Codec, is_exactly
from wandb_airflow_provider.xcom.index import UNPACKED_BYTES
from wandb_airflow_provider.xcom.settings import Limits

__all__ = ["SparseCodec"]

_FORMATS = ("csr", "csc", "bsr", "coo", "dia", "lil", "dok")
_TYPES = tuple(f"{name}_{kind}" for name in _FORMATS for kind in ("array", "matrix"))
# A row of the "list of lists" format is two lists and two pointers, however empty it is.
_LIST_ROW_BYTES = 128
# What each consists of; lists and dictionaries are passed by their coordinates.
_PARTS = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "bsr": ("data", "indices", "indptr"),
    "dia": ("data", "offsets"),
}


class SparseCodec(Codec):
    """Sparse arrays and matrices of every format, as the NumPy arrays that they consist of."""

    name = "sparse"

    def accepts(self, value: Any) -> bool:
        """Accept every format."""
        return is_exactly(value, "scipy.sparse", *_TYPES)

    def write(self, value: Any, folder: Path) -> Mapping[str, Any]:
        """Write the parts."""
        if value.dtype.hasobject:
            raise WandbConfigurationError("A sparse array of Python objects is not passed; convert it.")
        meta: dict[str, Any] = {
            "type": type(value).__name__,
            "shape": [int(length) for length in value.shape],
        }
        if value.format == "lil":
            meta[UNPACKED_BYTES] = _LIST_ROW_BYTES * meta["shape"][0]
        parts = _PARTS.get(value.format)
        if parts is None:
            source = value.tocoo()
            write_array(source.data, folder / "data.npy")
            for number, axis in enumerate(source.coords):
                write_array(axis, folder / f"axis{number}.npy")
        else:
            for part in parts:
                write_array(getattr(value, part), folder / f"{part}.npy")
        return meta

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        """Return the array, its indices checked: one out of bounds would read and write foreign memory."""
        import scipy.sparse

        kind, lengths = meta.get("type"), meta.get("shape")
        if (
            kind not in _TYPES
            or not isinstance(lengths, list)
            or not all(type(length) is int and length >= 0 for length in lengths)
        ):
            raise WandbXComRefusedError(
                f"Refused a stored sparse array of the type {kind!r} and shape {lengths!r}."
            )
        shape = tuple(lengths)
        family = str(kind).partition("_")[0]
        try:
            if family in _PARTS:
                parts = tuple(read_array(folder / f"{part}.npy") for part in _PARTS[family])
                value = getattr(scipy.sparse, kind)(parts, shape=shape)
                if family != "dia":
                    value.check_format(full_check=True)
                return value
            axes = tuple(read_array(folder / f"axis{number}.npy") for number in range(len(shape)))
            if family == "lil" and _LIST_ROW_BYTES * shape[0] > meta.get(UNPACKED_BYTES, 0):
                raise ValueError(f"{shape[0]} rows, more than its index says")
            flavour = "coo_array" if str(kind).endswith("_array") else "coo_matrix"
            coordinates = getattr(scipy.sparse, flavour)((read_array(folder / "data.npy"), axes), shape=shape)
            return coordinates if family == "coo" else getattr(scipy.sparse, kind)(coordinates)
        except (ValueError, TypeError, IndexError) as error:
            raise WandbXComRefusedError(f"Refused a stored sparse array: {error}.") from error
