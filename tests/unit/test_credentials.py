"""The folder of a process: who can read it, what wandb and others find in it, and that it does not stay."""

from __future__ import annotations

import netrc
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from wandb_airflow_provider.credentials import ProcessFolder

HOST = "https://wandb.example.com:8443/base"


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("NETRC", str(tmp_path / "own-netrc"))


def test_only_the_user_can_read_the_key() -> None:
    folder = ProcessFolder()
    path = folder.write_key(HOST, "k" * 40)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert netrc.netrc(path).authenticators("wandb.example.com:8443") == ("user", "", "k" * 40)


def test_the_user_s_other_hosts_stay_known(tmp_path: Path) -> None:
    (tmp_path / "own-netrc").write_text("machine git.example.com\n login me\n password p\n")
    found = netrc.netrc(ProcessFolder().write_key(HOST, "key"))
    assert found.authenticators("git.example.com") == ("me", "", "p")
    assert found.authenticators("wandb.example.com:8443") == ("user", "", "key")


def test_a_netrc_file_that_cannot_be_understood_does_not_hide_the_key(tmp_path: Path) -> None:
    (tmp_path / "own-netrc").write_text("no such thing\n")
    found = netrc.netrc(ProcessFolder().write_key(HOST, "key"))
    assert list(found.hosts) == ["wandb.example.com:8443"]


def test_what_was_sent_is_removed_and_what_may_not_have_been_is_kept_without_the_key() -> None:
    folder = ProcessFolder()
    folder.write_key(HOST, "key")
    assert folder.put_away(keep_unsent=True) is None, "nothing was logged"
    assert not folder.path.exists()

    logged = ProcessFolder()
    logged.write_key(HOST, "key")
    (logged.path / "run-1.wandb").write_bytes(b"metrics")
    kept = logged.put_away(keep_unsent=True)
    assert kept is not None
    assert [path.name for path in kept.iterdir()] == ["run-1.wandb"]
    assert not logged.path.exists()


def test_the_key_of_a_worker_that_was_killed_is_removed_by_the_next() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    place = Path(tempfile.gettempdir())
    left, alive = (place / f"wandb-airflow-process-{pid}-x" for pid in (ended.pid, os.getpid()))
    for folder in (left, alive):
        folder.mkdir()
        (folder / "netrc").write_text("machine m password key")
        (folder / "run-1.wandb").write_bytes(b"metrics")
    ProcessFolder()
    assert (alive / "netrc").exists()
    assert not left.exists()
    assert [path.name for path in place.glob("wandb-airflow-unsent-*/*")] == ["run-1.wandb"]
