"""The command ``wandb-airflow``."""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["main"]

_USAGE = """\
usage: wandb-airflow COMMAND [options]

commands:
  demo       run the weekly retraining workflow on a local Airflow and a local W&B
  devserver  start a local W&B-compatible server for development and tests
  sync       upload the runs that wait in a spool since W&B was unavailable
  trace      print the W&B runs of a DAG run as a tree
  why        print why a registry alias points to its version

'wandb-airflow COMMAND --help' describes the options of a command.
"""


def main(argv: list[str] | None = None) -> int:
    """
    Run one sub-command.

    :param argv: Arguments without the program's name; by default those of this process.
    :return: The exit code.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, end="")
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from wandb_airflow_provider import __version__

        print(f"wandb-airflow {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    command = _COMMANDS.get(name)
    if command is None:
        print(f"wandb-airflow: unknown command {name!r}\n\n{_USAGE}", file=sys.stderr, end="")
        return 2
    try:
        return command(rest)
    except ModuleNotFoundError as error:
        # Each command needs an extra; anything of our own that is missing is a defect, not a missing extra.
        if error.name is None or error.name.startswith("wandb_airflow_provider"):
            raise
        print(
            f"wandb-airflow {name} needs the Python module {error.name!r}, which is not installed. "
            f"Install it with: pip install 'wandb-airflow-provider[{name}]'",
            file=sys.stderr,
        )
        return 1


def _demo(argv: list[str]) -> int:
    from wandb_airflow_provider.demo.command import main as demo

    return demo(argv)


def _devserver(argv: list[str]) -> int:
    from wandb_airflow_provider.devserver.cli import main as devserver

    return devserver(argv)


def _sync(argv: list[str]) -> int:
    from wandb_airflow_provider.cli.sync import main as sync

    return sync(argv)


def _trace(argv: list[str]) -> int:
    from wandb_airflow_provider.cli.trace import main as trace

    return trace(argv)


def _why(argv: list[str]) -> int:
    from wandb_airflow_provider.cli.why import main as why

    return why(argv)


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "demo": _demo,
    "devserver": _devserver,
    "sync": _sync,
    "trace": _trace,
    "why": _why,
}
