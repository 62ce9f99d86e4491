"""W&B's public API client, one for each connection and process, and what its errors mean."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from wandb_airflow_provider.exceptions import WandbAuthenticationError, WandbError, WandbPermanentError
from wandb_airflow_provider.identity_token import login_variables, read_identity_token
from wandb_airflow_provider.sdk.process import clients, own_url, quiet
from wandb_airflow_provider.sdk_errors import translated

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.connection import WandbConnection

__all__ = ["base_url", "client", "logged_in", "translate_errors", "translate_run_errors"]

# wandb has one login per process, which a client and a run take over when they are made.
_login = threading.RLock()


def client(connection: WandbConnection) -> wandb.Api:
    """
    Return the public API client of these credentials, one per process: each construction costs a request.

    :raises WandbAuthenticationError: W&B does not accept the key.
    :raises WandbUnavailableError: W&B cannot be reached.
    """
    key = (os.getpid(), connection)
    found = clients.get(key)
    if found is None:
        import wandb

        quiet()
        overrides = {
            "base_url": base_url(connection),
            "entity": connection.entity,
            "project": connection.project,
        }
        # A client with a key of its own does not care who is logged in.
        login = logged_in(connection) if connection.api_key is None else nullcontext()
        with translate_errors("log in to W&B", connection):
            with login:
                api = wandb.Api(
                    overrides={name: value for name, value in overrides.items() if value},
                    timeout=max(1, round(connection.timeout)),
                    api_key=connection.api_key,
                )
            if connection.identity_token_file is not None:
                # wandb tries out a key by itself, and a token at its first use, which may be much later.
                _ = api.viewer
        clients[key] = api
        return api
    return found


@contextmanager
def logged_in(connection: WandbConnection) -> Iterator[None]:
    """
    Log wandb in with the connection's identity token, if it has one, while a client or run is made.

    Settings of a run or client cannot name the file, only those of the process can. The access token that wandb
    exchanges it for stays in the memory of its helper process, which reads the file again when it renews it.
    """
    with _login:
        if connection.identity_token_file is not None:
            import wandb

            read_identity_token(connection.identity_token_file, connection, time.time())
            variables = login_variables(connection.identity_token_file)
            wandb.setup(
                wandb.Settings(
                    base_url=base_url(connection),
                    identity_token_file=variables["WANDB_IDENTITY_TOKEN_FILE"],
                    credentials_file=variables["WANDB_CREDENTIALS_FILE"],
                    silent=True,
                    console="off",
                )
            )
        yield


def base_url(connection: WandbConnection) -> str:
    """Return the API URL that a process with these credentials talks to."""
    return connection.host or own_url()


def translate_run_errors(action: str, wandb_run: wandb.Run) -> AbstractContextManager[None]:
    """Like :func:`translate_errors`, where only the open run is at hand."""
    return translate_errors(action, f"the W&B run {wandb_run.entity}/{wandb_run.project}/{wandb_run.id}")


@contextmanager
def translate_errors(action: str, connection: object) -> Iterator[None]:
    """
    Turn what wandb raises into this package's errors, so that a caller can tell absence from failure.

    :param action: What was tried, in words that complete "Could not ...".
    :param connection: What it was tried through, as the message shall name it.
    """
    import wandb

    try:
        yield
    except WandbError:
        raise
    except wandb.errors.UnsupportedError as error:
        raise WandbPermanentError(f"Could not {action} through {connection}: {error}") from error
    except Exception as error:
        expected = isinstance(error, (wandb.Error, ValueError, TimeoutError, ConnectionError))
        # Lists raise the error of wandb's helper process, whose class is not public.
        if not expected and not type(error).__module__.startswith("wandb."):
            raise
        wrong_key = isinstance(error, wandb.errors.AuthenticationError)
        found = translated(error, action, connection, wrong_key=wrong_key)
        if isinstance(found, WandbAuthenticationError):
            # Its next user logs in anew: with another token, wandb would go on with the old one until that ends.
            _forget(connection)
        raise found from error


def _forget(connection: object) -> None:
    for key in list(clients):
        if key[1] == connection:
            clients.pop(key, None)
