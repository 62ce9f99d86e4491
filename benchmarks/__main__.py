"""Run the benchmarks, print a table, and write the figures as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.catalogue import BENCHMARKS, Benchmark
from benchmarks.figure import Figure, render
from benchmarks.growth import Curve, all_curves, render_curves

__all__ = ["BENCHMARKS", "Benchmark", "main"]

GROWTH = "growth"


class _Measured:
    """What was measured, each benchmark of equal rounds and sizes once."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, int, tuple[tuple[str, int], ...]], list[Figure]] = {}

    def run(self, name: str, rounds: int, sizes: Mapping[str, int]) -> list[Figure]:
        whole = {**BENCHMARKS[name].sizes, **sizes}
        key = (name, rounds, tuple(sorted(whole.items())))
        if key not in self._figures:
            print(f"{name}: {rounds} rounds, {whole or 'no sizes'}", file=sys.stderr, flush=True)
            self._figures[key] = BENCHMARKS[name].measure(rounds, **whole)
        return self._figures[key]


def main() -> int:
    """Return 0 when every bar is met, 1 otherwise."""
    options = _options()
    names = options.names or [*BENCHMARKS, GROWTH]
    machine = {
        "cpus": os.cpu_count(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "airflow": version("apache-airflow"),
        "wandb": version("wandb"),
    }
    measured = _Measured()
    figures: dict[str, list[Figure]] = {}
    settings: dict[str, dict[str, int]] = {}
    for name in names:
        if name == GROWTH:
            continue
        benchmark = BENCHMARKS[name]
        sizes = {size: getattr(options, f"{name}-{size}") for size in benchmark.sizes}
        rounds = benchmark.rounds if options.rounds is None else options.rounds
        settings[name] = {"rounds": rounds, **sizes}
        figures[name] = measured.run(name, rounds, sizes)
    found = all_curves(BENCHMARKS, measured.run) if GROWTH in names else []
    machine["load_after"] = [round(load, 2) for load in os.getloadavg()]
    for name, those in figures.items():
        print("\n".join([*_heading(name), *render(those), ""]))
    print("\n".join(render_curves(found)))
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    if options.json is not None:
        report = _report(machine, settings, figures, found)
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if all(figure.met is not False for those in figures.values() for figure in those) else 1


def _heading(name: str) -> list[str]:
    benchmark = BENCHMARKS[name]
    return [f"== {name}", f"   against: {benchmark.against}", f"   limit:   {benchmark.limit}"]


def _report(
    machine: Mapping[str, Any],
    settings: Mapping[str, Any],
    figures: Mapping[str, list[Figure]],
    found: list[Curve],
) -> dict[str, Any]:
    return {
        "machine": machine,
        "settings": settings,
        "benchmarks": {
            name: {"against": BENCHMARKS[name].against, "limit": BENCHMARKS[name].limit} for name in figures
        },
        "figures": [
            {"benchmark": name, **figure.to_json()} for name, those in figures.items() for figure in those
        ],
        "growth": [curve.to_json() for curve in found],
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which of {', '.join([*BENCHMARKS, GROWTH])} (default: all)"
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
    unknown = sorted(set(options.names) - {*BENCHMARKS, GROWTH})
    if unknown:
        parser.error(f"no benchmark is called {unknown}; there are {[*BENCHMARKS, GROWTH]}")
    return options


if __name__ == "__main__":
    sys.exit(main())
