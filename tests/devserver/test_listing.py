from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import wandb

from wandb_airflow_provider.devserver import DevServer, queries
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.resolvers.projects import insert_project
from wandb_airflow_provider.devserver.runs_table import insert_run
from wandb_airflow_provider.devserver.store import dumps

RUNS: list[dict[str, Any]] = [
    {
        "name": "a",
        "state": "finished",
        "config": {"lr": 0.1, "opt": {"name": "adam"}, "flag": True},
        "summary": {"loss": 0.5},
        "tags": ["gold", "cpu"],
        "group_name": "g1",
        "job_type": "train",
    },
    {
        "name": "b",
        "state": "failed",
        "config": {"lr": 0.2, "opt": {"name": "sgd"}, "flag": False},
        "summary": {"loss": "NaN"},
        "tags": ["cpu"],
        "group_name": "g1",
        "job_type": "evaluate",
    },
    {
        "name": "c",
        "state": "finished",
        "config": {"lr": 0.3, "a.b": 5},
        "summary": {"loss": 0.1, "acc": 0.9},
        "tags": [],
        "group_name": "g2",
        "job_type": "train",
    },
    {
        "name": "d",
        "state": "finished",
        "config": {"lr": "high"},
        "summary": {},
        "tags": ["gold"],
        "notes": "has notes",
    },
]


@pytest.fixture
def listed(server: DevServer, project: str) -> str:
    """A project with the runs above, the first being the oldest."""
    backend = server.backend
    with backend.store.write() as conn:
        insert_project(conn, "local", project, now=stamp(backend.now()))
        for number, run in enumerate(RUNS):
            values = {
                "display_name": f"run {run['name']}",
                "user": "dev",
                "created_at": f"2026-01-0{number + 1}T00:00:00.000000+00:00",
                "heartbeat_at": f"2026-01-0{number + 1}T00:01:00.000000+00:00",
                **run,
                "config": dumps({key: {"value": value} for key, value in run["config"].items()}),
                "summary": dumps(run["summary"]),
                "tags": dumps(run["tags"]),
            }
            insert_run(conn, "local", project, values.pop("name"), values)
    return project


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, "abcd"),
        ({"state": "finished"}, "acd"),
        ({"state": {"$ne": "finished"}}, "b"),
        ({"config.lr": 0.1}, "a"),
        ({"config.lr.value": 0.1}, "a"),
        ({"config.lr": {"$gt": 0.1}}, "bc"),
        ({"config.lr": {"$gte": 0.1, "$lt": 0.3}}, "ab"),
        ({"config.lr": "high"}, "d"),
        ({"config.lr": {"$in": [0.1, "high"]}}, "ad"),
        ({"config.lr": {"$nin": [0.1, "high"]}}, "bc"),
        ({"config.opt.name": "adam"}, "a"),
        ({"config.a.b": 5}, "c"),
        ({"config.flag": True}, "a"),
        ({"config.opt": {"$exists": True}}, "ab"),
        ({"config.opt": {"$exists": False}}, "cd"),
        ({"config.opt": None}, "cd"),
        ({"summary_metrics.loss": {"$lt": 1}}, "ac"),
        ({"summary_metrics.loss": {"$not": {"$lt": 1}}}, "bd"),
        ({"tags": "gold"}, "ad"),
        ({"tags": {"$in": ["gold", "cpu"]}}, "abd"),
        ({"tags": {"$nin": ["gold"]}}, "bc"),
        ({"tags": {"$all": ["gold", "cpu"]}}, "a"),
        ({"tags": {"$exists": False}}, "c"),
        ({"group": "g1", "jobType": "train"}, "a"),
        ({"job_type": {"$regex": "^(train|eval)"}}, "abc"),
        ({"display_name": {"$regex": "RUN [ab]", "$options": "i"}}, "ab"),
        ({"$or": [{"group": "g2"}, {"tags": "gold"}]}, "acd"),
        ({"$and": [{"state": "finished"}, {"group": {"$in": ["g1", "g2"]}}]}, "ac"),
        ({"$nor": [{"group": "g1"}, {"name": "d"}]}, "c"),
        ({"$not": {"group": "g1"}}, "cd"),
        ({"created_at": {"$gte": "2026-01-03"}}, "cd"),
        ({"createdAt": {"$lt": "2026-01-02T00:00:00Z"}}, "a"),
        ({"username": "dev", "notes": {"$exists": True}}, "d"),
        ({"entity": "local", "displayName": "run a"}, "a"),
        ({"name": {"$in": []}}, ""),
    ],
)  # fmt: skip
def test_filter_selects(api: wandb.Api, listed: str, filters: dict[str, Any], names: str) -> None:
    runs = api.runs(f"local/{listed}", filters=filters)
    assert "".join(run.id for run in runs) == names
    assert len(runs) == len(names)


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("+created_at", "abcd"),
        ("-created_at", "dcba"),
        ("-config.lr", "dcba"),
        ("+summary_metrics.acc", "cabd"),
        ("-summary_metrics.acc", "cdba"),
        ("+config.lr.value", "abcd"),
        ("-group,+name", "cabd"),
    ],
)
def test_order_sorts_with_missing_values_last(api: wandb.Api, listed: str, order: str, names: str) -> None:
    assert "".join(run.id for run in api.runs(f"local/{listed}", order=order)) == names


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"colour": "red"}, "no field 'colour' to filter or order by. Known: .*config.<key>, createdAt"),
        ({"config.lr": {"$near": 1}}, "unknown operator '\\$near'. Known: \\$and"),
        ({"$xor": []}, "unknown operator '\\$xor'"),
        ({"$or": {}}, "'\\$or' needs a list"),
        ({"name": {"$in": "a"}}, "'\\$in' needs a list"),
        ({"name": {"$regex": "("}}, "invalid regular expression"),
        ({"created_at": {"$gt": "yesterday"}}, "needs an ISO time"),
    ],
)
def test_wrong_filter_is_refused_with_the_reason(
    api: wandb.Api, listed: str, filters: dict[str, Any], message: str
) -> None:
    with pytest.raises(Exception, match=message):
        list(api.runs(f"local/{listed}", filters=filters))


def test_pages_together_give_every_run_once(api: wandb.Api, listed: str) -> None:
    assert "".join(run.id for run in api.runs(f"local/{listed}", per_page=1)) == "abcd"


def test_loaded_run_has_config_and_summary(api: wandb.Api, listed: str) -> None:
    (run,) = api.runs(f"local/{listed}", filters={"name": "c"}, lazy=False)
    assert (run.config, run.summary["acc"]) == ({"lr": 0.3, "a.b": 5}, 0.9)
    (lazy,) = api.runs(f"local/{listed}", filters={"name": "c"})
    assert lazy.config == {"lr": 0.3, "a.b": 5}


def test_projects_are_listed_and_created(
    api: wandb.Api, server: DevServer, listed: str, open_run: Callable[..., wandb.Run]
) -> None:
    api.create_project(f"{listed}-more", "local")
    names = [project.name for project in api.projects("local")]
    assert names[:2] == [f"{listed}-more", listed]
    project = api.project(listed, "local")
    assert project.id
    assert api.project(f"{listed}-more", "local").owner.username == "dev"
    record = queries.get_project(server.backend, "local", listed)
    assert record is not None
    assert record.run_count == 4
    assert queries.count_runs(server.backend, "local", listed, {"group": "g1"}) == 2
    assert [run.name for run in queries.list_runs(server.backend, "local", listed, {"group": "g1"})] == [
        "b",
        "a",
    ]


def test_run_created_through_the_public_api_can_be_resumed(
    api: wandb.Api, open_run: Callable[..., wandb.Run], project: str
) -> None:
    created = api.create_run(run_id="prepared", project=project, entity="local")
    assert (created.id, api.run(f"local/{project}/prepared").state) == ("prepared", "running")
    run = open_run(id="prepared", resume="allow")
    assert run.id == "prepared"
    assert len(api.runs(f"local/{project}")) == 1
