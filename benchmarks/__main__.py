"""Run the benchmarks, print a table, and write the figures as JSON."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks import (
    alias_latency,
    artifact_transfer,
    concurrent_runs,
    history_scan,
    imports,
    listener,
    logging_cost,
    mapped_tasks,
    runs_listing,
    server_start,
    task_overhead,
    waiters,
    xcom,
)
from benchmarks.figure import Figure, render


@dataclass(frozen=True)
class Benchmark:
    """
    :param measure: Takes the number of rounds and, by keyword, sizes: each is an option of the command.
    :param rounds: How many rounds, unless the user says.
    """

    measure: Callable[..., list[Figure]]
    rounds: int = 15

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that can be chosen, with their defaults."""
        parameters = inspect.signature(self.measure).parameters.values()
        return {item.name: item.default for item in parameters if item.kind is item.KEYWORD_ONLY}


BENCHMARKS = {
    "imports": Benchmark(imports.measure),
    "server-start": Benchmark(server_start.measure),
    "listener": Benchmark(listener.measure),
    "logging": Benchmark(logging_cost.measure),
    "concurrency": Benchmark(concurrent_runs.measure, rounds=3),
    "artifact": Benchmark(artifact_transfer.measure, rounds=5),
    "history": Benchmark(history_scan.measure, rounds=5),
    "listing": Benchmark(runs_listing.measure, rounds=5),
    "waiters": Benchmark(waiters.measure, rounds=5),
    "task-overhead": Benchmark(task_overhead.measure, rounds=11),
    "alias-latency": Benchmark(alias_latency.measure, rounds=9),
    "mapped": Benchmark(mapped_tasks.measure, rounds=1),
    "xcom": Benchmark(xcom.measure, rounds=7),
}


def main() -> int:
    """Return 0 when every bar is met, 1 otherwise."""
    options = _options()
    machine = {
        "cpus": os.cpu_count(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "airflow": version("apache-airflow"),
        "wandb": version("wandb"),
    }
    figures: list[Figure] = []
    settings: dict[str, dict[str, int]] = {}
    for name in options.names or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        sizes = {size: getattr(options, f"{name}-{size}") for size in benchmark.sizes}
        rounds = benchmark.rounds if options.rounds is None else options.rounds
        settings[name] = {"rounds": rounds, **sizes}
        figures += benchmark.measure(rounds, **sizes)
    machine["load_after"] = [round(load, 2) for load in os.getloadavg()]
    print("\n".join(render(figures)))
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    if options.json is not None:
        report = {"machine": machine, "settings": settings, "figures": [f.to_json() for f in figures]}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if all(figure.met is not False for figure in figures) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which of {', '.join(BENCHMARKS)} (default: all)"
    )
    usual = ", ".join(f"{name} {benchmark.rounds}" for name, benchmark in BENCHMARKS.items())
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help=f"rounds of each; 0 counts the one that otherwise only warms up (default: {usual})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    for name, benchmark in BENCHMARKS.items():
        for size, default in benchmark.sizes.items():
            option = f"{name}-{size}"
            parser.add_argument(
                f"--{option.replace('_', '-')}",
                dest=option,
                type=int,
                default=default,
                metavar="N",
                help="(default: %(default)s)",
            )
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark is called {unknown}; there are {sorted(BENCHMARKS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
