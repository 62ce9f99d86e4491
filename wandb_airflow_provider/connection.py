"""An Airflow connection of type ``wandb``, parsed once into a frozen value. The only reader of its extra."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from os.path import isabs
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from wandb_airflow_provider.connection_form import CONN_TYPE, EXTRA_FIELDS
from wandb_airflow_provider.exceptions import WandbConfigurationError

if TYPE_CHECKING:
    from wandb_airflow_provider.redaction import RedactionPolicy

__all__ = ["CONN_TYPE", "EXTRA_FIELDS", "WandbConnection"]

_DEFAULT_TIMEOUT = 30.0


class AirflowConnection(Protocol):
    """What is read of Airflow's own ``Connection``."""

    conn_id: str
    conn_type: str | None
    host: str | None
    schema: str | None
    port: int | None
    password: str | None
    extra: str | None

    @property
    def extra_dejson(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class WandbConnection:
    """
    What the package knows about one W&B account.

    :param api_key: None when the connection logs in with an identity token.
    :param host: API URL without a trailing slash, or None for the SDK's own default.
    :param timeout: Longest wait for one answer, in seconds.
    :param redaction: What may be sent; None sends all but the secrets that Airflow knows.
    """

    conn_id: str
    api_key: str | None = field(repr=False)
    host: str | None = None
    entity: str | None = None
    project: str | None = None
    organization: str | None = None
    identity_token_file: str | None = None
    timeout: float = _DEFAULT_TIMEOUT
    allow_project_creation: bool = True
    redaction: RedactionPolicy | None = None

    def __str__(self) -> str:
        return f"connection {self.conn_id!r} ({self.host or 'the default W&B host'})"

    @classmethod
    def from_airflow(cls, conn: AirflowConnection) -> WandbConnection:
        """
        Read an Airflow connection.

        :raises WandbConfigurationError: another connection type, neither API key nor identity token file or
            both, or a field that cannot be understood. Nothing has been sent.
        """
        if conn.conn_type != CONN_TYPE:
            raise WandbConfigurationError(
                f"Connection {conn.conn_id!r} has type {conn.conn_type!r}; a W&B connection has type {CONN_TYPE!r}."
            )
        extra = _extra(conn)
        unknown = sorted(set(extra) - set(EXTRA_FIELDS))
        if unknown:
            raise WandbConfigurationError(
                f"Connection {conn.conn_id!r} has unknown extra fields {unknown}; known are {sorted(EXTRA_FIELDS)}."
            )
        token_file = _token_file(conn.conn_id, extra)
        if not conn.password and token_file is None:
            raise WandbConfigurationError(
                f"Connection {conn.conn_id!r} has no password. Put the W&B API key there; one is made under "
                "'User settings' in W&B. Or name an identity_token_file."
            )
        if conn.password and token_file is not None:
            raise WandbConfigurationError(
                f"Connection {conn.conn_id!r} has a password and an identity_token_file {token_file!r}: two ways to "
                "log in, perhaps as two accounts. Remove one of them."
            )
        return cls(
            conn_id=conn.conn_id,
            api_key=conn.password or None,
            host=_host(conn),
            entity=_text(extra, "entity"),
            project=_text(extra, "project"),
            organization=_text(extra, "organization"),
            identity_token_file=token_file,
            timeout=_seconds(conn.conn_id, extra),
            allow_project_creation=_flag(conn.conn_id, extra, "allow_project_creation", default=True),
            redaction=_redaction(conn.conn_id, extra),
        )


def _extra(conn: AirflowConnection) -> dict[str, Any]:
    try:
        # Airflow reads text that is no JSON as no extra at all, which would send runs somewhere else.
        extra = json.loads(conn.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise WandbConfigurationError(f"Connection {conn.conn_id!r}: its extra is not a JSON object.")
    return extra and conn.extra_dejson


def _text(extra: Mapping[str, Any], name: str) -> str | None:
    value = extra.get(name)
    return str(value).strip() or None if value is not None else None


def _token_file(conn_id: str, extra: Mapping[str, Any]) -> str | None:
    path = _text(extra, "identity_token_file")
    if path is not None and (not isabs(path) or "\0" in path):
        raise WandbConfigurationError(
            # Not by its value, which may be the token itself.
            f"Connection {conn_id!r}: identity_token_file is no absolute path, such as '/var/run/secrets/wandb/token'. "
            "The token itself does not belong into the connection."
        )
    return path


def _seconds(conn_id: str, extra: Mapping[str, Any]) -> float:
    value = extra.get("timeout")
    if value in (None, ""):
        return _DEFAULT_TIMEOUT
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise WandbConfigurationError(
            f"Connection {conn_id!r}: timeout {value!r} is not a positive number of seconds."
        )
    return seconds


def _flag(conn_id: str, extra: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = extra.get(name)
    if value in (None, ""):
        return default
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise WandbConfigurationError(f"Connection {conn_id!r}: {name} is {value!r}; expected true or false.")


def _redaction(conn_id: str, extra: Mapping[str, Any]) -> RedactionPolicy | None:
    value = extra.get("redaction")
    if value in (None, ""):
        return None
    from wandb_airflow_provider.redaction import RedactionPolicy

    try:
        return RedactionPolicy.parse(value)
    except WandbConfigurationError as error:
        raise WandbConfigurationError(f"Connection {conn_id!r}: {error}") from error


def _host(conn: AirflowConnection) -> str | None:
    if not conn.host:
        return None
    # A connection URI (wandb://:key@host:port/https) leaves the scheme in `schema`; the form leaves it in `host`.
    given = conn.host if "://" in conn.host else f"{conn.schema or 'https'}://{conn.host}"
    if conn.port:
        given = f"{given.rstrip('/')}:{conn.port}"
    try:
        parts = urlsplit(given)
        valid = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
        )
        valid = valid and parts.username is None and parts.port != 0 and not any(map(str.isspace, given))
    except ValueError:
        valid = False
    if not valid:
        raise WandbConfigurationError(
            f"Connection {conn.conn_id!r} has the host {conn.host!r}; expected the API URL, such as "
            "'https://wandb.example.com'."
        )
    return given.rstrip("/")
