"""Where a webhook's secrets come from."""

from __future__ import annotations

from unittest import mock

import pytest
from airflow.models.connection import Connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.webhook import secrets as module
from wandb_airflow_provider.webhook.secrets import SecretsReader


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """Airflow's secrets backends."""
    found = mock.create_autospec(Connection.get_connection_from_secrets)
    monkeypatch.setattr(Connection, "get_connection_from_secrets", found)
    return found


def test_a_flood_of_requests_is_one_read_whether_or_not_there_is_a_connection(backend: mock.Mock) -> None:
    backend.side_effect = AirflowNotFoundException
    reader = SecretsReader()
    for _ in range(3):
        with pytest.raises(WandbConfigurationError, match="no Airflow connection 'webhook'"):
            reader.get("webhook")
    assert backend.call_count == 1

    backend.side_effect = [Connection(password="new", extra='{"previous_secret": "old"}')]
    other = SecretsReader()
    assert [other.get("webhook").signing for _ in range(3)] == [("new", "old")] * 3
    assert backend.call_count == 2


def test_a_secret_that_is_replaced_is_read_again(backend: mock.Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEEP_SECONDS", -1.0)
    backend.side_effect = [
        Connection(),
        Connection(password="first"),
        Connection(password="second", extra='{"access_token": "token"}'),
    ]
    reader = SecretsReader()
    with pytest.raises(WandbConfigurationError, match="has no password"):
        reader.get("webhook")
    assert reader.get("webhook").signing == ("first",)
    second = reader.get("webhook")
    assert (second.signing, second.access_token) == (("second",), "token")
    assert "second" not in repr(second)
    assert "token" not in repr(second)
