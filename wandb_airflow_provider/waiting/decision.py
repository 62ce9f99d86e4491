"""Decide what an observation means: wait, done, failed or timed out. Pure: the clock is an argument."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

from wandb_airflow_provider.exceptions import (
    WandbAuthenticationError,
    WandbConfigurationError,
    WandbError,
    WandbNotFoundError,
    WandbPermanentError,
    WandbPermissionError,
)

__all__ = [
    "Decision",
    "failure_reason",
    "next_delay",
    "settle",
]

Status: TypeAlias = Literal["wait", "done", "failed", "skipped", "timed_out"]

_MAX_DELAY = 120.0


class Decision(NamedTuple):
    """
    What follows from an observation.

    :param reason: Machine-readable cause; code branches on it, never on the sentence.
    :param value: JSON value of what was waited for, when the waiting is done.
    """

    status: Status
    reason: str
    sentence: str
    value: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the event payload that ends a deferral."""
        return {
            "status": self.status,
            "reason": self.reason,
            "message": self.sentence,
            "value": self.value,
        }

    @classmethod
    def from_json(cls, value: Any) -> Decision:
        """
        Read an event payload.

        :raises WandbConfigurationError: not an event of this package's trigger.
        """
        final = ("done", "failed", "skipped", "timed_out")
        if not isinstance(value, dict) or value.get("status") not in final or not value.get("reason"):
            raise WandbConfigurationError(
                f"The trigger sent an event that cannot be understood: {value!r}. Triggerer and worker may run "
                "different versions of this package."
            )
        found = value.get("value")
        if (value["status"] == "done") != isinstance(found, dict):
            raise WandbConfigurationError(f"The trigger sent an event that contradicts itself: {value!r}.")
        return cls(value["status"], value["reason"], str(value.get("message", "")), found)


def settle(
    what: str, judged: Decision | None, error: WandbError | None, *, now: float, end_time: float
) -> Decision:
    """
    Decide whether waiting is over, from what the latest read said.

    What was waited for wins over a deadline that has just passed; W&B being out of reach never ends the
    waiting before the deadline; a key that is refused ends it at once.

    :param what: What is waited for, as the message shall name it.
    :param judged: What a successful read means; None when nothing was read yet, or when it failed.
    :param error: Why the latest read failed; None when it did not.
    :param now: Seconds since the epoch.
    :param end_time: Deadline, in seconds since the epoch.
    """
    if judged is not None and judged.status != "wait":
        return judged
    if isinstance(error, WandbPermanentError):
        return Decision("failed", failure_reason(error), str(error))
    if error is not None:
        state = f"W&B could not be read: {error}"
    else:
        state = judged.sentence if judged is not None else "W&B was not read yet."
    if now >= end_time:
        return Decision("timed_out", "timeout", f"The time to wait for {what} is over: {state}")
    return Decision("wait", "unavailable" if error else "not_yet", state)


def failure_reason(error: WandbError) -> str:
    """Return the reason code of an error."""
    codes: tuple[tuple[type[WandbError], str], ...] = (
        (WandbAuthenticationError, "authentication"),
        (WandbPermissionError, "permission"),
        (WandbNotFoundError, "not_found"),
        (WandbConfigurationError, "configuration"),
        (WandbPermanentError, "refused"),
    )
    return next((code for kind, code in codes if isinstance(error, kind)), "unavailable")


def next_delay(poll_interval: float, failures: int, jitter: float) -> float:
    """
    Return the seconds until the next read: the interval, doubled with each failure in a row up to 2 minutes.

    :param jitter: A random number from 0 to 1; up to a tenth is added, so that watchers do not march in step.
    """
    delay = poll_interval * 2.0 ** min(failures, 16)
    return min(delay, max(poll_interval, _MAX_DELAY)) * (1 + 0.1 * jitter)
