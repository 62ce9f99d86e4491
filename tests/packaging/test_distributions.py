"""What is published: wheel and sdist, built from this checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def build(source: Path, folder: Path) -> dict[str, Path]:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(folder)],
        check=True,
        cwd=source,
        capture_output=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1767225600"},
        timeout=120,
    )
    return {path.suffix: path for path in folder.iterdir()}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the distributions are made of, which nothing changes between two builds."""
    copy = tmp_path_factory.mktemp("source")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for name in ("pyproject.toml", *settings["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(source, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel_files(built: dict[str, Path]) -> list[str]:
    return zipfile.ZipFile(built[".whl"]).namelist()


@pytest.fixture(scope="module")
def metadata(built: dict[str, Path], wheel_files: list[str]) -> Message:
    (name,) = [file for file in wheel_files if file.endswith(".dist-info/METADATA")]
    return message_from_string(zipfile.ZipFile(built[".whl"]).read(name).decode())


def test_building_elsewhere_and_later_gives_the_same_bytes(
    source: Path, built: dict[str, Path], tmp_path: Path
) -> None:
    # Without the times of the files.
    elsewhere = shutil.copytree(source, tmp_path / "elsewhere", copy_function=shutil.copy)
    again = build(elsewhere, tmp_path / "again")
    assert {kind: digest(path) for kind, path in again.items()} == {
        kind: digest(path) for kind, path in built.items()
    }


def test_the_sdist_builds_the_same_wheel(built: dict[str, Path], tmp_path: Path) -> None:
    with tarfile.open(built[".gz"]) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    assert digest(build(unpacked, tmp_path / "dist")[".whl"]) == digest(built[".whl"])


def test_the_wheel_holds_the_package_and_its_example_dags_alone(wheel_files: list[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel_files if ".dist-info/" not in name}
    assert tops == {"wandb_airflow_provider"}
    unwanted = ("tests/", "__pycache__", ".db", ".log", ".wandb", ".sqlite")
    assert not [name for name in wheel_files if any(part in name for part in unwanted)]
    assert "wandb_airflow_provider/py.typed" in wheel_files
    assert "wandb_airflow_provider/_example_dags/weekly_retraining.py" in wheel_files


def test_the_wheel_carries_its_licence(wheel_files: list[str], metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert [name for name in wheel_files if name.endswith(".dist-info/licenses/LICENSE")]


def test_the_extras_are_named_and_all_that_is_not_needed_is_in_one(metadata: Message) -> None:
    extras = set(metadata.get_all("Provides-Extra", []))
    assert {"devserver", "sweeps", "s3", "dataframe", "reports", "demo"} <= extras
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    plain = {requirement.name for requirement in required if requirement.marker is None}
    assert plain == {
        "apache-airflow",
        "apache-airflow-providers-common-compat",
        "pendulum",
        "psutil",
        "wandb",
    }


def test_the_sdist_holds_what_is_needed_to_test_it(built: dict[str, Path]) -> None:
    with tarfile.open(built[".gz"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "Makefile", "constraints.txt", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith((".venv", ".matrix", ".sdks", ".demo"))]
