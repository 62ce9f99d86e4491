"""What the package says it supports is what was run."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parents[2]
CELLS = ROOT / "tools" / "matrix"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def load_matrix() -> Any:
    spec = importlib.util.spec_from_file_location("matrix_of_versions", CELLS / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


matrix = load_matrix()
RESULTS: dict[str, dict[str, str]] = json.loads((CELLS / "results.json").read_text())


def claimed(name: str) -> SpecifierSet:
    if name == "python":
        return SpecifierSet(PROJECT["requires-python"])
    found = {required.name: required for required in map(Requirement, PROJECT["dependencies"])}
    specifier: SpecifierSet = found[name].specifier
    return specifier


def oldest(name: str) -> Version:
    (bound,) = [part for part in claimed(name) if part.operator == ">="]
    return Version(bound.version)


def minor(version: str | Version) -> tuple[int, ...]:
    return Version(str(version)).release[:2]


def test_every_cell_that_was_run_is_green() -> None:
    passed = {
        name: re.fullmatch(r"wheel installed, smoke test and (\d+) tests passed", row["result"])
        for name, row in RESULTS.items()
    }
    assert all(match is not None and int(match.group(1)) > 100 for match in passed.values()), RESULTS


@pytest.mark.parametrize(
    ("name", "key"), [("apache-airflow", "airflow"), ("wandb", "wandb"), ("python", "python")]
)
def test_the_oldest_version_that_the_package_accepts_was_run_and_none_that_it_refuses(
    name: str, key: str
) -> None:
    ran = {row[key] for row in RESULTS.values()}
    assert min(map(minor, ran)) == minor(oldest(name))
    assert all(claimed(name).contains(version) for version in ran)


def test_oldest_airflow_was_run_with_the_oldest_wandb_and_so_were_the_newest_of_both() -> None:
    ran = {(minor(row["airflow"]), minor(row["wandb"])) for row in RESULTS.values()}
    assert {tuple(map(min, zip(*ran, strict=True))), tuple(map(max, zip(*ran, strict=True)))} <= ran


def test_every_cell_was_run_with_every_python_and_passed_as_many_tests() -> None:
    pythons = {row["python"] for row in RESULTS.values()}
    assert RESULTS.keys() == {f"{cell}-py{python}" for cell in matrix.names() for python in pythons}
    assert len({row["result"] for row in RESULTS.values()}) == 1


def test_the_corners_are_the_oldest_of_both_and_the_newest_of_both() -> None:
    versions = [tuple(map(Version, re.findall(r"-(\d+\.\d+)", cell))) for cell in matrix.names()]
    airflows, wandbs = zip(*versions, strict=True)
    found = matrix.corners("the oldest")
    assert [cell for cell, _ in found] == [
        f"airflow-{choose(airflows)}-wandb-{choose(wandbs)}" for choose in (min, max)
    ]
    assert found[0][1] == "the oldest"


def test_an_interpreter_of_the_cells_is_found_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    assert matrix.interpreter("bin/python") == str(tmp_path / "bin" / "python")
    with pytest.raises(argparse.ArgumentTypeError, match=r"no interpreter 'bin/python9'"):
        matrix.interpreter("bin/python9")


def test_a_result_is_of_the_versions_that_its_cell_locks() -> None:
    for name, row in RESULTS.items():
        cell = name.removesuffix(f"-py{row['python']}")
        locked = dict(re.findall(r"^([\w-]+)==(\S+)", (CELLS / f"{cell}.txt").read_text(), re.MULTILINE))
        assert (locked["apache-airflow"], locked["wandb"]) == (row["airflow"], row["wandb"]), name


def test_the_documentation_s_table_is_what_was_run() -> None:
    page = (ROOT / "docs" / "support.md").read_text()
    assert page.partition(matrix.BEGIN)[2].partition(matrix.END)[0].strip() == matrix.table(RESULTS)


def test_the_contract_of_the_dev_server_is_recorded_for_the_oldest_and_the_newest_wandb_that_were_run() -> (
    None
):
    recorded = {
        minor(path.stem.removeprefix("wandb-"))
        for path in (ROOT / "tests/contract/sent").glob("wandb-*.json")
    }
    ran = {minor(row["wandb"]) for row in RESULTS.values()}
    assert {minor(oldest("wandb")), max(ran)} <= recorded
    built = {path.stem.removeprefix("wandb-") for path in (ROOT / "tools/sdk").glob("*.txt")}
    assert ".".join(map(str, minor(oldest("wandb")))) in built


def test_the_readme_s_versions_are_those_that_were_run() -> None:
    rows = re.findall(
        r"^\| (Airflow|wandb|Python) \| ([\d., ]+) \|", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert dict(rows) == {
        title: ", ".join(
            ".".join(map(str, each)) for each in sorted({minor(row[key]) for row in RESULTS.values()})
        )
        for title, key in (("Airflow", "airflow"), ("wandb", "wandb"), ("Python", "python"))
    }
