"""The list of installed packages, against what ``importlib.metadata`` reads from the metadata of each."""

from __future__ import annotations

import re
from importlib.metadata import distributions
from pathlib import Path

from wandb_airflow_provider.installed import installed_packages


def test_the_list_is_the_one_that_the_metadata_give() -> None:
    def normal(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    expected = {f"{normal(found.name)}=={found.version}" for found in distributions()}
    listed = {
        f"{normal(name)}=={version}" for name, _, version in (p.partition("==") for p in installed_packages())
    }
    assert listed == expected
    assert installed_packages() == sorted(installed_packages(), key=lambda line: line.partition("==")[0])


def test_a_folder_that_comes_first_hides_the_same_package_in_a_later_one(tmp_path: Path) -> None:
    for folder, name in (("a", "Some_Name-1.0+local.dist-info"), ("b", "some_name-2.0.dist-info")):
        (tmp_path / folder / name).mkdir(parents=True)
    (tmp_path / "b" / "old-0.3-py3.11.egg-info").mkdir()
    (tmp_path / "b" / "no_version.dist-info").mkdir()
    (tmp_path / "b" / "module.py").touch()
    path = [str(tmp_path / name) for name in ("a", "b", "missing")]
    assert installed_packages(path) == ["old==0.3", "some-name==1.0+local"]
