"""Content that someone else may have written: what goes wrong when it is read is a refusal, since it stays the same."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowException

from wandb_airflow_provider.exceptions import WandbXComRefusedError

__all__ = ["brief", "refusing"]

_MAX_SHOWN = 300
# What is wrong with the files that a value says it has. All else that the system reports is of this worker.
_OF_CONTENT = (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL)


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """
    Turn what is raised about content, whose digest has been checked, into a refusal: a retry would read the same.

    What this worker lacks stays what it is, and can be retried: a library, memory, space, the right to read.

    :param what: The content, as the beginning of a sentence.
    :raises WandbXComRefusedError: instead.
    """
    try:
        yield
    except (AirflowException, ModuleNotFoundError, MemoryError):
        raise
    except Exception as error:
        # Classes of a codec's library, of a deployment's own codec, or of a class that it has named.
        if isinstance(error, OSError) and error.errno not in _OF_CONTENT:
            raise
        raise WandbXComRefusedError(
            f"{what} is refused, as it cannot be read: {brief(error)}. It is not what this backend writes, or what "
            "wrote it differs from what is installed here; clear the task that pushed it."
        ) from error


def brief(error: BaseException) -> str:
    """Return an error without all of the content that it may hold, and as text that can be logged."""
    text = f"{type(error).__name__}: {error}"[:_MAX_SHOWN]
    return text.encode("utf-8", "backslashreplace").decode()
