"""Files and folders come back as what they were."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from uuid import uuid4

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from tests.unit.xcom.round_trip import some, stored
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.xcom.workspace import passing_folder

names = st.text(
    st.characters(categories=["L", "N"], include_characters=" ._-"), min_size=1, max_size=8
).filter(lambda name: name.strip(".") and len(name.encode()) < 200)


trees = st.recursive(
    st.binary(max_size=20), lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=6
)


def plant(tree: Any, path: Path) -> None:
    """Write a tree of folders (dicts) and files (bytes)."""
    if isinstance(tree, bytes):
        path.write_bytes(tree)
        path.chmod(0o640 + 0o111 * (len(tree) % 2))
    else:
        path.mkdir()
        for name, inner in tree.items():
            plant(inner, path / name)


def seen(path: Path) -> Any:
    """Return a tree with the permissions of files."""
    if path.is_dir():
        return {inner.name: seen(inner) for inner in path.iterdir()}
    return path.read_bytes(), path.stat().st_mode & 0o777


@some
@given(trees, names)
def test_a_file_or_folder_comes_back_with_permissions_and_empty_folders(tree: Any, name: str) -> None:
    with passing_folder() as folder:
        plant(tree, folder / name)
        back, _ = stored(folder / name)
        assert back.name == name
        assert seen(back) == seen(folder / name)


@pytest.fixture(scope="module")
def object_stores(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """URLs of a folder, and of an object store, in which folders are no more than parts of names."""
    from airflow.sdk.io import attach
    from fsspec.implementations.memory import MemoryFileSystem

    attach("memory", fs=MemoryFileSystem())
    return [f"file://{tmp_path_factory.mktemp('objects')}", "memory://bucket"]


# What is a special character of an URL, of a shell or of a pattern is none of a name.
odd_names = st.text(
    st.characters(categories=["L", "N"], include_characters=" ._-#?%&@:+*[]~$"), min_size=1, max_size=8
).filter(lambda name: name.strip(".") and len(name.encode()) < 200)
objects = st.binary(max_size=20) | st.dictionaries(
    odd_names,
    st.binary(max_size=20) | st.dictionaries(odd_names, st.binary(max_size=20), min_size=1),
    min_size=1,
)


def write_objects(tree: Any, path: Any) -> None:
    """Write a tree of folders (dicts) and files (bytes) by the methods that all stores have."""
    if isinstance(tree, bytes):
        path.write_bytes(tree)
    else:
        path.mkdir(parents=True)
        for name, inner in tree.items():
            write_objects(inner, path / name)


def contents(path: Any) -> Any:
    """Return a tree as it was written."""
    return {inner.name: contents(inner) for inner in path.iterdir()} if path.is_dir() else path.read_bytes()


@settings(parent=some, derandomize=True)
@example(0, "0#", b"a")
@example(0, "a b?", {"#": b"", "%20": {"?": b"b"}})
@given(st.integers(0, 1), odd_names, objects)
def test_a_path_in_an_object_store_comes_back_as_one(
    object_stores: list[str], which: int, name: str, tree: Any
) -> None:
    from airflow.sdk import ObjectStoragePath

    folder = ObjectStoragePath(object_stores[which]) / uuid4().hex
    folder.mkdir(parents=True)
    write_objects(tree, folder / name)
    back, digest = stored(folder / name)
    assert isinstance(back, ObjectStoragePath)
    assert (back.name, contents(back)) == (name, tree)
    assert Path(back.path).is_relative_to(gettempdir())
    assert stored(back)[1] == digest


@pytest.mark.parametrize("inside", [True, False])
def test_a_symbolic_link_is_refused(tmp_path: Path, inside: bool) -> None:
    (tmp_path / "data").mkdir()
    link = tmp_path / "data" / "link" if inside else tmp_path / "link"
    link.symlink_to("/etc/hostname" if inside else tmp_path / "data")
    with pytest.raises(WandbConfigurationError, match="is a symbolic link"):
        stored(tmp_path / "data" if inside else link)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WandbConfigurationError, match="neither a plain file nor a folder"):
        stored(tmp_path)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WandbConfigurationError, match="return str"):
        stored(tmp_path / "missing")
