"""scikit-learn models, by skops: a format that names types, of which only trusted ones are made."""

from __future__ import annotations

import io
import json
import sys
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbXComRefusedError
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.codecs.base import Codec, type_name
from wandb_airflow_provider.xcom.settings import Limits

__all__ = ["SkopsCodec"]

_FILE = "model.skops"
_SCHEMA = "schema.json"
_ID, _FILE_KEY = "__id__", "file"


class SkopsCodec(Codec):
    """Estimators and pipelines, whose types skops trusts or ``trusted_types`` names."""

    name = "skops"

    def accepts(self, value: Any) -> bool:
        """Accept estimators, pipelines included."""
        base = sys.modules.get("sklearn.base")
        return base is not None and isinstance(value, base.BaseEstimator)

    def write(self, value: Any, folder: Path) -> Mapping[str, Any]:
        """
        Write the model.

        :raises WandbConfigurationError: skops is missing or has no form for the model, or the model holds types that
            readers would not trust.
        """
        skops = _skops()
        try:
            content = _reproducible(skops.dumps(value))
        except (TypeError, ValueError, RecursionError) as error:
            raise WandbConfigurationError(
                f"A {type_name(value)} cannot be passed: skops has no form that gives back the same ({error})."
            ) from error
        untrusted = _untrusted(content)
        if untrusted:
            raise WandbConfigurationError(
                f"A {type_name(value)} holds types that readers would not trust: {untrusted}. Add those that you do "
                "trust to 'trusted_types' of [wandb_xcom]."
            )
        (folder / _FILE).write_bytes(content)
        return {}

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        """
        Return the model.

        :raises WandbXComRefusedError: it names types that are not trusted, or unpacks to more than ``limits`` allow.
        """
        skops = _skops()
        content = (folder / _FILE).read_bytes()
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                entries = archive.infolist()
            unpacked = sum(entry.file_size for entry in entries)
            # It is written without compression, so that what it unpacks to is no more than what it is.
            most = min(limits.max_bytes, len(content))
            if unpacked > most or len(entries) > limits.max_files:
                raise WandbXComRefusedError(
                    f"Refused a stored model: its {len(content)} bytes unpack to {len(entries)} files of {unpacked} "
                    f"bytes, and at most {limits.max_files} files of {most} bytes are accepted."
                )
            untrusted = _untrusted(content)
            if untrusted:
                raise WandbXComRefusedError(
                    f"Refused a stored model: it names the types {untrusted}, which are not trusted here. Add those "
                    "that you do trust to 'trusted_types' of [wandb_xcom]."
                )
            return skops.loads(content, trusted=list(settings.trusted_types()))
        except (zipfile.BadZipFile, ValueError, KeyError, TypeError, RecursionError) as error:
            raise WandbXComRefusedError(f"Refused a stored model: {error!r}.") from error


def _untrusted(content: bytes) -> list[str]:
    return sorted(set(_skops().get_untrusted_types(data=content)) - set(settings.trusted_types()))


def _reproducible(content: bytes) -> bytes:
    """
    Return a model with numbers in place of memory addresses, and without times.

    Otherwise the same model would differ in bytes whenever it is written, and be uploaded again.

    :raises ValueError: it has a dict of which skops would lose a member.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files.pop(_SCHEMA), object_pairs_hook=_all_members)
    numbers: dict[int, int] = {}
    names: dict[str, str] = {}
    _renumber(schema, numbers, names)
    if len(set(names.values())) != len(names) or not set(files) <= set(names):
        return content
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, _SCHEMA, json.dumps(schema, indent=2).encode())
        for old, new in sorted(((old, names[old]) for old in files), key=lambda pair: pair[1]):
            _add(archive, new, files[old])
    return target.getvalue()


def _all_members(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        # Such as 1 and "1", which are one key in JSON.
        raise ValueError(f"a dict has several keys that are all written as one of {sorted(found)[:5]}")
    return found


def _renumber(node: Any, numbers: dict[int, int], names: dict[str, str]) -> None:
    # By a stack of its own: a model may be nested deeper than Python's.
    stack = [node]
    while stack:
        found = stack.pop()
        if isinstance(found, dict):
            if isinstance(found.get(_ID), int):
                found[_ID] = numbers.setdefault(found[_ID], len(numbers) + 1)
            if isinstance(found.get(_FILE_KEY), str) and "." in found[_FILE_KEY]:
                suffix = found[_FILE_KEY].rpartition(".")[2]
                found[_FILE_KEY] = names.setdefault(found[_FILE_KEY], f"{len(names) + 1}.{suffix}")
            stack.extend(_in_order(found.values()))
        elif isinstance(found, list):
            stack.extend(_in_order(found))


def _in_order(items: Iterable[Any]) -> list[Any]:
    return [item for item in items if isinstance(item, dict | list)][::-1]


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # A ZipInfo that is made of a name alone has the earliest date there is.
    archive.writestr(zipfile.ZipInfo(name), content)


def _skops() -> Any:
    """
    Return ``skops.io``, which when imported asks all modules for names, and so wakes the warnings of deprecated ones.

    :raises WandbConfigurationError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import skops.io
    except ImportError as error:
        raise WandbConfigurationError(
            f"Passing a scikit-learn model needs skops, which is not installed here ({error}). Install "
            "wandb-airflow-provider[sklearn], or return what you need of the model."
        ) from error
    return skops.io
