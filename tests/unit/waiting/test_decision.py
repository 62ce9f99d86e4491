from __future__ import annotations

from typing import Any

import pytest

from wandb_airflow_provider.exceptions import (
    WandbAuthenticationError,
    WandbConfigurationError,
    WandbError,
    WandbInvalidNameError,
    WandbNotFoundError,
    WandbPermanentError,
    WandbPermissionError,
    WandbUnavailableError,
)
from wandb_airflow_provider.waiting.decision import Decision, next_delay, settle

DONE = Decision("done", "alias_found", "It is there.", {"version": "v1"})
NOT_YET = Decision("wait", "not_yet", "nothing holds it.")


@pytest.mark.parametrize(
    ("judged", "error", "now", "expected"),
    [
        (None, None, 0, ("wait", "not_yet")),
        (None, None, 100, ("timed_out", "timeout")),
        (NOT_YET, None, 99.9, ("wait", "not_yet")),
        (NOT_YET, None, 100, ("timed_out", "timeout")),
        (DONE, None, 0, ("done", "alias_found")),
        (DONE, None, 1000, ("done", "alias_found")),
        (Decision("skipped", "run_killed", "."), None, 1000, ("skipped", "run_killed")),
        (None, WandbUnavailableError("down"), 99, ("wait", "unavailable")),
        (NOT_YET, WandbUnavailableError("down"), 99, ("wait", "unavailable")),
        (None, WandbUnavailableError("down"), 100, ("timed_out", "timeout")),
        (NOT_YET, WandbAuthenticationError("no"), 0, ("failed", "authentication")),
        (None, WandbAuthenticationError("no"), 100, ("failed", "authentication")),
        (None, WandbPermissionError("no"), 0, ("failed", "permission")),
        (None, WandbNotFoundError("no"), 0, ("failed", "not_found")),
        (None, WandbInvalidNameError("no"), 0, ("failed", "configuration")),
        (None, WandbPermanentError("no"), 0, ("failed", "refused")),
    ],
)
def test_waiting_ends_by_what_was_read_by_a_refusal_or_by_its_deadline(
    judged: Decision | None, error: WandbError | None, now: float, expected: tuple[str, str]
) -> None:
    decision = settle("the alias", judged, error, now=now, end_time=100)
    assert (decision.status, decision.reason) == expected
    assert (decision.value is not None) == (decision.status == "done")


def test_the_end_of_the_time_says_what_was_last_seen() -> None:
    assert "nothing holds it" in settle("the alias", NOT_YET, None, now=1, end_time=1).sentence
    down = WandbUnavailableError("the line is down")
    assert "the line is down" in settle("the alias", NOT_YET, down, now=1, end_time=1).sentence


def test_a_final_decision_survives_the_event_and_anything_else_is_refused() -> None:
    assert Decision.from_json(DONE.to_json()) == DONE
    wrong: list[Any] = [
        None,
        "done",
        {},
        {"status": "wait", "reason": "not_yet"},
        {**DONE.to_json(), "status": "great"},
        {**DONE.to_json(), "value": None},
        {**DONE.to_json(), "status": "failed"},
        {**DONE.to_json(), "reason": None},
    ]
    for value in wrong:
        with pytest.raises(WandbConfigurationError):
            Decision.from_json(value)


@pytest.mark.parametrize(
    ("failures", "jitter", "expected"),
    [(0, 0, 10), (0, 1, 11), (1, 0, 20), (2, 0, 40), (4, 0, 120), (1000, 0, 120)],
)
def test_failures_in_a_row_slow_the_polling_down(failures: int, jitter: float, expected: float) -> None:
    assert next_delay(10, failures, jitter) == pytest.approx(expected)


def test_an_interval_longer_than_the_cap_is_kept() -> None:
    assert next_delay(3600, 5, 0) == 3600
