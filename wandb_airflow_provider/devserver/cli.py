"""``wandb-airflow devserver``: run the dev server in the foreground until it is interrupted."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

from wandb_airflow_provider.devserver.auth import DEFAULT_API_KEY, DEFAULT_TEAM
from wandb_airflow_provider.devserver.loopback import is_loopback

_DEFAULT_PORT = 8765
_DEFAULT_DATA = Path(".wandb-devserver")
_KEY_VARIABLE = "WANDB_DEVSERVER_API_KEY"
_SHORTEST_KEY = 40
_SIGNALS = {signal.SIGINT, signal.SIGTERM}


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; return 0, or 1 with one sentence on standard error if it cannot start."""
    args = _parser().parse_args(argv)
    if not is_loopback(args.host) and not args.allow_remote:
        return _refuse(
            f"the dev server does not listen on {args.host!r}, which other machines can reach, unless --allow-remote is"
            " given. It then uses a key of its own instead of the well-known one."
        )
    given = os.environ.get(_KEY_VARIABLE, "")
    if given and len(given) < _SHORTEST_KEY:
        return _refuse(
            f"the key in {_KEY_VARIABLE} has {len(given)} characters, and the SDK takes none under {_SHORTEST_KEY}."
        )
    with _signals_held_back():
        return _serve(args, given)


def _serve(args: argparse.Namespace, given: str) -> int:
    try:
        # The rest is imported after the arguments are known to be right: it takes most of the start.
        from wandb_airflow_provider.devserver.server import DevServer, DevServerError
    except ModuleNotFoundError as error:
        return _refuse(
            f"the dev server needs the module {error.name!r}: install 'wandb-airflow-provider[devserver]'."
        )
    server = DevServer(
        args.data,
        host=args.host,
        port=args.port,
        api_key=given or DEFAULT_API_KEY,
        teams=args.team,
        seed=args.seed,
        allow_remote=args.allow_remote,
    )
    try:
        server.start()
    except (DevServerError, OSError) as error:
        return _refuse(f"{error}")
    try:
        # A given key is known to who gave it, and stays out of the log.
        shown = f"${_KEY_VARIABLE}" if given else server.api_key
        print(_banner(server.url, shown, server.data_dir, args.team), flush=True)
        signal.sigwait(_SIGNALS)
    finally:
        server.stop()
    print("The dev server has stopped.", flush=True)
    return 0


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """
    Keep signals for who waits for them, in all threads that are started meanwhile.

    A handler would not do: what it says in the moment before the wait for it begins does not end that wait.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        while signal.sigpending() & _SIGNALS:
            signal.sigwait(_SIGNALS)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wandb-airflow devserver",
        description="A local W&B-compatible server for development and tests. It is not W&B.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port",
        type=int,
        default=_DEFAULT_PORT,
        help="port to listen on; 0 for a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=_DEFAULT_DATA,
        metavar="DIR",
        help="where data is kept (default: %(default)s)",
    )
    parser.add_argument(
        "--team",
        action="append",
        default=[],
        metavar="NAME",
        help=f"a team entity to serve besides {DEFAULT_TEAM!r}; may be repeated",
    )
    parser.add_argument(
        "--seed",
        metavar="TEXT",
        help="seed of random ids and names, which are then the same for equal requests",
    )
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help=f"allow a host that other machines can reach, with a generated key or that of {_KEY_VARIABLE}",
    )
    return parser


def _banner(url: str, key: str, data_dir: Path, teams: Sequence[str]) -> str:
    address = urlsplit(url)
    entity = (*teams, DEFAULT_TEAM)[0]
    # The scheme of the API goes where a URI has its path, as Airflow's own HTTP connections have it.
    connection = f"wandb://:{quote(key, safe='$')}@{address.netloc}/{address.scheme}?entity={quote(entity)}"
    return "\n".join(
        (
            f"W&B dev server: {url}",
            f"Data:           {data_dir.resolve()}",
            f"API key:        {key}",
            "",
            "For scripts:",
            f"  export WANDB_BASE_URL={url}",
            f"  export WANDB_API_KEY={key}",
            f"  export WANDB_ENTITY={entity}",
            "",
            "For Airflow:",
            f"  export AIRFLOW_CONN_WANDB_DEFAULT='{connection}'",
            "",
            "Stop it with Ctrl-C.",
        )
    )


def _refuse(reason: str) -> int:
    print(f"wandb-airflow devserver: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
