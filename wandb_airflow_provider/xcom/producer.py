"""The way of a value into its store: staged, uploaded, logged as an artifact, and only then referred to."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbUnavailableError
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.artifact_run import artifact_run, scope_here, xcom_hook
from wandb_airflow_provider.xcom.codecs.base import Staged, type_name
from wandb_airflow_provider.xcom.codecs.registry import codec_for, json_codec
from wandb_airflow_provider.xcom.index import Index, check_limits, digest_of
from wandb_airflow_provider.xcom.passing_on import facts_of, keep_for
from wandb_airflow_provider.xcom.reference import MARKER, Producer, StoredReference, is_reference
from wandb_airflow_provider.xcom.stored_value import StoredValue
from wandb_airflow_provider.xcom.workspace import passing_folder

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


class Push:
    """
    One XCom on its way out: a context manager, so that all parts of a value are logged in one opening of a run.

    :param producer: Whose XCom it is.
    """

    def __init__(self, producer: Producer) -> None:
        self._producer = producer._replace(deployment=settings.deployment())
        self._stack = ExitStack()
        self._hook = xcom_hook(producer.dag_id)
        self._run: wandb.Run | None = None
        self._parts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def replaced(self, value: Any, part: tuple[str, ...] = ()) -> Any:
        """
        Return the value with references in the places of what has a codec: itself, or members of dicts and lists.

        :raises WandbConfigurationError: a value that cannot be stored, or one that looks like a stored value.
        """
        known = _prepared.get(id(value))
        if known is not None and known.value is value:
            return known.stored
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, StoredValue):
            return self.pass_on(value)
        codec = codec_for(value)
        if codec is not None:
            return self.store(value, codec, part)
        if type(value) in (bytes, bytearray):
            # Airflow serializes no bytes, and so none within what it serializes.
            large = len(value) > settings.threshold_bytes()
            return self.store(value, json_codec(value), part) if large else _inline_bytes(value)
        if len(part) >= _MAX_DEPTH:
            return value
        if type(value) is dict:
            if MARKER in value:
                raise WandbConfigurationError(
                    f"The key {MARKER!r} marks what this XCom backend has stored and cannot be used in a value. To "
                    "pass on a stored value, return what by_reference(...) gave."
                )
            if len({str(key) for key in value}) < len(value):
                raise WandbConfigurationError(
                    f"A dict in the XCom {self._producer.key!r} of task {self._producer.task_id!r} has keys that "
                    "become the same text in JSON, such as 1 and '1', so that values would be lost. Rename them."
                )
            return {key: self.replaced(item, (*part, str(key))) for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self.replaced(item, (*part, str(number))) for number, item in enumerate(value))
        return value

    def pass_on(self, value: StoredValue) -> dict[str, Any]:
        """
        Return the JSON that stands for a value that is stored already, which is kept for this XCom from now on.

        :raises WandbUnavailableError: W&B or the object store cannot be reached, and the policy is to fail. Retried.
        """
        keep_for(self._hook, value.ref, self._producer)
        return value.ref.to_json()

    def store(self, value: Any, codec: Codec, part: tuple[str, ...] = ()) -> dict[str, Any]:
        """
        Store a value and return the JSON that stands for it.

        :raises WandbUnavailableError: W&B or the object store cannot be reached, and the policy is to fail. Retried.
        """
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise WandbConfigurationError(
                f"The XCom {self._producer.key!r} of task {self._producer.task_id!r} holds more than {_MAX_PARTS} "
                "values that would each become an artifact. Join them, or write them to a folder and return its path."
            )
        if self._parts == 1:
            self._start()
        producer = self._producer._replace(part=part)
        with passing_folder() as folder:
            staged = codec.stage(value, folder)
            index = Index.of(codec.name, staged.meta, staged.root, staged.files, staged.folders)
            check_limits(index, settings.limits(), f"A {type_name(value)}")
            try:
                return self._keep(producer, staged, index, type_name(value)).to_json()
            except WandbUnavailableError as error:
                if settings.on_unavailable() != "inline" or index.size_bytes > settings.inline_limit_bytes():
                    raise
                log.warning("%s The value stays in Airflow's database.", error)
                return _inline(index, staged.root)

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
    found: list[tuple[Any, dict[str, Any]]] = []

    def remember(part: Any, stored: dict[str, Any]) -> None:
        found.append((part, stored))
        _prepared[id(part)] = _Prepared(part, stored)

    if each and isinstance(value, Mapping):
        for key, item in value.items():
            with _Remembering(producer._replace(key=str(key)), remember) as push:
                push.replaced_or_large(item)
    with _Remembering(producer, remember) as whole:
        whole.replaced_or_large(value)


class _Remembering(Push):
    """A push whose results wait until Airflow asks for them."""

    def __init__(self, producer: Producer, remember: Callable[[Any, dict[str, Any]], None]) -> None:
        super().__init__(producer)
        self._remember = remember

    def store(self, value: Any, codec: Codec, part: tuple[str, ...] = ()) -> dict[str, Any]:
        stored = super().store(value, codec, part)
        self._remember(value, stored)
        return stored

    def pass_on(self, value: StoredValue) -> dict[str, Any]:
        stored = super().pass_on(value)
        self._remember(value, stored)
        return stored

    def replaced_or_large(self, value: Any) -> None:
        """Store the value's parts, or the whole if it is too large for Airflow's database."""
        from wandb_airflow_provider.xcom.size import is_large

        shown = self.replaced(value)
        if not is_reference(shown) and is_large(shown, settings.threshold_bytes()):
            stored = super().store(shown, json_codec(shown))
            self._remember(value, stored)


def _inline_bytes(value: bytes | bytearray) -> dict[str, Any]:
    """Return bytes as JSON."""
    kind = "bytearray" if isinstance(value, bytearray) else "bytes"
    return {MARKER: 1, "inline": kind, "data": base64.b64encode(value).decode()}


def _inline(index: Index, root: Path) -> dict[str, Any]:
    """Return a whole value as JSON, with the same checks on its way back as one that is stored."""
    files = {path: base64.b64encode((root / path).read_bytes()).decode() for path in index.files}
    content = index.to_bytes()
    return {
        MARKER: 1,
        "inline": "files",
        "index": content.decode(),
        "digest": digest_of(content),
        "files": files,
    }
