"""The way of a value out of its store: reference checked, content checked, decoded, use recorded."""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import (
    WandbError,
    WandbOfflineError,
    WandbXComRefusedError,
)
from wandb_airflow_provider.object_storage import address_of
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.artifact_run import check_place, open_run_here, xcom_hook
from wandb_airflow_provider.xcom.codecs.registry import codec_named
from wandb_airflow_provider.xcom.foreign import brief, refusing
from wandb_airflow_provider.xcom.index import Index, check_file
from wandb_airflow_provider.xcom.reference import MARKER, StoredReference, is_reference
from wandb_airflow_provider.xcom.stored_value import StoredValue, wants_references
from wandb_airflow_provider.xcom.workspace import discard, lasting_folder

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.hooks.wandb import WandbHook

__all__ = ["Pull", "holds_reference", "record_uses"]

log = logging.getLogger(__name__)

_MAX_DEPTH = 50
_pending_uses: dict[str, None] = {}
_one_at_a_time = threading.Lock()


class Pull:
    """One XCom on its way in. All that it loads together is within the limits, however it is nested."""

    def __init__(self) -> None:
        self._limits = settings.limits()
        self._hook: WandbHook | None = None

    def resolved(self, value: Any, depth: int = 0) -> Any:
        """
        Return the value with what its references lead to.

        :raises WandbXComRefusedError: a reference that is not accepted.
        :raises WandbXComIntegrityError: a value that is gone, or is not what was stored.
        """
        if depth > _MAX_DEPTH:
            raise WandbXComRefusedError("Refused an XCom: it is nested too deeply.")
        if is_reference(value):
            if "inline" in value:
                return self._inline(value, depth)
            ref = StoredReference.from_json(value)
            if wants_references():
                self._check(ref)
                return StoredValue(ref)
            return self.load(ref, depth)
        if type(value) is dict:
            return {key: self.resolved(item, depth + 1) for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self.resolved(item, depth + 1) for item in value)
        return value

    def load(self, ref: StoredReference, depth: int = 0) -> Any:
        """Return the value of a reference, and record its use by the task's run."""
        self._check(ref)
        if ref.size_bytes > self._limits.max_bytes:
            raise WandbXComRefusedError(
                f"Refused the stored XCom {ref}: it has {ref.size_bytes} bytes, and {self._limits.max_bytes} more are "
                "accepted ('max_value_bytes' of [wandb_xcom])."
            )
        base = lasting_folder()
        folder = base / "content"
        folder.mkdir()
        keep = False
        try:
            index = self._fetch(ref, folder)
            if index.codec != ref.codec:
                raise WandbXComRefusedError(
                    f"Refused the stored XCom {ref}: it is of the codec {index.codec!r}, the XCom says {ref.codec!r}."
                )
            with self._using(ref):
                value, keep = self._decoded(index, folder, depth, f"The stored XCom {ref}")
        finally:
            if not keep:
                discard(base)
        return value

    def _decoded(self, index: Index, folder: Path, depth: int, what: str) -> tuple[Any, bool]:
        """Return the value of files that have been checked, and whether it needs them further on."""
        codec = codec_named(index.codec)
        with refusing(what):
            if codec.keeps_folder:
                index.restore_modes(folder)
            value = codec.read(folder, index.meta, self._limits)
        self._limits = self._limits._replace(max_bytes=self._limits.max_bytes - index.unpacked_bytes)
        if codec.name == "json":
            value = self.resolved(value, depth + 1)
        return value, codec.keeps_folder

    def _check(self, ref: StoredReference) -> None:
        if ref.store is not None and ref.store not in map(address_of, settings.readable_storage()):
            raise WandbXComRefusedError(
                f"Refused the stored XCom {ref}: it is in {ref.store!r}, which is neither 'storage' nor in "
                "'readable_storage' of [wandb_xcom]."
            )
        if ref.place is not None:
            check_place(self.hook, ref.place, f"the stored XCom {ref}")

    def _fetch(self, ref: StoredReference, folder: Path) -> Index:
        for url in settings.readable_storage():
            if ref.store is not None and address_of(url) == ref.store:
                from wandb_airflow_provider.xcom.stores.objects import ObjectStore

                return ObjectStore(url).fetch(ref, folder, self._limits)
        from wandb_airflow_provider.hooks.runs import borrowed_sdk
        from wandb_airflow_provider.xcom.stores.artifact import fetch

        with borrowed_sdk(keep=_opens_run()):
            return fetch(self.hook, ref, folder, self._limits)

    def _inline(self, value: Mapping[str, Any], depth: int) -> Any:
        """Return a value that is in the XCom itself."""
        try:
            if value["inline"] in ("bytes", "bytearray"):
                content = base64.b64decode(value["data"], validate=True)
                return bytearray(content) if value["inline"] == "bytearray" else content
            what = "An XCom that was kept in Airflow's database"
            index = Index.from_bytes(value["index"].encode(), value["digest"], self._limits, what)
            base = lasting_folder()
            folder = base / "content"
            folder.mkdir()
            keep = False
            try:
                for path in index.folders:
                    (folder / path).mkdir(parents=True, exist_ok=True)
                for path, facts in index.files.items():
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).write_bytes(base64.b64decode(value["files"][path], validate=True))
                    check_file(folder / path, facts, what)
                found, keep = self._decoded(index, folder, depth, what)
                return found
            finally:
                if not keep:
                    discard(base)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise WandbXComRefusedError(
                f"Refused an XCom that claims to hold a value: {brief(error)}."
            ) from error

    @property
    def hook(self) -> WandbHook:
        """The hook of the section, made once."""
        if self._hook is None:
            self._hook = xcom_hook()
        return self._hook

    @contextmanager
    def _using(self, ref: StoredReference) -> Iterator[None]:
        """Record the use of a value, whose content has been checked, by the task's run, while the value is decoded."""
        run = None
        with suppress(WandbOfflineError):
            run = open_run_here(self.hook) if ref.artifact is not None else None
            if ref.artifact is not None and run is None:
                _pending_uses[ref.artifact] = None
        if run is None or ref.artifact is None:
            yield
            return
        with ThreadPoolExecutor(1, "wandb-airflow-use") as beside:
            recording = beside.submit(_record, run, ref.artifact)
            yield
        recording.result()


def record_uses(wandb_run: wandb.Run) -> None:
    """Record in a run that was just opened what its task has read before, such as its arguments."""
    if wandb_run.offline or wandb_run.disabled:
        return
    for path in list(_pending_uses):
        del _pending_uses[path]
        _record(wandb_run, path)


def holds_reference(value: Any, depth: int = 0) -> bool:
    """Say whether a reference is anywhere in a value."""
    if type(value) is dict:
        return MARKER in value or any(holds_reference(item, depth + 1) for item in value.values())
    if type(value) in (list, tuple) and depth <= _MAX_DEPTH:
        return any(holds_reference(item, depth + 1) for item in value)
    return False


def _record(wandb_run: wandb.Run, path: str) -> None:
    from wandb_airflow_provider import sdk

    try:
        with _one_at_a_time, sdk.translate_run_errors(f"record the use of {path!r}", wandb_run):
            wandb_run.use_artifact(path)
    except WandbError as error:
        # The value is there; that W&B does not show its use is no reason to fail the task.
        log.warning("%s", error)


def _opens_run() -> bool:
    """Say whether the task at work will open a run, whose end then ends wandb's helper process."""
    from airflow.sdk import get_current_context

    from wandb_airflow_provider.hierarchy import opens_run

    try:
        context = get_current_context()
    except RuntimeError:
        return False
    return opens_run(context["task"])
