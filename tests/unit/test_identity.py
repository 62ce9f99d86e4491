"""Run ids, groups and tags: the same for the same attempt, different for every other, and accepted by W&B."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.identity import RunRef, TaskIdentity, clean_tags, slug

names = st.text(
    st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1, max_size=300
)
identities = st.builds(
    TaskIdentity,
    names,
    names,
    names,
    map_index=st.integers(-1, 5000),
    try_number=st.integers(1, 50),
)
ACCEPTED_ID = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
TRAIN = TaskIdentity("weekly", "scheduled__2026-03-01T00:00:00+00:00", "train")


@given(identities)
def test_every_id_and_group_is_within_what_w_and_b_accepts(identity: TaskIdentity) -> None:
    for wandb_run_id in (
        identity.wandb_run_id(),
        identity.wandb_run_id("resume"),
        identity.root_wandb_run_id(),
    ):
        assert ACCEPTED_ID.fullmatch(wandb_run_id)
    assert 1 <= len(identity.group) <= 128


@given(identities, identities)
@settings(max_examples=300)
def test_two_attempts_share_an_id_only_if_they_are_the_same(one: TaskIdentity, two: TaskIdentity) -> None:
    assert (one.wandb_run_id() == two.wandb_run_id()) == (one == two)
    assert one.wandb_run_id() != two.root_wandb_run_id()
    assert one.wandb_run_id() != two.wandb_run_id("resume")


@given(names, names, names, st.data())
def test_moving_a_border_between_two_names_makes_another_id(
    dag_id: str, dag_run_id: str, task_id: str, data: Any
) -> None:
    joined = dag_id + dag_run_id
    cut = data.draw(st.integers(1, len(joined) - 1))
    other = TaskIdentity(joined[:cut], joined[cut:], task_id)
    same = (other.dag_id, other.dag_run_id) == (dag_id, dag_run_id)
    this = TaskIdentity(dag_id, dag_run_id, task_id)
    assert (this.wandb_run_id() == other.wandb_run_id()) == same
    assert (this.root_wandb_run_id() == other.root_wandb_run_id()) == same


@given(st.lists(st.text(max_size=200)))
def test_tags_are_distinct_within_the_limit_and_the_same_when_cleaned_again(tags: list[str]) -> None:
    cleaned = clean_tags(tags)
    assert all(1 <= len(tag) <= 64 and tag.strip() for tag in cleaned)
    assert len(set(cleaned)) == len(cleaned)
    assert clean_tags(cleaned) == cleaned


@given(st.text(max_size=300), st.integers(1, 80))
def test_a_slug_has_only_safe_characters(text: str, length: int) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_.-]*", slug(text, length))
    assert len(slug(text, length)) <= length


def test_ids_stay_what_they_were_in_earlier_releases() -> None:
    assert TRAIN.wandb_run_id() == "train-89f8323c50084e1d"
    assert TRAIN.wandb_run_id("resume") == "train-80202b6bf726c9b1"
    assert TRAIN.root_wandb_run_id() == "weekly-6591d95ec62ed4a6"


def test_a_retry_is_another_run_with_new_and_the_same_run_with_resume() -> None:
    again = TaskIdentity(TRAIN.dag_id, TRAIN.dag_run_id, TRAIN.task_id, try_number=2)
    assert again.wandb_run_id("new") != TRAIN.wandb_run_id("new")
    assert again.wandb_run_id("resume") == TRAIN.wandb_run_id("resume")
    assert again.previous() == TRAIN
    assert TRAIN.previous() is None


def test_all_tasks_of_a_dag_run_name_one_root_and_one_group() -> None:
    other = TaskIdentity(TRAIN.dag_id, TRAIN.dag_run_id, "evaluate", 3, 2)
    assert other.root_wandb_run_id() == TRAIN.root_wandb_run_id()
    assert other.group == TRAIN.group == "weekly__scheduled__2026-03-01T00:00:00+00:00"


def test_long_groups_differ_where_only_their_ends_do() -> None:
    groups = {TaskIdentity("d" * 250, f"{'r' * 200}{end}", "t").group for end in "abc"}
    assert len(groups) == 3


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        (TaskIdentity("d", "r", "train"), "train"),
        (TaskIdentity("d", "r", "train", map_index=3), "train[3]"),
        (TaskIdentity("d", "r", "train", map_index=0, try_number=2), "train[0] · try 2"),
    ],
)
def test_the_display_name_is_what_a_person_says(identity: TaskIdentity, name: str) -> None:
    assert identity.display_name == name


@pytest.mark.parametrize("url", [None, "https://wandb.example.com/acme/churn/runs/1a2b"])
def test_a_reference_survives_xcom(url: str | None) -> None:
    ref = RunRef("acme", "churn", "1a2b", url=url)
    assert RunRef.from_json(ref.to_json()) == ref
    assert str(ref) == ref.to_json()["path"] == "acme/churn/1a2b"
    assert RunRef.from_json("acme/churn/1a2b") == RunRef("acme", "churn", "1a2b")


@pytest.mark.parametrize(
    "value",
    [None, "", "acme/churn", "acme//1a2b", "a/b/c/d", {}, {"entity": "a", "project": "b"}, 7, ["a/b/c"]],
)
def test_anything_else_is_no_reference(value: Any) -> None:
    with pytest.raises(WandbConfigurationError, match="Expected a W&B run"):
        RunRef.from_json(value)
