"""The audit of a registry collection in W&B: entries appended and read back."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider import settings
from wandb_airflow_provider.audit import (
    ARTIFACT_TYPE,
    ENTRY_FILE,
    ENTRY_KEY,
    MAX_METADATA_TEXT,
    AuditEntry,
    audit_name,
    content_digest,
)
from wandb_airflow_provider.audit_trail import AuditTrail
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbNotFoundError

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.hooks.runs import RunSession
    from wandb_airflow_provider.hooks.wandb import WandbHook

__all__ = ["AuditLog"]

log = logging.getLogger(__name__)

_PAGE = 100
_UPLOAD_TIMEOUT = 120


class AuditLog:
    """
    The audit of one collection, in a project of its own that all pipelines of an entity share.

    Appending opens a run in that project, which :meth:`close` finishes.

    :param registry: Name of the registry, without the prefix of its project.
    """

    def __init__(self, hook: WandbHook, registry: str, collection: str) -> None:
        self._hook = hook
        self._registry = registry
        self._collection = collection
        self._session: RunSession | None = None
        self._username: str | None = None

    @property
    def name(self) -> str:
        """The name of the artifact."""
        return audit_name(self._registry, self._collection)

    @property
    def path(self) -> str:
        """``entity/project/name`` of the artifact."""
        return "/".join((*self._place, self.name))

    @property
    def _place(self) -> tuple[str, str]:
        entity, _, project = settings.audit_project().rpartition("/")
        if not project or "/" in entity:
            raise WandbConfigurationError(
                f"The option audit_project of the section [{settings.SECTION}] is {settings.audit_project()!r}; "
                "expected 'project' or 'entity/project'."
            )
        return entity or self._hook.entity, project

    def append(self, entry: AuditEntry) -> AuditEntry:
        """
        Write an entry, and return it with the number and the time that W&B gave it.

        :raises WandbError: it is not written, or that is not known.
        """
        from wandb_airflow_provider import sdk

        entry = entry._replace(people={**entry.people, "wandb_user": self._user()})
        text = json.dumps(self.sent(entry), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        metadata = {ENTRY_KEY: text} if len(text) <= MAX_METADATA_TEXT else {}
        run = self._opened(entry)
        with (
            self._hook.translate_errors(f"write an entry to the audit {self.path!r}"),
            TemporaryDirectory(prefix="wandb-audit-") as folder,
        ):
            file = Path(folder, ENTRY_FILE)
            file.write_text(text, encoding="utf-8")
            artifact = sdk.new_artifact(
                self.name,
                ARTIFACT_TYPE,
                description=f"Decisions about {self._registry}/{self._collection}. Each version is an entry.",
                metadata=metadata,
            )
            # A team's default would delete entries some day.
            artifact.ttl = None
            artifact.add_file(str(file), name=ENTRY_FILE)
            written = run.log_artifact(artifact).wait(timeout=_UPLOAD_TIMEOUT)
            return entry._replace(number=_number(written), written_at=_seconds(written))

    def sent(self, entry: AuditEntry) -> dict[str, Any]:
        """Return what is written of an entry, under the redaction policy of the connection."""
        sent = self._hook.privacy.mapping("metadata", {ENTRY_KEY: entry.to_json()})
        return dict(sent[ENTRY_KEY])

    def entries(self, since: float | None = None) -> list[AuditEntry]:
        """
        Read entries afresh, oldest first.

        :param since: Only those that W&B wrote at this time or later, in seconds since the epoch.
        :raises WandbUnavailableError: W&B could not be read.
        """
        with self._hook.translate_errors(f"read the audit {self.path!r}"):
            api = self._hook.get_conn()
            if since is None and not self._exists(api):
                return []
            found = []
            # Newest first.
            for artifact in api.artifacts(ARTIFACT_TYPE, self.path, per_page=_PAGE):
                if since is not None and _seconds(artifact) < since:
                    break
                found.append(_read(artifact))
        return sorted(self._own(found), key=lambda entry: entry.number)

    def trail(self) -> AuditTrail:
        """Read the whole audit."""
        return AuditTrail(self.path, self.entries())

    def close(self) -> None:
        """Finish the run of the entries; never raises for what W&B does not receive any more."""
        session, self._session = self._session, None
        if session is not None:
            session.close(0, "success")

    def kill(self) -> None:
        """Finish that run as killed, within the seconds that Airflow leaves."""
        if self._session is not None:
            self._session.kill()

    def _user(self) -> str | None:
        if self._username is None:
            with self._hook.translate_errors("read whose key it is"):
                viewer = self._hook.get_conn().viewer
                self._username = str(viewer.username) if viewer is not None else None
        return self._username

    def _opened(self, entry: AuditEntry) -> wandb.Run:
        if self._session is None:
            from wandb_airflow_provider.sdk import RunSpec

            entity, project = self._place
            spec = RunSpec(
                wandb_run_id=f"audit-{uuid.uuid4().hex}",
                name=f"{entry.kind} of {entry.target} · {entry.task.dag_id}.{entry.task.task_id}",
                group=self.name,
                job_type="audit",
                entity=entity,
                project=project,
            )
            session = self._hook.open_run(spec)
            session.__enter__()
            self._session = session
        return self._session.run

    def _exists(self, api: wandb.Api) -> bool:
        """Say whether there is an audit yet: wandb lists the versions of one that is not there with an error."""
        try:
            with self._hook.translate_errors(f"find the audit {self.path!r}"):
                api.artifact_collection(ARTIFACT_TYPE, self.path)
        except WandbNotFoundError:
            return False
        return True

    def _own(self, entries: list[AuditEntry]) -> Iterator[AuditEntry]:
        """Leave out what another collection wrote, whose names put together are the same."""
        place = (self._registry, self._collection)
        return (entry for entry in entries if (entry.target.registry, entry.target.collection) == place)


def _read(artifact: wandb.Artifact) -> AuditEntry:
    """Return the entry: from the metadata if that is what the artifact's digest stands for, else from its file."""
    copy = artifact.metadata.get(ENTRY_KEY)
    about: dict[str, Any] = {"number": _number(artifact), "written_at": _seconds(artifact)}
    if isinstance(copy, str) and content_digest(copy) == artifact.digest:
        return AuditEntry.from_text(copy, **about)
    with TemporaryDirectory(prefix="wandb-audit-") as folder:
        file = Path(artifact.download(root=folder), ENTRY_FILE)
        if not file.is_file():
            raise WandbConfigurationError(
                f"{artifact.qualified_name} is no entry of an audit: it has no file {ENTRY_FILE!r}. Something else was "
                "logged under the audit's name; delete that version."
            )
        text = file.read_text(encoding="utf-8")
    altered = (copy is not None and copy != text) or (copy is None and len(text) <= MAX_METADATA_TEXT)
    return AuditEntry.from_text(text, **about, altered=altered)


def _number(artifact: wandb.Artifact) -> int:
    return int(artifact.version.removeprefix("v"))


def _seconds(artifact: wandb.Artifact) -> float:
    return datetime.fromisoformat(artifact.created_at).timestamp()
