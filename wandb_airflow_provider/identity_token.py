"""The file in which an identity provider keeps the token with which a worker logs in to W&B (federated login)."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from typing import Any

from wandb_airflow_provider.exceptions import WandbAuthenticationError, WandbConfigurationError

__all__ = ["login_variables", "read_identity_token"]

_LONGEST = 64 << 10
# wandb keys access tokens by host alone, so that a file of them would let one identity pass for another.
_NO_CACHE = "/dev/null"


def read_identity_token(path: str, connection: object, now: float) -> float | None:
    """
    Read the token, which Airflow then masks in logs, and return when it ends as seconds since the epoch.

    wandb reads the file itself. Its helper process would end at one that is not there, and would send to the server
    whatever else the file holds.

    :param connection: What names the file, as messages shall name it.
    :param now: Seconds since the epoch.
    :return: None when the token does not say.
    :raises WandbConfigurationError: there is no such file here, it cannot be read, or it holds no JSON Web Token.
    :raises WandbAuthenticationError: the token has expired. Once it has been replaced, a retry helps.
    """
    text = _text_of(path, connection)
    claims = _claims(text)
    if claims is None:
        found = "is empty" if not text else f"holds {len(text)} characters that are no JSON Web Token"
        raise WandbConfigurationError(
            f"The identity token file {path!r} of {connection} {found}. Let the identity provider write the token "
            "there, alone in the file."
        )
    from airflow.sdk.log import mask_secret

    mask_secret(text)
    end = claims.get("exp")
    if isinstance(end, bool) or not isinstance(end, int | float):
        return None
    if end <= now:
        raise WandbAuthenticationError(
            f"The identity token in {path!r} of {connection} expired at {_as_time(end)}. What renews the file has "
            "stopped; see to it, and clear the task."
        )
    return float(end)


def login_variables(identity_token_file: str) -> dict[str, str]:
    """Return the environment in which another process's wandb logs in with the token. Nothing in it is secret."""
    return {"WANDB_IDENTITY_TOKEN_FILE": identity_token_file, "WANDB_CREDENTIALS_FILE": _NO_CACHE}


def _text_of(path: str, connection: object) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_LONGEST).decode().strip()
    except UnicodeDecodeError:
        return "\N{REPLACEMENT CHARACTER}"
    except OSError as error:
        raise WandbConfigurationError(
            f"The identity token file {path!r} of {connection} cannot be read here: {error.strerror}. Every worker, "
            "the triggerer and whatever tests the connection need the file, readable by the user that Airflow runs as."
        ) from error


def _claims(token: str) -> dict[str, Any] | None:
    if not re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", token, re.ASCII):
        return None
    try:
        header, claims = (
            json.loads(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_"))
            for part in token.split(".")[:2]
        )
    except ValueError:
        return None
    return claims if isinstance(header, dict) and isinstance(claims, dict) else None


def _as_time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):
        return repr(seconds)
