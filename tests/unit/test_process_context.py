"""What a process reads of its place, and how it hands a place on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wandb_airflow_provider.hooks import runs
from wandb_airflow_provider.identity import CONFIG_KEY
from wandb_airflow_provider.process_context import (
    ProcessContext,
    config_variables,
    context_of,
    is_cut_off,
    put_in_place,
)

GIVEN = {
    "WANDB_LAUNCH": "true",
    "WANDB_ENTITY": "e",
    "WANDB_PROJECT": "p",
    "WANDB_CONFIG": json.dumps({"lr": 1, "airflow": {"task_id": "t", "parent_run": "e/p/root"}}),
}


def test_the_keys_are_those_of_the_rest_of_the_package() -> None:
    assert CONFIG_KEY == "airflow"
    assert (runs.STATE_KEY, runs.SECONDS_KEY, runs.REASON_KEY) == (
        "airflow/state",
        "airflow/seconds",
        "airflow/reason",
    )


def test_the_parent_is_the_task_s_run_or_what_that_would_be_below() -> None:
    config = json.loads(GIVEN["WANDB_CONFIG"])
    assert context_of(GIVEN) == ProcessContext("e", "p", "e/p/root", config)
    assert context_of({**GIVEN, "WANDB_RUN_ID": "mine"}) == ProcessContext("e", "p", "e/p/mine", config)


@pytest.mark.parametrize(
    "other",
    [
        {"WANDB_LAUNCH": "false"},
        {"WANDB_MODE": "offline"},
        {"WANDB_MODE": "disabled"},
        {"WANDB_ENTITY": ""},
        {"WANDB_CONFIG": "no json"},
        {"WANDB_CONFIG": "[]"},
        {"WANDB_CONFIG": "{}"},
    ],
)
def test_a_process_of_no_task_has_no_place(other: dict[str, str]) -> None:
    assert context_of({**GIVEN, **other}) is None


@pytest.mark.parametrize(
    ("other", "cut_off"),
    [({}, False), ({"WANDB_MODE": "offline"}, True), ({"WANDB_MODE": "disabled"}, False)],
)
def test_a_task_that_went_offline_cuts_its_flows_off(other: dict[str, str], cut_off: bool) -> None:
    assert is_cut_off({**GIVEN, **other}) is cut_off


def test_a_user_s_own_offline_mode_is_left_alone() -> None:
    assert not is_cut_off({"WANDB_MODE": "offline"})


def test_a_place_handed_on_replaces_the_one_before_and_a_long_config_arrives_whole() -> None:
    long: dict[str, Any] = {"text": "x" * 250_000, "airflow": {"parent_run": "e/p/flow"}}
    environment = {**GIVEN, "WANDB_RUN_ID": "mine", "WANDB_NAME": "n", "WANDB_CONFIG_DIR": "/keep"}
    put_in_place(environment, long, {"WANDB_JOB_TYPE": "j"})
    assert not {"WANDB_RUN_ID", "WANDB_NAME", "WANDB_CONFIG"} & environment.keys()
    assert environment["WANDB_CONFIG_DIR"] == "/keep"
    assert max(len(value) for value in environment.values()) < 128 * 1024
    assert context_of(environment) == ProcessContext("e", "p", "e/p/flow", long)

    put_in_place(environment, {"airflow": {"parent_run": None}}, {})
    assert dict(config_variables({"airflow": {"parent_run": None}})).items() <= environment.items()
    assert not {name for name in environment if name.startswith("WANDB_CONFIG_") and name[-1].isdecimal()}
    assert context_of(environment) == ProcessContext("e", "p", None, {"airflow": {"parent_run": None}})
