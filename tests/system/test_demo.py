"""The command ``wandb-airflow demo`` as a user runs it, each time with an Airflow of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wandb_airflow_provider.demo.airflow_api import AirflowClient
from wandb_airflow_provider.demo.polling import wait_for

pytestmark = pytest.mark.slow


class Demo:
    """The command as a user runs it, with its output in a file."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder / "demo"
        self.output = folder / "output.txt"
        command = [sys.executable, "-m", "wandb_airflow_provider.cli", "demo", "--folder", str(self.folder)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *arguments], stdout=output, stderr=subprocess.STDOUT, cwd=folder
            )

    def __enter__(self) -> Demo:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait_for_text(self, text: str, timeout: float = 180.0) -> None:
        def probe() -> bool | None:
            assert self.process.poll() is None or text in self.text, self.text
            return True if text in self.text else None

        wait_for(f"{text!r} in the demo's output", probe, timeout=timeout)

    def processes(self) -> dict[int, str]:
        """Command lines of living processes that name the demo's folder, in arguments or environment, by id."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                arguments = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(self.folder).encode() in arguments + environment:
                found[int(entry.name)] = arguments.replace(b"\0", b" ").decode()
        return found


@pytest.mark.timeout(600)
def test_demo_promotes_in_the_first_week_and_stops_a_worse_candidate_in_the_second(tmp_path: Path) -> None:
    with Demo(tmp_path, "--runs", "2", "--degrade-last", "--keep") as demo:
        demo.wait_for_text("keep running. Ctrl-C ends them.", timeout=580)
        text = demo.text
        interrupt_in_a_task(demo)
        code = demo.process.wait(60)

    first, second = text.split("Week 2 of 2")
    assert code == 0, demo.text
    assert "The demo answered 'Approve' in place of a person" in first
    assert "before: nobody" in first
    assert "passed: " in first
    assert "deploy_on_promotion / asset_triggered__" in first
    for decision in ("verdict passed", "approval approved", "promotion done"):
        assert decision in first
    assert "  Why it is there      http://" in first
    assert "FAILED: " in second
    assert "verdict stopped" in second
    assert "(unchanged)" in second
    assert "The demo answered" not in second
    assert "  no run" in second
    assert demo.processes() == {}


def interrupt_in_a_task(demo: Demo) -> None:
    """Send SIGINT while a task works, and with it wandb's helper, which has left the session of its task."""
    before = set(demo.processes())
    found = re.search(r"^Airflow +(http://\S+) ", demo.text, re.MULTILINE)
    assert found is not None
    with contextlib.closing(AirflowClient(found[1])) as airflow:
        airflow.trigger("weekly_retraining")

    def new_helper() -> bool | None:
        new = [command for pid, command in demo.processes().items() if pid not in before]
        return True if any("wandb-core" in command for command in new) else None

    wait_for("a task to work", new_helper, timeout=120.0, interval=0.05)
    demo.process.send_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_while_it_starts_leaves_no_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    with Demo(tmp_path) as demo:
        demo.wait_for_text("creating the database")
        demo.process.send_signal(number)
        code = demo.process.wait(60)

    assert code == 130
    assert "every process that the demo started has ended" in demo.text
    assert demo.processes() == {}


def test_a_demo_in_the_background_of_a_shell_can_be_interrupted(tmp_path: Path) -> None:
    # A shell without job control starts background jobs with SIGINT ignored.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        demo = Demo(tmp_path)
    finally:
        signal.signal(signal.SIGINT, previous)
    with demo:
        demo.wait_for_text("creating the database")
        demo.process.send_signal(signal.SIGINT)
        code = demo.process.wait(60)

    assert code == 130
    assert demo.processes() == {}


def test_a_demo_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    with Demo(tmp_path) as demo:
        demo.wait_for_text("creating the database")
        demo.process.kill()
        demo.process.wait(60)

        wait_for("all processes of the demo to end", lambda: None if demo.processes() else True, timeout=60.0)


def test_a_demo_that_cannot_go_on_says_why_and_leaves_no_process(tmp_path: Path) -> None:
    database = tmp_path / "demo" / "airflow" / "airflow.db"
    database.parent.mkdir(parents=True)
    database.write_text("not a database")
    (tmp_path / "demo" / ".wandb-airflow-demo").touch()

    with Demo(tmp_path, "--resume") as demo:
        code = demo.process.wait(180)

    assert code == 1
    assert "wandb-airflow demo: The creation of Airflow's database failed with exit code 1." in demo.text
    assert "file is not a database" in demo.text
    assert demo.processes() == {}
