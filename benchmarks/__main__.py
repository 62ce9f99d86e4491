"""Run the benchmarks, print a table, and write the figures as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from benchmarks import imports, logging_cost, server_start
from benchmarks.figure import Figure, render

BENCHMARKS: dict[str, Callable[[int], list[Figure]]] = {
    "imports": imports.measure,
    "logging": logging_cost.measure,
    "server-start": server_start.measure,
}


def main() -> int:
    """Return 0 when every bar is met, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which of {', '.join(BENCHMARKS)} (default: all)"
    )
    parser.add_argument(
        "--rounds", type=int, default=15, metavar="N", help="rounds of each (default %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark is called {unknown}; there are {sorted(BENCHMARKS)}")
    machine = {
        "cpus": os.cpu_count(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "airflow": version("apache-airflow"),
        "wandb": version("wandb"),
    }
    figures = [figure for name in options.names or BENCHMARKS for figure in BENCHMARKS[name](options.rounds)]
    machine["load_after"] = [round(load, 2) for load in os.getloadavg()]
    print("\n".join(render(figures)))
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    if options.json is not None:
        report = {"machine": machine, "rounds": options.rounds, "figures": [f.to_json() for f in figures]}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if all(figure.met is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
