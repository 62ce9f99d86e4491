"""A stored value by reference: passed from task to task without being downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.sdk import XComArg

if TYPE_CHECKING:
    from airflow.sdk.types import Operator

    from wandb_airflow_provider.xcom.reference import StoredReference

__all__ = ["StoredValue", "by_reference", "wants_references"]

_by_reference: ContextVar[bool] = ContextVar("wandb_xcom_by_reference", default=False)


class StoredValue(NamedTuple):
    """
    A value that was not downloaded. Returned or pushed, it is passed on as it is.

    :param ref: Where it is.
    """

    ref: StoredReference

    @property
    def artifact_path(self) -> str:
        """
        ``entity/project/name:version``, for what takes an artifact.

        :raises WandbConfigurationError: it was stored while W&B was away, and has none.
        """
        if self.ref.artifact is None:
            from wandb_airflow_provider.exceptions import WandbConfigurationError

            raise WandbConfigurationError(
                f"The stored XCom {self.ref} has no artifact: it was stored while W&B was away. Clear the task that "
                "pushed it."
            )
        return self.ref.artifact

    def load(self) -> Any:
        """
        Download the value; an open run of the task records its use.

        :raises WandbXComIntegrityError: it is gone, or is not what was stored.
        """
        from wandb_airflow_provider.xcom.consumer import Pull

        return Pull().load(self.ref)


class _ByReference(XComArg):
    """What another task returned, resolved to where it is."""

    def __init__(self, source: XComArg) -> None:
        self._source = source

    def iter_references(self) -> Iterator[tuple[Operator, str]]:
        return self._source.iter_references()

    def resolve(self, context: Mapping[str, Any]) -> Any:
        token = _by_reference.set(True)
        try:
            found = self._source.resolve(context)
            if isinstance(found, Sequence) and not isinstance(found, str | bytes | list | tuple):
                # Of a mapped task, which Airflow would read later, and then download.
                found = list(found)
            return found
        finally:
            _by_reference.reset(token)


def by_reference(output: Any) -> Any:
    """
    Pass a task's output on by reference: where it was stored, the task that receives it gets a :class:`StoredValue`.

    :param output: What calling a task returned, or ``operator.output``; anything else is returned as it is.
    """
    return _ByReference(output) if isinstance(output, XComArg) else output


def wants_references() -> bool:
    """Say whether what is being read shall stay where it is."""
    return _by_reference.get()
