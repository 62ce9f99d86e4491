"""
One function per option of the ``[wandb_xcom]`` section of Airflow's configuration, each read when it is asked for.

Imports nothing of Airflow, which reads the options' descriptions while it is itself being imported.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import cache
from typing import Any, Literal, NamedTuple, cast

from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID

__all__ = [
    "OPTIONS",
    "SECTION",
    "Limits",
    "OnUnavailable",
    "PurgePolicy",
    "allow_object_arrays",
    "allowed_projects",
    "copy_object_paths",
    "deployment",
    "entity",
    "inline_limit_bytes",
    "inner_backend",
    "limits",
    "on_unavailable",
    "pickle_classes",
    "project",
    "purge",
    "readable_storage",
    "storage",
    "threshold_bytes",
    "trusted_types",
    "ttl_days",
    "wandb_conn_id",
]

SECTION = "wandb_xcom"

_DEPLOYMENT = re.compile(r"[a-zA-Z0-9_.-]{1,40}")

PurgePolicy = Literal["keep", "ttl", "delete"]
OnUnavailable = Literal["fail", "inline", "object"]


def _option(
    description: str, default: str, kind: str = "string", example: str | None = None
) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "example": example,
        "default": default,
    }


OPTIONS: dict[str, dict[str, Any]] = {
    "wandb_conn_id": _option(
        "Airflow connection of the artifacts.\n", DEFAULT_CONN_ID, example="wandb_production"
    ),
    "entity": _option("Team or user of the artifacts. Empty: the connection's.\n", "", example="acme"),
    "project": _option(
        "Project of the artifacts of tasks that have no W&B run open. Empty: the pipeline's of the DAG, else the\n"
        "connection's.\n",
        "",
        example="xcom",
    ),
    "allowed_projects": _option(
        "Further projects whose artifacts a reference may name, as ``entity/project`` with shell-style patterns,\n"
        "separated by commas or white space. The own project and that of the DAG's pipeline are always allowed.\n",
        "",
        example="acme/churn, acme/research-*",
    ),
    "deployment": _option(
        "Name of this Airflow, which is kept with each stored value. What removes values\n"
        "(``WandbXComCleanupOperator``, ``purge = delete``) needs it, and removes those of it alone. Empty:\n"
        "``deployment`` of ``[wandb]``, if it is set.\n",
        "",
        example="production",
    ),
    "threshold_bytes": _option(
        "Up to about this many bytes of JSON a value stays in Airflow's database.\n",
        "65536",
        "integer",
        "1048576",
    ),
    "inner_backend": _option(
        "XCom backend that keeps what does not become an artifact. Empty: Airflow's own.\n",
        "",
        example="airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
    ),
    "storage": _option(
        "Folder or URL of an object store that keeps the values; W&B then holds references to them. Empty: W&B\n"
        "keeps the values.\n",
        "",
        example="s3://aws_default@bucket/xcom",
    ),
    "readable_storage": _option(
        "Further places, written like ``storage``, from which values are read, such as the one used before.\n",
        "",
        example="s3://aws_default@old-bucket/xcom",
    ),
    "max_value_bytes": _option(
        "Largest value that is written or read, unpacked.\n", "10737418240", "integer", "1073741824"
    ),
    "max_files": _option("Most files in one folder that is passed.\n", "100000", "integer", "1000"),
    "on_unavailable": _option(
        "While W&B or the object store cannot be reached: ``fail`` fails the task, which a retry can help;\n"
        "``inline`` keeps values of up to ``inline_limit_bytes`` in Airflow's database, and fails for larger ones;\n"
        "``object`` keeps the value in ``storage`` and does without the artifact while only W&B is away.\n",
        "fail",
        example="inline",
    ),
    "inline_limit_bytes": _option(
        "Largest value that ``on_unavailable = inline`` keeps in Airflow's database.\n",
        "1048576",
        "integer",
        "262144",
    ),
    "purge": _option(
        "What becomes of an artifact whose task is cleared or retried: ``keep``, ``ttl`` (W&B removes it after\n"
        "``ttl_days``), or ``delete`` (at once, unless another DAG run refers to it; needs ``deployment``).\n",
        "keep",
        example="ttl",
    ),
    "ttl_days": _option("How long W&B keeps an artifact with ``purge = ttl``.\n", "30", "integer", "90"),
    "trusted_types": _option(
        "Types beyond those that skops trusts by itself that a scikit-learn model may hold, separated by commas or\n"
        "white space.\n",
        "",
        example="acme.features.Scaler",
    ),
    "allow_object_arrays": _option(
        "Pass NumPy arrays of Python objects, by the serialization that Airflow has for each.\n",
        "False",
        "boolean",
        "True",
    ),
    "copy_object_paths": _option(
        "Pass the content behind an ``ObjectStoragePath``. If false, its URL is passed, as Airflow does.\n",
        "True",
        "boolean",
        "False",
    ),
    "pickle_classes": _option(
        "Classes that may be passed by pickle, as exact names, with all that their pickles name. Who can write to\n"
        "the store can then make tasks call these. Empty: none.\n",
        "",
        example="acme.model.Model, acme.model.Layer",
    ),
}
"""The options as Airflow's provider metadata describes them. Their defaults are given here alone."""


class Limits(NamedTuple):
    """The most that is accepted of one value."""

    max_bytes: int
    max_files: int


def wandb_conn_id() -> str:
    """Return the connection of the artifacts."""
    return _text("wandb_conn_id") or DEFAULT_CONN_ID


def entity() -> str | None:
    """Return the entity of the artifacts, if one is configured."""
    return _text("entity") or None


def project() -> str | None:
    """Return the project of artifacts of tasks without a run, if one is configured."""
    return _text("project") or None


def allowed_projects() -> tuple[str, ...]:
    """Return patterns of further projects that a reference may name."""
    return _list("allowed_projects")


def deployment() -> str:
    """Return the name of this Airflow among those that store values; empty if it has none."""
    text = _text("deployment") or _text("deployment", "wandb")
    if not text or _DEPLOYMENT.fullmatch(text):
        return text
    # It becomes part of aliases and names.
    plain = re.sub(r"[^a-zA-Z0-9_.-]+", "-", text)[:31]
    return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def threshold_bytes() -> int:
    """Return the size up to which a value stays in Airflow's database."""
    return _number("threshold_bytes")


def inner_backend() -> str | None:
    """Return the name of the backend for what does not become an artifact."""
    return _text("inner_backend") or None


def storage() -> str | None:
    """Return where values are kept, or None for W&B."""
    return _text("storage").rstrip("/") or None


def readable_storage() -> tuple[str, ...]:
    """Return every place from which values are read."""
    own = storage()
    return tuple(place.rstrip("/") for place in ((own,) if own else ()) + _list("readable_storage"))


def limits() -> Limits:
    """Return the most that is accepted of one value."""
    return Limits(_number("max_value_bytes"), _number("max_files"))


def on_unavailable() -> OnUnavailable:
    """Return what to do while W&B or the store cannot be reached."""
    return cast("OnUnavailable", _choice("on_unavailable", ("fail", "inline", "object")))


def inline_limit_bytes() -> int:
    """Return the largest value that is kept in Airflow's database while W&B is away."""
    return _number("inline_limit_bytes")


def purge() -> PurgePolicy:
    """Return what becomes of the artifact of a task that is cleared or retried."""
    found = _choice("purge", ("keep", "ttl", "delete"))
    if found == "delete" and not deployment():
        raise _wrong(
            "purge",
            found,
            "'deployment' to be set with it: another Airflow may refer to it, too",
        )
    return cast("PurgePolicy", found)


def ttl_days() -> int:
    """Return how long W&B keeps an artifact that has an end."""
    return _number("ttl_days")


def trusted_types() -> tuple[str, ...]:
    """Return types that a model may hold beside those that skops trusts."""
    return _list("trusted_types")


def allow_object_arrays() -> bool:
    """Return whether arrays of Python objects are passed."""
    return bool(_conf().getboolean(SECTION, "allow_object_arrays", fallback=False))


def copy_object_paths() -> bool:
    """Return whether the content behind an ``ObjectStoragePath`` is passed."""
    return bool(_conf().getboolean(SECTION, "copy_object_paths", fallback=True))


def pickle_classes() -> frozenset[str]:
    """Return the names of classes that may be passed by pickle."""
    return frozenset(_list("pickle_classes"))


def _text(name: str, section: str = SECTION) -> str:
    return _read(name, section, os.environ.get(f"AIRFLOW__{section.upper()}__{name.upper()}"))


@cache
def _read(name: str, section: str, from_environment: str | None) -> str:
    # Airflow looks through a dozen places for an option that none of them has, which each XCom would pay for.
    return str(_conf().get(section, name, fallback=OPTIONS[name]["default"])).strip()


def _list(name: str) -> tuple[str, ...]:
    return tuple(_text(name).replace(",", " ").split())


def _number(name: str) -> int:
    text = _text(name)
    if not text.isdecimal() or int(text) < 1:
        raise _wrong(name, text, "a positive whole number")
    return int(text)


def _choice(name: str, choices: tuple[str, ...]) -> str:
    text = _text(name)
    if text not in choices:
        raise _wrong(name, text, f"one of {', '.join(choices)}")
    return text


def _wrong(name: str, found: str, expected: str) -> Exception:
    from wandb_airflow_provider.exceptions import WandbConfigurationError

    return WandbConfigurationError(f"Option {name!r} of [{SECTION}] is {found!r}; expected {expected}.")


def _conf() -> Any:
    from airflow.providers.common.compat.sdk import conf

    return conf
