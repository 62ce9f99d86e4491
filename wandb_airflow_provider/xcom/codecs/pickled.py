"""Objects of classes that the deployment has named, by pickle."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbXComRefusedError
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.codecs.base import Codec
from wandb_airflow_provider.xcom.settings import Limits

__all__ = ["PickleCodec"]

_FILE = "value.pkl"


class PickleCodec(Codec):
    """
    Objects whose class, and all that their pickles name, is in ``pickle_classes``, which is empty by default.

    A pickle can call whatever it names, so that list is one of what whoever can write to the store may call.
    """

    name = "pickle"

    def accepts(self, value: Any) -> bool:
        """Accept objects of the classes that are named, and no subclasses of them."""
        return _qualified(type(value)) in settings.pickle_classes()

    def write(self, value: Any, folder: Path) -> Mapping[str, Any]:
        """
        Write the object.

        :raises WandbConfigurationError: its pickle names something that readers would refuse.
        """
        content = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        try:
            _RestrictedUnpickler(io.BytesIO(content)).load()
        except WandbXComRefusedError as error:
            raise WandbConfigurationError(
                f"A {_qualified(type(value))} could not be read again: {error}"
            ) from error
        (folder / _FILE).write_bytes(content)
        return {"class": _qualified(type(value))}

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        """
        Return the object.

        :raises WandbXComRefusedError: the pickle names something that is not in the list.
        """
        with (folder / _FILE).open("rb") as file:
            return _RestrictedUnpickler(file).load()


class _RestrictedUnpickler(pickle.Unpickler):
    """Finds exactly the names that are allowed: a dotted one could lead from an allowed class to something else."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = f"{module_name}.{global_name}"
        if name not in settings.pickle_classes() or "." in global_name:
            raise WandbXComRefusedError(
                f"Refused a stored pickle: it names {name!r}, which is not in 'pickle_classes' of [wandb_xcom]."
            )
        return super().find_class(module_name, global_name)


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
