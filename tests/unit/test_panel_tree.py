"""How task instances become the panel's tree, and figures its metrics."""

from __future__ import annotations

import math
from typing import Any

import pytest

from wandb_airflow_provider.key_metrics import key_metrics
from wandb_airflow_provider.links.run import web_url
from wandb_airflow_provider.panel.tree import TaskEntry, task_tree


def labels(nodes: list[dict[str, Any]]) -> list[Any]:
    return [
        (node["label"], labels(node["children"])) if node["children"] else node["label"] for node in nodes
    ]


def test_groups_hold_groups_and_mapped_tasks_hold_their_indexes_in_order() -> None:
    entries = [TaskEntry("a.b.c", index) for index in (10, 2, 0)] + [TaskEntry("a.d"), TaskEntry("e")]
    assert labels(task_tree(entries)) == [("a", [("b", [("c", ["c[0]", "c[2]", "c[10]"])]), "d"]), "e"]


def test_a_task_and_a_group_of_one_name_stay_apart() -> None:
    assert labels(task_tree([TaskEntry("a"), TaskEntry("a.b")])) == ["a", ("a", ["b"])]


def test_nodes_stand_in_the_order_in_which_they_started() -> None:
    late, early, never = (
        TaskEntry("x", start=20.0, end=21.0),
        TaskEntry("y", start=10.0, end=11.0),
        TaskEntry("a"),
    )
    assert labels(task_tree([late, early, never])) == ["y", "x", "a"]


def test_a_group_lasts_from_its_first_start_to_its_last_end() -> None:
    entries = [
        TaskEntry("g.a", start=10.0, end=12.0),
        TaskEntry("g.b", start=11.0, end=15.5),
        TaskEntry("g.c"),
    ]
    (group,) = task_tree(entries)
    assert (group["start"], group["seconds"]) == (10.0, 5.5)


@pytest.mark.parametrize(
    ("states", "shown"),
    [
        (["success", "failed", "running"], "failed"),
        (["success", "running", "queued"], "running"),
        (["success", "skipped"], "success"),
        (["skipped", "skipped"], "skipped"),
        (["success", None], None),
        (["of a later Airflow"], "of a later Airflow"),
    ],
)
def test_a_group_shows_the_state_that_a_person_should_look_at(
    states: list[str | None], shown: str | None
) -> None:
    (group,) = task_tree(TaskEntry(f"g.t{index}", state=state) for index, state in enumerate(states))
    assert group["state"] == shown


def test_key_metrics_are_the_finite_numbers_of_the_user() -> None:
    summary = {
        "loss": {"min": 0.5, "other": 3},
        "_step": 4,
        "airflow/seconds": 3.0,
        "train/airflow/seconds": 2.0,
        "accuracy": 0.9,
        "bad": math.inf,
        "flag": True,
        "note": "text",
        "table": {"_type": "table-file", "nrows": 3},
    }
    assert key_metrics(summary) == {"loss.min": 0.5, "accuracy": 0.9}
    assert len(key_metrics({f"m{n}": n for n in range(100)})) == 12


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("https://wandb.ai/e/p/runs/1", "https://wandb.ai/e/p/runs/1"),
        ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x"),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
        ("//evil.example.com", None),
        ("https:///nowhere", None),
        ("http://[broken", None),
        ({"url": "https://wandb.ai"}, None),
        (None, None),
    ],
)
def test_only_addresses_of_web_pages_are_links(value: Any, url: str | None) -> None:
    assert web_url(value) == url
