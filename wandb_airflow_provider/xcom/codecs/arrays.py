"""NumPy arrays."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbXComRefusedError
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.codecs.base import Codec, is_exactly
from wandb_airflow_provider.xcom.settings import Limits

if TYPE_CHECKING:
    import numpy as np

__all__ = ["NumpyCodec", "read_array", "write_array"]

_FILE, _OBJECTS = "array.npy", "objects.json"


class NumpyCodec(Codec):
    """
    Arrays in NumPy's own format, which holds no code; what is read stays in its file until it is used.

    An array of Python objects is refused, unless ``allow_object_arrays`` is set: then each is passed as Airflow
    serializes it.
    """

    name = "numpy"

    def accepts(self, value: Any) -> bool:
        """Accept arrays, and no subclasses, which would come back as something else; but for a mapped file."""
        return is_exactly(value, "numpy", "ndarray", "memmap")

    def write(self, value: Any, folder: Path) -> Mapping[str, Any]:
        """Write the array."""
        if not value.dtype.hasobject:
            write_array(value, folder / _FILE)
            return {}
        if not settings.allow_object_arrays() or value.dtype != object:
            raise WandbConfigurationError(
                f"A NumPy array of the dtype {value.dtype} holds Python objects and is not passed. Convert it, or set "
                "'allow_object_arrays' of [wandb_xcom] for an array of plain objects."
            )
        from wandb_airflow_provider.capabilities import serde

        items = [serde().serialize(item) for item in value.ravel().tolist()]
        (folder / _OBJECTS).write_text(json.dumps(items), "utf-8")
        return {"shape": list(value.shape)}

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        """Return the array."""
        if "shape" not in meta:
            return read_array(folder / _FILE)
        if not settings.allow_object_arrays():
            raise WandbXComRefusedError(
                "Refused a stored array of Python objects: 'allow_object_arrays' of [wandb_xcom] is not set here."
            )
        import numpy as np

        from wandb_airflow_provider.capabilities import serde

        items = [serde().deserialize(item) for item in json.loads((folder / _OBJECTS).read_text("utf-8"))]
        array = np.empty(len(items), dtype=object)
        for number, item in enumerate(items):
            array[number] = item
        return array.reshape(meta["shape"])


def write_array(array: np.ndarray[Any, Any], path: Path) -> None:
    """Write an array that holds no Python objects."""
    import numpy as np

    with warnings.catch_warnings():
        # That names of fields that are not Latin need NumPy 1.17 to be read.
        warnings.filterwarnings("ignore", "Stored array in format", UserWarning)
        np.save(path, array, allow_pickle=False)


def read_array(path: Path) -> np.ndarray[Any, Any]:
    """
    Return an array that may be written to, which changes no file.

    :raises WandbXComRefusedError: it holds Python objects, or is not what its header says.
    """
    import numpy as np

    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            readers = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            reader = readers.get(version)
            if reader is None:
                # The one later version differs in the encoding of the names of fields alone.
                found: np.ndarray[Any, Any] = np.load(path, mmap_mode="c", allow_pickle=False)
                return found.view(np.ndarray)
            shape, _, dtype = reader(file)
            data_bytes = path.stat().st_size - file.tell()
        count = 1
        for length in shape:
            count *= length
        if dtype.hasobject or count * dtype.itemsize != data_bytes:
            raise ValueError(f"its header says {count} items of {dtype}, and it has {data_bytes} bytes")
        found = np.load(path, mmap_mode="c" if data_bytes else None, allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError) as error:
        raise WandbXComRefusedError(f"Refused the stored array {path.name!r}: {error}.") from error
    return found.view(np.ndarray) if data_bytes else found
