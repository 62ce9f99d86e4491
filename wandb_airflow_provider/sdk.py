"""The only importer of ``wandb``, always inside functions, and only through its public API."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import psutil

from wandb_airflow_provider.exceptions import WandbAuthenticationError, WandbError, WandbPermanentError
from wandb_airflow_provider.identity_token import login_variables, read_identity_token
from wandb_airflow_provider.quick_import import quick_import
from wandb_airflow_provider.sdk_errors import translated

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.connection import WandbConnection
    from wandb_airflow_provider.outage import OnUnavailable

__all__ = [
    "RunSpec",
    "api_url",
    "automations",
    "base_url",
    "client",
    "current_run",
    "finish_interrupted",
    "finish_run",
    "has_helper",
    "html",
    "init_run",
    "kill_helpers",
    "new_artifact",
    "release",
    "revive",
    "start",
    "table",
    "table_of",
    "translate_errors",
    "translate_run_errors",
    "unknown_machine_variables",
]

log = logging.getLogger(__name__)

_INIT_TIMEOUT_FACTOR = 2.0
_RELEASE_TIMEOUT = 30.0
_KILL_TIMEOUT = 5.0
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

_clients: dict[tuple[int, WandbConnection], wandb.Api] = {}
_starting: list[threading.Thread] = []
# wandb has one login per process, which a client and a run take over when they are made.
_login = threading.RLock()
# By process, where wandb goes by itself. After a login it goes where that went, with the key of another connection too.
_own_url: dict[int, str] = {}


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


def start() -> None:
    """
    Import wandb and begin to start its helper process, which goes on while the caller does something else.

    Whoever calls it opens a run afterwards, or calls :func:`release`. What goes wrong is raised by the former.
    """
    with quick_import():
        import wandb

    def setup() -> None:
        with suppress(Exception):
            _silence()

    thread = threading.Thread(target=setup, name="wandb-airflow-start", daemon=True)
    _starting.append(thread)
    thread.start()
    with quick_import():
        # What wandb itself imports while it opens a run, now that there is nothing else to do.
        import wandb.apis.public  # noqa: F401


def client(connection: WandbConnection) -> wandb.Api:
    """
    Return the public API client of these credentials, one per process: each construction costs a request.

    :raises WandbAuthenticationError: W&B does not accept the key.
    :raises WandbUnavailableError: W&B cannot be reached.
    """
    key = (os.getpid(), connection)
    found = _clients.get(key)
    if found is None:
        import wandb

        _quiet()
        overrides = {
            "base_url": base_url(connection),
            "entity": connection.entity,
            "project": connection.project,
        }
        # A client with a key of its own does not care who is logged in.
        login = _logged_in(connection) if connection.api_key is None else nullcontext()
        with translate_errors("log in to W&B", connection):
            with login:
                api = wandb.Api(
                    overrides={name: value for name, value in overrides.items() if value},
                    timeout=max(1, round(connection.timeout)),
                    api_key=connection.api_key,
                )
            if connection.identity_token_file is not None:
                # wandb tries out a key by itself, and a token at its first use, which may be much later.
                _ = api.viewer
        _clients[key] = api
        return api
    return found


@contextmanager
def _logged_in(connection: WandbConnection) -> Iterator[None]:
    """
    Log wandb in with the connection's identity token, if it has one, while a client or run is made.

    Settings of a run or client cannot name the file, only those of the process can. The access token that wandb
    exchanges it for stays in the memory of its helper process, which reads the file again when it renews it.
    """
    with _login:
        if connection.identity_token_file is not None:
            import wandb

            read_identity_token(connection.identity_token_file, connection, time.time())
            variables = login_variables(connection.identity_token_file)
            wandb.setup(
                wandb.Settings(
                    base_url=base_url(connection),
                    identity_token_file=variables["WANDB_IDENTITY_TOKEN_FILE"],
                    credentials_file=variables["WANDB_CREDENTIALS_FILE"],
                    silent=True,
                    console="off",
                )
            )
        yield


def base_url(connection: WandbConnection) -> str:
    """Return the API URL that a process with these credentials talks to."""
    url = connection.host or os.environ.get("WANDB_BASE_URL") or _own_url.get(os.getpid())
    if url:
        return url
    import wandb

    return str(wandb.Settings().base_url)


def unknown_machine_variables() -> dict[str, str]:
    """Return the environment in which another process's wandb records nothing of machine, user and command line."""
    return {
        _VARIABLE_OF.get(name, f"WANDB_{name.upper()}"): str(value).lower()
        for name, value in _UNKNOWN_MACHINE.items()
    }


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
    _quiet()
    settings["base_url"] = base_url(connection)
    packages = spec.machine and mode != "disabled" and wandb.setup().settings.x_save_requirements
    settings["x_save_requirements"] = False
    login = _logged_in(connection) if mode == "online" else nullcontext()
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


def _save_packages(wandb_run: wandb.Run) -> None:
    """Save the list of installed packages as wandb does, which takes much longer to find them."""
    from wandb_airflow_provider.installed import installed_packages

    target = Path(wandb_run.dir, "requirements.txt")
    target.write_text("\n".join(installed_packages()) + "\n", encoding="utf-8")
    wandb_run.save(str(target), base_path=wandb_run.dir, policy="now")


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


def _bounds_finish() -> bool:
    """Return whether this wandb bounds ``finish`` itself, as it does since 0.28."""
    import wandb

    return "finish_timeout" in wandb.Settings.model_fields


def table(rows: Sequence[Mapping[str, Any]]) -> wandb.Table:
    """Return rows of equal keys as a table."""
    return table_of(list(rows[0]), [list(row.values()) for row in rows])


def table_of(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> wandb.Table:
    """Return columns and rows as a table; values of one column may differ in type or be None."""
    import wandb

    return wandb.Table(columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True)


def html(text: str) -> wandb.Html:
    """Return a page of HTML."""
    import wandb

    return wandb.Html(text, inject=False)


def new_artifact(
    name: str, type: str, *, description: str | None, metadata: dict[str, Any]
) -> wandb.Artifact:
    """Return an empty artifact to add content to."""
    import wandb

    return wandb.Artifact(name, type=type, description=description, metadata=metadata)


def automations() -> Any:
    """Return what automations are described with: wandb's own public classes."""
    import wandb.automations

    return wandb.automations


def finish_interrupted(wandb_run_id: str, exit_code: int) -> None:
    """Finish a run whose opening was interrupted after W&B had it and before the caller had."""
    opened = sys.modules["wandb"].run if "wandb" in sys.modules else None
    if opened is not None and opened.id == wandb_run_id:
        try:
            opened.finish(exit_code=exit_code)
        except Exception as error:
            log.warning("The interrupted W&B run %s could not be finished: %s", wandb_run_id, error)


def _quiet() -> None:
    """Silence wandb's own messages in this process: on stderr, each becomes an error line of the task's log."""
    while _starting:
        _starting[-1].join()
        _starting.pop()
    _silence()


def _silence() -> None:
    import wandb

    own = wandb.setup(wandb.Settings(silent=True, console="off")).settings
    _own_url.setdefault(os.getpid(), str(own.base_url))


def release(exit_code: int = 0) -> None:
    """
    End wandb's helper process and forget its clients, within half a minute.

    Left alive, it inherits the task's supervisor socket and keeps the worker slot blocked for up to a minute
    after the task is done. While W&B cannot be reached it may never end by itself: then it is killed.

    :param exit_code: Ends runs that are still open, such as one whose opening was interrupted.
    """
    _clients.clear()
    _own_url.clear()
    if "wandb" not in sys.modules:
        return
    while _starting:
        _starting.pop().join(_RELEASE_TIMEOUT)
    helpers = [child for child in psutil.Process().children() if _is_helper(child)]
    failures: list[BaseException] = []

    def teardown() -> None:
        try:
            sys.modules["wandb"].teardown(exit_code=exit_code)
        except BaseException as error:
            # SystemExit too: wandb raises it when its helper ends badly, which must not end the task.
            failures.append(error)

    thread = threading.Thread(target=teardown, name="wandb-airflow-release", daemon=True)
    thread.start()
    thread.join(_RELEASE_TIMEOUT)
    if not thread.is_alive():
        if failures:
            log.warning("wandb could not be ended cleanly: %s", failures[0])
        return
    log.warning("wandb did not end within %.0f s and is killed; unsent data stays on disk.", _RELEASE_TIMEOUT)
    kill_helpers(helpers)
    thread.join(_KILL_TIMEOUT)


def revive() -> None:
    """Forget a helper process of wandb that has died, so that the next call starts another one."""
    if "wandb" not in sys.modules:
        return
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if _is_helper(child) and child.status() != psutil.STATUS_ZOMBIE:
                return
    release()


def kill_helpers(helpers: Sequence[psutil.Process] | None = None) -> None:
    """Kill wandb's helper processes, by default all of this process; what they have written stays on disk."""
    for helper in psutil.Process().children() if helpers is None else helpers:
        if helpers is not None or _is_helper(helper):
            with suppress(psutil.NoSuchProcess):
                helper.kill()


def has_helper() -> bool:
    """Say whether a helper process of wandb is at work for this process."""
    return any(_is_helper(child) for child in psutil.Process().children())


def current_run() -> wandb.Run | None:
    """Return the run that user code has open in this process and that is sent to W&B at once, if there is one."""
    # While wandb is being imported, it has no such attribute yet.
    found = getattr(sys.modules.get("wandb"), "run", None)
    return found if found is not None and not found.offline and not found.disabled else None


def api_url(wandb_run: wandb.Run) -> str:
    """Return the API URL that a run is sent to."""
    return str(wandb_run.settings.base_url)


def _is_helper(process: psutil.Process) -> bool:
    try:
        return bool(process.name() == "wandb-core")
    except psutil.Error:
        return False


def translate_run_errors(action: str, wandb_run: wandb.Run) -> AbstractContextManager[None]:
    """Like :func:`translate_errors`, where only the open run is at hand."""
    return translate_errors(action, f"the W&B run {wandb_run.entity}/{wandb_run.project}/{wandb_run.id}")


@contextmanager
def translate_errors(action: str, connection: object) -> Iterator[None]:
    """
    Turn what wandb raises into this package's errors, so that a caller can tell absence from failure.

    :param action: What was tried, in words that complete "Could not ...".
    :param connection: What it was tried through, as the message shall name it.
    """
    import wandb

    try:
        yield
    except WandbError:
        raise
    except wandb.errors.UnsupportedError as error:
        raise WandbPermanentError(f"Could not {action} through {connection}: {error}") from error
    except Exception as error:
        expected = isinstance(error, (wandb.Error, ValueError, TimeoutError, ConnectionError))
        # Lists raise the error of wandb's helper process, whose class is not public.
        if not expected and not type(error).__module__.startswith("wandb."):
            raise
        wrong_key = isinstance(error, wandb.errors.AuthenticationError)
        found = translated(error, action, connection, wrong_key=wrong_key)
        if isinstance(found, WandbAuthenticationError):
            # Its next user logs in anew: with another token, wandb would go on with the old one until that ends.
            _forget(connection)
        raise found from error


def _forget(connection: object) -> None:
    for key in list(_clients):
        if key[1] == connection:
            _clients.pop(key, None)
