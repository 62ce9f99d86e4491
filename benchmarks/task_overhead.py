"""What a W&B run adds to a task: with ``@task.wandb``, and written by hand."""

from __future__ import annotations

import tempfile
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

from benchmarks.figure import Figure, interleave, milliseconds
from benchmarks.server_process import running_server
from benchmarks.task_worker import running_worker

_WORK = """
    loss = 1.0
    for step in range(20):
        loss *= 0.9
"""
_PLAIN = f"""
from airflow.sdk import DAG, task

with DAG("plain", schedule=None):

    @task
    def work():
    {_WORK.replace(chr(10), chr(10) + "    ")}
        return loss

    work()
"""
# As whoever knows both well writes it: the key in no environment, nothing on stderr, no helper process left behind,
# which would keep the worker's slot.
_BY_HAND = """
from airflow.sdk import DAG, BaseHook, task

with DAG("by_hand", schedule=None, tags=["weekly"]):

    @task
    def work(*, ti, dag_run, params, ts):
        import wandb

        conn = BaseHook.get_connection("wandb_default")
        settings = wandb.Settings(
            base_url=conn.host, api_key=conn.password, console="off", silent=True
        )
        run = wandb.init(
            entity=conn.extra_dejson["entity"], project=conn.extra_dejson["project"], name=ti.task_id,
            group=f"{ti.dag_id}__{ti.run_id}", job_type=ti.task_id, tags=[ti.dag_id],
            config={"logical_date": ts, "try": ti.try_number, "params": dict(params)}, settings=settings,
        )
        ti.xcom_push("wandb_run_url", run.url)
        try:
            loss = 1.0
            for step in range(20):
                loss *= 0.9
                run.log({"loss": loss})
        except BaseException:
            run.finish(exit_code=1)
            wandb.teardown()
            raise
        run.finish()
        wandb.teardown()
        return loss

    work()
"""
_PROVIDER = """
from airflow.sdk import DAG, task

with DAG("provider", schedule=None):

    @task.wandb
    def work(wandb_run):
        loss = 1.0
        for step in range(20):
            loss *= 0.9
            wandb_run.log({"loss": loss})
        return loss

    work()
"""
_DAGS = {"plain": _PLAIN, "by_hand": _BY_HAND, "provider": _PROVIDER}
_CASES = {
    "plain": "a task without a run",
    "by_hand": "wandb.init and finish by hand",
    "provider": "@task.wandb",
}
_BAR = 0.7


def measure(rounds: int) -> list[Figure]:
    """Return the time of a task without a run, with one by hand, and with ``@task.wandb``; and what the runs add."""
    numbers = count()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder, "data")) as server,
        running_worker(
            Path(folder, "worker"),
            _DAGS,
            {
                "conn_type": "wandb",
                "host": server.url,
                "password": server.api_key,
                "extra": '{"entity": "local", "project": "overhead"}',
            },
        ) as worker,
    ):

        def task(dag_id: str) -> float:
            return worker.run(dag_id, "work", run_id=f"manual__{next(numbers)}")

        seconds = interleave({name: partial(task, dag_id) for dag_id, name in _CASES.items()}, rounds)
    plain, by_hand, provider = (median(values) for values in seconds.values())
    return [
        *(milliseconds(name, values) for name, values in seconds.items()),
        Figure("added by hand", (by_hand - plain) * 1e3, "ms"),
        Figure("added by @task.wandb", (provider - plain) * 1e3, "ms"),
        Figure("added by @task.wandb / by hand", (provider - plain) / (by_hand - plain), "x", bar=_BAR),
        Figure("whole task, @task.wandb / by hand", provider / by_hand, "x"),
    ]
