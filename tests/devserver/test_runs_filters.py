"""Filters and orders of runs, against a plain evaluator of what they mean."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wandb_airflow_provider.devserver import DevServer, queries
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.resolvers.projects import insert_project
from wandb_airflow_provider.devserver.runs_table import insert_run
from wandb_airflow_provider.devserver.store import dumps

PROJECT = "filtered"
MISSING = object()
SCALARS = [None, 0, 1, -2.5, 1.0, 1e300, "", "high", "NaN", "1", True, False]
VALUES = [*SCALARS, [1, "a"], {"a": 1}, {"a": True}]
KEYS = ["config.lr", "config.lr.value", "config.opt.name", "summary_metrics.loss", "summary_metrics.a.b"]
COLUMNS = ["group", "job_type", "display_name", "username", "state", "name", "sweep"]
WORDS = ["g1", "g2", "train", "run 3", "dev", "finished", "failed", "r03"]
TAGS = ["gold", "cpu", "gpu"]

Run = dict[str, Any]


def _runs() -> list[Run]:
    choice = random.Random(7).choice
    return [
        {
            "name": f"r{number:02}",
            "display_name": f"run {number}",
            "group": choice([None, "g1", "g2"]),
            "job_type": choice([None, "train"]),
            "sweep": None,
            "state": choice(["finished", "failed"]),
            "username": "dev",
            "tags": choice([[], ["gold"], ["cpu", "gold"], ["gpu"]]),
            "config": {
                key: value
                for key, value in {"lr": choice([MISSING, *VALUES]), "opt": {"name": choice(SCALARS)}}.items()
                if value is not MISSING
            },
            "summary": choice(
                [{}, {"loss": choice(SCALARS)}, {"a.b": choice(SCALARS)}, {"a": {"b": choice(VALUES)}}]
            ),
        }
        for number in range(60)
    ]


RUNS = _runs()


@pytest.fixture
def filtered(server: DevServer) -> DevServer:
    with server.backend.store.write() as conn:
        insert_project(conn, "local", PROJECT, now=stamp(server.backend.now()))
        for number, run in enumerate(RUNS):
            moment = f"2026-01-01T00:00:{number:02}.000000+00:00"
            values = {
                "display_name": run["display_name"],
                "group_name": run["group"],
                "job_type": run["job_type"],
                "state": run["state"],
                "user": run["username"],
                "tags": dumps(run["tags"]),
                "config": dumps({key: {"value": value} for key, value in run["config"].items()}),
                "summary": dumps(run["summary"]),
                "created_at": moment,
                "heartbeat_at": moment,
            }
            insert_run(conn, "local", PROJECT, run["name"], values)
    return server


def value_of(run: Run, key: str) -> Any:
    if key in COLUMNS:
        return MISSING if run[key] is None else run[key]
    root, _, rest = key.removesuffix(".value").partition(".")
    document = run["summary" if root == "summary_metrics" else root]
    if rest in document:
        return document[rest]
    for name in rest.split("."):
        document = document.get(name, MISSING) if isinstance(document, dict) else MISSING
    return document


def same(left: Any, right: Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def comparable(left: Any, right: Any) -> bool:
    for kind in (bool, str):
        if isinstance(left, kind) or isinstance(right, kind):
            return isinstance(left, kind) and isinstance(right, kind)
    return isinstance(left, int | float) and isinstance(right, int | float)


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": lambda left, right: left > right,
    "$gte": lambda left, right: left >= right,
    "$lt": lambda left, right: left < right,
    "$lte": lambda left, right: left <= right,
}


def holds(value: Any, operator: str, operand: Any) -> bool:
    if operator == "$not":
        return not all(holds(value, name, item) for name, item in operand.items())
    if operator in ("$ne", "$nin"):
        return not holds(value, "$eq" if operator == "$ne" else "$in", operand)
    if operator == "$in":
        return any(holds(value, "$eq", item) for item in operand)
    if operator == "$exists":
        return (value is not MISSING) == operand
    if operator == "$eq":
        return value is MISSING or value is None if operand is None else same(value, operand)
    if operator == "$regex":
        return isinstance(value, str) and re.search(operand, value) is not None
    return comparable(value, operand) and COMPARE[operator](value, operand)


def passes(run: Run, filters: dict[str, Any]) -> bool:
    return all(_passes(run, key, value) for key, value in filters.items())


def _passes(run: Run, key: str, value: Any) -> bool:
    if key == "$and":
        return all(passes(run, item) for item in value)
    if key in ("$or", "$nor"):
        return any(passes(run, item) for item in value) == (key == "$or")
    if key == "$not":
        return not passes(run, value)
    if key == "tags":
        return any(tag in run["tags"] for tag in value["$in"])
    return all(holds(value_of(run, key), operator, operand) for operator, operand in value.items())


operands = st.sampled_from([*SCALARS, *WORDS])
ordered = st.sampled_from([value for value in [*SCALARS, *WORDS] if value is not None])
conditions = st.one_of(
    st.fixed_dictionaries({"$eq": st.sampled_from([*VALUES, *WORDS])}),
    st.fixed_dictionaries({"$ne": st.sampled_from([*VALUES, *WORDS])}),
    *(st.fixed_dictionaries({operator: ordered}) for operator in COMPARE),
    st.fixed_dictionaries({"$gte": ordered, "$lt": ordered}),
    st.fixed_dictionaries({"$in": st.lists(st.sampled_from([*VALUES, *WORDS]), max_size=4)}),
    st.fixed_dictionaries({"$nin": st.lists(operands, max_size=4)}),
    st.fixed_dictionaries({"$exists": st.booleans()}),
    st.fixed_dictionaries({"$regex": st.sampled_from(["^g", "1$", "a|i", "."])}),
)
leaves = st.one_of(
    st.dictionaries(
        st.sampled_from([*KEYS, *COLUMNS]),
        st.one_of(conditions, conditions.map(lambda condition: {"$not": condition})),
        min_size=1,
        max_size=2,
    ),
    st.fixed_dictionaries({"tags": st.fixed_dictionaries({"$in": st.lists(st.sampled_from(TAGS))})}),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$not": inner}),
        *(
            st.fixed_dictionaries({word: st.lists(inner, min_size=1, max_size=3)})
            for word in ("$and", "$or", "$nor")
        ),
    ),
    max_leaves=6,
)


def rank(value: Any) -> tuple[int, Any]:
    """Numbers (and booleans as 0 and 1) come before text."""
    return (1, value) if isinstance(value, str) else (0, value)


def in_order(key: str, descending: bool) -> list[str]:
    absent = [run for run in RUNS if value_of(run, key) in (MISSING, None, "NaN")]
    present = sorted((run for run in RUNS if run not in absent), key=lambda run: rank(value_of(run, key)))
    for part in (present, absent):
        if descending:
            part.reverse()
    return [run["name"] for run in present + absent]


@pytest.mark.slow
@given(filters=trees)
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
def test_any_filter_selects_what_a_plain_evaluator_selects(
    filtered: DevServer, filters: dict[str, Any]
) -> None:
    found = [
        run.name for run in queries.list_runs(filtered.backend, "local", PROJECT, filters, "+created_at")
    ]
    assert found == [run["name"] for run in RUNS if passes(run, filters)]
    assert queries.count_runs(filtered.backend, "local", PROJECT, filters) == len(found)


@pytest.mark.parametrize("key", ["group", "display_name", "config.opt.name", "summary_metrics.loss", "name"])
@pytest.mark.parametrize("descending", [False, True])
def test_any_order_puts_missing_values_last_and_pages_without_gaps(
    filtered: DevServer, key: str, descending: bool
) -> None:
    order = f"{'-' if descending else '+'}{key}"
    pages = [
        run.name
        for start in range(0, len(RUNS), 7)
        for run in queries.list_runs(filtered.backend, "local", PROJECT, {}, order, start, 7)
    ]
    assert pages == in_order(key, descending)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("opt.value.name", "adam"),
        ("opt.name", "adam"),
        ("dotted.key", 7),
        ("dotted.key.value", 7),
        ("settings.value.value", 123),
        ("settings.value", {"value": 123}),
    ],
)
def test_config_key_is_found_as_the_application_spells_it(server: DevServer, key: str, value: Any) -> None:
    config = {"opt": {"name": "adam"}, "dotted.key": 7, "settings": {"value": 123}}
    moment = stamp(server.backend.now())
    values = {"display_name": "a", "user": "dev", "state": "finished", "created_at": moment}
    values |= {
        "heartbeat_at": moment,
        "config": dumps({name: {"value": kept} for name, kept in config.items()}),
    }
    with server.backend.store.write() as conn:
        insert_project(conn, "local", PROJECT, now=moment)
        insert_run(conn, "local", PROJECT, "a", values)
    for sought, count in ((value, 1), ("another", 0)):
        assert queries.count_runs(server.backend, "local", PROJECT, {f"config.{key}": sought}) == count


def test_infinities_sort_as_numbers_and_nan_as_missing(server: DevServer) -> None:
    with server.backend.store.write() as conn:
        insert_project(conn, "local", PROJECT, now=stamp(server.backend.now()))
        for name, loss in (("up", "Infinity"), ("nan", "NaN"), ("one", 1), ("down", "-Infinity")):
            moment = stamp(server.backend.now())
            values = {"display_name": name, "user": "dev", "state": "finished", "created_at": moment}
            values |= {"heartbeat_at": moment, "summary": dumps({"loss": loss})}
            insert_run(conn, "local", PROJECT, name, values)
    for order, names in (("+", ["down", "one", "up", "nan"]), ("-", ["up", "one", "down", "nan"])):
        found = queries.list_runs(server.backend, "local", PROJECT, {}, f"{order}summary_metrics.loss")
        assert [run.name for run in found] == names


def test_filter_may_name_thousands_of_runs(filtered: DevServer) -> None:
    names = [f"r{number:02}" for number in range(5000)]
    for filters in ({"name": {"$in": names}}, {"$or": [{"name": name} for name in names[:3000]]}):
        assert queries.count_runs(filtered.backend, "local", PROJECT, filters) == len(RUNS)
    huge = queries.count_runs(filtered.backend, "local", PROJECT, {"config.lr": {"$gt": 10**30}})
    assert huge == [run["config"].get("lr") for run in RUNS].count(1e300) > 0


def test_states_are_filtered_as_they_are_told(server: DevServer) -> None:
    now = server.backend.now()
    stored = ["running", "preempting", "queued", "pending", "finished", "failed", "killed", "preempted"]
    with server.backend.store.write() as conn:
        insert_project(conn, "local", PROJECT, now=stamp(now))
        for state in stored:
            for heard, moment in (("now", now), ("long-ago", now - timedelta(seconds=301))):
                values = {"display_name": state, "user": "dev", "state": state, "created_at": stamp(moment)}
                values["heartbeat_at"] = stamp(moment)
                insert_run(conn, "local", PROJECT, f"{state}-{heard}", values)
    told = {run.name: run.state for run in queries.list_runs(server.backend, "local", PROJECT)}
    assert told["running-long-ago"] == told["queued-long-ago"] == "crashed"
    assert (told["preempting-long-ago"], told["queued-now"]) == ("preempted", "pending")
    for state in set(told.values()):
        found = queries.list_runs(server.backend, "local", PROJECT, {"state": state})
        assert {run.name for run in found} == {name for name, value in told.items() if value == state}
