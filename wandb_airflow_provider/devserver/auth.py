"""Who asks: the account behind the credentials of a request."""

from __future__ import annotations

import base64
import binascii
import sqlite3
from datetime import datetime

from wandb_airflow_provider.devserver import api_keys
from wandb_airflow_provider.devserver.accounts import (
    DEFAULT_ORGANIZATION,
    DEFAULT_TEAM,
    DEFAULT_USER,
    Account,
    add_account,
    add_member,
    find_account,
)
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.store import Store

__all__ = [
    "DEFAULT_API_KEY",
    "DEFAULT_ORGANIZATION",
    "DEFAULT_TEAM",
    "DEFAULT_USER",
    "Account",
    "add_account",
    "add_member",
    "authenticate",
    "find_account",
    "sent_digest",
    "set_key",
]

DEFAULT_API_KEY = "devserver00000000000000000000000000local"  # the SDK accepts exactly 40 characters
_LONGEST_KEY = 4096


def authenticate(store: Store, header: str | None, now: datetime) -> Account:
    """
    Return the account that an ``Authorization`` header (Basic ``api:<key>``, or Bearer) belongs to.

    :raises GraphQLError: 401, with the reason: no key, unknown key or expired key.
    """
    key = _key_in(header)
    if key is None:
        raise GraphQLError(
            "no API key was sent: use Basic authentication as user 'api', or a Bearer token.", 401
        )
    with store.read() as conn:
        return api_keys.account_of(conn, key, now)


def set_key(conn: sqlite3.Connection, username: str, key: str, expires_at: str | None = None) -> None:
    """Make a key valid for an account with all its rights, until an ISO time if one is given."""
    end = None if expires_at is None else datetime.fromisoformat(expires_at)
    api_keys.add(conn, username, key, expires_at=end)


def sent_digest(header: str | None) -> str | None:
    """Return what is stored of the key in an ``Authorization`` header, or None if there is none in it."""
    key = _key_in(header)
    return None if key is None else api_keys.digest(key)


def _key_in(header: str | None) -> str | None:
    scheme, _, value = (header or "").partition(" ")
    key = ""
    if scheme.lower() == "bearer":
        key = value.strip()
    elif scheme.lower() == "basic":
        try:
            key = base64.b64decode(value).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return None
    return key if 0 < len(key) <= _LONGEST_KEY else None
