"""A folder for one process of a task: its W&B credentials and what it logs, readable by the worker's user alone."""

from __future__ import annotations

import netrc
import os
import shlex
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil

from wandb_airflow_provider.identity_token import login_variables

if TYPE_CHECKING:
    from wandb_airflow_provider.connection import WandbConnection

__all__ = ["ProcessFolder", "account_environment"]

_PREFIX = "wandb-airflow-process-"
_UNSENT_PREFIX = "wandb-airflow-unsent-"
_KEY_FILE = "netrc"
_POLL_SECONDS = 0.2


class ProcessFolder:
    """
    A folder that exists while a task's process runs.

    A worker that is killed leaves it behind, so making one puts away those of this user whose worker is gone.
    """

    def __init__(self) -> None:
        _put_away_orphans()
        self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))

    def write_key(self, host: str, api_key: str) -> Path:
        """
        Write a netrc file that holds the key, beside what the user's own netrc file holds for other hosts.

        wandb, pip and requests read the file that ``NETRC`` names instead of the user's own.
        """
        entries = [_own_entries(), f"machine {shlex.quote(urlsplit(host).netloc)}"]
        entries += ["  login user", f"  password {shlex.quote(api_key)}", ""]
        return self._write(_KEY_FILE, "\n".join(entries))

    def remove_key(self) -> None:
        """Remove the credentials, and leave what the process logged."""
        (self.path / _KEY_FILE).unlink(missing_ok=True)

    def wait_until_unused(self, seconds: float) -> None:
        """Wait, for at most so many seconds, until no process is left that was started with the folder."""
        until = time.monotonic() + seconds
        while any(map(self._is_used_by, psutil.process_iter())) and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)

    def _is_used_by(self, process: psutil.Process) -> bool:
        try:
            environment = process.environ()
        except (psutil.Error, OSError):
            return False
        return str(self.path) in (
            environment.get("WANDB_DIR"),
            str(Path(environment.get("NETRC", "")).parent),
        )

    def put_away(self, *, keep_unsent: bool) -> Path | None:
        """
        Remove the folder, the key first.

        :param keep_unsent: Keep what was logged, if anything was.
        :return: Where it is kept.
        """
        return _put_away(self.path, keep_unsent=keep_unsent)

    def _write(self, name: str, text: str) -> Path:
        path = self.path / name
        # With its mode from the start: a file made first and restricted later can be opened in between.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return path


def account_environment(folder: Path, connection: WandbConnection, base_url: str | None) -> dict[str, str]:
    """
    Return the environment of a process that has this connection's account and nothing of the worker's own W&B.

    :param folder: For wandb's own files.
    :param base_url: API URL; None for wandb's default.
    """
    # Whatever the worker sets for wandb is meant for other runs: an id, a mode, a project.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {
        f"WANDB_{name}": str(folder) for name in ("DIR", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR")
    } | {"NETRC": str(folder / "no-netrc")}
    if connection.identity_token_file is not None:
        environment |= login_variables(connection.identity_token_file)
    else:
        environment["WANDB_API_KEY"] = connection.api_key or ""
    return environment | ({"WANDB_BASE_URL": base_url} if base_url else {})


def _own_entries() -> str:
    """Return the user's netrc file when it can be understood; a broken one would make wandb ignore ours too."""
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        netrc.netrc(path)
        return path.read_text("utf-8")
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return ""


def _put_away(folder: Path, *, keep_unsent: bool) -> Path | None:
    (folder / _KEY_FILE).unlink(missing_ok=True)
    if keep_unsent and any(folder.rglob("*.wandb")):
        return folder.rename(folder.with_name(folder.name.replace(_PREFIX, _UNSENT_PREFIX, 1)))
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _put_away_orphans() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Another worker may be about to do the same.
        with suppress(FileNotFoundError):
            pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
            if folder.stat().st_uid == os.getuid() and pid.isdecimal() and not _is_alive(int(pid)):
                _put_away(folder, keep_unsent=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
