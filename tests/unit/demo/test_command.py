from __future__ import annotations

import fcntl
import importlib.metadata
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from wandb_airflow_provider.cli import main


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def demo(folder: Path, *arguments: str) -> int:
    return main(["demo", "--folder", str(folder), "--dags-folder", str(Path(__file__).parent), *arguments])


@pytest.mark.parametrize(
    ("option", "purpose"), [("--airflow-port", "Airflow"), ("--devserver-port", "the dev server")]
)
def test_a_taken_port_is_one_clear_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], taken_port: int, option: str, purpose: str
) -> None:
    code = demo(tmp_path / "demo", option, str(taken_port))

    assert code == 1
    assert capsys.readouterr().err.strip() == (
        f"wandb-airflow demo: Port {taken_port} on 127.0.0.1 cannot be used for {purpose} (Address already in use). "
        f"Choose another with {option}, or leave the option out to have a free one found."
    )


def test_a_missing_package_is_named_with_the_way_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.metadata.distribution

    def without_scikit_learn(name: str) -> importlib.metadata.Distribution:
        if name == "scikit-learn":
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "distribution", without_scikit_learn)

    assert demo(tmp_path / "demo") == 1
    error = capsys.readouterr().err
    assert "The demo needs scikit-learn, which is not installed." in error
    assert "pip install 'wandb-airflow-provider[demo]'" in error


def test_a_folder_of_somebody_else_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")

    assert demo(tmp_path) == 1
    assert "is not empty and was not made by the demo" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_demos_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / ".wandb-airflow-demo").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        assert demo(tmp_path) == 1

    assert "Another demo is running in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs", "0"], "0 is less than 1"),
        (["--airflow-port", "70000"], "70000 is not a port"),
        (["--dags-folder", "/does/not/exist"], "is not a folder"),
        (["--degrade-last"], "needs --runs 2 or more"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["demo", *arguments])

    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err
