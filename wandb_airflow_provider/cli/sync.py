"""``wandb-airflow sync``: upload the runs that wait in a spool."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from wandb_airflow_provider.cli.own_output import own_output

if TYPE_CHECKING:
    from wandb_airflow_provider.connection import WandbConnection

__all__ = ["main"]

_BAR_WIDTH = 24


def main(argv: list[str]) -> int:
    """
    Upload a spool.

    :return: 0 if nothing that is complete is left in it, 1 if an entry could not be uploaded, 2 for wrong arguments.
    """
    arguments = parser().parse_args(argv)
    with own_output():
        from wandb_airflow_provider.exceptions import WandbError
        from wandb_airflow_provider.hooks.runs import release_when_idle
        from wandb_airflow_provider.spool.store import Spool
        from wandb_airflow_provider.spool.upload import SpoolUpload

    progress = Progress(sys.stderr)
    try:
        with own_output():
            report = SpoolUpload(
                Spool(_absolute(arguments.spool)),
                _connection(arguments),
                keep=arguments.keep,
                include_unfinished=arguments.include_unfinished,
                timeout=arguments.timeout,
                on_progress=progress.show,
            ).run()
    except WandbError as error:
        print(f"wandb-airflow sync: {error}", file=sys.stderr)
        return 1
    finally:
        progress.end()
        release_when_idle()
    for entry in report.waiting:
        print(f"waiting: {entry} (its task still writes it, or was killed outright: --include-unfinished)")
    for entry, why in report.failed:
        print(f"failed:  {entry}: {why}", file=sys.stderr)
    print(f"{len(report.synced)} uploaded, {len(report.failed)} failed, {len(report.waiting)} waiting")
    return 1 if report.failed else 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    made = argparse.ArgumentParser(
        prog="wandb-airflow sync",
        description="Upload the runs that wait in a spool since W&B was unavailable. Repeating it adds nothing twice.",
    )
    made.add_argument(
        "spool", metavar="SPOOL", help="the folder, or the URL such as s3://aws_default@bucket/wandb-spool"
    )
    account = made.add_argument_group("account", "an Airflow connection, or a key file")
    account.add_argument(
        "--conn-id", default="wandb_default", help="Airflow connection (default: %(default)s)"
    )
    account.add_argument(
        "--key-file", type=Path, help="file that holds the API key; no connection is read then"
    )
    account.add_argument("--host", help="with --key-file: API URL (default: that of the W&B SDK)")
    made.add_argument("--keep", action="store_true", help="keep what is uploaded; it is not uploaded again")
    made.add_argument(
        "--include-unfinished",
        action="store_true",
        help="also upload what tasks left that were killed outright; only while no task writes to the spool",
    )
    made.add_argument(
        "--timeout",
        type=float,
        default=3600.0,
        help="longest upload of one run in seconds (default: %(default)s)",
    )
    return made


class Progress:
    """A bar in a terminal, a line for each entry elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._drawn = False

    def show(self, done: int, total: int, line: str) -> None:
        """Tell how many entries are done, and what became of the last."""
        if not self._is_terminal:
            print(f"{done} of {total}: {line}", file=self._stream, flush=True)
            return
        filled = _BAR_WIDTH * done // total
        text = f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {done}/{total} {line}"
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r{text[:width].ljust(width)}")
        self._stream.flush()
        self._drawn = True

    def end(self) -> None:
        """Leave the line of the bar."""
        if self._drawn:
            self._stream.write("\n")


def _absolute(spool: str) -> str:
    return spool if "://" in spool else str(Path(spool).absolute())


def _connection(arguments: argparse.Namespace) -> WandbConnection:
    from wandb_airflow_provider.exceptions import WandbConfigurationError

    if arguments.key_file is None:
        if arguments.host is not None:
            raise WandbConfigurationError("--host goes with --key-file; a connection has a host of its own.")
        from wandb_airflow_provider.hooks.wandb import WandbHook

        return WandbHook(arguments.conn_id).connection
    from airflow.sdk import Connection

    from wandb_airflow_provider.connection import CONN_TYPE, WandbConnection

    try:
        key = arguments.key_file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise WandbConfigurationError(
            f"The key file {str(arguments.key_file)!r} cannot be read: {error}."
        ) from error
    return WandbConnection.from_airflow(
        Connection(conn_id="key-file", conn_type=CONN_TYPE, host=arguments.host, password=key)
    )
