"""The tree of a DAG run read back from W&B: complete, in few requests, and robust against what runs claim."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import httpx
import pytest

from wandb_airflow_provider.cli import main
from wandb_airflow_provider.exceptions import WandbNotFoundError
from wandb_airflow_provider.hooks.run_record import RunRecord
from wandb_airflow_provider.hooks.run_tree import build_tree, read_run_tree
from wandb_airflow_provider.identity import RunRef, TaskIdentity

UPSERT = """a{n}: upsertBucket(input: {{entityName: "local", modelName: $project, name: $name{n}, groupName: $group{n},
  jobType: $job{n}, displayName: $title{n}, tags: $tags{n}, config: $config{n}, summaryMetrics: $summary{n}}})
  {{ inserted }}"""
TYPES = {"name": "String", "group": "String", "job": "String", "title": "String", "tags": "[String!]"}
MAPPED = 1000
BATCH = 100


class Recorded:
    """Runs as W&B has them after a DAG run, made without starting one process for each."""

    def __init__(self, server: Any, project: str) -> None:
        self.project = project
        self._http = httpx.Client(
            base_url=server.url, auth=("api", server.api_key), trust_env=False, timeout=60
        )

    def add(self, runs: Iterable[Mapping[str, Any]]) -> None:
        waiting = list(runs)
        for start in range(0, len(waiting), BATCH):
            self._send(waiting[start : start + BATCH])

    def dag_run(
        self, dag_id: str, tasks: int, *, source: TaskIdentity | None = None, parent: str | None = None
    ) -> TaskIdentity:
        """Record a DAG run with a root and so many runs of the task ``work``."""
        identity = TaskIdentity(dag_id, "run_1", "work")
        root = identity.root_wandb_run_id()
        place = {"dag_id": dag_id, "dag_run_id": "run_1"}
        cause = [{"kind": "dag_run", "dag_id": source.dag_id, "run": parent}] if source else []
        first = {
            "name": root,
            "group": identity.group,
            "job": "pipeline",
            "title": identity.root_name,
            "tags": [source.triggered_tag] if source else [],
            "config": {**place, "parent_run": parent, "triggered_by": cause},
            "summary": {"airflow/state": "success", "airflow/wall_seconds": 12.5},
        }
        others = (
            {
                "name": one.wandb_run_id(),
                "group": one.group,
                "job": "work",
                "title": one.display_name,
                "tags": [],
                "config": {**place, "parent_run": self.path(root)},
                "summary": {"airflow/state": "success", "airflow/seconds": 1.5, "loss": one.map_index / 10},
            }
            for one in (TaskIdentity(dag_id, "run_1", "work", index) for index in range(tasks))
        )
        self.add([first, *others])
        return identity

    def close(self) -> None:
        self._http.close()

    def path(self, wandb_run_id: str) -> str:
        return f"local/{self.project}/{wandb_run_id}"

    def _send(self, runs: list[Mapping[str, Any]]) -> None:
        kinds = {**TYPES, "config": "JSONString", "summary": "JSONString"}
        declared = "".join(f", ${key}{n}: {kind}" for n in range(len(runs)) for key, kind in kinds.items())
        variables: dict[str, Any] = {"project": self.project}
        for n, run in enumerate(runs):
            config = json.dumps({"airflow": {"value": run["config"]}})
            plain = {**run, "config": config, "summary": json.dumps(run["summary"])}
            variables |= {f"{key}{n}": plain[key] for key in kinds}
        body = "".join(UPSERT.format(n=n) for n in range(len(runs)))
        query = f"mutation Record($project: String{declared}) {{ {body} }}"
        answer = self._http.post("/graphql", json={"query": query, "variables": variables})
        assert "errors" not in answer.raise_for_status().json(), answer.text[:500]


@pytest.fixture
def recorded(server: Any, connect: Callable[..., None], unique: str) -> Iterator[Recorded]:
    connect(server, extra={"project": unique})
    made = Recorded(server, unique)
    yield made
    made.close()


def test_a_thousand_mapped_tasks_are_read_back_in_twelve_requests(server: Any, recorded: Recorded) -> None:
    identity = recorded.dag_run("wide", MAPPED)
    root = recorded.path(identity.root_wandb_run_id())
    recorded.dag_run("started", 3, source=identity, parent=root)
    before = len(server.requests())

    (tree,) = read_run_tree("wide", "run_1")

    asked = [request.operation or request.path for request in server.requests()[before:]]
    assert len(asked) <= 12, asked
    assert tree.path == root
    by_job: dict[str | None, list[Any]] = {}
    for child in tree.children:
        by_job.setdefault(child.job_type, []).append(child)
    assert len({child.path for child in by_job["work"]}) == MAPPED
    assert {child.name for child in by_job["work"]} == {f"work[{index}]" for index in range(MAPPED)}
    (started,) = by_job["pipeline"]
    assert [child.metrics["loss"] for child in started.children] == [0.0, 0.1, 0.2]
    assert started.triggered_by[0]["run"] == root
    assert (tree.seconds, by_job["work"][0].seconds, by_job["work"][0].outcome) == (12.5, 1.5, "success")


def test_dag_runs_that_start_each_other_are_read_once(recorded: Recorded) -> None:
    one = TaskIdentity("ping", "run_1", "work")
    two = recorded.dag_run("pong", 1, source=one, parent=recorded.path(one.root_wandb_run_id()))
    recorded.dag_run("ping", 1, source=two, parent=recorded.path(two.root_wandb_run_id()))

    found = read_run_tree("ping", "run_1")

    paths = [node.path for root in found for node in root.walk()]
    assert len(paths) == len(set(paths)) == 4


def test_started_dag_runs_can_be_left_out(recorded: Recorded) -> None:
    identity = recorded.dag_run("alone", 1)
    recorded.dag_run("other", 1, source=identity, parent=recorded.path(identity.root_wandb_run_id()))

    (tree,) = read_run_tree("alone", "run_1", follow=False)

    assert [child.name for child in tree.children] == ["work[0]"]


def test_a_dag_run_that_wandb_does_not_know_is_named(recorded: Recorded) -> None:
    recorded.dag_run("known", 0)
    with pytest.raises(WandbNotFoundError, match="no run of the DAG run known/run_2 in local/"):
        read_run_tree("known", "run_2")


def test_the_command_prints_the_tree_and_json(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    identity = recorded.dag_run("printed", 2)

    assert main(["trace", "printed", "run_1"]) == 0
    root, first, second = capsys.readouterr().out.splitlines()
    assert root.startswith("printed · run_1")
    assert "12.5 s" in root
    assert first.startswith("├─ work[0]")
    assert second.startswith("└─ work[1]")
    assert "success" in second
    assert "loss=0.1" in second
    assert f"/runs/{TaskIdentity('printed', 'run_1', 'work', 1).wandb_run_id()}" in second

    assert main(["trace", "printed", "run_1", "--json"]) == 0
    (tree,) = json.loads(capsys.readouterr().out)
    assert tree["path"] == recorded.path(identity.root_wandb_run_id())
    assert [child["metrics"]["loss"] for child in tree["children"]] == [0.0, 0.1]

    assert main(["trace", "printed", "run_2"]) == 1
    assert "wandb-airflow trace: W&B has no run" in capsys.readouterr().err


def test_the_command_explains_itself_without_loading_airflow() -> None:
    code = (
        "import sys; from wandb_airflow_provider.cli.trace import parser; parser();"
        " assert 'airflow' not in sys.modules and 'wandb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def record(name: str, parent: str | None, **summary: Any) -> RunRecord:
    config = {"airflow": {"parent_run": f"e/p/{parent}" if parent else None}}
    ref = RunRef("e", "p", name)
    return RunRecord(
        ref,
        name,
        "finished",
        "g",
        "task",
        (),
        config,
        summary,
        "2026-03-01T00:00:00Z",
        "2026-03-01T00:00:04Z",
    )


def test_runs_that_claim_to_be_their_own_ancestors_are_all_shown() -> None:
    roots = build_tree([record("a", "b"), record("b", "a"), record("c", "a"), record("d", "d")])

    shown = [node.name for root in roots for node in root.walk()]
    assert sorted(shown) == ["a", "b", "c", "d"]


def test_a_run_without_a_config_of_ours_stands_at_the_top() -> None:
    stray = record("stray", None)._replace(config={"airflow": "text"})
    (node,) = build_tree([stray])
    assert (node.name, node.seconds, node.outcome) == ("stray", 4.0, None)


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    from wandb_airflow_provider.cli.trace import render

    (line,) = render(build_tree([record("\x1b[31mred", None, **{"airflow/reason": "line\nbreak"})]))
    assert "\x1b" not in line
    assert "\n" not in line
    assert "�[31mred" in line
