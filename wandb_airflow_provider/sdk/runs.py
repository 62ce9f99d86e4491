"""Opening and finishing W&B runs."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from wandb_airflow_provider.sdk.api import base_url, logged_in, translate_errors
from wandb_airflow_provider.sdk.process import quiet

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.connection import WandbConnection
    from wandb_airflow_provider.outage import OnUnavailable

__all__ = [
    "RunSpec",
    "api_url",
    "current_run",
    "finish_interrupted",
    "finish_run",
    "init_run",
    "is_open",
    "unknown_machine_variables",
]

log = logging.getLogger(__name__)

_INIT_TIMEOUT_FACTOR = 2.0
_FINISH_TIMEOUT = 600.0
# What wandb records of the machine, its user and the command line, unless told not to.
_UNKNOWN_MACHINE = {
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "disable_git": True,
    "disable_code": True,
    "program": "unknown",
    "host": "unknown",
    "username": "unknown",
    "email": "unknown",
}

_VARIABLE_OF = {"email": "WANDB_USER_EMAIL"}


class RunSpec(NamedTuple):
    """
    What a run is opened with.

    :param stage: Name under which one task writes to a run that it shares with others; it begins each of its keys.
    :param shared: Others may write to the run at the same time (W&B's shared mode).
    :param machine: Let wandb record host, user, command line, checkout and installed packages by itself.
    :param resume: ``allow`` continues the run when it exists, ``must`` fails when it does not.
    :param folder: Local folder of this one opening; two openings within a second would collide otherwise.
    :param on_unavailable: What to do when W&B cannot be reached, and ``spool``: where ``offline`` keeps the run.
    :param finish_timeout: Longest wait for the upload of what was logged, in seconds; 0 waits for ever, and so
        keeps the worker slot for as long as W&B is away.
    """

    wandb_run_id: str
    name: str
    group: str
    job_type: str
    folder: str = ""
    entity: str | None = None
    project: str | None = None
    tags: tuple[str, ...] = ()
    config: Mapping[str, Any] = MappingProxyType({})
    resume: Literal["allow", "must"] = "allow"
    finish_timeout: float = _FINISH_TIMEOUT
    stage: str | None = None
    shared: bool = False
    machine: bool = True
    on_unavailable: OnUnavailable = "fail"
    spool: str | None = None


def init_run(
    connection: WandbConnection, spec: RunSpec, mode: Literal["online", "offline", "disabled"] = "online"
) -> wandb.Run:
    """
    Open a W&B run with the connection's credentials, which reach neither ``os.environ`` nor a login file.

    :param mode: ``offline`` writes to the folder alone, ``disabled`` nowhere; neither gets the key.

    :raises WandbAuthenticationError: W&B does not accept the key.
    :raises WandbRunDeletedError: the id belongs to a run that was deleted.
    :raises WandbUnavailableError: W&B cannot be reached.
    """
    import wandb

    # A task that can do without W&B does not wait for it longer than its connection says.
    patience = _INIT_TIMEOUT_FACTOR if spec.on_unavailable == "fail" else 1.0
    settings: dict[str, Any] = {
        # Airflow keeps the task's log, and shows wandb's banner on stderr as errors.
        "console": "off",
        "silent": True,
        "init_timeout": connection.timeout * patience,
    }
    if mode == "online" and connection.api_key is not None:
        settings["api_key"] = connection.api_key
    if _bounds_finish():
        settings |= {"finish_timeout": spec.finish_timeout, "finish_timeout_raises": True}
    if not spec.machine:
        settings |= _UNKNOWN_MACHINE
    if spec.shared:
        # Only the opening and the closing task decide the state of a run to which tasks write side by side.
        whole = spec.stage is None
        settings |= {
            "x_label": spec.stage or spec.job_type,
            "x_primary": whole,
            "x_update_finish_state": whole,
        }
    quiet()
    settings["base_url"] = base_url(connection)
    packages = spec.machine and mode != "disabled" and wandb.setup().settings.x_save_requirements
    settings["x_save_requirements"] = False
    login = logged_in(connection) if mode == "online" else nullcontext()
    action = f"open the W&B run {spec.wandb_run_id!r} in project {spec.project!r}"
    with translate_errors(action, connection), login:
        wandb_run = wandb.init(
            entity=spec.entity,
            project=spec.project,
            id=spec.wandb_run_id,
            name=spec.name,
            group=spec.group,
            job_type=spec.job_type,
            # A stage adds its tags to those of the run, which these would replace.
            tags=list(spec.tags) if spec.stage is None else None,
            config=dict(spec.config),
            resume=spec.resume,
            # A retry that resumes its run may bring other values.
            allow_val_change=True,
            dir=spec.folder,
            mode="shared" if spec.shared and mode == "online" else mode,
            # A run that user code left open must not be handed out in place of this one.
            reinit="create_new" if wandb.run is not None else "default",
            settings=wandb.Settings(**settings),
        )
    if packages:
        _save_packages(wandb_run)
    return wandb_run


def is_open(wandb_run: wandb.Run) -> bool:
    """Say whether nobody has finished a run yet."""
    import wandb

    try:
        wandb_run.status()
    except wandb.errors.UsageError:
        return False
    return True


def finish_run(wandb_run: wandb.Run, exit_code: int, timeout: float) -> None:
    """
    Finish a run within ``timeout`` seconds; 0 waits for ever.

    :raises Exception: what was logged could not all be sent; it is in the run's folder.
    """
    if _bounds_finish() or timeout == 0:
        wandb_run.finish(exit_code=exit_code)
        return
    failures: list[BaseException] = []

    def finish() -> None:
        try:
            wandb_run.finish(exit_code=exit_code)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=finish, name="wandb-airflow-finish", daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise TimeoutError(f"W&B took more than {timeout:.0f} s to receive what was logged")
    if failures:
        raise failures[0]


def finish_interrupted(wandb_run_id: str, exit_code: int) -> None:
    """Finish a run whose opening was interrupted after W&B had it and before the caller had."""
    opened = sys.modules["wandb"].run if "wandb" in sys.modules else None
    if opened is not None and opened.id == wandb_run_id:
        try:
            opened.finish(exit_code=exit_code)
        except Exception as error:
            log.warning("The interrupted W&B run %s could not be finished: %s", wandb_run_id, error)


def current_run() -> wandb.Run | None:
    """Return the run that user code has open in this process and that is sent to W&B at once, if there is one."""
    # While wandb is being imported, it has no such attribute yet.
    found = getattr(sys.modules.get("wandb"), "run", None)
    return found if found is not None and not found.offline and not found.disabled else None


def api_url(wandb_run: wandb.Run) -> str:
    """Return the API URL that a run is sent to."""
    return str(wandb_run.settings.base_url)


def unknown_machine_variables() -> dict[str, str]:
    """Return the environment in which another process's wandb records nothing of machine, user and command line."""
    return {
        _VARIABLE_OF.get(name, f"WANDB_{name.upper()}"): str(value).lower()
        for name, value in _UNKNOWN_MACHINE.items()
    }


def _save_packages(wandb_run: wandb.Run) -> None:
    """Save the list of installed packages as wandb does, which takes much longer to find them."""
    from wandb_airflow_provider.installed import installed_packages

    target = Path(wandb_run.dir, "requirements.txt")
    target.write_text("\n".join(installed_packages()) + "\n", encoding="utf-8")
    wandb_run.save(str(target), base_path=wandb_run.dir, policy="now")


def _bounds_finish() -> bool:
    """Return whether this wandb bounds ``finish`` itself, as it does since 0.28."""
    import wandb

    return "finish_timeout" in wandb.Settings.model_fields
