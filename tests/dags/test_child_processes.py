"""Processes that tasks start: their runs stand in their tasks' places, and none of them sees or shows the key."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonVirtualenvOperator
from airflow.sdk import DAG, task

from tests.dags.conftest import Ledger
from tests.dags.test_examples import pushed
from wandb_airflow_provider import WandbChildRun, wandb_environment, wandb_pipeline
from wandb_airflow_provider.identity import TaskIdentity

pytestmark = pytest.mark.slow

# Writes what it sees into the folder of the test, which it is given as its argument.
SCRIPT = """
import json, os, pathlib, stat, sys
import psutil, wandb

environment = dict(os.environ)

run = wandb.init(project="somewhere-else", config={"lr": 1, "own": True})
assert not run.resumed
run.log({"loss": 0.5})
me = psutil.Process()
netrc = pathlib.Path(os.environ["NETRC"])
seen = {
    "netrc": str(netrc),
    "mode": stat.S_IMODE(netrc.stat().st_mode),
    "environment": environment,
    "processes": [process.cmdline() for process in (me, me.parent(), *me.children(recursive=True))],
}
pathlib.Path(sys.argv[1]).write_text(json.dumps(seen))
end = sys.argv[2]
if end == "exception":
    raise ValueError("no data")
if end == "unfinished":
    os._exit(0)
if end == "death":
    os._exit(7)
"""


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Not within `tmp_path`, which is too long for the sockets of wandb and Airflow.
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield
        monkeypatch.undo()


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """``script(end)`` is a shell command that logs a run and ends in this way."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return lambda end: f"{sys.executable} {path} {tmp_path}/seen-{end}.json {end}"


def stored(dag_run: Any) -> str:
    """Return all that Airflow's database holds of a DAG run's rendered fields and XComs."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        rendered = session.query(RenderedTaskInstanceFields).filter_by(run_id=dag_run.run_id).all()
        xcoms = session.query(XComModel).filter_by(run_id=dag_run.run_id).all()
        assert rendered
        assert xcoms
        return repr([row.rendered_fields for row in rendered] + [(row.key, row.value) for row in xcoms])


def test_a_plain_script_is_a_child_of_its_task_and_the_key_is_nowhere(
    ledger: Ledger,
    run_dag: Any,
    script: Callable[[str], str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: Any,
) -> None:
    before = dict(os.environ)
    with DAG("shell", schedule=None) as dag, wandb_pipeline(tags=["weekly, quick"]):

        @task.wandb
        def prepare(wandb_run: Any) -> None:
            wandb_run.log({"rows": 3})

        @task.wandb
        def after() -> list[str]:
            return [name for name, value in os.environ.items() if before.get(name) != value]

        train = BashOperator(
            task_id="train",
            bash_command=script("well"),
            pre_execute=WandbChildRun(
                job_type="fit {{ dag.dag_id }}", wandb_config={"lr": 1e-05, "at": "{{ run_id }}"}
            ),
        )
        prepare() >> train >> after()

    with caplog.at_level("DEBUG"):
        dag_run = run_dag(dag)

    changed = {name: value for name, value in os.environ.items() if before.get(name) != value}
    assert dag_run.state == "success"
    runs = ledger.runs()
    root, prepared, trained = runs[f"shell · {dag_run.run_id}"], runs["prepare"], runs["train"]
    assert trained.id == TaskIdentity("shell", dag_run.run_id, "train").wandb_run_id()
    assert (trained.state, trained.summary["loss"], trained.summary["airflow/state"]) == (
        "finished",
        0.5,
        "success",
    )
    assert (trained.group, trained.job_type) == (root.group, "fit shell")
    assert set(trained.tags) >= {"shell", "weekly  quick"}
    config = trained.config
    assert (config["lr"], config["own"], config["at"]) == (1e-05, True, dag_run.run_id)
    assert config["airflow"]["parent_run"] == "/".join(root.path)
    assert config["airflow"]["upstream_runs"] == ["/".join(prepared.path)]
    assert config["airflow"]["operator"] == "BashOperator"
    assert runs["after"].config["airflow"]["upstream_runs"] == ["/".join(trained.path)]
    assert trained.metadata["args"][1] == "well", "the script's own record of itself was overwritten"
    assert root.summary["airflow/runs"] == 3
    assert pushed(dag_run, "train", "wandb_metrics") == {"loss": 0.5}

    key = ledger.server.api_key
    seen = json.loads((tmp_path / "seen-well.json").read_text())
    # Where the test keeps the connection; the shell inherits it as it does all of a worker's environment.
    assert key in seen["environment"].pop("AIRFLOW_CONN_WANDB_DEFAULT")
    captured = capfd.readouterr()
    assert seen["mode"] == 0o600
    assert not Path(seen["netrc"]).parent.exists(), "the credentials outlive the process"
    assert len(seen["processes"]) >= 3
    assert key not in repr(seen), "the key is in the environment or the arguments of a process"
    assert key not in stored(dag_run)
    assert key not in caplog.text + captured.out + captured.err
    assert not {name for name in changed if name.startswith("WANDB")}
    assert key not in repr(changed)
    assert "WANDB_SERVICE" not in seen["environment"]


@pytest.mark.parametrize(
    ("end", "state", "said"),
    [
        ("exception", "failed", ("failed", True)),
        ("death", "failed", ("failed", True)),
        ("unfinished", "finished", ("success", False)),
    ],
)
def test_a_process_that_dies_leaves_a_run_with_its_task_s_outcome(
    ledger: Ledger, run_dag: Any, script: Callable[[str], str], end: str, state: str, said: tuple[str, bool]
) -> None:
    with DAG(f"dying_{end}", schedule=None) as dag:
        BashOperator(task_id="train", bash_command=script(end), pre_execute=WandbChildRun())

    dag_run = run_dag(dag)

    assert dag_run.state == ("success" if state == "finished" else "failed")
    run = ledger.runs()["train"]
    assert run.state == state
    assert (run.summary["airflow/state"], "airflow/reason" in run.summary) == said
    assert run.config["airflow"]["task_id"] == "train"
    if end == "exception":
        assert pushed(dag_run, "train", "wandb_metrics") == {"loss": 0.5}
    unsent = list(Path(tempfile.gettempdir()).glob(f"wandb-airflow-unsent-*/wandb/run-*-{run.id}"))
    assert bool(unsent) == (end != "exception"), (
        "only a process that could not finish leaves something unsent"
    )


def test_a_process_that_opens_no_run_still_has_its_task_s(ledger: Ledger, run_dag: Any) -> None:
    with DAG("silent", schedule=None) as dag:
        BashOperator(task_id="skips", bash_command="exit 99", pre_execute=WandbChildRun())
        BashOperator.partial(task_id="mapped", pre_execute=WandbChildRun()).expand(
            bash_command=["true", "echo $WANDB_NAME"]
        )

    run_dag(dag)

    runs = ledger.runs()
    assert {name: (run.state, run.summary["airflow/state"]) for name, run in runs.items()} == {
        "skips": ("finished", "skipped"),
        "mapped[0]": ("finished", "success"),
        "mapped[1]": ("finished", "success"),
    }
    assert runs["mapped[1]"].config["airflow"]["map_index"] == 1


def test_a_virtualenv_task_logs_into_its_own_run(ledger: Ledger, run_dag: Any) -> None:
    def work() -> str:
        import wandb

        run = wandb.init()
        run.log({"loss": 0.25})
        return str(run.id)

    with DAG("virtualenv", schedule=None) as dag, wandb_pipeline():
        PythonVirtualenvOperator(
            task_id="isolated",
            python_callable=work,
            requirements=[],
            system_site_packages=True,
            # In place of a package index: what this interpreter has installed.
            env_vars={"PYTHONPATH": sysconfig.get_path("purelib")},
            pre_execute=WandbChildRun(),
        )

        @task.bash(pre_execute=WandbChildRun())
        def shell() -> str:
            return "true"

        shell()

    dag_run = run_dag(dag)

    assert dag_run.state == "success"
    runs = ledger.runs()
    assert (runs["isolated"].state, runs["isolated"].summary["loss"]) == ("finished", 0.25)
    root = runs[f"virtualenv · {dag_run.run_id}"]
    assert runs["isolated"].config["airflow"]["parent_run"] == "/".join(root.path)
    assert ledger.server.api_key not in stored(dag_run)


def test_processes_of_a_task_with_a_run_are_below_it(ledger: Ledger, run_dag: Any, tmp_path: Path) -> None:
    script = tmp_path / "part.py"
    script.write_text("import wandb\nwandb.init(name='part').log({'x': 1})\n")

    with DAG("parts", schedule=None) as dag, wandb_pipeline():

        @task.wandb
        def search(wandb_run: Any) -> None:
            import subprocess

            from airflow.sdk import get_current_context

            context = get_current_context()
            with pytest.raises(Exception, match="has its own W&B run open"):
                wandb_environment(context)
            own = wandb_environment(context, run_id=None, secrets="value")
            for _ in range(2):
                subprocess.run([sys.executable, script], env={**os.environ, **own}, check=True, cwd=tmp_path)

        search()

    assert run_dag(dag).state == "success"
    runs = list(ledger.api().runs(f"local/{ledger.project}", lazy=False))
    (parent,) = [run for run in runs if run.name == "search"]
    parts = [run for run in runs if run.name == "part"]
    assert len({run.id for run in parts}) == 2
    assert {run.config["airflow"]["parent_run"] for run in parts} == {"/".join(parent.path)}
