from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wandb_airflow_provider.demo.errors import DemoError, ProcessExitedError
from wandb_airflow_provider.demo.polling import wait_for
from wandb_airflow_provider.demo.processes import (
    ManagedProcess,
    ProcessGroup,
    inherited_environment,
    run_to_end,
)

# Leaves a grandchild behind that has a session of its own, whose parent has ended, and that ignores SIGTERM.
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1] + "/grandchild.tmp", "w").write(str(os.getpid()))
        os.rename(sys.argv[1] + "/grandchild.tmp", sys.argv[1] + "/grandchild")
        time.sleep(600)
    os._exit(0)
open(sys.argv[1] + "/child", "w").write(str(os.getpid()))
time.sleep(600)
"""


def start(
    script: str, folder: Path, *arguments: str, grace: float = 0.2, name: str = "The script"
) -> ManagedProcess:
    return ManagedProcess(
        name,
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        env=dict(os.environ),
        log_path=folder / "output.log",
        cwd=folder,
        grace=grace,
    )


def read_pid(path: Path) -> int:
    return wait_for(
        f"{path.name} to be written", lambda: int(path.read_text()) if path.exists() else None, timeout=60.0
    )


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(pid: int) -> None:
    wait_for(f"process {pid} to end", lambda: None if alive(pid) else True, timeout=60.0, interval=0.05)


def test_stopping_ends_a_grandchild_in_a_session_of_its_own_that_ignores_sigterm(tmp_path: Path) -> None:
    process = start(STUBBORN, tmp_path, str(tmp_path))
    grandchild, child = read_pid(tmp_path / "grandchild"), read_pid(tmp_path / "child")

    process.stop()

    assert not alive(grandchild)
    assert not alive(child)


def test_everything_ends_when_the_starting_process_is_killed(tmp_path: Path) -> None:
    launcher = """
        import os, pathlib, sys, time
        from wandb_airflow_provider.demo.processes import ManagedProcess
        folder = pathlib.Path(sys.argv[1])
        ManagedProcess("x", [sys.executable, "-c", sys.argv[2], str(folder)], env=dict(os.environ),
                       log_path=folder / "log", cwd=folder, grace=0.2)
        time.sleep(600)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(launcher), str(tmp_path), STUBBORN])
    grandchild = read_pid(tmp_path / "grandchild")

    parent.send_signal(signal.SIGKILL)
    parent.wait()

    wait_until_gone(grandchild)


def test_a_command_that_ends_by_itself_takes_what_it_left_behind_with_it(tmp_path: Path) -> None:
    script = """
        import subprocess, sys
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        open(sys.argv[1], "w").write(str(left.pid))
    """
    process = start(script, tmp_path, str(tmp_path / "left"))

    assert process.wait(60.0) == 0
    assert not alive(read_pid(tmp_path / "left"))


def test_a_process_has_time_to_end_politely(tmp_path: Path) -> None:
    script = """
        import signal, sys, time
        def stop(*_):
            time.sleep(0.2)
            print("ended politely", flush=True)
            sys.exit(3)
        signal.signal(signal.SIGTERM, stop)
        print("ready", flush=True)
        time.sleep(600)
    """
    process = start(script, tmp_path, grace=20.0)
    wait_for("the script", lambda: True if "ready" in process.log_tail() else None, timeout=60.0)

    process.stop()

    assert process.exit_code == 3
    assert "ended politely" in process.log_tail()


@pytest.mark.parametrize(
    ("script", "code"),
    [("raise SystemExit(7)", 7), ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137)],
)
def test_exit_code_of_the_command_is_passed_on(tmp_path: Path, script: str, code: int) -> None:
    assert start(script, tmp_path).wait(60.0) == code


def test_check_of_an_ended_process_raises_with_the_end_of_its_log(tmp_path: Path) -> None:
    process = start("print('out of cheese'); raise SystemExit(4)", tmp_path, name="The shop")
    process.wait(60.0)

    with pytest.raises(
        ProcessExitedError, match=r"The shop ended unexpectedly with exit code 4(.|\n)*out of cheese"
    ):
        process.check()


def test_a_group_ends_all_its_processes_when_its_block_fails(tmp_path: Path) -> None:
    pids: list[int] = []

    def run() -> None:
        with ProcessGroup() as group:
            for name in ("one", "two"):
                (tmp_path / name).mkdir()
                group.add(start(STUBBORN, tmp_path / name, str(tmp_path / name)))
                pids.append(read_pid(tmp_path / name / "grandchild"))
            raise RuntimeError("the block failed")

    with pytest.raises(RuntimeError, match="the block failed"):
        run()

    assert [alive(pid) for pid in pids] == [False, False]


@pytest.mark.parametrize(
    ("script", "timeout", "message"),
    [
        ("print('no space left'); raise SystemExit(2)", 20.0, r"failed with exit code 2(.|\n)*no space left"),
        ("import time; time.sleep(600)", 0.5, r"did not end within"),
    ],
)
def test_a_step_that_fails_or_hangs_is_an_error_with_its_log(
    tmp_path: Path, script: str, timeout: float, message: str
) -> None:
    with pytest.raises(DemoError, match=message):
        run_to_end(
            "The step",
            [sys.executable, "-c", script],
            env=dict(os.environ),
            log_path=tmp_path / "log",
            cwd=tmp_path,
            timeout=timeout,
        )


def test_settings_of_the_person_at_the_keyboard_do_not_reach_the_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (
        "AIRFLOW__CORE__EXECUTOR",
        "AIRFLOW_HOME",
        "WANDB_API_KEY",
        "WANDB_MODE",
        "PYTEST_CURRENT_TEST",
    ):
        monkeypatch.setenv(name, "mine")
    monkeypatch.setenv("LANG", "C.UTF-8")

    env = inherited_environment()

    assert "mine" not in env.values()
    assert env["LANG"] == "C.UTF-8"


def test_waiting_in_vain_says_for_what() -> None:
    nothing: Callable[[], bool | None] = lambda: None  # noqa: E731
    began = time.monotonic()

    with pytest.raises(DemoError, match=r"Waited 0 s in vain for a miracle\."):
        wait_for("a miracle", nothing, timeout=0.05, interval=0.01)

    assert time.monotonic() - began < 5.0
