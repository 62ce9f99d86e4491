"""What an error of wandb means: absent, refused, or not to be reached. Pure: reads the error, imports no wandb."""

from __future__ import annotations

import json
import re

from wandb_airflow_provider.exceptions import (
    WandbAuthenticationError,
    WandbConfigurationError,
    WandbError,
    WandbNotFoundError,
    WandbPermanentError,
    WandbPermissionError,
    WandbRunDeletedError,
    WandbUnavailableError,
)

__all__ = ["translated"]

# Of wandb's helper process, when the server does not exchange an identity token for an access token.
_EXCHANGE_REFUSED = re.compile(r"failed to retrieve access token: HTTP (4\d\d): (.*)", re.DOTALL)


def translated(error: Exception, action: str, connection: object, *, wrong_key: bool) -> WandbError:
    """
    Return the error of this package for one that wandb raised.

    :param action: What was tried, in words that complete "Could not ...".
    :param connection: What it was tried through, as the message shall name it.
    :param wrong_key: wandb says that it could not log in.
    """
    cause = getattr(error, "exc", None) or error
    if wrong_key and error.__context__ is not None:
        # The client calls any failure of its first request a wrong key, an outage too; the request's own error tells.
        cause = error.__context__
        wrong_key = _http_status(cause) in (401, 403)
    status = _http_status(cause)
    message = f"Could not {action} through {connection}: {_first_line(error)}"
    text = str(error).lower()
    refused = _EXCHANGE_REFUSED.search(str(error))
    if refused is not None and refused[1] not in ("408", "429"):
        return WandbAuthenticationError(
            f"Could not {action} through {connection}: W&B refuses the identity token: {_reason(refused[2])}. Check "
            "that the token's issuer, audience and subject are those that the W&B organization expects."
        )
    if "failed to read identity token file" in text:
        return WandbConfigurationError(
            f"{message}. Check that the identity token file is there and readable."
        )
    if "previously created and deleted" in text or (
        "deleted" in text and "run" in text and status in (None, 400, 409)
    ):
        return WandbRunDeletedError(
            f"{message}. W&B never allows the id of a deleted run again. With wandb_retries='new' clearing the task "
            "gives it a new id; with 'resume' change that first. The run of a whole pipeline needs a new DAG run."
        )
    if status == 401 or wrong_key or "not logged in" in text or "invalid api key" in text:
        return WandbAuthenticationError(
            f"{message}. Check that the connection's password is a valid W&B API key, or its identity token one that "
            "W&B accepts."
        )
    if status == 403 or "permission denied" in text:
        return WandbPermissionError(
            f"{message}. The key is valid, and may not do this; check its role and team."
        )
    if "requires an existing run" in text:
        return WandbNotFoundError(f"{message}. It may have been deleted.")
    if status == 404 or "not found" in text or "could not find" in text:
        return WandbNotFoundError(f"{message}. Check the entity, the project and that this key can read it.")
    if status is None and isinstance(cause, ValueError):
        return WandbPermanentError(f"{message}.")
    if status is not None and 400 <= status < 500 and status not in (408, 409, 429):
        return WandbPermanentError(f"{message}.")
    return WandbUnavailableError(f"{message}. A retry can help.")


def _http_status(cause: BaseException) -> int | None:
    response = getattr(cause, "response", None)
    status = getattr(response, "http_status", None) or getattr(response, "status_code", None)
    return int(status) if status else None


def _reason(answer: str) -> str:
    """Return what an OAuth error says, or the answer itself."""
    try:
        found = json.loads(answer)
        return str(found.get("error_description") or found["error"]).rstrip(".")
    except (ValueError, KeyError, AttributeError):
        return answer.strip()[:200].rstrip(".") or "without a reason"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
