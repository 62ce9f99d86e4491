"""One dev server for the session, and tasks run by Airflow's own task runner with a supervisor of memory."""

from __future__ import annotations

import functools
import itertools
import json
import re
import signal
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

NOW = datetime(2026, 3, 1, tzinfo=UTC)
_NUMBERS = itertools.count()
_servers: list[Any] = []


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    import wandb

    from wandb_airflow_provider.devserver import DevServer

    with DevServer(tmp_path_factory.mktemp("devserver"), seed="unit") as running:
        _servers.append(running)
        yield running
        _servers.remove(running)
        wandb.teardown()


@pytest.fixture(scope="module", autouse=True)
def fresh_request_log() -> None:
    """Forget the requests of other modules: only the latest 5,000 are kept, and tests count from where they begin."""
    for running in _servers:
        running.backend.requests.clear()


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A short name that no other test uses."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.originalname.lower()).strip("-")
    return f"{name[:60]}-{next(_NUMBERS)}"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``connect(server)`` points an Airflow connection at a server."""

    def connect(server: Any, conn_id: str = "wandb_default", **fields: Any) -> None:
        extra = {"entity": "local", "timeout": 10, **fields.pop("extra", {})}
        value = {"conn_type": "wandb", "host": server.url, "password": server.api_key, "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({**value, **fields}))

    return connect


@pytest.fixture
def hook(server: Any, connect: Callable[..., None], unique: str) -> Iterator[Any]:
    """A hook for the dev server and a project of the test's own; operators find the same connection."""
    from wandb_airflow_provider import sdk
    from wandb_airflow_provider.hooks.wandb import WandbHook

    connect(server, extra={"project": unique})
    yield WandbHook()
    sdk.release()


@pytest.fixture
def log_run(server: Any, hook: Any, unique: str, tmp_path: Path) -> Callable[..., Any]:
    """``log_run(metrics, content)`` logs a finished run, and a version of ``encoder`` when it has content."""
    import wandb

    from wandb_airflow_provider.identity import RunRef

    numbers = iter(range(100))

    def log(metrics: dict[str, Any], content: str | None = None, *, exit_code: int = 0) -> tuple[Any, Any]:
        folder = tmp_path / f"run-{next(numbers)}"
        folder.mkdir()
        settings = wandb.Settings(
            base_url=server.url, api_key=server.api_key, console="off", silent=True, disable_git=True
        )
        run = wandb.init(entity="local", project=unique, dir=folder, settings=settings, reinit="create_new")
        run.log(metrics)
        path = None
        if content is not None:
            (folder / "weights.txt").write_text(content)
            artifact = wandb.Artifact("encoder", type="model")
            artifact.add_file(str(folder / "weights.txt"))
            path = run.log_artifact(artifact).wait().qualified_name
        ref = RunRef(run.entity, run.project, run.id, url=run.url)
        run.finish(exit_code=exit_code)
        return ref, hook.get_artifact(path) if path else None

    return log


@dataclass
class Supervisor:
    """What a task tells and asks its supervisor, kept in memory."""

    xcoms: dict[tuple[str, str, int], Any] = field(default_factory=dict)
    sent: list[Any] = field(default_factory=list)
    answers: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    """Answers to further kinds of message, by the name of the kind."""
    task_store: dict[tuple[str, str], Any] = field(default_factory=dict)
    """The task state store, by task and key."""
    task_id: str = ""
    """The task that runs now."""

    def send(self, msg: Any) -> Any:
        from airflow.sdk.execution_time import comms

        self.sent.append(msg)
        if isinstance(msg, comms.SetXCom):
            index = -1 if msg.map_index is None else msg.map_index
            self.xcoms[(msg.task_id, msg.key, index)] = msg.value
        elif isinstance(msg, comms.GetXCom):
            index = -1 if msg.map_index is None else msg.map_index
            return comms.XComResult(key=msg.key, value=self.xcoms.get((msg.task_id, msg.key, index)))
        elif isinstance(msg, comms.GetXComSequenceSlice):
            held = [v for (task, key, _), v in self.xcoms.items() if (task, key) == (msg.task_id, msg.key)]
            return comms.XComSequenceSliceResult(root=held)
        elif type(msg).__name__ == "ValidateInletsAndOutlets":
            return comms.InactiveAssetsResult(inactive_assets=[])
        # Airflow has the task state store since 3.3.
        elif type(msg).__name__ == "SetTaskStateStore":
            self.task_store[(self.task_id, msg.key)] = msg.value
        elif type(msg).__name__ == "GetTaskStateStore" and (self.task_id, msg.key) in self.task_store:
            return comms.TaskStateStoreResult(value=self.task_store[(self.task_id, msg.key)])
        elif type(msg).__name__ in self.answers:
            return self.answers[type(msg).__name__](msg)
        return None

    def of(self, kind: str) -> list[Any]:
        """Return the messages of this kind."""
        return [msg for msg in self.sent if type(msg).__name__ == kind]


@dataclass
class Finished:
    """How a task ended."""

    state: str
    error: BaseException | None
    supervisor: Supervisor
    task_id: str
    outlet_events: list[dict[str, Any]] = field(default_factory=list)
    """What it tells of its outlets; Airflow takes it of a success alone."""

    def xcom(self, key: str = "return_value") -> Any:
        """Return what the task pushed."""
        return self.supervisor.xcoms.get((self.task_id, key, -1))

    @property
    def skipped(self) -> list[str]:
        """The ids of the tasks it skipped downstream."""
        found = [task for msg in self.supervisor.of("SkipDownstreamTasks") for task in msg.tasks]
        return sorted(task if isinstance(task, str) else task[0] for task in found)


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    from airflow.sdk.execution_time import task_runner

    fake = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", fake, raising=False)
    return fake


def run_attempt(
    supervisor: Supervisor,
    operator: Any,
    *,
    try_number: int = 1,
    dag_run_id: str = "manual__1",
    resume: dict[str, Any] | None = None,
    asset_events: Sequence[Any] = (),
) -> Finished:
    """Run one attempt of a task through Airflow's task runner, whose supervisor must be the given one."""
    import structlog
    from airflow.sdk.api.datamodels._generated import DagRun, DagRunState, DagRunType, TIRunContext
    from airflow.sdk.execution_time import task_runner

    dag_run = DagRun.model_construct(
        dag_id=operator.dag_id,
        run_id=dag_run_id,
        logical_date=NOW,
        data_interval_start=NOW,
        data_interval_end=NOW,
        run_after=NOW,
        start_date=NOW,
        run_type=DagRunType.MANUAL,
        state=DagRunState.RUNNING,
        conf={},
        consumed_asset_events=list(asset_events),
        team_name=None,
        partition_key=None,
        partition_date=None,
    )
    received = TIRunContext.model_construct(
        dag_run=dag_run,
        max_tries=operator.retries,
        task_reschedule_count=0,
        should_retry=True,
        next_method="execute_complete" if resume else None,
        next_kwargs=resume,
        upstream_map_indexes={},
    )
    ti = task_runner.RuntimeTaskInstance.model_construct(
        id=uuid.uuid4(),
        task=operator,
        task_id=operator.task_id,
        dag_id=operator.dag_id,
        run_id=dag_run_id,
        try_number=try_number,
        map_index=-1,
        max_tries=operator.retries,
        start_date=NOW,
        dag_version_id=uuid.uuid4(),
        queue="default",
        bundle_instance=None,
        is_mapped=False,
        _ti_context_from_server=received,
    )
    # Airflow clears what a task pushed before a new try, and keeps it when the task goes on after a deferral.
    for task_id, key, _ in [spot for spot in supervisor.xcoms if spot[0] == operator.task_id and not resume]:
        del supervisor.xcoms[(task_id, key, -1)]
    supervisor.task_id = operator.task_id
    context = ti.get_template_context()
    state, message, error = task_runner.run(ti, context, structlog.get_logger("task"))
    events = list(getattr(message, "outlet_events", None) or ())
    return Finished(state.value, error, supervisor, operator.task_id, events)


@pytest.fixture
def run_task(supervisor: Supervisor) -> Iterator[Callable[..., Finished]]:
    """``run_task(operator)`` runs one attempt of a task of a DAG through Airflow's task runner."""
    # Airflow's task runner installs a handler of its own.
    before = signal.getsignal(signal.SIGTERM)
    yield functools.partial(run_attempt, supervisor)
    signal.signal(signal.SIGTERM, before)
