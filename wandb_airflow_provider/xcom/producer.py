"""The way of a value into its store: staged, uploaded, logged as an artifact, and only then referred to."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from wandb_airflow_provider.exceptions import (
    WandbConfigurationError,
    WandbUnavailableError,
    WandbXComRefusedError,
)
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.artifact_run import artifact_run, scope_here, xcom_hook
from wandb_airflow_provider.xcom.codecs.base import Staged, type_name
from wandb_airflow_provider.xcom.codecs.registry import codec_for, json_codec
from wandb_airflow_provider.xcom.index import Index, check_limits, digest_of
from wandb_airflow_provider.xcom.inline import inline_bytes, inline_files
from wandb_airflow_provider.xcom.passing_on import facts_of, keep_for
from wandb_airflow_provider.xcom.reference import MARKER, Producer, StoredReference, is_reference
from wandb_airflow_provider.xcom.size import is_large
from wandb_airflow_provider.xcom.stored_value import StoredValue
from wandb_airflow_provider.xcom.workspace import discard, passing_folder

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.xcom.codecs.base import Codec

__all__ = ["Push", "prepare"]

log = logging.getLogger(__name__)

_MAX_PARTS = 1000
_MAX_DEPTH = 20
_PLAIN = (str, int, float, bool, type(None))


class _Prepared(NamedTuple):
    """A value that was stored before Airflow asked for it; holding it keeps its ``id`` from being used again."""

    value: Any
    stored: dict[str, Any]


_prepared: dict[int, _Prepared] = {}


class _Part(NamedTuple):
    """What is ready to be sent, and the JSON that stands for it, which is empty until that is done."""

    send: Callable[[], dict[str, Any]]
    stored: dict[str, Any]


class Push:
    """
    One XCom on its way out: a context manager, so that all parts of a value are logged in one opening of a run.

    Nothing of it is sent before all of it has been found fit to be passed.

    :param producer: Whose XCom it is.
    """

    def __init__(self, producer: Producer) -> None:
        self._producer = producer._replace(deployment=settings.deployment())
        self._stack = ExitStack()
        self._hook = xcom_hook(producer.dag_id)
        self._run: wandb.Run | None = None
        self._parts = 0
        self._staged: list[_Part] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def replaced(self, value: Any) -> Any:
        """
        Return the value with references in the places of what has a codec: itself, or members of dicts and lists.

        :raises WandbUnavailableError: W&B or the object store cannot be reached, and the policy is to fail. Retried.
        """
        shown = self.staged(value)
        self.send()
        return shown

    def staged(self, value: Any) -> Any:
        """
        Return the value with the JSON that will stand for its parts, which :meth:`send` fills in.

        :raises WandbConfigurationError: a value that cannot be stored, or one that looks like a stored value.
        :raises TypeError: Airflow cannot serialize what has no codec.
        """
        shown = self._shown(value, ())
        if self._staged or _prepared:
            # Else nothing is sent before Airflow serializes it.
            most = settings.limits().max_bytes
            if is_large(shown, most):
                raise WandbXComRefusedError(
                    f"The XCom {self._producer.key!r} of task {self._producer.task_id!r} has more than {most} "
                    "bytes, even without its tables, arrays and the like; at most that many are accepted "
                    "('max_value_bytes' of [wandb_xcom])."
                )
        return shown

    def send(self) -> None:
        """
        Store what is staged.

        :raises WandbUnavailableError: W&B or the object store cannot be reached, and the policy is to fail. Retried.
        """
        staged, self._staged = self._staged, []
        for part in staged:
            part.stored.update(part.send())

    def _shown(self, value: Any, part: tuple[str, ...]) -> Any:
        known = _prepared.get(id(value))
        if known is not None and known.value is value:
            return known.stored
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, StoredValue):
            return self._stage(value, lambda: self._pass_on(value))
        codec = codec_for(value)
        if codec is not None:
            return self._stage_files(value, codec, part)
        if type(value) in (bytes, bytearray):
            # Airflow serializes no bytes, and so none within what it serializes.
            large = len(value) > settings.threshold_bytes()
            return self._stage_files(value, json_codec(value), part) if large else inline_bytes(value)
        if len(part) >= _MAX_DEPTH:
            return value
        if type(value) is dict:
            _check_keys(value, self._producer)
            return {key: self._shown(item, (*part, str(key))) for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self._shown(item, (*part, str(number))) for number, item in enumerate(value))
        return value

    def store(self, value: Any, codec: Codec) -> dict[str, Any]:
        """
        Store a value and return the JSON that stands for it.

        :raises WandbUnavailableError: W&B or the object store cannot be reached, and the policy is to fail. Retried.
        """
        stored = self._stage_files(value, codec, ())
        self.send()
        return stored

    def _stage(self, value: Any, send: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        self._staged.append(_Part(send, {}))
        return self._staged[-1].stored

    def _pass_on(self, value: StoredValue) -> dict[str, Any]:
        """Return the JSON that stands for a value that is stored already, which is kept for this XCom from now on."""
        keep_for(self._hook, value.ref, self._producer)
        return value.ref.to_json()

    def _stage_files(self, value: Any, codec: Codec, part: tuple[str, ...]) -> dict[str, Any]:
        """Write a value to files."""
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise WandbConfigurationError(
                f"The XCom {self._producer.key!r} of task {self._producer.task_id!r} holds more than {_MAX_PARTS} "
                "values that would each become an artifact. Join them, or write them to a folder and return its path."
            )
        if self._parts == 1:
            self._start()
        producer, kind = self._producer._replace(part=part), type_name(value)
        folder = self._stack.enter_context(passing_folder())
        staged = codec.stage(value, folder)
        index = Index.of(codec.name, staged.meta, staged.root, staged.files, staged.folders)
        check_limits(index, settings.limits(), f"A {kind}")

        def send() -> dict[str, Any]:
            try:
                return self._keep(producer, staged, index, kind).to_json()
            except WandbUnavailableError as error:
                if settings.on_unavailable() != "inline" or index.size_bytes > settings.inline_limit_bytes():
                    raise
                log.warning("%s The value stays in Airflow's database.", error)
                return inline_files(index, staged.root)
            finally:
                discard(folder)

        return self._stage(value, send)

    def _keep(self, producer: Producer, staged: Staged, index: Index, kind: str) -> StoredReference:
        from wandb_airflow_provider.xcom.stores.artifact import (
            add_files,
            add_references,
            log_value,
            new_value,
        )

        content = index.to_bytes()
        ref = StoredReference(
            digest_of(content),
            index.codec,
            producer.artifact_name,
            index.size_bytes,
            len(index.files),
            kind,
            alias=producer.alias,
        )
        about = {
            **facts_of(producer),
            "codec": index.codec,
            "value": kind,
            "size_bytes": index.size_bytes,
            "digest": ref.digest,
        }
        metadata = self._hook.privacy.mapping("metadata", about)
        url = settings.storage()
        store = None
        artifact = new_value(producer, metadata)
        if url is None:
            add_files(artifact, staged, content, self._stack.enter_context(passing_folder()))
        else:
            from wandb_airflow_provider.xcom.stores.objects import ObjectStore

            store = ObjectStore(url)
            ref = ref._replace(store=store.address, scope=scope_here(self._hook))
            # A first try finds what other DAG runs stored; what was altered is found by who reads it, and cleared.
            check = os.environ.get("AIRFLOW_CTX_TRY_NUMBER") != "1"
            add_references(artifact, store.put(ref.location, staged, index, content, check=check))
        try:
            path, page = log_value(self._open_run(), artifact, producer)
        except WandbUnavailableError as error:
            if store is None or settings.on_unavailable() != "object":
                raise
            log.warning("%s The value is in %s, without an artifact.", error, store.address)
            store.note_producer(ref.location, facts_of(producer), producer.alias)
            return ref
        return ref._replace(artifact=path, url=page)

    def _start(self) -> None:
        """Let wandb start while the value is written."""
        from wandb_airflow_provider import sdk
        from wandb_airflow_provider.hooks.runs import borrowed_sdk, open_sessions

        # An open run has wandb started; to look for its helper among all processes takes longer than a request.
        if not open_sessions() and not sdk.has_helper():
            self._stack.enter_context(borrowed_sdk())
            sdk.start()

    def _open_run(self) -> wandb.Run:
        if self._run is None:
            self._run = self._stack.enter_context(artifact_run(self._hook, self._producer))
        return self._run


def prepare(value: Any, producer: Producer, *, each: bool) -> None:
    """
    Store what a task is about to return, while its run is still open: Airflow asks for it when that is finished.

    :param each: Airflow will also push each member of a returned dict.
    """
    _prepared.clear()
    try:
        with ExitStack() as stack:
            members = []
            if each and isinstance(value, Mapping):
                _check_keys(value, producer)
                for key, item in value.items():
                    push = stack.enter_context(_Remembering(producer._replace(key=str(key))))
                    members.append((push, item, push.staged(item)))
            for push, item, shown in members:
                push.finish(item, shown)
            whole = stack.enter_context(_Remembering(producer))
            whole.finish(value, whole.staged(value))
    except BaseException:
        _prepared.clear()
        raise


class _Remembering(Push):
    """A push whose results wait until Airflow asks for them."""

    def finish(self, value: Any, shown: Any) -> None:
        """Store the value's parts, or the whole if it is too large for Airflow's database; close the run it took."""
        with self:
            self.send()
            if not is_reference(shown) and is_large(shown, settings.threshold_bytes()):
                _prepared[id(value)] = _Prepared(value, self.store(shown, json_codec(shown)))

    def _stage(self, value: Any, send: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        stored = super()._stage(value, send)
        _prepared[id(value)] = _Prepared(value, stored)
        return stored


def _check_keys(value: Mapping[Any, Any], producer: Producer) -> None:
    if MARKER in value:
        raise WandbConfigurationError(
            f"The key {MARKER!r} marks what this XCom backend has stored and cannot be used in a value. To pass on a "
            "stored value, return what by_reference(...) gave."
        )
    if len({str(key) for key in value}) < len(value):
        raise WandbConfigurationError(
            f"A dict in the XCom {producer.key!r} of task {producer.task_id!r} has keys that become the same text in "
            "JSON, such as 1 and '1', so that values would be lost. Rename them."
        )
