"""What lands in Airflow's database in place of a value: its schema, and the names that follow the producer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from wandb_airflow_provider.exceptions import WandbXComRefusedError
from wandb_airflow_provider.identity import slug

__all__ = [
    "ARTIFACT_TYPE",
    "LATEST",
    "MARKER",
    "Producer",
    "StoredReference",
    "dag_run_of",
    "is_reference",
    "scope_of",
]

MARKER = "__wandb_xcom__"
"""Key by which a stored reference is told from a value; its value is the version of the schema."""
SCHEMA_VERSION = 1
ARTIFACT_TYPE = "xcom"
LATEST = "latest"
"""The alias that W&B gives to the newest version by itself."""

_MAX_NAME = 128
_MAX_ALIAS = 128
_PART = r"[a-zA-Z0-9_.-]+"
_ARTIFACT = re.compile(rf"(?P<entity>{_PART})/(?P<project>{_PART})/(?P<name>{_PART}):(?P<version>v[0-9]+)")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CODEC = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_PLAIN = re.compile(r"[a-zA-Z0-9_-]+")
_ESCAPED = re.compile(r"=([0-9A-F]{2})")
_RUN_ALIAS = re.compile(
    r"run=(?P<run>(?:[a-zA-Z0-9_.+~-]|=[0-9A-F]{2})+)(?:==(?P<deployment>[a-zA-Z0-9_.-]+))?"
)
_LONG_ALIAS = re.compile(r"run===[0-9a-f]{64}")
_URL = re.compile(r"https?://[^\s]{1,1000}")


class Producer(NamedTuple):
    """
    Which XCom a value belongs to, in Airflow's terms.

    :param part: Where inside of the value, for one that holds several, such as the tables of a dict.
    :param deployment: Name of the Airflow that it belongs to, where several share a project; else empty.
    """

    dag_id: str
    dag_run_id: str
    task_id: str
    key: str
    map_index: int = -1
    part: tuple[str, ...] = ()
    deployment: str = ""

    @property
    def artifact_name(self) -> str:
        """
        The collection of this output over all DAG runs: ``dag.task.key``, then ``.index`` of a mapped task.

        A hash follows where that would not be unique: after a part with a dot or with what W&B refuses, and after one
        that was cut to 128 characters. The DAG run is left out, so that versions of one output form one collection.
        """
        plain = (self.dag_id, self.task_id, self.key)
        index = (str(self.map_index),) if self.map_index >= 0 else ()
        name = ".".join((*map(_clean, plain), *index)) + "".join(f"--{_clean(part)}" for part in self.part)
        exact = all(_PLAIN.fullmatch(part) and "--" not in part for part in (*plain, *self.part))
        if exact and len(name) <= _MAX_NAME:
            return name
        text = "\0".join((*plain, str(self.map_index), *self.part))
        return f"{name[: _MAX_NAME - 9].strip('.-')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def alias(self) -> str:
        """The alias that marks a version as the output of this DAG run; a digest where the run id is too long."""
        text = "run=" + re.sub(r"[^a-zA-Z0-9_.+~-]", _escape, self.dag_run_id)
        text += f"=={self.deployment}" if self.deployment else ""
        if len(text) <= _MAX_ALIAS:
            return text
        return f"run==={_digest(self.deployment, self.dag_run_id)}"

    @property
    def referrer_alias(self) -> str:
        """The alias that keeps a version of another task, which this XCom passes on."""
        ids = (self.dag_id, self.dag_run_id, self.task_id, self.key, str(self.map_index))
        return f"ref=={_digest(self.deployment, *ids)}"


class StoredReference(NamedTuple):
    """
    Where a value is, by value: all that a reader needs, and nothing that it has to trust.

    :param digest: ``sha256:`` over the index of the value, which holds size and digest of each file.
    :param artifact: ``entity/project/name:version``; None for a value that was stored while W&B was away.
    :param store: The folder or URL that keeps it; None for W&B.
    :param name: Its collection.
    :param kind: The type of the value, for people.
    :param scope: The part of the store that is its project's, of :func:`scope_of`; None in W&B.
    """

    digest: str
    codec: str
    name: str
    size_bytes: int
    files: int
    kind: str = ""
    artifact: str | None = None
    store: str | None = None
    url: str | None = None
    alias: str | None = None
    scope: str | None = None

    @property
    def place(self) -> tuple[str, str] | None:
        """Entity and project of the artifact."""
        if self.artifact is None:
            return None
        entity, project, _ = self.artifact.split("/")
        return entity, project

    @property
    def location(self) -> str:
        """The value's place below its store: one that follows from the reference, and leads nowhere else."""
        own = f"{self.name}/{self.digest.removeprefix('sha256:')}"
        return f"{self.scope}/{own}" if self.scope else own

    def __str__(self) -> str:
        return self.artifact or f"{self.store}/{self.location}"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that lands in XCom."""
        return {MARKER: SCHEMA_VERSION, **self._asdict()}

    @classmethod
    def from_json(cls, value: Any) -> StoredReference:
        """
        Read a stored reference, of which anyone may be the author who can write XComs.

        :raises WandbXComRefusedError: not exactly what :meth:`to_json` writes.
        """
        if not is_reference(value) or set(value) != {MARKER, *cls._fields}:
            raise WandbXComRefusedError(
                f"Refused an XCom that claims to be a stored value: it has the keys {_keys(value)}, and not those that "
                "this backend writes."
            )
        if value[MARKER] != SCHEMA_VERSION or isinstance(value[MARKER], bool):
            raise WandbXComRefusedError(
                f"Refused a stored value of schema {value[MARKER]!r}; this release reads {SCHEMA_VERSION}. A newer "
                "release of the provider may have written it."
            )
        found = cls(**{name: value[name] for name in cls._fields})
        wrong = [name for name, good in found._checks().items() if not good]
        if wrong:
            raise WandbXComRefusedError(
                f"Refused a stored value: {', '.join(f'{name} is {value[name]!r}' for name in wrong)}."
            )
        return found

    def _checks(self) -> dict[str, bool]:
        match = _ARTIFACT.fullmatch(self.artifact) if isinstance(self.artifact, str) else None
        parts = match.groupdict() if match else {}
        return {
            "digest": _matches(_DIGEST, self.digest),
            "codec": _matches(_CODEC, self.codec),
            "name": _matches(re.compile(_PART), self.name) and _is_name(self.name),
            "size_bytes": _is_count(self.size_bytes),
            "files": _is_count(self.files),
            "kind": isinstance(self.kind, str) and len(self.kind) <= 200,
            "artifact": (self.artifact is None and self.store is not None)
            or (bool(parts) and parts["name"] == self.name and _is_name(parts["project"], parts["entity"])),
            "store": self.store is None or (isinstance(self.store, str) and 0 < len(self.store) <= 1000),
            "url": self.url is None or _matches(_URL, self.url),
            "alias": self.alias is None or _is_run_alias(self.alias),
            "scope": self.scope is None or (_matches(re.compile(_PART), self.scope) and _is_name(self.scope)),
        }


def is_reference(value: Any) -> bool:
    """Say whether a value claims to be a stored reference."""
    return isinstance(value, Mapping) and MARKER in value


def dag_run_of(alias: str, deployment: str = "") -> str | None:
    """Return the DAG run of one Airflow that an alias stands for; None for another alias, or one that does not tell."""
    match = _RUN_ALIAS.fullmatch(alias)
    if match is None or len(alias) > _MAX_ALIAS or (match["deployment"] or "") != deployment:
        return None
    raw = _ESCAPED.sub(lambda found: chr(int(found.group(1), 16)), match["run"])
    try:
        return raw.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return None


def scope_of(deployment: str, server: str, entity: str, project: str) -> str:
    """
    Return the folder of a store for the values of one project: what another Airflow, W&B server or project keeps in the
    same store is elsewhere, and clearing up the one leaves the others alone.

    :param entity: Empty for the default one of the key.
    """
    return f"{slug(project, 60) or 'x'}-{_digest(deployment, server, entity, project)[:16]}"


def _is_run_alias(alias: Any) -> bool:
    return _matches(_LONG_ALIAS, alias) or (_matches(_RUN_ALIAS, alias) and len(alias) <= _MAX_ALIAS)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _escape(match: re.Match[str]) -> str:
    return "".join(f"={byte:02X}" for byte in match.group().encode())


def _clean(part: str) -> str:
    return slug(part, _MAX_NAME) or "x"


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_name(*names: str) -> bool:
    return all(len(name) <= _MAX_NAME and name.strip(".") for name in names)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _keys(value: Any) -> list[str]:
    return sorted(str(key)[:40] for key in value)[:20] if isinstance(value, Mapping) else []
