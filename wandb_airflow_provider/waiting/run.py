"""Which state of a W&B run ends the waiting for it. Pure: the observation is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbError
from wandb_airflow_provider.identity import RunRef

if TYPE_CHECKING:
    from wandb_airflow_provider.waiting.decision import Decision

__all__ = ["DEFAULT_OUTCOMES", "FINAL_STATES", "RunObservation", "RunOutcome", "judge_run", "outcomes_of"]

RunOutcome: TypeAlias = Literal["succeed", "fail", "skip", "wait"]

DEFAULT_OUTCOMES: dict[str, RunOutcome] = {
    "finished": "succeed",
    "failed": "fail",
    "crashed": "fail",
    "killed": "fail",
    "preempted": "fail",
}
FINAL_STATES = tuple(DEFAULT_OUTCOMES)
_ALIVE = ("running", "pending", "preempting", "queued", "starting")


class RunObservation(NamedTuple):
    """
    What one attempt to read a run found.

    :param state: W&B's word for it; None when there is no such run.
    :param error: Why it could not be read; None when it was.
    """

    state: str | None = None
    ref: RunRef | None = None
    name: str | None = None
    error: WandbError | None = None


def outcomes_of(given: Mapping[str, str] | None) -> dict[str, RunOutcome]:
    """
    Return what each final state means to the task.

    :param given: Differences from the default: ``finished`` succeeds, all others fail.
    :raises WandbConfigurationError: an unknown state or outcome, or nothing that ends the waiting.
    """
    outcomes: dict[str, Any] = {**DEFAULT_OUTCOMES, **(given or {})}
    unknown = sorted(set(outcomes) - set(DEFAULT_OUTCOMES))
    if unknown:
        raise WandbConfigurationError(f"W&B ends no run as {unknown}; its states are {list(FINAL_STATES)}.")
    wrong = {
        state: word for state, word in outcomes.items() if word not in ("succeed", "fail", "skip", "wait")
    }
    if wrong:
        raise WandbConfigurationError(f"The outcomes {wrong} are none of 'succeed', 'fail', 'skip', 'wait'.")
    if all(word == "wait" for word in outcomes.values()):
        raise WandbConfigurationError("Every final state is waited out: nothing could end the waiting.")
    return outcomes


def judge_run(
    path: str, observed: RunObservation, outcomes: Mapping[str, RunOutcome], missing: Literal["wait", "fail"]
) -> Decision:
    """
    Return what a successful read of a run means.

    A state that W&B may come to know later, and that is not one of a run at work, fails rather than hangs.
    """
    from wandb_airflow_provider.waiting.decision import Decision

    state = observed.state
    if state is None:
        sentence = f"W&B has no run {path!r}, or this key cannot read it."
        return Decision("failed", "not_found", sentence) if missing == "fail" else _wait(sentence)
    sentence = f"The W&B run {path!r} is {state}."
    outcome = "wait" if state in _ALIVE else outcomes.get(state, "fail")
    if outcome == "wait":
        return _wait(sentence)
    if outcome == "fail":
        return Decision("failed", f"run_{state}", sentence)
    if outcome == "skip":
        return Decision("skipped", f"run_{state}", sentence)
    ref = observed.ref
    value = {**(ref.to_json() if ref else {"path": path}), "state": state, "name": observed.name}
    return Decision("done", f"run_{state}", sentence, value)


def _wait(sentence: str) -> Decision:
    from wandb_airflow_provider.waiting.decision import Decision

    return Decision("wait", "not_yet", sentence)
