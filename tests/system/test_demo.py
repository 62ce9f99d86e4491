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
from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.dag_run_watch import DagRunWatch
from wandb_airflow_provider.demo.errors import DemoError, WaitTimeoutError
from wandb_airflow_provider.demo.polling import wait_for

BROKEN_DAG = """
import a_module_that_nobody_has
from airflow.sdk import DAG

DAG("demo_broken", schedule=None)
"""


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
    assert "FAILED: " in second
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


def test_a_dag_file_that_cannot_be_imported_is_the_reason_why_its_dag_is_missing(
    airflow_cluster: AirflowCluster,
) -> None:
    file = airflow_cluster.dags_folder / "demo_broken.py"
    file.write_text(BROKEN_DAG)
    try:
        with pytest.raises(DemoError) as error:
            airflow_cluster.wait_for_dag("demo_broken", timeout=120.0)
    finally:
        file.unlink()

    assert "DAG 'demo_broken' is missing" in str(error.value)
    assert "No module named 'a_module_that_nobody_has'" in str(error.value)


def test_a_question_to_a_person_is_shown_and_answered(airflow_cluster: AirflowCluster) -> None:
    airflow_cluster.wait_for_dag("demo_asks")
    airflow_cluster.api.unpause("demo_asks")
    said: list[str] = []
    watch = DagRunWatch(airflow_cluster, say=said.append)

    run = watch.follow(airflow_cluster.api.trigger("demo_asks"))

    text = "\n".join(said)
    assert run.state == "success"
    assert "Task approve asks a person: Promote v3?\n    | # Report\n    | MRR +0.1." in text
    assert "The demo answered 'Approve' in place of a person, through Airflow's API." in text
    assert airflow_cluster.api.xcom("demo_asks", run.dag_run_id, "promote") == "promoted"


def test_an_interactive_demo_says_where_to_answer_and_leaves_it_to_the_person(
    airflow_cluster: AirflowCluster,
) -> None:
    airflow_cluster.wait_for_dag("demo_asks")
    airflow_cluster.api.unpause("demo_asks")
    run = airflow_cluster.api.trigger("demo_asks")
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        # The person at the keyboard, who answers as soon as the question is on the screen.
        if "Answer here" in line:
            approval = airflow_cluster.api.pending_approvals("demo_asks", run.dag_run_id)[0]
            airflow_cluster.api.answer(approval, "Reject")

    ended = DagRunWatch(airflow_cluster, say=say, interactive=True).follow(run)

    states = {
        task.task_id: task.state for task in airflow_cluster.api.task_instances("demo_asks", run.dag_run_id)
    }
    page = next(line for line in said if "Answer here (Approve or Reject)" in line)
    assert page.strip().endswith("/tasks/approve/required_actions")
    assert ended.finished
    assert states["promote"] == "skipped"


def test_a_failed_task_is_reported_with_the_end_of_its_log(airflow_cluster: AirflowCluster) -> None:
    airflow_cluster.wait_for_dag("demo_fails")
    airflow_cluster.api.unpause("demo_fails")
    said: list[str] = []
    watch = DagRunWatch(airflow_cluster, say=said.append)

    run = watch.follow(airflow_cluster.api.trigger("demo_fails"))
    reason = watch.failure(run)

    assert run.state == "failed"
    assert any("train" in line and "FAILED" in line for line in said)
    assert any("evaluate" in line and "a task before it failed" in line for line in said)
    assert reason.startswith("Task 'train' of DAG 'demo_fails' failed (try 1).")
    assert "ValueError: the data has no labels" in reason
    assert f"{airflow_cluster.url}/dags/demo_fails/runs/" in reason


def test_a_run_that_takes_too_long_says_which_tasks_are_missing(airflow_cluster: AirflowCluster) -> None:
    airflow_cluster.wait_for_dag("demo_asks")
    airflow_cluster.api.unpause("demo_asks")
    run = airflow_cluster.api.trigger("demo_asks")

    with pytest.raises(WaitTimeoutError, match=r"has not ended within 0 s \(.*promote: "):
        DagRunWatch(airflow_cluster, say=lambda line: None, timeout=0.0).follow(run)
