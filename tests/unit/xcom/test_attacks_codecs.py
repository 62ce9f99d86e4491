"""Arrays, models and pickles that someone planted: each is refused."""

from __future__ import annotations

import errno
import io
import os
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from tests.unit.xcom.forgery import LIMITS, Forge, pull
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbXComRefusedError
from wandb_airflow_provider.xcom.codecs import pickled, plain
from wandb_airflow_provider.xcom.codecs.registry import codec_named
from wandb_airflow_provider.xcom.settings import Limits


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._marker),)


@pytest.fixture
def ordered(option: Callable[..., None]) -> dict[str, Any]:
    """A deployment that has named a class, and what the index of a pickle says of it."""
    option(pickle_classes="collections.OrderedDict")
    return {"codec": "pickle", "meta": {"class": "collections.OrderedDict"}}


@pytest.mark.parametrize("named", ["collections.OrderedDict", "os", "posix.mkdir.__class__"])
def test_a_pickle_payload_is_not_run(
    forge: Forge, tmp_path: Path, option: Callable[..., None], named: str
) -> None:
    option(pickle_classes=named)
    content = pickle.dumps(Payload(tmp_path / "ran"))
    raw = forge({"codec": "pickle", "meta": {"class": named}}, {"value.pkl": content})
    with pytest.raises(WandbXComRefusedError, match="mkdir"):
        pull(raw)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("named", ["", "collections.OrderedDict"])
@pytest.mark.parametrize("kind", [None, "builtins.int", "os.mkdir", "", ["collections.OrderedDict"], {}])
def test_a_pickle_of_a_class_that_is_not_named_is_not_even_looked_at(
    forge: Forge, option: Callable[..., None], monkeypatch: pytest.MonkeyPatch, named: str, kind: Any
) -> None:
    option(pickle_classes=named)
    monkeypatch.setattr(pickled, "_RestrictedUnpickler", None)
    for meta in ({"class": kind}, {}):
        raw = forge({"codec": "pickle", "meta": meta}, {"value.pkl": pickle.dumps(7)})
        with pytest.raises(WandbXComRefusedError, match="which is not in 'pickle_classes'"):
            pull(raw)


@pytest.mark.parametrize("value", [7, None, {"a": 1}, Path("x")], ids=repr)
def test_a_pickle_that_gives_something_else_than_its_index_says_is_refused(
    forge: Forge, ordered: dict[str, Any], value: Any
) -> None:
    assert pull(forge(ordered, {"value.pkl": pickle.dumps(OrderedDict(a=1))})) == {"a": 1}
    with pytest.raises(WandbXComRefusedError, match=r"it gives a|it names 'pathlib"):
        pull(forge(ordered, {"value.pkl": pickle.dumps(value)}))


FRAME = b"\x95"
# As far away as takes half a gigabyte.
FAR = struct.pack("<I", 1 << 25)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"Nr" + FAR + b".", "the instruction LONG_BINPUT"),
        (b"Np33554432\n.", "the instruction PUT"),
        (b"Nq\xff.", "the instruction BINPUT"),
        # The unpickler leaves out what is left of a frame where an instruction goes on behind it, and so finds
        # instructions in what others take for bytes.
        (FRAME + struct.pack("<Q", 4) + b"NJ\0\0" + b"\0\0C\x06r" + FAR + b"..", "that its frame cuts off"),
        (FRAME + struct.pack("<Q", 1 << 40) + b"N.", "a frame of 1099511627776 bytes"),
        (
            FRAME + struct.pack("<Q", 20) + FRAME + struct.pack("<Q", 2) + b"N." + b"N" * 9,
            "a frame of 2 bytes",
        ),
        (b"\x96" + struct.pack("<Q", 1 << 40) + b"x.", "cannot be read: ValueError"),
        (b"\x8e" + struct.pack("<Q", 1 << 40) + b"x.", "cannot be read: ValueError"),
        (b"N", "cannot be read: ValueError: pickle exhausted before seeing STOP"),
        (b"0.", "cannot be read: UnpicklingError"),
        (b"\xff", "cannot be read: ValueError"),
        (b"", "cannot be read: ValueError: cannot mmap an empty file"),
        (b"}(K\x01u.", "cannot be read"),
        (b"Pid\n.", "cannot be read: UnpicklingError"),
        (b"\x82\x01.", "cannot be read: ValueError: unregistered extension code 1"),
        (b"ccollections\nOrderedDict\n)R}bN\x85R.", "cannot be read: TypeError"),
    ],
)
def test_a_pickle_that_no_pickler_writes_is_refused(
    forge: Forge, ordered: dict[str, Any], content: bytes, why: str
) -> None:
    raw = forge(ordered, {"value.pkl": content})
    with pytest.raises(WandbXComRefusedError, match=why):
        pull(raw)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "files", "meta"),
    [
        ("text", {}, {}),
        ("text", {"value.txt": b"\xff\xfe"}, {}),
        ("bytes", {}, {}),
        ("json", {}, {}),
        ("json", {"value.json": b"\xff"}, {}),
        ("json", {"value.json": b'{"a":'}, {}),
        ("json", {"value.json": b"[" * 100_000}, {}),
        ("json", {"value.json": b'{"__classname__": "os.mkdir", "__version__": 1, "__data__": {}}'}, {}),
        ("json", {"value.json": b'{"__classname__": 7, "__version__": "x", "__data__": []}'}, {}),
        (
            "json",
            {"value.json": b'{"__classname__": "datetime.datetime", "__version__": 2, "__data__": []}'},
            {},
        ),
        ("numpy", {}, {}),
        ("numpy", {"array.npy": b"\x93NUMPY\x01\x00\x03\x00{(\n"}, {}),
        ("numpy", {}, {"shape": [1]}),
        ("sparse", {}, {"type": "csr_array", "shape": [1, 1]}),
        ("sparse", {}, {"type": "csr_array", "shape": 3}),
        ("sparse", {}, {"type": "csr_array", "shape": None}),
        ("sparse", {}, {"type": ["csr_array"], "shape": [1, 1]}),
        ("sparse", {}, {"type": "coo_array", "shape": [True, 1]}),
        ("sparse", {}, {}),
        ("safetensors", {}, {"names": []}),
        ("safetensors", {"tensors.safetensors": b"\xff" * 9}, {"names": []}),
        ("skops", {}, {}),
        ("skops", {"model.skops": b"PK\x05\x06" + bytes(18)}, {}),
        ("pandas", {}, {}),
        ("polars", {}, {}),
        ("arrow", {}, {}),
        ("path", {}, {"name": "x"}),
        ("path", {}, {"name": None}),
        ("path", {}, {"name": "x" * 300, "folder": True}),
        ("path", {}, {"name": "\ud800", "folder": True}),
    ],
)
def test_files_that_are_missing_or_make_no_sense_are_refused_and_not_read_again(
    option: Callable[..., None], forge: Forge, codec: str, files: dict[str, bytes], meta: dict[str, Any]
) -> None:
    option(allow_object_arrays=True)
    with pytest.raises(WandbXComRefusedError) as caught:
        pull(forge({"codec": codec, "meta": meta}, files))
    assert isinstance(caught.value, AirflowFailException)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EMFILE, "Too many open files"),
        MemoryError(),
        ModuleNotFoundError("No module named 'pandas'"),
        WandbConfigurationError("skops is not installed"),
    ],
    ids=repr,
)
def test_what_a_worker_lacks_is_no_refusal(
    forge: Forge, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def read(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(plain.TextCodec, "read", read)
    with pytest.raises(type(error)) as caught:
        pull(forge({"codec": "text"}, {"value.txt": b"hello"}))
    assert caught.value is error


def test_tensors_that_a_worker_has_no_torch_for_are_left_to_who_installs_it(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)  # type: ignore[misc]
    raw = forge({"codec": "safetensors", "meta": {"of": "torch", "names": []}})
    with pytest.raises(WandbConfigurationError, match="needs what is not installed here"):
        pull(raw)


def test_an_array_with_a_pickle_in_it_is_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.array([Payload(tmp_path / "ran")], dtype=object), allow_pickle=True)
    with pytest.raises(WandbXComRefusedError):
        codec_named("numpy").read(tmp_path, {}, LIMITS)
    assert not (tmp_path / "ran").exists()


def test_an_array_that_claims_more_than_it_has_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)})
    (tmp_path / "array.npy").write_bytes(file.getvalue() + b"\0" * 64)
    with pytest.raises(WandbXComRefusedError, match="its header says"):
        codec_named("numpy").read(tmp_path, {}, LIMITS)


def test_an_empty_sparse_array_of_many_rows_is_refused(tmp_path: Path) -> None:
    for name in ("data", "axis0", "axis1"):
        np.save(tmp_path / f"{name}.npy", np.array([], dtype="int64"))
    for rows in (LIMITS.max_bytes, 1000):
        meta = {"type": "lil_array", "shape": [rows, 3], "unpacked_bytes": 1000}
        with pytest.raises(WandbXComRefusedError, match="rows, more than its index says"):
            codec_named("sparse").read(tmp_path, meta, LIMITS)


def test_an_index_out_of_bounds_is_refused(tmp_path: Path) -> None:
    for name, values in (("data", [1.0]), ("indices", [1 << 30]), ("indptr", [0, 1])):
        np.save(tmp_path / f"{name}.npy", np.array(values))
    with pytest.raises(WandbXComRefusedError):
        codec_named("sparse").read(tmp_path, {"type": "csr_array", "shape": [1, 3]}, LIMITS)


@pytest.mark.parametrize("unpacked", [LIMITS.max_bytes + 1, LIMITS.max_bytes // 2])
def test_a_zip_bomb_is_refused(tmp_path: Path, unpacked: int) -> None:
    with zipfile.ZipFile(tmp_path / "model.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * unpacked)
    assert (tmp_path / "model.skops").stat().st_size < 10_000
    with pytest.raises(WandbXComRefusedError, match="unpack to"):
        codec_named("skops").read(tmp_path, {}, LIMITS)


def test_a_model_of_a_type_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import skops.io
    skops.io.dump(Limits(1, 2), tmp_path / "model.skops")
    with pytest.raises(WandbXComRefusedError, match=r"Limits.*trusted_types"):
        codec_named("skops").read(tmp_path, {}, LIMITS)
