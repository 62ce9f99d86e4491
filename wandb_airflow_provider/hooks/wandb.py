"""WandbHook: an Airflow connection as a W&B account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook

from wandb_airflow_provider.artifacts import (
    PROJECT_PREFIX,
    ArtifactRef,
    split_artifact_path,
    validate_alias,
    validate_artifact_name,
)
from wandb_airflow_provider.connection_form import CONN_TYPE, DEFAULT_CONN_ID, EXTRA_FIELDS
from wandb_airflow_provider.exceptions import (
    WandbArtifactNotFoundError,
    WandbConfigurationError,
    WandbError,
    WandbNotFoundError,
    WandbPromotionRefusedError,
    WandbUnavailableError,
)
from wandb_airflow_provider.identity import RunRef

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.connection import WandbConnection
    from wandb_airflow_provider.hooks.run_record import RunRecord
    from wandb_airflow_provider.hooks.runs import RunSession
    from wandb_airflow_provider.outage import OnUnavailable
    from wandb_airflow_provider.privacy import PrivacyGate
    from wandb_airflow_provider.redaction import RedactionPolicy
    from wandb_airflow_provider.sdk import RunSpec

__all__ = ["WandbHook"]


class WandbHook(BaseHook):
    """
    Open runs, read and write W&B through an Airflow connection of type ``wandb``.

    Constructing it reads nothing; the connection is read on first use, and credentials never leave the
    hook's own clients.

    :param wandb_conn_id: Airflow connection id.
    :param entity: Team or user; overrides the connection's.
    :param project: Overrides the connection's.
    :param redaction: What may be sent, in addition to what the connection's policy says.
    """

    conn_name_attr = "wandb_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONN_TYPE
    hook_name = "Weights & Biases"

    def __init__(
        self,
        wandb_conn_id: str = DEFAULT_CONN_ID,
        *,
        entity: str | None = None,
        project: str | None = None,
        redaction: RedactionPolicy | None = None,
    ) -> None:
        super().__init__()
        self.wandb_conn_id = wandb_conn_id
        self._entity = entity
        self._project = project
        self._redaction = redaction

    @cached_property
    def connection(self) -> WandbConnection:
        """
        The parsed Airflow connection.

        :raises WandbConfigurationError: there is no such connection, or it cannot be understood.
        """
        from airflow.providers.common.compat.sdk import AirflowNotFoundException

        from wandb_airflow_provider.connection import WandbConnection

        try:
            conn = self.get_connection(self.wandb_conn_id)
        except AirflowNotFoundException as error:
            raise WandbConfigurationError(
                f"There is no Airflow connection {self.wandb_conn_id!r}. Create one of type {CONN_TYPE!r} with the W&B "
                f"API key as password, or set AIRFLOW_CONN_{self.wandb_conn_id.upper()}."
            ) from error
        return WandbConnection.from_airflow(conn)

    @cached_property
    def privacy(self) -> PrivacyGate:
        """
        The gate through which goes all that is sent, as strict as the policies of connection and DAG.

        :raises WandbConfigurationError: the salt that a policy names does not exist.
        """
        from wandb_airflow_provider.hooks.privacy_gate import open_gate

        return open_gate(self.connection.redaction, self._redaction)

    def get_conn(self) -> wandb.Api:
        """Return W&B's public API client, cached per process and credentials."""
        from wandb_airflow_provider import sdk

        return sdk.client(self.connection)

    @property
    def given_entity(self) -> str | None:
        """The entity that the argument or the connection names; known without W&B."""
        return self._entity or self.connection.entity

    @property
    def entity(self) -> str:
        """
        Entity for reads and writes: the argument, the connection's, or the default entity of the key.

        :raises WandbConfigurationError: none of the three exists.
        """
        entity = self.given_entity
        if entity is None:
            with self.translate_errors("read the default entity"):
                entity = self.get_conn().default_entity
        if entity is None:
            raise WandbConfigurationError(
                f"No entity is set on {self.connection}, and its key has no default one."
            )
        return entity

    @property
    def project(self) -> str:
        """
        Project for reads and writes.

        :raises WandbConfigurationError: neither the argument nor the connection names one.
        """
        project = self._project or self.connection.project
        if not project:
            raise WandbConfigurationError(
                f"No W&B project: pass project=..., or set it on wandb_pipeline(...) or on {self.connection}."
            )
        return project

    def open_run(self, spec: RunSpec) -> RunSession:
        """
        Return a context manager that opens the run and finishes it with the right exit code.

        :raises WandbNotFoundError: the project does not exist and the connection forbids to create it.
        """
        from wandb_airflow_provider.hooks.privacy_gate import redacted_spec
        from wandb_airflow_provider.hooks.runs import RunSession

        if not self.connection.allow_project_creation:
            try:
                self.require_project(spec.entity or self.entity, spec.project or self.project)
            except WandbUnavailableError:
                # Opening the run meets the same outage, and knows what to do about it.
                if spec.on_unavailable == "fail":
                    raise
        return RunSession(self.connection, redacted_spec(self.privacy, spec), self.privacy)

    def check_outage_policy(self, owner: str, on_unavailable: OnUnavailable, spool: str | None) -> None:
        """
        Refuse, also while W&B is there, a policy that could not be followed once it is away.

        :param owner: Whose policy it is, as the message shall name it.
        :raises WandbConfigurationError: an unknown policy, no spool, or an entity that only W&B could tell.
        """
        from wandb_airflow_provider.outage import check_outage_policy

        check_outage_policy(owner, on_unavailable, spool)
        if on_unavailable != "fail" and not self.given_entity:
            raise WandbConfigurationError(
                f"{owner}: on_unavailable={on_unavailable!r} needs an entity that is known without W&B. Set it on "
                f"{self.connection}, or pass entity=... ."
            )

    def get_run(self, ref: RunRef) -> RunRecord:
        """
        Read a run afresh.

        :raises WandbNotFoundError: no such run, or this key cannot read it.
        """
        with self.translate_errors(f"read the W&B run {ref.path!r}"):
            api = self.get_conn()
            api.flush()  # type: ignore[no-untyped-call]
            return self.record_of(api.run(ref.path))

    def list_runs(self, entity: str, project: str, filters: Mapping[str, Any]) -> list[RunRecord]:
        """
        Read every run that matches W&B's Mongo-style filters, oldest first, in as few requests as there are pages.

        :param filters: For example ``{"group": "weekly__2026-01-01"}``.
        """
        if isinstance(filters.get("group"), str):
            filters = {**filters, "group": self.privacy.distinct(filters["group"])}
        with self.translate_errors(f"list the W&B runs of {entity}/{project}"):
            api = self.get_conn()
            api.flush()  # type: ignore[no-untyped-call]
            runs = api.runs(
                f"{entity}/{project}", filters=dict(filters), order="+created_at", per_page=500, lazy=False
            )
            return [self.record_of(run) for run in runs]

    @staticmethod
    def record_of(run: Any) -> RunRecord:
        """Return what a run of wandb's public API says."""
        from wandb_airflow_provider.hooks.run_record import RunRecord

        summary = dict(run.summary_metrics or {})
        return RunRecord(
            ref=RunRef(run.entity, run.project, run.id, url=run.url),
            name=run.name,
            state=run.state,
            group=run.group,
            job_type=run.job_type,
            tags=tuple(run.tags or ()),
            config=dict(run.config or {}),
            summary=summary,
            created_at=run.created_at,
            heartbeat_at=getattr(run, "heartbeat_at", None),
        )

    def get_artifact(self, path: str | ArtifactRef) -> ArtifactRef:
        """
        Read one artifact version afresh.

        :param path: ``[[entity/]project/]name:alias``, or a reference read before.
        :raises WandbArtifactNotFoundError: the artifact, version or alias does not exist.
        """
        return self._artifact_ref(self._artifact(path))

    def artifact_metadata(self, path: str | ArtifactRef) -> dict[str, Any]:
        """Return the metadata of an artifact version, read afresh."""
        return dict(self._artifact(path).metadata)

    def update_artifact_metadata(self, path: str | ArtifactRef, changes: Mapping[str, Any]) -> None:
        """Merge ``changes`` into the metadata of an artifact version; keys that it does not name are kept."""
        artifact = self._artifact(path)
        sent = self.privacy.mapping("metadata", changes)
        with self.translate_errors(f"update the metadata of {path}"):
            artifact.metadata = {**artifact.metadata, **sent}
            artifact.save()

    def registry_project(self, registry: str) -> str:
        """
        Return the project behind a registry, ``wandb-registry-<registry>``, with its organization when one is set.

        :raises WandbInvalidNameError: W&B would refuse the name.
        """
        name = validate_artifact_name(registry.removeprefix(PROJECT_PREFIX))
        organization = self.connection.organization
        return "/".join(filter(None, (organization, f"{PROJECT_PREFIX}{name}")))

    def get_alias(self, registry: str, collection: str, alias: str) -> ArtifactRef | None:
        """
        Return the version that holds an alias in a registry collection, read afresh.

        :return: None when the collection or the alias does not exist; never when W&B could not be asked.
        :raises WandbUnavailableError: W&B could not be read.
        """
        path = (
            f"{self.registry_project(registry)}/{validate_artifact_name(collection)}:{validate_alias(alias)}"
        )
        try:
            return self.get_artifact(path)
        except WandbArtifactNotFoundError:
            return None

    def link_to_registry(
        self, source: ArtifactRef, registry: str, collection: str, aliases: Sequence[str] = ()
    ) -> ArtifactRef:
        """
        Link an artifact version into a registry collection and give it aliases there, taking them from others.

        Both are one write: nobody sees an alias that no version has.

        :return: The version in the registry, re-read after the write.
        :raises WandbPromotionRefusedError: the version has another digest than the reference. Nothing is written.
        """
        for alias in aliases:
            validate_alias(alias)
            self.privacy.require_clean("The alias", alias)
        self.privacy.require_clean("The collection", collection)
        target = f"{self.registry_project(registry)}/{validate_artifact_name(collection)}"
        artifact = self._artifact(source)
        if artifact.digest != source.digest:
            raise WandbPromotionRefusedError(
                f"{source} is not linked into {target!r}: its digest is {artifact.digest!r} in W&B, and "
                f"{source.digest!r} in the reference. It is not the same content."
            )
        with self.translate_errors(f"link {source} into {target!r}"):
            linked = artifact.link(target, aliases=list(aliases))
        return self.get_artifact(f"{linked.qualified_name.rpartition(':')[0]}:{linked.version}")

    def remove_alias(self, version: ArtifactRef, alias: str) -> None:
        """
        Take an alias from a version; where it has moved to another version meanwhile, it stays there.

        :param version: As its collection names it: in a registry, the registry's own version.
        """
        artifact = self._artifact(version)
        if alias not in artifact.aliases:
            return
        artifact.aliases = [kept for kept in artifact.aliases if kept != alias]
        with self.translate_errors(f"take the alias {alias!r} from {version}"):
            artifact.save()

    def translate_errors(self, action: str) -> AbstractContextManager[None]:
        """Turn what wandb raises into this package's errors; ``action`` completes "Could not ..."."""
        from wandb_airflow_provider import sdk

        return sdk.translate_errors(action, self.connection)

    def test_connection(self) -> tuple[bool, str]:
        """Say whose key it is, which teams it may write to, or what is wrong, in one sentence."""
        from wandb_airflow_provider.hooks.account import describe_account
        from wandb_airflow_provider.hooks.runs import release_when_idle

        try:
            return describe_account(self)
        except WandbError as error:
            return False, str(error)
        finally:
            # Airflow calls this in its API server too, which must not keep a helper process of wandb.
            release_when_idle()

    def _artifact(self, path: str | ArtifactRef) -> wandb.Artifact:
        name = path.path if isinstance(path, ArtifactRef) else self.full_path(path)
        try:
            with self.translate_errors(f"read the artifact {name!r}"):
                artifact: wandb.Artifact = self.get_conn().artifact(name)
        except WandbNotFoundError as error:
            raise WandbArtifactNotFoundError(str(error)) from error
        return artifact

    def full_path(self, path: str) -> str:
        """Return ``[[entity/]project/]name[:alias]`` with this hook's entity and project where it names none."""
        entity, project, name, alias = split_artifact_path(path)
        if entity is None and (project is None or not project.startswith(PROJECT_PREFIX)):
            # The client would fall back to the connection's project, not to this hook's.
            return f"{self.entity}/{project or self.project}/{name}:{alias}"
        return path

    def _artifact_ref(self, artifact: wandb.Artifact) -> ArtifactRef:
        with self.translate_errors(f"read the origin of {artifact.qualified_name!r}"):
            producer = artifact.logged_by()
        return artifact_ref(artifact, source_run="/".join(producer.path) if producer is not None else None)

    def require_project(self, entity: str, project: str) -> None:
        """
        Refuse a project that does not exist.

        :raises WandbNotFoundError: it does not, and this connection may not create it.
        """
        with self.translate_errors(f"find the project {entity}/{project}"):
            names = {found.name for found in self.get_conn().projects(entity)}
        if project not in names:
            raise WandbNotFoundError(
                f"The W&B project {entity}/{project} does not exist, and {self.connection} has "
                f"allow_project_creation=false. Create it in W&B; {entity!r} has {sorted(names)}."
            )

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Tell the connection form which fields to show."""
        return {
            "hidden_fields": ["schema", "port", "login"],
            "relabeling": {"host": "API URL", "password": "API key"},
            "placeholders": {"host": "empty: the default of the W&B SDK", "password": "W&B API key"},
        }

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the fields of the extra for Airflow releases that do not read them from the provider's metadata."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import BooleanField, IntegerField, StringField

        # Airflow 3.1 shows no form at all for a hook that asks for any other kind of field.
        fields = {"string": StringField, "number": IntegerField, "boolean": BooleanField}
        return {
            name: fields[spec["type"]](
                lazy_gettext(spec["label"]), widget=BS3TextFieldWidget(), default=spec.get("default")
            )
            for name, spec in EXTRA_FIELDS.items()
        }


def artifact_ref(artifact: wandb.Artifact, *, source_run: str | None = None) -> ArtifactRef:
    """Return the reference of an artifact that W&B has committed."""
    return ArtifactRef(
        entity=artifact.entity,
        project=artifact.project,
        name=artifact.name.partition(":")[0],
        version=artifact.version,
        digest=artifact.digest,
        type=artifact.type,
        size_bytes=artifact.size,
        url=artifact.url,
        source=artifact.source_qualified_name if artifact.is_link else None,
        source_run=source_run,
        aliases=tuple(artifact.aliases),
    )
