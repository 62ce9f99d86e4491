"""
Run cells of the support matrix: the wheel, installed beside one Airflow and one wandb, passes the provider's tests.

``python tools/matrix CELL...`` runs the named cells (``airflow-3.3-wandb-0.30``), or all. Each has an environment of
its own under ``.matrix/``, built from the hashed versions in ``tools/matrix/CELL.txt``; nothing in it leads to the
checkout. What was run is written to ``results.json``, and from there to the table of ``docs/support.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CELLS = ROOT / "tools" / "matrix"
WORK = ROOT / ".matrix"
RESULTS = CELLS / "results.json"
PAGE = ROOT / "docs" / "support.md"
BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"
LIMIT_SECONDS = 360.0
# What Airflow supports beyond the oldest Python, the newest first.
NEWER_PYTHONS = ("python3.14", "python3.13", "python3.12")
TESTS = (
    "tests/packaging/test_provider.py",
    "tests/unit/test_connection.py",
    "tests/unit/operators/test_python.py",
    "tests/unit/operators/test_gate.py",
    "tests/unit/operators/test_gate_audit.py",
    "tests/unit/operators/test_gate_baseline.py",
    "tests/unit/operators/test_lifecycle.py",
    "tests/dags/test_pipeline.py",
)


class CellError(Exception):
    """A cell that did not pass, with what its last command said."""


def names() -> list[str]:
    """Return all cells."""
    return sorted(path.stem for path in CELLS.glob("airflow-*.in"))


def table(results: dict[str, Any]) -> str:
    """Return the results as the table of the documentation."""
    rows = [
        "| Airflow | wandb | Python | Result |",
        "|---|---|---|---|",
        *(
            f"| {row['airflow']} | {row['wandb']} | {row['python']} | {row['result']} |"
            for _, row in sorted(results.items())
        ),
    ]
    return "\n".join(rows)


def write(results: dict[str, Any]) -> None:
    """Write the results, and the table of the documentation from them."""
    RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}")


def run(*command: str | Path, env: dict[str, str], cwd: Path, limit: float = LIMIT_SECONDS) -> str:
    """
    Run a command and return what it printed.

    :raises CellError: it failed, or took longer than ``limit`` seconds.
    """
    try:
        done = subprocess.run(
            [str(part) for part in command],
            env=env,
            cwd=cwd,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=max(1.0, limit),
        )
    except subprocess.TimeoutExpired as error:
        raise CellError(f"{command[0]} took more than {limit:.0f} s") from error
    if done.returncode:
        raise CellError(done.stdout[-6000:])
    return done.stdout


def clean_environment() -> dict[str, str]:
    """Return this environment without what would lead an interpreter or wandb elsewhere."""
    dropped = ("PYTHON", "VIRTUAL_ENV", "AIRFLOW", "WANDB")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def build_wheel() -> Path:
    """Build the wheel of the checkout."""
    folder = WORK / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    run(
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        folder,
        env=dict(os.environ),
        cwd=ROOT,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(cell: str, python: str, wheel: Path) -> Path:
    """Build the cell's environment, unless it is there, and put the wheel into it; returns its interpreter."""
    uv = Path(sys.executable).parent / "uv"
    folder = WORK / f"{cell}-py{python_version(python)}"
    stamp = folder / ".installed"
    locked = CELLS / f"{cell}.txt"
    digest = hashlib.sha256(locked.read_bytes()).hexdigest()
    env = {**clean_environment(), "VIRTUAL_ENV": str(folder)}
    if not stamp.exists() or stamp.read_text() != digest:
        run(uv, "venv", "--quiet", "--clear", "--python", python, folder, env=env, cwd=WORK)
        run(uv, "pip", "install", "--quiet", "--require-hashes", "-r", locked, env=env, cwd=WORK)
        stamp.write_text(digest)
    package = "wandb-airflow-provider"
    run(
        uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--reinstall-package", package, wheel,
        env=env, cwd=WORK,
    )  # fmt: skip
    run(uv, "pip", "check", env=env, cwd=WORK)
    return folder / "bin" / "python"


def python_version(python: str) -> str:
    """Return an interpreter's version as ``3.11``."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return run(python, "-c", code, env=clean_environment(), cwd=ROOT).strip()


def newest_python(otherwise: str) -> str:
    """Return the newest interpreter that the table has and that is found on the path or was built by pyenv."""
    ran = {f"python{row['python']}" for row in json.loads(RESULTS.read_text()).values()}
    built = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for name in NEWER_PYTHONS:
        if name not in ran:
            continue
        on_path = shutil.which(name)
        for candidate in ([on_path] if on_path else []) + sorted(map(str, built.glob(f"*/bin/{name}"))):
            # On the path may be a command that knows no such version after all.
            try:
                if f"python{python_version(candidate)}" == name:
                    return candidate
            except CellError:
                continue
    return otherwise


def interpreter(command: str) -> str:
    """
    Return where an interpreter is, wherever it is asked for afterwards.

    :raises argparse.ArgumentTypeError: there is none.
    """
    found = shutil.which(command)
    if found is None:
        raise argparse.ArgumentTypeError(f"There is no interpreter {command!r}.")
    # Not resolved: a link in an environment is another interpreter than the one it leads to.
    return str(Path(found).absolute())


def corners(python: str) -> list[tuple[str, str]]:
    """Return the cells, with their interpreters, that every change is tested with."""
    oldest, *_, newest = names()
    return [(oldest, python), (newest, newest_python(python))]


def run_cell(cell: str, python: str, wheel: Path, limit: float = LIMIT_SECONDS) -> str:
    """
    Install the wheel, run the smoke test and the tests; returns how many tests passed.

    :param limit: Seconds for both.
    :raises CellError: the cell is not green.
    """
    cell_python = install(cell, python, wheel)
    work = WORK / "work" / cell
    shutil.rmtree(work, ignore_errors=True)
    unwanted = shutil.ignore_patterns("__pycache__")
    for folder in ("tests", "dags"):
        shutil.copytree(ROOT / folder, work / folder, ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", work)
    env = {**clean_environment(), "AIRFLOW_HOME": str(work / "airflow"), "WANDB_ERROR_REPORTING": "false"}
    end = time.monotonic() + limit
    smoke = run(cell_python, "-W", "ignore", CELLS / "smoke.py", env=env, cwd=work / "dags")
    print(smoke.strip().splitlines()[-1], flush=True)
    # The dependencies of an older Airflow deprecate each other; warnings are errors on the newest alone.
    printed = run(
        cell_python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "filterwarnings=default", *TESTS,
        env=env, cwd=work, limit=end - time.monotonic(),
    )  # fmt: skip
    (passed,) = re.findall(r"(\d+) passed", printed.splitlines()[-1])
    return str(passed)


def main() -> int:
    """Run the cells that the command line names; 1 when one of them is not green."""
    parser = argparse.ArgumentParser(prog="python tools/matrix", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("cells", nargs="*", metavar="CELL", help=", ".join(names()))
    parser.add_argument(
        "--python", type=interpreter, default=sys.executable, help="interpreter of the cells' environments"
    )
    parser.add_argument(
        "--corners",
        action="store_true",
        help="oldest with oldest, and newest with newest on the newest Python",
    )
    parser.add_argument("--check", action="store_true", help="write no results")
    parser.add_argument(
        "--limit", type=float, default=LIMIT_SECONDS, help="seconds for the tests of a cell (%(default)s)"
    )
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.cells) - set(names()))
    if unknown:
        parser.error(f"There is no cell {', '.join(unknown)}. There are {', '.join(names())}.")
    planned = [(cell, chosen.python) for cell in chosen.cells or names()]
    if chosen.corners:
        planned = corners(chosen.python)
    WORK.mkdir(exist_ok=True)
    wheel = build_wheel()
    failed = 0
    for cell, python in planned:
        pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (CELLS / f"{cell}.in").read_text(), re.MULTILINE))
        version = python_version(python)
        began = time.monotonic()
        try:
            passed = run_cell(cell, python, wheel, chosen.limit)
        except CellError as error:
            failed += 1
            result = "failed"
            print(error, flush=True)
        else:
            result = f"wheel installed, smoke test and {passed} tests passed"
        print(f"{cell}, Python {version}: {result} ({time.monotonic() - began:.0f} s)", flush=True)
        if chosen.check:
            continue
        row = {"airflow": pins["apache-airflow"], "wandb": pins["wandb"], "python": version, "result": result}
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        write({**known, f"{cell}-py{version}": row})
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
