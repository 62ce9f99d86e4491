"""Text, bytes, and what Airflow serializes as JSON: dicts, lists, dataclasses, pydantic models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wandb_airflow_provider.exceptions import WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs.base import Codec
from wandb_airflow_provider.xcom.settings import Limits

__all__ = ["BytesCodec", "JsonCodec", "TextCodec"]


class TextCodec(Codec):
    """A ``str`` as UTF-8."""

    name = "text"

    def accepts(self, value: Any) -> bool:
        """Accept text."""
        return type(value) is str

    def write(self, value: Any, folder: Path) -> Mapping[str, Any]:
        """Write the text; lone surrogates too, which Python allows."""
        (folder / "value.txt").write_bytes(value.encode("utf-8", "surrogatepass"))
        return {}

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        """Return the text."""
        return (folder / "value.txt").read_bytes().decode("utf-8", "surrogatepass")


class BytesCodec(Codec):
    """``bytes`` and ``bytearray``."""

    name = "bytes"

    def accepts(self, value: Any) -> bool:
        """Accept bytes."""
        return type(value) in (bytes, bytearray)

    def write(self, value: Any, folder: Path) -> Mapping[str, Any]:
        """Write the bytes."""
        (folder / "value.bin").write_bytes(value)
        return {"mutable": type(value) is bytearray}

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        """Return the bytes."""
        content = (folder / "value.bin").read_bytes()
        return bytearray(content) if meta.get("mutable") else content


class JsonCodec(Codec):
    """What Airflow serializes; classes come back if Airflow's ``allowed_deserialization_classes`` has them."""

    name = "json"

    def accepts(self, value: Any) -> bool:
        """Accept everything else: Airflow says what it cannot serialize."""
        return True

    def write(self, value: Any, folder: Path) -> Mapping[str, Any]:
        """Write the value as Airflow serializes it."""
        from wandb_airflow_provider.capabilities import serde

        with (folder / "value.json").open("w", encoding="utf-8") as file:
            json.dump(serde().serialize(value), file, separators=(",", ":"))
        return {}

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        """Return the value as Airflow deserializes it."""
        from wandb_airflow_provider.capabilities import serde

        try:
            with (folder / "value.json").open(encoding="utf-8") as file:
                content = json.load(file)
            return serde().deserialize(content)
        except RecursionError as error:
            raise WandbXComRefusedError("A stored XCom is nested too deeply to be read.") from error
