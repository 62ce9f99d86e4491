"""What a webhook has to prove: the secrets of an Airflow connection, read through Airflow's secrets backends."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from wandb_airflow_provider.exceptions import WandbConfigurationError

__all__ = ["SecretsReader", "WebhookSecrets"]

# A flood of forged requests must not become a flood of reads of the secrets backend.
_KEEP_SECONDS = 10.0


class WebhookSecrets(NamedTuple):
    """
    What W&B signs with.

    :param signing: The connection's password, and ``previous_secret`` of its extra while a secret is being replaced.
    :param access_token: ``access_token`` of its extra: the Bearer token that W&B must send too; None asks for none.
    """

    signing: tuple[str, ...]
    access_token: str | None = None

    def __repr__(self) -> str:
        return f"WebhookSecrets(signing=*** x {len(self.signing)})"


class SecretsReader:
    """Reads the connection at most once in ten seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: tuple[str, float, WebhookSecrets | WandbConfigurationError] | None = None

    def get(self, conn_id: str) -> WebhookSecrets:
        """
        Return the secrets.

        :raises WandbConfigurationError: there is no such connection, or it has no password.
        """
        now = time.monotonic()
        with self._lock:
            if self._read is None or self._read[0] != conn_id or self._read[1] + _KEEP_SECONDS < now:
                self._read = (conn_id, now, _load(conn_id))
            found = self._read[2]
        if isinstance(found, WandbConfigurationError):
            raise WandbConfigurationError(str(found))
        return found


def _load(conn_id: str) -> WebhookSecrets | WandbConfigurationError:
    from airflow.models.connection import Connection
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    try:
        conn = Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException:
        return WandbConfigurationError(
            f"There is no Airflow connection {conn_id!r}, which [wandb] webhook_conn_id names. Create one whose "
            "password is the secret of the webhook in W&B."
        )
    extra = conn.extra_dejson
    signing = tuple(str(secret) for secret in (conn.password, extra.get("previous_secret")) if secret)
    if not conn.password:
        return WandbConfigurationError(
            f"Connection {conn_id!r}, which [wandb] webhook_conn_id names, has no password. Put the secret of the "
            "webhook in W&B there."
        )
    token = extra.get("access_token")
    return WebhookSecrets(signing, str(token) if token else None)
