"""What the processes of a flow ask of ``wandb``, which takes place and credentials from their environment."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import wandb

__all__ = ["attempt", "complete_run", "fail_run", "open_run", "release", "reserve_run"]

log = logging.getLogger(__name__)

_UNFINISHED = frozenset({"running", "pending"})
_FINISH_TIMEOUT = 600.0


@contextmanager
def attempt(action: str) -> Iterator[None]:
    """
    Say what failed in one warning, and go on: W&B never fails a flow.

    :param action: What is tried, in words that complete "Could not ...".
    """
    try:
        yield
    except Exception as error:
        log.warning("Could not %s: %s: %s", action, type(error).__name__, error)


def open_run() -> wandb.Run:
    """Open the run that the environment names, and keep wandb's helper process to this process."""
    import wandb

    release()
    run = wandb.init(settings=_settings())
    # Processes started from now on would share the helper, and it would keep their runs open after them.
    os.environ.pop("WANDB_SERVICE", None)
    return run


def reserve_run(path: str, name: str, job_type: str, config: Mapping[str, Any]) -> None:
    """Create the run, so that it is there whether or not its process opens it, or lives to do so."""
    import wandb

    release()
    entity, project, wandb_run_id = path.split("/")
    api = wandb.Api()
    run: Any = api.create_run(run_id=wandb_run_id, project=project, entity=entity)
    run.group, run.job_type, run.display_name = os.environ.get("WANDB_RUN_GROUP"), job_type, name
    run.tags = [tag for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag]
    run.config.update(config)
    run.update()


def complete_run(path: str, summary: Mapping[str, Any], *, failed: bool) -> None:
    """Write how the work ended, and finish the run that the environment names where its code has not."""
    import wandb

    opened = wandb.run
    if opened is not None and opened.path == path:
        _finish(opened, summary, failed=failed)
        return
    run = _read(path)
    if str(run.state) in _UNFINISHED and not failed:
        # W&B lets none but an open run finish well.
        _finish(wandb.init(reinit="create_new", settings=_settings()), summary, failed=False)
        return
    fail_run(path, summary) if failed else run.summary.update(summary)


def fail_run(path: str, summary: Mapping[str, Any]) -> None:
    """Write how the work ended, and close the run as failed if it is still open."""
    run = _read(path)
    if str(run.state) in _UNFINISHED:
        run.update_state("failed")
    run.summary.update(summary)


def release() -> None:
    """End wandb's helper process, and make wandb read the environment again; it reads it once."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


def _finish(run: wandb.Run, summary: Mapping[str, Any], *, failed: bool) -> None:
    run.summary.update(dict(summary))
    run.finish(exit_code=1 if failed else 0)


def _settings() -> wandb.Settings:
    import wandb

    settings: dict[str, Any] = {"silent": True, "console": "off"}
    if "finish_timeout" in wandb.Settings.model_fields:
        settings |= {"finish_timeout": _FINISH_TIMEOUT, "finish_timeout_raises": True}
    return wandb.Settings(**settings)


def _read(path: str) -> Any:
    import wandb

    api = wandb.Api()
    api.flush()  # type: ignore[no-untyped-call]
    return api.run(path)
