"""``wandb-airflow demo``."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.metadata
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.dag_run_watch import DagRunWatch
from wandb_airflow_provider.demo.devserver_process import DevServerProcess
from wandb_airflow_provider.demo.errors import DemoError
from wandb_airflow_provider.demo.ledger import Ledger
from wandb_airflow_provider.demo.weekly import Scenario, WeeklyDemo

__all__ = ["main"]

ENTITY = "local"
PROJECT = "weekly-retraining"
_MARKER = ".wandb-airflow-demo"
_NEEDED = ("scikit-learn", "numpy", "scipy", "graphql-core", "jinja2", "apache-airflow-providers-standard")
_INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """
    Run the demo.

    :return: 0 when the weekly DAG ran to its end, the alias moved and the downstream DAG ran; 130 after Ctrl-C.
    """
    options = _options(argv)
    try:
        with _interruptible():
            _require_distributions()
            with _own_folder(options.folder.resolve(), resume=options.resume) as folder:
                return _run(folder, options)
    except KeyboardInterrupt:
        _say("\nStopped; every process that the demo started has ended.")
        return _INTERRUPTED
    except DemoError as error:
        print(f"\nwandb-airflow demo: {error}", file=sys.stderr, flush=True)
        return 1


def _run(folder: Path, options: argparse.Namespace) -> int:
    began = time.monotonic()
    devserver = DevServerProcess(folder / "devserver", port=options.devserver_port)
    connection = devserver.connection(entity=ENTITY, project=PROJECT)
    cluster = AirflowCluster(
        folder / "airflow",
        options.dags_folder.resolve(),
        connections={"wandb_default": connection},
        port=options.airflow_port,
    )
    with contextlib.ExitStack() as running:
        _say(f"Everything is kept in {folder}")
        running.enter_context(devserver)
        _say(f"W&B-compatible dev server   {devserver.url}   (started in {devserver.startup_seconds:.1f} s)")
        running.callback(cluster.stop)
        cluster.start(on_step=lambda step: _say(f"Airflow: {step}"))
        _say(
            f"Airflow                     {cluster.url}   (started in {sum(cluster.startup_seconds.values()):.1f} s)"
        )
        demo = WeeklyDemo(
            cluster,
            Ledger(connection, folder / "ledger"),
            scenario=Scenario(),
            watch=DagRunWatch(cluster, say=_say, interactive=options.interactive, timeout=options.timeout),
            say=_say,
        )
        try:
            _weeks(demo, options)
            _say(f"  All projects         {devserver.url}")
            _say(f"\nDone in {time.monotonic() - began:.0f} s.")
        except DemoError as error:
            if not options.keep:
                raise
            print(f"\nwandb-airflow demo: {error}", file=sys.stderr, flush=True)
            _keep(cluster, devserver)
            return 1
        if options.keep:
            _keep(cluster, devserver)
    return 0


def _weeks(demo: WeeklyDemo, options: argparse.Namespace) -> None:
    alias = demo.prepare()
    for number in range(1, options.runs + 1):
        degrade = options.degrade_last and number == options.runs
        _say("")
        if options.runs > 1:
            _say(f"Week {number} of {options.runs}{', with a candidate made worse' if degrade else ''}")
        result = demo.run_week(alias, degrade=degrade)
        for line in demo.report(result):
            _say(line)
        demo.check(result, degraded=degrade)


def _keep(cluster: AirflowCluster, devserver: DevServerProcess) -> None:
    _say(f"\nAirflow ({cluster.url}) and the dev server ({devserver.url}) keep running. Ctrl-C ends them.")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            cluster.check()
            devserver.check()
            time.sleep(1.0)
    _say("\nEnding every process that the demo started.")


@contextlib.contextmanager
def _own_folder(folder: Path, *, resume: bool) -> Iterator[Path]:
    """Hold the demo's folder for this process alone, emptied unless an earlier demo is resumed."""
    marker = folder / _MARKER
    if folder.exists() and not marker.exists() and any(folder.iterdir()):
        raise DemoError(
            f"The folder {folder} is not empty and was not made by the demo. Name another with --folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with marker.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(
                f"Another demo is running in {folder}. End it, or name another folder with --folder."
            ) from None
        if not resume:
            for part in ("airflow", "devserver", "ledger"):
                if (folder / part).exists():
                    shutil.rmtree(folder / part)
        yield folder


def _require_distributions() -> None:
    for distribution in _NEEDED:
        # Asked by name, not imported: importing Airflow here would create a home for it in the user's own.
        try:
            importlib.metadata.distribution(distribution)
        except importlib.metadata.PackageNotFoundError:
            raise DemoError(
                f"The demo needs {distribution}, which is not installed. Install it with: "
                "pip install 'wandb-airflow-provider[demo]'"
            ) from None


def _default_dags_folder() -> Path:
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / "dags"
    return checkout if (checkout / "weekly_retraining.py").exists() else package / "_example_dags"


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(argv)
    if options.degrade_last and options.runs < 2:
        parser.error("--degrade-last needs --runs 2 or more: the gate compares with the run before")
    if not options.dags_folder.is_dir():
        parser.error(f"--dags-folder {options.dags_folder} is not a folder")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wandb-airflow demo",
        description="Run the weekly retraining workflow to its end on a local Airflow and a local W&B-compatible "
        "server. No account is needed. Ctrl-C ends every process that it starts.",
    )
    add = parser.add_argument
    add(
        "--keep",
        action="store_true",
        help="leave everything running afterwards, to look around, until Ctrl-C",
    )
    add("--interactive", action="store_true", help="print where to approve, and wait for you to do it")
    add("--runs", type=_positive, default=1, metavar="N", help="weekly runs, one after the other (default 1)")
    add(
        "--degrade-last",
        action="store_true",
        help="make the last run's candidate worse, so that the gate stops it; with --runs 2 and more",
    )
    add("--airflow-port", type=_port, default=0, metavar="PORT", help="port of Airflow (default: a free one)")
    add("--devserver-port", type=_port, default=0, metavar="PORT", help="port of W&B (default: a free one)")
    add(
        "--folder",
        type=Path,
        default=Path(".demo"),
        metavar="DIR",
        help="where everything is kept (default .demo), emptied at the start",
    )
    add("--resume", action="store_true", help="continue with what is in the folder instead of emptying it")
    add(
        "--dags-folder",
        type=Path,
        default=_default_dags_folder(),
        metavar="DIR",
        help="another folder with DAGs of the same ids",
    )
    add(
        "--timeout",
        type=float,
        default=600.0,
        metavar="S",
        help="longest time for a DAG run, in seconds (600)",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port (0 to 65535)")
    return port


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Treat a request to end, and a closed terminal, like Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # A shell starts background jobs with SIGINT ignored; who then sends it means it. With nohup, SIGHUP stays ignored.
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _say(line: str) -> None:
    print(line, flush=True)
