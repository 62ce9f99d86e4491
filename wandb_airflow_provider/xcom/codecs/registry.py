"""Which codec writes a value, and which reads it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.base import Codec

__all__ = ["ENTRY_POINT_GROUP", "codec_for", "codec_named", "json_codec"]

ENTRY_POINT_GROUP = "wandb_airflow_provider.xcom_codecs"
"""Entry points of users' codecs, which are asked before the package's own."""

# In the order in which they are asked.
_HOMES = (
    ("pandas", "pandas_tables", "PandasCodec"),
    ("polars", "polars_tables", "PolarsCodec"),
    ("arrow", "arrow_tables", "ArrowCodec"),
    ("numpy", "arrays", "NumpyCodec"),
    ("sparse", "sparse", "SparseCodec"),
    ("safetensors", "tensors", "SafetensorsCodec"),
    ("skops", "models", "SkopsCodec"),
    ("path", "paths", "PathCodec"),
    ("bytes", "plain", "BytesCodec"),
    ("text", "plain", "TextCodec"),
    ("pickle", "pickled", "PickleCodec"),
    ("json", "plain", "JsonCodec"),
)


def codec_for(value: Any) -> Codec | None:
    """Return the codec whose types the value is of; None for a value that is JSON or Airflow's to serialize."""
    for codec in _codecs():
        if codec.name not in ("json", "text", "bytes") and codec.accepts(value):
            return codec
    return None


def codec_named(name: str) -> Codec:
    """
    Return the codec of a stored value.

    :raises WandbXComRefusedError: this worker has none of that name.
    """
    for codec in _codecs():
        if codec.name == name:
            return codec
    raise WandbXComRefusedError(
        f"A stored XCom is of the codec {name!r}, which this worker does not have; it has "
        f"{[codec.name for codec in _codecs()]}. Codecs of your own are found by the entry-point group "
        f"{ENTRY_POINT_GROUP!r}."
    )


def json_codec(value: Any) -> Codec:
    """Return the codec for a value that became too large for Airflow's database."""
    kind = "text" if type(value) is str else "bytes" if type(value) in (bytes, bytearray) else "json"
    return codec_named(kind)


@cache
def _codecs() -> tuple[Codec, ...]:
    return (*_users(), *_own())


def _own() -> Iterator[Codec]:
    for _, module, name in _HOMES:
        yield getattr(import_module(f"wandb_airflow_provider.xcom.codecs.{module}"), name)()


def _users() -> Iterator[Codec]:
    from importlib.metadata import entry_points

    taken = {name for name, _, _ in _HOMES}
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        codec = point.load()()
        if not isinstance(codec, Codec) or codec.name in taken:
            raise WandbConfigurationError(
                f"The entry point {point.name!r} of {ENTRY_POINT_GROUP} leads to {point.value}: expected a subclass of "
                f"Codec with a name other than {sorted(taken)}."
            )
        taken.add(codec.name)
        yield codec
