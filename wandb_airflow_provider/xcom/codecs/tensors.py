"""State dicts of torch, and dicts of NumPy arrays, in the safetensors format, which holds no code."""

from __future__ import annotations

import json
import struct
import sys
from collections import OrderedDict
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.base import Codec, is_exactly
from wandb_airflow_provider.xcom.settings import Limits

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SafetensorsCodec"]

_FILE = "tensors.safetensors"
_METADATA_KEY = "__metadata__"
_ALIGNMENT = 8
# NumPy's names of the types that the format knows, in little-endian order.
_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "complex64": "C64",
}


class SafetensorsCodec(Codec):
    """
    Dicts by name of torch tensors, or of NumPy arrays of numbers; they come back as what they were.

    Tensors come back on the CPU. Tensors that share memory, such as tied weights, come back as tensors of their own.
    """

    name = "safetensors"

    def accepts(self, value: Any) -> bool:
        """Accept dicts that hold nothing but tensors, or nothing but arrays."""
        return _flavour(value) is not None

    def write(self, value: Any, folder: Path) -> Mapping[str, Any]:
        """Write the tensors."""
        flavour = _flavour(value)
        if flavour == "numpy":
            _write_arrays(value, folder / _FILE)
        else:
            try:
                from safetensors.torch import save_file
            except ImportError as error:
                raise _not_installed(error) from error
            try:
                save_file(_plain(value), folder / _FILE)
            except (KeyError, RuntimeError, ValueError, TypeError) as error:
                kinds = sorted({f"{tensor.dtype}, {tensor.layout}" for tensor in value.values()})
                raise WandbConfigurationError(
                    f"These tensors cannot be passed: safetensors has no form for one of {kinds} ({error!r}). Convert "
                    "it, or save them to a file and return its path."
                ) from error
        return {"of": flavour, "names": list(value), "ordered": isinstance(value, OrderedDict)}

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        """Return the tensors in the order in which they were."""
        try:
            from safetensors import SafetensorError

            load = import_module(f"safetensors.{'torch' if meta.get('of') == 'torch' else 'numpy'}").load_file
        except ImportError as error:
            raise _not_installed(error) from error
        try:
            found: dict[str, Any] = load(folder / _FILE)
            ordered = {name: found.pop(name) for name in meta["names"]}
        except (SafetensorError, KeyError, TypeError) as error:
            raise WandbXComRefusedError(f"Refused stored tensors: {error!r}.") from error
        return OrderedDict(ordered) if meta.get("ordered") else ordered


def _flavour(value: Any) -> str | None:
    if type(value) not in (dict, OrderedDict) or not value:
        return None
    if not all(isinstance(name, str) and name != _METADATA_KEY for name in value):
        return None
    torch = sys.modules.get("torch")
    if torch is not None and all(isinstance(item, torch.Tensor) for item in value.values()):
        return "torch"
    if all(_is_number_array(item) for item in value.values()):
        return "numpy"
    return None


def _is_number_array(item: Any) -> bool:
    # The format knows one order of bytes: of arrays in the other, each is passed by itself.
    return is_exactly(item, "numpy", "ndarray") and item.dtype.name in _DTYPES and item.dtype.isnative


def _plain(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return tensors as the library takes them: on the CPU, contiguous, and none sharing memory with another."""
    plain: dict[str, Any] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        found = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        memory = found.untyped_storage().data_ptr()
        plain[name] = found.clone() if memory in seen else found
        seen.add(memory)
    return plain


def _write_arrays(arrays: Mapping[str, np.ndarray[Any, Any]], path: Path) -> None:
    """Write arrays one by one: the library's own writer first makes a copy of all of them."""
    import numpy as np

    header: dict[str, Any] = {}
    offset = 0
    # The format wants the widest first, so that each is aligned.
    names = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    for name in names:
        array = arrays[name]
        header[name] = {
            "dtype": _DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            array = arrays[name]
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            np.ascontiguousarray(little).tofile(file)


def _not_installed(error: ImportError) -> WandbConfigurationError:
    return WandbConfigurationError(
        f"Passing tensors needs what is not installed here: {error}. Install wandb-airflow-provider[safetensors]."
    )
