"""Every benchmark by name: what it compares with, what it cannot go below, and at which sizes it shows how it grows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks import (
    alias_latency,
    artifact_transfer,
    concurrent_runs,
    dag_parsing,
    history_scan,
    imports,
    listener,
    logging_cost,
    mapped_tasks,
    runs_listing,
    server_start,
    task_overhead,
    tree_reading,
    waiters,
    xcom,
)
from benchmarks.figure import Figure

__all__ = ["BENCHMARKS", "Benchmark", "Growth"]


@dataclass(frozen=True)
class Growth:
    """
    How a benchmark is repeated to see how its figures grow.

    :param size: Which of its sizes changes.
    :param steps: To which values, smallest first.
    :param figures: Which figures are looked at; each stands for one, in whose name ``*`` is the size.
    :param fixed: Its other sizes, where the usual ones would only take time.
    """

    size: str
    steps: tuple[int, ...]
    figures: tuple[str, ...]
    rounds: int = 1
    fixed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """
    :param measure: Takes the number of rounds and, by keyword, sizes: each is an option of the command.
    :param rounds: How many rounds, unless the user says.
    :param against: What the figures are compared with.
    :param limit: What they could be at best.
    """

    measure: Callable[..., list[Figure]]
    rounds: int = 15
    against: str = ""
    limit: str = ""
    growth: Growth | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that can be chosen, with their defaults."""
        parameters = inspect.signature(self.measure).parameters.values()
        return {item.name: item.default for item in parameters if item.kind is item.KEYWORD_ONLY}


BENCHMARKS = {
    "imports": Benchmark(
        imports.measure,
        against="import wandb, as a DAG file does that opens runs by hand",
        limit="Airflow's own base classes, which a provider's public classes derive from",
    ),
    "parse": Benchmark(
        dag_parsing.measure,
        rounds=11,
        against="the same DAG with plain tasks, and with wandb imported at its top",
        limit="the same DAG with plain tasks",
        growth=Growth(
            "tasks",
            (10, 100, 1000),
            ("plain tasks, * of them", "@task.wandb, * of them", "@task.wandb / plain tasks"),
            rounds=5,
        ),
    ),
    "server-start": Benchmark(
        server_start.measure,
        against="a server within a process that has imported it",
        limit="the same",
    ),
    "listener": Benchmark(
        listener.measure,
        against="the same task without the listener",
        limit="nothing: without a run there is nothing to do",
    ),
    "logging": Benchmark(
        logging_cost.measure,
        against="offline mode, which writes the same to a file and sends nothing",
        limit="offline mode",
    ),
    "concurrency": Benchmark(
        concurrent_runs.measure,
        rounds=3,
        against="what was logged, and offline mode",
        limit="offline mode",
    ),
    "artifact": Benchmark(
        artifact_transfer.measure,
        rounds=5,
        against="PUT and GET of the same file between http.server and http.client",
        limit="MD5 of the file, which the protocol asks for, and the SDK's copy of it",
        growth=Growth("megabytes", (1, 32, 256), ("* MB down, SDK", "* MB up, SDK", "* MB up, plain copy")),
    ),
    "history": Benchmark(
        history_scan.measure,
        rounds=5,
        against="the same rows parsed as JSON once",
        limit="the same rows parsed as JSON once",
        growth=Growth(
            "rows",
            (1_000, 10_000, 100_000),
            ("scan_history, * rows", "limit: parse the same rows as JSON"),
        ),
    ),
    "listing": Benchmark(
        runs_listing.measure,
        rounds=5,
        against="the server's part of it",
        limit="the server's part of it",
        growth=Growth(
            "runs",
            (100, 1_000, 10_000),
            ("* runs, all: first page, server", "* runs, filter, order: first page, server"),
        ),
    ),
    "tree": Benchmark(
        tree_reading.measure,
        rounds=5,
        against="api.runs() and each run's config and summary, by hand",
        limit="the server's part of it",
        growth=Growth(
            "runs",
            (10, 100, 1_000),
            ("tree of * runs, by hand", "tree of * runs, the hook", "requests of the hook"),
        ),
    ),
    "waiters": Benchmark(
        waiters.measure,
        rounds=5,
        against="a poll of its own for each waiter: as many requests an interval as there are waiters",
        limit="one request an interval, and no move missed",
        growth=Growth(
            "waiters",
            (10, 100, 1_000),
            ("requests an interval, * alias waiters", "stall of the event loop, p99", "memory of a waiter"),
            fixed={"kills": 0},
        ),
    ),
    "task-overhead": Benchmark(
        task_overhead.measure,
        rounds=11,
        against="wandb.init, log, finish and teardown by hand",
        limit="a task without a run",
    ),
    "alias-latency": Benchmark(
        alias_latency.measure,
        rounds=9,
        against="polling, for webhooks",
        limit="the time that Airflow takes from an asset event to a task",
    ),
    "mapped": Benchmark(
        mapped_tasks.measure,
        rounds=1,
        against="what the tasks logged",
        limit="one request for the tree; no time beside that of the tasks",
        growth=Growth(
            "tasks", (10, 100, 1_000), ("per mapped task, 4 at a time", "to read back the tree of * runs")
        ),
    ),
    "xcom": Benchmark(
        xcom.measure,
        rounds=7,
        against="the object storage backend of the common-io provider",
        limit="plain boto3 that puts and gets the stored bytes",
        growth=Growth(
            "megabytes",
            (1, 32, 256),
            (
                "* MB of orders, push and pull, common-io",
                "* MB of orders, push and pull, backend",
                "* MB of orders, limit: plain boto3 of what it stores",
                "memory of a push / the table, * MB of orders",
            ),
            fixed={"folder_megabytes": 20},
        ),
    ),
}
