"""Objects of classes that the deployment has named, by pickle."""

from __future__ import annotations

import io
import mmap
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbXComRefusedError
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.codecs.base import Codec
from wandb_airflow_provider.xcom.settings import Limits

__all__ = ["PickleCodec"]

_FILE = "value.pkl"
_FRAME_HEADER_BYTES = 9
# Pickles of this backend count what they may refer to. These name a place, and room is made for all places before it.
_PLACING = ("PUT", "BINPUT", "LONG_BINPUT")


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

        :raises WandbConfigurationError: its pickle names something that readers would refuse, or gives another class.
        """
        kind = _qualified(type(value))
        content = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        try:
            _checked(_RestrictedUnpickler(io.BytesIO(content)).load(), kind)
        except WandbXComRefusedError as error:
            raise WandbConfigurationError(f"A {kind} could not be read again: {error}") from error
        (folder / _FILE).write_bytes(content)
        return {"class": kind}

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        """
        Return the object.

        :raises WandbXComRefusedError: its class is not in the list, and then nothing is unpickled; or the pickle names
            something that is not, or gives another class.
        """
        kind = meta.get("class")
        if not isinstance(kind, str) or kind not in settings.pickle_classes():
            raise WandbXComRefusedError(
                f"Refused a stored pickle of the class {kind!r}, which is not in 'pickle_classes' of [wandb_xcom]."
            )
        with (
            (folder / _FILE).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            _check_memory(content)
            content.seek(0)
            return _checked(_RestrictedUnpickler(content).load(), kind)


class _RestrictedUnpickler(pickle.Unpickler):
    """Finds exactly the names that are allowed: a dotted one could lead from an allowed class to something else."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = f"{module_name}.{global_name}"
        if name not in settings.pickle_classes() or "." in global_name:
            raise WandbXComRefusedError(
                f"Refused a stored pickle: it names {name!r}, which is not in 'pickle_classes' of [wandb_xcom]."
            )
        return super().find_class(module_name, global_name)


def _check_memory(content: mmap.mmap) -> None:
    """
    Refuse a pickle of a few bytes for which the unpickler would take gigabytes.

    :raises WandbXComRefusedError: it names a place far away, or a frame that is not all there, or that ends within an
        instruction: there the unpickler goes on with other bytes than those that were looked at here.
    :raises ValueError: it has something that is longer than the file, or no pickle has.
    """
    import pickletools

    before = frame_end = 0
    for opcode, argument, at in pickletools.genops(cast("IO[bytes]", content)):
        position = at or 0
        if before < frame_end < position:
            raise _odd("an instruction that its frame cuts off")
        if opcode.name == "FRAME":
            begin, length = position + _FRAME_HEADER_BYTES, int(argument or 0)
            if position < frame_end or length > len(content) - begin:
                raise _odd(f"a frame of {length} bytes")
            frame_end = begin + length
        if opcode.name in _PLACING:
            raise _odd(f"the instruction {opcode.name}")
        before = position


def _checked(value: Any, kind: str) -> Any:
    found = _qualified(type(value))
    if found != kind:
        raise WandbXComRefusedError(f"Refused a stored pickle: it gives a {found}, and no {kind}.")
    return value


def _odd(found: str) -> WandbXComRefusedError:
    return WandbXComRefusedError(
        f"Refused a stored pickle: it has {found}, which this backend does not write."
    )


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
