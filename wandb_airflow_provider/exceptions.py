"""Every error of the package, and whether a retry can help."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

__all__ = [
    "WandbArtifactNotFoundError",
    "WandbAuthenticationError",
    "WandbConfigurationError",
    "WandbError",
    "WandbGateFailedError",
    "WandbInvalidNameError",
    "WandbNotFoundError",
    "WandbOfflineError",
    "WandbPermanentError",
    "WandbPermissionError",
    "WandbPromotionLostError",
    "WandbPromotionRefusedError",
    "WandbRunDeletedError",
    "WandbRunFailedError",
    "WandbSyncError",
    "WandbUnavailableError",
    "WandbXComIntegrityError",
    "WandbXComRefusedError",
]


class WandbError(AirflowException):
    """Root of the package's errors. Retried by Airflow unless a subclass says otherwise."""


class WandbUnavailableError(WandbError):
    """W&B could not be reached, answered with a server error, or limited the rate. A retry can help."""


class WandbSyncError(WandbError):
    """Runs of a spool could not be uploaded completely; they are kept. A retry can help."""


class WandbOfflineError(WandbUnavailableError):
    """The run is offline, or not recorded, because W&B was unavailable; this needs W&B. A later retry can help."""


class WandbPermanentError(WandbError, AirflowFailException):
    """A retry cannot help: the task fails at once, whatever its ``retries``."""


class WandbConfigurationError(WandbPermanentError):
    """The connection or an argument is wrong. Raised before anything is sent."""


class WandbInvalidNameError(WandbConfigurationError):
    """W&B would refuse this name. Raised before anything is sent."""


class WandbAuthenticationError(WandbPermanentError):
    """The key or identity token is missing, unknown, expired or revoked."""


class WandbPermissionError(WandbPermanentError):
    """The key is known, and may not do this."""


class WandbNotFoundError(WandbPermanentError):
    """The named object does not exist, or this key cannot see it."""


class WandbArtifactNotFoundError(WandbNotFoundError):
    """The artifact, version or alias does not exist, or this key cannot see it."""


class WandbRunDeletedError(WandbPermanentError):
    """The run id was deleted in W&B, which never allows a deleted id to be used again."""


class WandbRunFailedError(WandbPermanentError):
    """The run that was waited for did not end well: it failed, crashed, was killed or preempted."""


class WandbGateFailedError(WandbPermanentError):
    """A metric gate did not pass: nothing downstream may use the candidate."""


class WandbPromotionRefusedError(WandbPermanentError):
    """The version to promote is not the one that was evaluated, or its verdict does not allow it."""


class WandbPromotionLostError(WandbPromotionRefusedError):
    """Another change of the alias came first, or came at the same time and won."""


class WandbXComRefusedError(WandbPermanentError):
    """A stored XCom is not one that this deployment accepts: forged, too large, or of a type it does not allow."""


class WandbXComIntegrityError(WandbPermanentError):
    """A stored XCom is not what was pushed: altered, cut off or gone. Clearing the task that pushed it helps."""
