from __future__ import annotations

from typing import Any

import pytest

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.waiting.run import RunObservation, judge_run, outcomes_of

REF = RunRef("acme", "search", "abc", url="https://w/abc")


@pytest.mark.parametrize(
    ("state", "outcomes", "expected"),
    [
        ("running", {}, ("wait", "not_yet")),
        ("pending", {}, ("wait", "not_yet")),
        ("preempting", {}, ("wait", "not_yet")),
        ("finished", {}, ("done", "run_finished")),
        ("failed", {}, ("failed", "run_failed")),
        ("crashed", {}, ("failed", "run_crashed")),
        ("killed", {}, ("failed", "run_killed")),
        ("preempted", {}, ("failed", "run_preempted")),
        ("preempted", {"preempted": "wait"}, ("wait", "not_yet")),
        ("killed", {"killed": "skip"}, ("skipped", "run_killed")),
        ("crashed", {"crashed": "succeed"}, ("done", "run_crashed")),
        ("finished", {"finished": "fail"}, ("failed", "run_finished")),
        ("a state of tomorrow", {}, ("failed", "run_a state of tomorrow")),
    ],
)
def test_each_state_of_a_run_has_its_outcome_and_none_hangs(
    state: str, outcomes: dict[str, str], expected: tuple[str, str]
) -> None:
    decision = judge_run(REF.path, RunObservation(state, REF, "fit"), outcomes_of(outcomes), "fail")
    assert (decision.status, decision.reason) == expected
    if decision.status == "done":
        assert decision.value == {**REF.to_json(), "state": state, "name": "fit"}


def test_a_run_that_does_not_exist_fails_or_is_waited_for() -> None:
    failed = judge_run(REF.path, RunObservation(), outcomes_of(None), "fail")
    assert (failed.status, failed.reason) == ("failed", "not_found")
    assert REF.path in failed.sentence
    assert judge_run(REF.path, RunObservation(), outcomes_of(None), "wait").status == "wait"


@pytest.mark.parametrize(
    "outcomes",
    [
        {"exploded": "fail"},
        {"running": "fail"},
        {"failed": "ignore"},
        dict.fromkeys(("finished", "failed", "crashed", "killed", "preempted"), "wait"),
    ],
)
def test_outcomes_that_mean_nothing_are_refused(outcomes: Any) -> None:
    with pytest.raises(WandbConfigurationError):
        outcomes_of(outcomes)
