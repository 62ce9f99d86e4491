"""In which W&B run an XCom is logged: the task's own, else one that is there anyway."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from wandb_airflow_provider.exceptions import (
    WandbNotFoundError,
    WandbOfflineError,
    WandbUnavailableError,
    WandbXComRefusedError,
)
from wandb_airflow_provider.hierarchy import ROOT_JOB_TYPE, known_pipelines
from wandb_airflow_provider.identity import CONFIG_KEY, RunRef, TaskIdentity
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.reference import scope_of

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.sdk import RunSpec
    from wandb_airflow_provider.xcom.reference import Producer

__all__ = ["artifact_run", "check_place", "open_run_here", "scope_here", "scopes_of", "xcom_hook"]

log = logging.getLogger(__name__)

JOB_TYPE = "xcom"
_FINISH_TIMEOUT = 60.0


def xcom_hook(dag_id: str | None = None) -> WandbHook:
    """
    Return the hook of the section ``[wandb_xcom]``.

    :param dag_id: Whose pipeline names entity and project where the section does not.
    """
    from wandb_airflow_provider.hooks.wandb import WandbHook

    pipeline = known_pipelines.get(dag_id) if dag_id is not None else None
    return WandbHook(
        settings.wandb_conn_id(),
        entity=settings.entity() or (pipeline.entity if pipeline else None),
        project=settings.project() or (pipeline.project if pipeline else None),
        redaction=pipeline.redaction if pipeline else None,
    )


def check_place(hook: WandbHook, place: tuple[str, str], what: str) -> None:
    """
    Refuse an artifact of an entity or project that no one here has named.

    :raises WandbXComRefusedError: it is.
    """
    if not _is_allowed(hook, place):
        raise WandbXComRefusedError(
            f"Refused {what}: it is in the W&B project {'/'.join(place)}, which is neither that of {hook.connection} "
            "nor that of the DAG's pipeline. Add it to 'allowed_projects' of [wandb_xcom] if tasks may read it."
        )


def open_run_here(hook: WandbHook) -> wandb.Run | None:
    """
    Return the run that this task has open, if it is one of this W&B server.

    :raises WandbOfflineError: it has one that W&B does not know of yet.
    """
    from wandb_airflow_provider import sdk
    from wandb_airflow_provider.hooks.runs import open_sessions

    sessions = open_sessions()
    for session in sessions:
        if not session.run.offline and not session.run.disabled and _is_here(hook, session.run):
            return session.run
    if any(session.run.offline or session.run.disabled for session in sessions):
        raise WandbOfflineError(
            "The task's W&B run is offline, or not recorded, because W&B was unavailable; an XCom cannot become an "
            "artifact. A later retry can help."
        )
    run = sdk.current_run()
    return run if run is not None and _is_here(hook, run) else None


@contextmanager
def artifact_run(hook: WandbHook, producer: Producer) -> Iterator[wandb.Run]:
    """
    Give the run to log an XCom in.

    That is the task's own run if it has one open; else the pipeline run, while its pipeline is at work; else one run of
    the job type ``xcom`` for all tasks of the DAG run: W&B lets nobody log an artifact outside of a run.

    :raises WandbUnavailableError: W&B cannot be reached. Retried.
    """
    from wandb_airflow_provider import sdk

    run = open_run_here(hook)
    if run is not None and _is_allowed(hook, (run.entity, run.project)):
        yield run
        return
    if run is not None:
        log.info("Readers would refuse XComs in %s/%s; using the project of XComs.", run.entity, run.project)
    identity = TaskIdentity(producer.dag_id, producer.dag_run_id, JOB_TYPE)
    spec = _pipeline_spec(hook, identity) or _own_spec(hook, identity)
    folder = tempfile.mkdtemp(prefix="wandb-airflow-")
    opened = None
    try:
        opened = sdk.init_run(hook.connection, spec._replace(folder=folder))
        yield opened
    finally:
        try:
            if opened is not None:
                with sdk.translate_errors(f"finish the W&B run {spec.wandb_run_id!r}", hook.connection):
                    sdk.finish_run(opened, 0, _FINISH_TIMEOUT)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def scope_here(hook: WandbHook) -> str:
    """Return the scope of an XCom that is about to be logged, by what is known without asking W&B."""
    with suppress(WandbUnavailableError):
        run = open_run_here(hook)
        if run is not None and _is_allowed(hook, (run.entity, run.project)):
            return _scope(hook, run.entity, run.project)
    return _scope(hook, hook.given_entity or "", hook.project)


def scopes_of(hook: WandbHook) -> set[str]:
    """Return the scopes of all XComs of a hook's project."""
    return {_scope(hook, entity, hook.project) for entity in (hook.entity, hook.given_entity or "")}


def _scope(hook: WandbHook, entity: str, project: str) -> str:
    from wandb_airflow_provider import sdk

    return scope_of(settings.deployment(), sdk.base_url(hook.connection).rstrip("/"), entity, project)


def _is_allowed(hook: WandbHook, place: tuple[str, str]) -> bool:
    path = "/".join(place)
    if any(fnmatchcase(path, pattern) for pattern in settings.allowed_projects()):
        return True
    projects = {settings.project(), hook.connection.project}
    own = {(hook.entity, project) for project in projects if project}
    for pipeline in known_pipelines.values():
        if pipeline.project or pipeline.entity:
            own.add((pipeline.entity or hook.entity, pipeline.project or str(hook.connection.project)))
    return place in own


def _is_here(hook: WandbHook, run: wandb.Run) -> bool:
    from wandb_airflow_provider import sdk

    return sdk.api_url(run).rstrip("/") == sdk.base_url(hook.connection).rstrip("/")


def _pipeline_spec(hook: WandbHook, identity: TaskIdentity) -> RunSpec | None:
    """Return what joins the pipeline run without changing it, unless there is none or its pipeline has ended."""
    from wandb_airflow_provider.hooks.privacy_gate import redacted_spec
    from wandb_airflow_provider.hooks.runs import RUNNING, STATE_KEY
    from wandb_airflow_provider.sdk import RunSpec

    if identity.dag_id not in known_pipelines:
        return None
    root = RunRef(hook.entity, hook.project, identity.root_wandb_run_id())
    try:
        record = hook.get_run(root)
    except WandbNotFoundError:
        return None
    if record.summary.get(STATE_KEY) != RUNNING:
        return None
    spec = RunSpec(
        root.wandb_run_id,
        identity.root_name,
        identity.group,
        ROOT_JOB_TYPE,
        entity=root.entity,
        project=root.project,
        stage=JOB_TYPE,
        shared=True,
        resume="must",
        machine=False,
    )
    return redacted_spec(hook.privacy, spec)._replace(machine=False)


def _own_spec(hook: WandbHook, identity: TaskIdentity) -> RunSpec:
    from wandb_airflow_provider.hooks.privacy_gate import redacted_spec
    from wandb_airflow_provider.sdk import RunSpec

    provenance = {"dag_id": identity.dag_id, "dag_run_id": identity.dag_run_id, "task_id": None}
    spec = RunSpec(
        identity.wandb_run_id("resume"),
        f"XComs · {identity.dag_run_id}",
        identity.group,
        JOB_TYPE,
        entity=hook.entity,
        project=hook.project,
        config={CONFIG_KEY: provenance},
        shared=True,
    )
    return redacted_spec(hook.privacy, spec)._replace(machine=False)
