"""What a task does when W&B cannot be reached. Pure."""

from __future__ import annotations

from typing import Any, Literal

from wandb_airflow_provider.exceptions import WandbConfigurationError

__all__ = ["OnUnavailable", "check_outage_policy"]

OnUnavailable = Literal["fail", "offline", "skip"]

_CHOICES = ("fail", "offline", "skip")


def check_outage_policy(owner: str, on_unavailable: Any, spool: str | None, *, complete: bool = True) -> None:
    """
    Refuse a policy that could not be followed once W&B is away.

    :param owner: Whose policy it is, as the message shall name it.
    :param complete: Whether a missing spool is an error; a task may get one from its pipeline.
    :raises WandbConfigurationError: an unknown policy, or ``offline`` without a spool.
    """
    if on_unavailable not in _CHOICES:
        raise WandbConfigurationError(
            f"{owner}: on_unavailable is {on_unavailable!r}; expected one of {list(_CHOICES)}."
        )
    if complete and on_unavailable == "offline" and not spool:
        raise WandbConfigurationError(
            f"{owner}: on_unavailable='offline' needs a spool, the place where runs wait until W&B is back: a folder "
            "that outlives the worker, or an URL such as 's3://aws_default@bucket/wandb-spool'."
        )
