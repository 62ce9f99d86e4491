"""What reads W&B for a poll loop: one client, fresh reads, and errors as observations."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import (
    WandbArtifactNotFoundError,
    WandbAuthenticationError,
    WandbConfigurationError,
    WandbError,
    WandbPermanentError,
    WandbPermissionError,
    WandbUnavailableError,
)
from wandb_airflow_provider.hooks.wandb import WandbHook

__all__ = ["WandbReader"]

log = logging.getLogger(__name__)

_ISOLATING_READS = 64
# Finding a refused target takes several requests: how long it is not asked for again.
_REFUSED_SECONDS = 120.0
_COMPLETED = 256
# These concern the connection, whatever is asked for.
_OF_THE_CONNECTION = (WandbAuthenticationError, WandbPermissionError, WandbConfigurationError)


class WandbReader(ABC):
    """
    Reads many targets in as few requests as W&B allows. Used by one thread at a time.

    After an error the next read starts from the Airflow connection, whose key may have been replaced. A target that
    W&B refuses is told from the others, so that it fails alone, and is left out for two minutes.
    """

    observation: ClassVar[Callable[..., Any]]
    """Makes what a read found of a target: ``observation(error=...)`` is that it could not be read."""
    _open: ClassVar[int] = 0
    _life: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, wandb_conn_id: str) -> None:
        self._wandb_conn_id = wandb_conn_id
        self._hook: WandbHook | None = None
        self._counted = False
        self._completed: dict[str, ArtifactRef] = {}
        self._refused: dict[Any, tuple[float, WandbError]] = {}

    @abstractmethod
    def _read(self, hook: WandbHook, targets: Sequence[Any], strict: Collection[Any]) -> Mapping[Any, Any]:
        """Return an observation of each target, or raise the error that concerns all."""

    def read(
        self, targets: Collection[Any], strict: Collection[Any] = (), anew: bool = False
    ) -> Mapping[Any, Any]:
        """
        Return an observation of each target; never raises.

        :param anew: Ask for what W&B has refused, too.
        """
        now = time.monotonic()
        self._refused = {target: told for target, told in self._refused.items() if told[0] > now and not anew}
        try:
            found = self._read_apart(
                [t for t in targets if t not in self._refused], strict, [_ISOLATING_READS]
            )
            return found | {t: self._failed(self._refused[t][1]) for t in targets if t in self._refused}
        except WandbError as error:
            failure = error
        except (Exception, SystemExit) as error:
            # A loop that dies is started again by Airflow every 5 seconds, without back-off.
            log.exception("Reading through connection %r failed", self._wandb_conn_id)
            failure = WandbUnavailableError(
                f"Reading through connection {self._wandb_conn_id!r} failed unexpectedly: "
                f"{type(error).__name__}: {error}"
            )
        self._forget()
        if isinstance(failure, WandbUnavailableError):
            self._revive()
        return {target: self._failed(failure) for target in targets}

    def _failed(self, error: WandbError) -> Any:
        return type(self).observation(error=error)

    def _forget(self) -> None:
        """Drop what was kept between reads."""
        self._hook = None

    def complete(self, ref: ArtifactRef) -> ArtifactRef:
        """
        Return the reference with its URL and source run, which cost requests of their own.

        :raises WandbUnavailableError: W&B could not be read.
        """
        if ref.path not in self._completed:
            try:
                full = self._opened().get_artifact(ref)
            except WandbArtifactNotFoundError:
                # Deleted since; what was seen of it stays true.
                return ref
            except WandbError:
                self._forget()
                raise
            if len(self._completed) >= _COMPLETED:
                self._completed.pop(next(iter(self._completed)))
            self._completed[ref.path] = full
        full = self._completed[ref.path]
        return full._replace(aliases=ref.aliases) if full.digest == ref.digest else ref

    def close(self) -> None:
        """End wandb's helper process if no other reader of this process needs it."""
        from wandb_airflow_provider.hooks.runs import release_when_idle

        self._forget()
        if not self._counted:
            return
        self._counted = False
        with self._life:
            WandbReader._open -= 1
            if not WandbReader._open:
                release_when_idle()

    def _opened(self) -> WandbHook:
        if not self._counted:
            # Waits while another reader ends the helper process.
            with self._life:
                WandbReader._open += 1
            self._counted = True
        self._hook = self._hook or WandbHook(self._wandb_conn_id)
        return self._hook

    def _revive(self) -> None:
        """Without its helper process no client of wandb works again, whatever W&B does."""
        from wandb_airflow_provider import sdk

        with self._life:
            sdk.revive()

    def _read_apart(self, targets: list[Any], strict: Collection[Any], left: list[int]) -> dict[Any, Any]:
        if not targets:
            return {}
        try:
            return dict(self._read(self._opened(), targets, strict))
        except _OF_THE_CONNECTION:
            raise
        except WandbPermanentError as error:
            if len(targets) < 2:
                refused = (time.monotonic() + _REFUSED_SECONDS, error)
                self._refused |= dict.fromkeys(targets, refused)
                return {}
            left[0] -= 2
            if left[0] < 0:
                raise WandbUnavailableError(f"W&B refuses to tell many of what is asked: {error}") from error
            middle = len(targets) // 2
            return {
                **self._read_apart(targets[:middle], strict, left),
                **self._read_apart(targets[middle:], strict, left),
            }
