"""Sweeps as agents see them over HTTP: which command comes when."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.devserver.sweep_client import AGENT, BEAT, OPEN, READ, UPSERT, SweepClient, grid
from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.sweeps.search import SearchProcess

LR = {"lr": {"min": 0.001, "max": 0.1}}


@pytest.fixture
def client(server: DevServer, project: str) -> Iterator[SweepClient]:
    made = SweepClient(server, project)
    with made.http:
        yield made


def test_eight_agents_get_every_point_of_a_grid_once(server: DevServer, client: SweepClient) -> None:
    parameters = {
        "a": {"values": [1, 2, 3, 4]},
        "b": {"parameters": {"c": {"values": ["x", "y", "z"]}, "d": {"value": 0}}},
    }
    sweep = client.create({"method": "grid", "parameters": parameters})
    agents = [client.agent(sweep) for _ in range(8)]

    def work(agent: str) -> list[str]:
        mine = SweepClient(server, client.project)
        with mine.http:
            return list(iter(lambda: mine.run(agent), None))

    with ThreadPoolExecutor(8) as pool:
        names = [name for found in pool.map(work, agents) for name in found]
    assert len(set(names)) == len(names) == 12
    read = client.read(sweep)["sweep"]
    configs = [json.loads(edge["node"]["config"]) for edge in read["runs"]["edges"]]
    assert sorted((config["a"]["value"], config["b"]["value"]["c"]) for config in configs) == [
        (a, c) for a in (1, 2, 3, 4) for c in "xyz"
    ]
    assert all("_wandb" not in config and config["b"]["value"]["d"] == 0 for config in configs)
    assert (read["state"], read["runCount"], read["runCountExpected"]) == ("FINISHED", 12, 12)
    agents_told = [edge["node"] for edge in read["agents"]["edges"]]
    assert {agent["state"] for agent in agents_told} == {"FINISHED"}
    assert sum(agent["totalRuns"] for agent in agents_told) == 12


def test_a_run_is_pending_until_it_opens_and_crashes_when_its_agent_is_silent(tmp_path: Path) -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    with DevServer(tmp_path, seed="dead", now=lambda: now[0]) as server:
        client = SweepClient(server, "p")
        with client.http:
            sweep = client.create(grid(1, 2))
            assert client.state(sweep) == "PENDING"
            first, second = client.agent(sweep), client.agent(sweep)
            lost, started = client.beat(first)[0]["run_id"], client.beat(second)[0]["run_id"]
            client.log(started, [1.0])
            assert [run["state"] for run in client.runs(sweep)] == ["pending", "running"]
            now[0] += timedelta(seconds=299)
            assert client.beat(second, started) == []
            client.stream(started)
            now[0] += timedelta(seconds=2)
            assert [run["state"] for run in client.runs(sweep)] == ["crashed", "running"]
            assert client.state(sweep) == "RUNNING"
            now[0] += timedelta(seconds=300)
            assert [run["state"] for run in client.runs(sweep)] == ["crashed", "crashed"]
            agents = client.read(sweep)["sweep"]["agents"]["edges"]
            assert [edge["node"]["state"] for edge in agents] == ["CRASHED", "CRASHED"]
            assert client.state(sweep) == "FINISHED"
            # Deleted, a run frees its point of the grid, as in W&B.
            node = next(run for run in client.runs(sweep) if run["name"] == lost)
            assert node["failed"] is True
            run_id = client.send(
                "query($project: String, $n: String!) {project(name: $project) {run(name: $n) {id}}}", n=lost
            )
            client.send(
                "mutation($id: ID!) {deleteRun(input: {id: $id}) {success}}",
                id=run_id["project"]["run"]["id"],
            )
            client.set(sweep, "RUNNING")
            (again,) = client.beat(client.agent(sweep))
            assert again["args"] == {"lr": {"value": 1}}


def test_a_run_that_its_agent_drops_without_opening_it_has_crashed(client: SweepClient) -> None:
    sweep = client.create(grid(1, 2, program="train.py"))
    agent = client.agent(sweep)
    (command,) = client.beat(agent)
    assert command == {
        "type": "run",
        "run_id": command["run_id"],
        "args": {"lr": {"value": 1}},
        "program": "train.py",
    }
    assert client.beat(agent, command["run_id"]) == []
    assert client.run(agent) is not None
    assert [run["state"] for run in client.runs(sweep)] == ["crashed", "finished"]


def test_pause_stop_and_cancel_reach_the_agents(client: SweepClient) -> None:
    sweep = client.create({"method": "random", "parameters": LR})
    agent = client.agent(sweep)
    (command,) = client.beat(agent)
    run = command["run_id"]
    assert "stopped" not in client.log(run, [1.0])
    client.set(sweep, "PAUSED")
    assert client.beat(agent) == []
    client.set(sweep, "FINISHED")
    assert client.beat(agent, run) == [], "stopping lets runs end"
    assert client.beat(agent) == [{"type": "exit"}]
    client.set(sweep, "RUNNING")
    (queued,) = client.beat(client.agent(sweep))
    client.set(sweep, "CANCELED")
    assert client.beat(agent, run) == [{"type": "exit"}]
    assert client.stream(run) == {"stopped": True}
    client.stream(run, complete=True, exitcode=1)
    assert {node["name"]: node["state"] for node in client.runs(sweep)} == {
        run: "killed",
        queued["run_id"]: "killed",
    }
    assert client.refused(UPSERT, id=sweep["id"], state="PAUSED") == (
        400,
        f"sweep {sweep['name']!r} is CANCELED: it cannot be set to PAUSED.",
    )
    assert client.refused(AGENT, sweep=sweep["name"])[0] == 400


def test_a_preempted_run_goes_to_the_next_agent(client: SweepClient) -> None:
    sweep = client.create(grid(1))
    first, second = client.agent(sweep), client.agent(sweep)
    run = client.beat(first)[0]["run_id"]
    client.log(run, [1.0])
    client.stream(run, preempting=True)
    client.stream(run, complete=True, exitcode=1)
    assert client.state(sweep) == "RUNNING"
    assert client.beat(second) == [
        {"type": "resume", "run_id": run, "args": {"lr": {"value": 1}}, "program": None}
    ]
    assert [node["state"] for node in client.runs(sweep)] == ["pending"]
    client.log(run, [0.5], complete=True, exitcode=0)
    assert client.beat(second) == [{"type": "exit"}]
    assert client.state(sweep) == "FINISHED"


def test_hyperband_stops_the_worse_run_through_its_agent_and_its_stream(client: SweepClient) -> None:
    config = grid(1, 2, metric={"name": "val.loss", "goal": "maximize"})
    sweep = client.create(config | {"early_terminate": {"type": "hyperband", "min_iter": 2}})
    good, bad = client.agent(sweep), client.agent(sweep)
    better, worse = client.beat(good)[0]["run_id"], client.beat(bad)[0]["run_id"]
    for run, value in ((better, 9.0), (worse, 1.0)):
        client.send(OPEN, name=run)
        rows = [json.dumps({"_step": step, "val": {"loss": value}}) for step in range(4)]
        client.stream(run, files={"wandb-history.jsonl": {"offset": 0, "content": rows}})
    assert client.beat(good, better) == []
    assert client.beat(bad, worse) == [{"type": "stop", "run_id": worse}]
    assert client.beat(bad, worse) == [{"type": "stop", "run_id": worse}], "until the agent has stopped it"
    assert client.stream(worse) == {"stopped": True}
    client.stream(worse, complete=True, exitcode=143)
    assert [run["state"] for run in client.runs(sweep)] == ["running", "killed"]
    assert client.beat(bad) == [{"type": "exit"}]


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_the_same_seed_gives_the_same_choices(tmp_path: Path, method: str) -> None:
    def choices(folder: str, seed: str) -> list[dict[str, Any]]:
        with DevServer(tmp_path / folder, seed=seed) as server:
            client = SweepClient(server, "p")
            with client.http:
                parameters = {
                    **LR,
                    "layers": {"min": 1, "max": 8},
                    "kind": {"values": ["a", "b"]},
                    "deep": {
                        "parameters": {
                            "rate": {"distribution": "log_uniform_values", "min": 0.01, "max": 1.0}
                        }
                    },
                    "quantum": {"distribution": "q_uniform", "min": 0, "max": 100, "q": 5},
                }
                metric = {"name": "loss", "goal": "minimize"}
                sweep = client.create(
                    {"method": method, "metric": metric, "run_cap": 4, "parameters": parameters}
                )
                agent = client.agent(sweep)
                for loss in (3.0, 1.0, 2.0, 4.0):
                    client.run(agent, loss)
                assert client.beat(agent) == [{"type": "exit"}]
                read = client.read(sweep)["sweep"]
                assert (read["state"], read["bestLoss"], read["runCountExpected"]) == ("FINISHED", 1.0, 4)
                return [json.loads(run["config"]) for run in client.runs(sweep)]

    first = choices("a", "one")
    assert first == choices("b", "one")
    assert first != choices("c", "two")
    assert len({json.dumps(choice) for choice in first}) == 4
    for choice in first:
        assert 0.001 <= choice["lr"]["value"] <= 0.1
        assert choice["layers"]["value"] in range(1, 9)
        assert 0.01 <= choice["deep"]["value"]["rate"] <= 1
        assert choice["quantum"]["value"] % 5 == 0


def test_a_bayes_sweep_learns_from_runs_that_were_added_to_it(client: SweepClient) -> None:
    for name, value in (("old", 0.05), ("odd", "not a number")):
        client.send(OPEN, name=name, config=json.dumps({"lr": {"value": value}}))
        client.stream(name, complete=True, exitcode=0)
    prior = json.dumps({"$or": [{"name": "old"}, {"name": "odd"}]})
    config = {"method": "bayes", "metric": {"name": "loss"}, "run_cap": 1, "parameters": LR}
    sweep = client.create(config, prior=prior)
    assert client.read(sweep)["sweep"]["runCount"] == 2
    agent = client.agent(sweep)
    assert client.run(agent) is not None
    assert client.run(agent) is None, "the cap counts only what the sweep started"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[", "not valid YAML"),
        ("text", "must be a mapping, not str"),
        ("a: &a [1]\nb: *a", "YAML aliases"),
        ({"method": "custom", "parameters": LR}, "the method is 'custom'; it can be grid, random, bayes"),
        ({"method": "grid"}, "'parameters' must name"),
        ({"method": "grid", "parameters": LR}, "Grid search requires all parameters"),
        ({"method": "bayes", "parameters": LR}, 'Bayesian search requires "metric"'),
        ({"method": "random", "parameters": {"lr": {"min": 2, "max": 1}}}, "min 2 is not less than max 1"),
        ({"method": "random", "parameters": LR, "run_cap": 0}, "run_cap is 0"),
        ({"method": "random", "parameters": LR, "metric": "loss"}, "metric is 'loss'"),
        (
            {"method": "random", "parameters": LR, "controller": {"type": "local"}},
            "the controller is of type 'local'",
        ),
        (
            {"method": "random", "parameters": LR, "early_terminate": {"type": "hyperband", "min_iter": 1}},
            '"metric"',
        ),
    ],
)
def test_a_config_that_cannot_be_searched_is_refused(client: SweepClient, config: Any, message: str) -> None:
    text = config if isinstance(config, str) else json.dumps(config)
    status, found = client.refused(UPSERT, config=text)
    assert status == 400
    assert found.startswith("invalid sweep config: ")
    assert message in found


def test_what_does_not_follow_the_schema_is_a_warning(client: SweepClient) -> None:
    sweep = client.create(grid(1, colour="blue"))
    assert sweep["warnings"] == ["Additional properties are not allowed ('colour' was unexpected)"]


def test_only_who_may_write_uses_a_sweep(server: DevServer, client: SweepClient, read_only_key: str) -> None:
    sweep = client.create(grid(1, 2))
    agent = client.agent(sweep)
    stranger = SweepClient(server, client.project, server.add_account("stranger", teams=("elsewhere",)))
    reader = SweepClient(server, client.project, read_only_key)
    with stranger.http, reader.http:
        for document, variables in (
            (UPSERT, {"id": sweep["id"], "state": "CANCELED"}),
            (AGENT, {"sweep": sweep["name"]}),
            (BEAT, {"id": agent, "state": "{}"}),
        ):
            assert reader.refused(document, **variables)[0] == 403
            assert stranger.refused(document, **variables)[0] == 404
        assert reader.refused(UPSERT, config=json.dumps(grid(1)))[0] == 403
        assert reader.state(sweep) == "RUNNING"
        assert stranger.read(sweep) is None
    assert client.refused(BEAT, id="nobody", state="{}") == (
        404,
        "there is no sweep agent with the id 'nobody'.",
    )
    assert client.refused(AGENT, sweep="nothing")[0] == 404
    assert client.refused(BEAT, id=agent, state="[]")[0] == 400
    client.run(agent)
    status, message = client.refused(UPSERT, id=sweep["id"], config=json.dumps(grid(3)))
    assert (status, "can no longer be changed: it has started 1 runs" in message) == (400, True)


def test_sweeps_are_listed_by_filter(client: SweepClient) -> None:
    first, second = client.create(grid(1)), client.create({"method": "random", "parameters": LR})
    client.agent(second)

    def listed(filters: dict[str, Any]) -> list[str]:
        found = client.read(first, filters=json.dumps(filters))
        assert found["totalSweeps"] == 2
        return [edge["node"]["name"] for edge in found["sweeps"]["edges"]]

    both = [second["name"], first["name"]]
    assert listed({}) == both
    for filters, wanted in (
        ({"method": "grid"}, both[1:]),
        ({"state": {"$in": ["RUNNING"]}}, both[:1]),
        ({"$or": [{"name": first["name"]}, {"state": "RUNNING"}]}, both),
        ({"$nor": [{"name": first["name"]}]}, both[:1]),
        ({"$and": [{"runCount": {"$lt": 1}}, {"method": {"$ne": "grid"}}]}, both[:1]),
        ({"config.parameters.lr.min": {"$gte": 0.001}}, both[:1]),
        ({"config.parameters.lr.min": {"$exists": False}}, both[1:]),
        ({"display_name": None}, both),
        ({"name": {"$not": {"$regex": first["name"]}}}, both[:1]),
        ({"$not": {"method": {"$nin": ["grid"]}}}, both[1:]),
        ({"created_at": {"$gt": "2020-01-01T00:00:00Z"}}, both),
    ):
        assert listed(filters) == wanted, filters
    for text in (
        "[",
        "[]",
        '{"colour": 1}',
        '{"name": {"$near": 1}}',
        '{"name": {"$in": 1}}',
        '{"$or": 1}',
        '{"name": {"$regex": "("}}',
    ):
        assert client.refused(READ, name="x", filters=text)[0] == 400, text


def test_the_search_process_starts_again_and_names_the_extra_that_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search = SearchProcess()
    try:
        for _ in range(2):
            with pytest.raises(GraphQLError, match="the search of the sweep failed: KeyError: 'sing'"):
                search.ask("sing")
            assert search.pid is not None
            os.kill(search.pid, signal.SIGKILL)
    finally:
        search.close()
    monkeypatch.setitem(sys.modules, "sweeps", None)
    with pytest.raises(GraphQLError, match=r"pip install 'wandb-airflow-provider\[sweeps\]'"):
        search.ask("sing")
