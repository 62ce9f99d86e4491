"""
Answers questions about a sweep with W&B's own ``sweeps`` package, in a process of its own.

Run as a script: one JSON question per line on standard input, one JSON answer per line on standard output, until
the input ends. That package draws from Python's and NumPy's global random state, warns when it is imported, and
brings SciPy and scikit-learn; none of that may reach the process that embeds a dev server.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Callable, Mapping
from typing import Any

Json = dict[str, Any]


def inspect(config: Json) -> Json:
    """Return what is wrong with a configuration (``error``), what is odd about it, and the points of a grid."""
    import sweeps

    try:
        warnings = sweeps.schema_violations_from_proposed_config(config)
        points = _grid(config) if config.get("method") == "grid" else None
        if points is None:
            sweeps.next_run(config, [])
        if "early_terminate" in config:
            sweeps.stop_runs(config, [])
    except Exception as error:
        return {"error": f"{error}" or type(error).__name__, "warnings": [], "points": None}
    return {"error": None, "warnings": warnings, "points": points}


def suggest(config: Json, runs: list[Json], seed: str) -> Json:
    """Return the parameters of the next run of a random or bayes search; the same question has the same answer."""
    import numpy as np
    import sweeps

    # Imported here rather than by the search itself: importing draws from the random state.
    from sweeps import bayes_search, grid_search, random_search  # noqa: F401
    from sweeps.params import HyperParameterSet

    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big")
    random.seed(number)
    np.random.seed(number)
    parameters = HyperParameterSet.from_config(config["parameters"])
    known = [sweeps.SweepRun(**{**run, "config": _flat(run["config"], parameters)}) for run in runs]
    found: Json = sweeps.next_run(config, [run for run in known if _fits(run, parameters)]).config
    return found


def stop(config: Json, runs: list[Json]) -> list[str]:
    """Return the names of the runs that early termination ends."""
    import sweeps

    return [run.name for run in sweeps.stop_runs(config, [sweeps.SweepRun(**run) for run in runs])]


def _grid(config: Json) -> list[Json]:
    from sweeps.grid_search import grid_search_next_runs

    # Asked for one more than there are, the search ends its list with None.
    count = 1024
    while True:
        found = grid_search_next_runs([], config, n=count)
        if found[-1] is None:
            return [run.config for run in found[:-1] if run is not None]
        count *= 16


def _flat(config: Json, parameters: Any) -> Json:
    """Return a run's config with nested parameters also under the joined names that the search looks for."""
    flat = dict(config)
    for parameter in parameters:
        first, *rest = parameter.name.split(parameters.NESTING_DELIMITER)
        value = config.get(first, {}).get("value")
        for name in rest:
            value = value.get(name) if isinstance(value, Mapping) else None
        if rest and value is not None:
            flat[parameter.name] = {"value": value}
    return flat


def _fits(run: Any, parameters: Any) -> bool:
    # A run that was added to the sweep may have values that the search space does not.
    try:
        parameters.normalize_runs_as_array([run])
    except (ValueError, TypeError):
        return False
    return True


def _plain(value: Any) -> Any:
    """Return a NumPy number or array as JSON takes it."""
    return value.tolist()


_CALLS: dict[str, Callable[..., Any]] = {"inspect": inspect, "suggest": suggest, "stop": stop}


def main() -> None:
    """Answer questions until there are no more."""
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = {"result": _CALLS[question["call"]](**question["arguments"])}
        except Exception as error:
            answer = {"failure": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer, default=_plain) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
