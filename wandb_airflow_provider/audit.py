"""
What is written down of each decision about a registry alias, and the order among several at once. Pure.

Each entry is a version of its own of one artifact per collection: W&B numbers versions in the order in which it
commits them, gives no number twice, and never changes the content of one. So entries of many writers at once are all
kept, and their numbers are an order that all of them see alike. A change of an alias begins with an entry of its
intention, and waits until those before it are settled.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from wandb_airflow_provider.artifacts import MAX_ARTIFACT_NAME_LENGTH, ArtifactRef
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.promotion import TaskMark
from wandb_airflow_provider.registry import RegistryAlias

__all__ = [
    "AuditEntry",
    "ChangeKind",
    "DecisionEvent",
    "DecisionKind",
    "audit_name",
    "blockers",
    "content_digest",
]

ENTRY_KEY = "airflow_audit"
"""Metadata key of an entry's text, which its file holds as well."""
ENTRY_FILE = "entry.json"
ARTIFACT_TYPE = "audit"
MAX_METADATA_TEXT = 50_000
"""A longer text is in the file alone."""
LEASE_SECONDS = 120.0
"""An intention older than this without an outcome is of a process that died."""

ChangeKind: TypeAlias = Literal["promotion", "rollback", "demotion"]
DecisionKind: TypeAlias = Literal["verdict", "approval"] | ChangeKind
DecisionEvent: TypeAlias = Literal[
    "passed", "stopped", "approved", "intended", "done", "unchanged", "refused", "lost", "failed"
]
"""
Of a verdict ``passed`` or ``stopped``, of an approval ``approved``; each may be ``refused``. Of a change ``intended``
before anything is written; then ``done``, or ``lost`` to another one, or ``failed``. ``unchanged`` where there was
nothing to do, and ``refused`` where it must not be done.
"""

_FORMAT = 1
_KINDS = ("verdict", "approval", *get_args(ChangeKind))


class AuditEntry(NamedTuple):
    """
    One entry of the audit of a collection.

    :param decision: Tells the entries of one attempt from those of every other.
    :param at: Time of the entry by the worker's clock, ISO 8601 in UTC.
    :param before: Who held the alias; None when nothing did.
    :param after: Who shall hold it, or holds it; None for a demotion.
    :param verdict: The verdict's JSON value.
    :param approval: Who approved, when, and what was filled in.
    :param people: Who started the DAG run, and whose key wrote to W&B, by name; None where that is not known.
    :param why: Why it was refused, lost or failed.
    :param links: Addresses by what they show.
    :param code: Commit, bundle and version of the DAG.
    :param data: Paths of the artifacts that the version was made from.
    :param number: The entry's own in the audit; -1 as long as it is not written.
    :param written_at: Seconds since the epoch, by W&B's clock.
    :param altered: The copy of the text in the metadata has been changed since; this is the file's.
    """

    decision: str
    kind: DecisionKind
    event: DecisionEvent
    at: str
    target: RegistryAlias
    task: TaskMark
    try_number: int
    before: ArtifactRef | None = None
    after: ArtifactRef | None = None
    verdict: Mapping[str, Any] | None = None
    approval: Mapping[str, Any] | None = None
    people: Mapping[str, str | None] = {}
    note: str | None = None
    why: str | None = None
    links: Mapping[str, str | None] = {}
    code: Mapping[str, Any] = {}
    data: Sequence[str] = ()
    number: int = -1
    written_at: float = 0.0
    altered: bool = False

    @property
    def verdict_summary(self) -> str | None:
        """The verdict in a sentence."""
        return str(self.verdict["summary"]) if self.verdict else None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that is written."""
        return {
            "format": _FORMAT,
            "decision": self.decision,
            "kind": self.kind,
            "event": self.event,
            "at": self.at,
            "target": self.target.to_json(),
            "task": {**self.task.to_json(), "try_number": self.try_number},
            "before": self.before.to_json() if self.before else None,
            "after": self.after.to_json() if self.after else None,
            "verdict": dict(self.verdict) if self.verdict else None,
            "approval": dict(self.approval) if self.approval else None,
            "people": dict(self.people),
            "note": self.note,
            "why": self.why,
            "links": dict(self.links),
            "code": dict(self.code),
            "data": list(self.data),
        }

    @classmethod
    def from_text(
        cls, text: str, *, number: int = -1, written_at: float = 0.0, altered: bool = False
    ) -> AuditEntry:
        """
        Read an entry back.

        :raises WandbConfigurationError: not an entry of this format.
        """
        try:
            value = json.loads(text)
            if value["format"] != _FORMAT:
                raise ValueError(f"it is of format {value['format']!r}")
            if value["kind"] not in _KINDS or value["event"] not in get_args(DecisionEvent):
                raise ValueError(f"{value['kind']!r} and {value['event']!r} are not known")
            datetime.fromisoformat(value["at"])
            return cls(
                decision=str(value["decision"]),
                kind=value["kind"],
                event=value["event"],
                at=value["at"],
                target=RegistryAlias.from_json(value["target"]),
                task=TaskMark.from_json(value["task"]),
                try_number=int(value["task"]["try_number"]),
                before=ArtifactRef.from_json(value["before"]) if value["before"] else None,
                after=ArtifactRef.from_json(value["after"]) if value["after"] else None,
                # A redaction policy may leave these out.
                verdict=value.get("verdict"),
                approval=value.get("approval"),
                people=value.get("people") or {},
                note=value.get("note"),
                why=value.get("why"),
                links=value.get("links") or {},
                code=value.get("code") or {},
                data=tuple(value.get("data") or ()),
                number=number,
                written_at=written_at,
                altered=altered,
            )
        except (KeyError, TypeError, ValueError, AttributeError, WandbConfigurationError) as error:
            raise WandbConfigurationError(
                f"The audit's entry v{number} cannot be understood: {error}."
            ) from error


def audit_name(registry: str, collection: str) -> str:
    """Return the name of the artifact that holds the audit of a collection."""
    name = f"audit.{registry}.{collection}"
    if len(name) <= MAX_ARTIFACT_NAME_LENGTH:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: MAX_ARTIFACT_NAME_LENGTH - 17]}.{digest}"


def content_digest(text: str) -> str:
    """
    Return the digest that W&B gives an artifact whose one file is this text, by its digest algorithm of MD5 sums.

    Where it is not the artifact's, the file itself has to be read.
    """
    content = base64.b64encode(hashlib.md5(text.encode(), usedforsecurity=False).digest()).decode()
    manifest = f"wandb-artifact-manifest-v1\n{ENTRY_FILE}:{content}\n"
    return hashlib.md5(manifest.encode(), usedforsecurity=False).hexdigest()


def blockers(entries: Iterable[AuditEntry], own: AuditEntry, elapsed: float) -> list[AuditEntry]:
    """
    Return the intentions that an intention has to wait for, oldest first.

    These are the ones for the same alias with a lower number that have no outcome yet, but for those of the same
    task of this Airflow, whose try before died, and those so old that their process must have.

    :param own: The intention, as W&B has written it.
    :param elapsed: Seconds since then.
    """
    found = list(entries)
    settled = {entry.decision for entry in found if entry.event != "intended"}
    waiting = [
        entry
        for entry in found
        if entry.event == "intended"
        and entry.target == own.target
        and entry.number < own.number
        and entry.decision not in settled
        and not own.task.recognises(entry.task)
        and own.written_at + elapsed - entry.written_at < LEASE_SECONDS
    ]
    return sorted(waiting, key=lambda entry: entry.number)
