from __future__ import annotations

import subprocess
import sys

import pytest

from wandb_airflow_provider import __version__, cli
from wandb_airflow_provider.cli.own_output import own_output


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    usage = capsys.readouterr().out
    assert "demo" in usage
    assert "devserver" in usage


def test_no_command_and_an_unknown_one_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert cli.main(["demoo"]) == 2
    assert "unknown command 'demoo'" in capsys.readouterr().err


def test_version_is_the_package_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"wandb-airflow {__version__}"


def test_a_missing_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def needs_graphql(argv: list[str]) -> int:
        raise ModuleNotFoundError("No module named 'graphql'", name="graphql")

    monkeypatch.setitem(cli._COMMANDS, "devserver", needs_graphql)

    assert cli.main(["devserver"]) == 1
    error = capsys.readouterr().err
    assert "needs the Python module 'graphql'" in error
    assert "pip install 'wandb-airflow-provider[devserver]'" in error


def test_a_module_of_our_own_that_is_missing_is_not_taken_for_an_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(argv: list[str]) -> int:
        raise ModuleNotFoundError("No module named 'x'", name="wandb_airflow_provider.x")

    monkeypatch.setitem(cli._COMMANDS, "devserver", broken)

    with pytest.raises(ModuleNotFoundError):
        cli.main(["devserver"])


def test_what_airflow_says_is_no_part_of_the_output_that_programs_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with own_output():
        print("a warning of Airflow's")
    print("{}")
    assert capsys.readouterr() == ("{}\n", "a warning of Airflow's\n")


def test_the_command_line_loads_neither_airflow_nor_wandb() -> None:
    script = (
        "import sys; from wandb_airflow_provider import cli\n"
        "try:\n    cli.main(['demo', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'airflow', 'wandb', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
