"""
Keep one command, and everything it starts, from outliving the process that asked for it.

Run as a script: ``python warden.py GRACE COMMAND...``, with a pipe as standard input. The command runs until
it ends by itself or the pipe closes, which also happens when the asking process is killed. Then the command
is sent SIGTERM, has ``GRACE`` seconds, and after that every process that descends from it is killed, whatever
sessions and process groups these have moved to. Standard library only, so that it starts in an instant.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

_PR_SET_CHILD_SUBREAPER = 36
_KILL_TIMEOUT = 10.0


def main(argv: list[str]) -> int:
    """
    Run the command under guard.

    :param argv: Grace in seconds, then the command.
    :return: The command's exit code; 128 + n when signal n ended it.
    """
    grace, command = float(argv[0]), argv[1:]
    _adopt_orphans()
    wakeup, wakeup_write = os.pipe()
    for fd in (wakeup, wakeup_write):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.append(signal.SIGTERM))
    # The terminal's signals are for the asking process, which then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, preexec_fn=_restore_signals if os.name == "posix" else None
    )
    exit_code: int | None = None
    while exit_code is None and not asked_to_stop:
        ready, _, _ = select.select([sys.stdin.fileno(), wakeup], [], [])
        if wakeup in ready:
            _drain(wakeup)
            exit_code = _reap(child.pid)
        if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 1024):
            break
    if exit_code is None:
        exit_code = _terminate(child.pid, grace, wakeup)
    _kill_descendants()
    return exit_code


def _terminate(pid: int, grace: float, wakeup: int) -> int:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    killed = False
    while (exit_code := _reap(pid)) is None:
        remaining = deadline - time.monotonic()
        if remaining <= 0 and not killed:
            os.kill(pid, signal.SIGKILL)
            killed = True
        select.select([wakeup], [], [], max(remaining, 0.05))
        _drain(wakeup)
    return exit_code


def _reap(pid: int) -> int | None:
    """Collect every child that has ended; return the exit code of ``pid`` when it was among them."""
    found: int | None = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if ended == 0:
            return found
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def _kill_descendants() -> None:
    # Repeated, because a process may fork between the listing and the kill.
    deadline = time.monotonic() + _KILL_TIMEOUT
    while (pids := _descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        _reap(-1)
        time.sleep(0.02)


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in _process_table():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    frontier = [root]
    while frontier:
        frontier = [pid for parent in frontier for pid in children.get(parent, [])]
        found.extend(frontier)
    return found


def _process_table() -> list[tuple[int, int]]:
    if not os.path.isdir("/proc/self"):
        listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
        rows = [line.split() for line in listing.stdout.splitlines()]
        return [(int(row[0]), int(row[1])) for row in rows if len(row) == 2]
    table: list[tuple[int, int]] = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            # A process may end between the listing and the reading.
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", encoding="utf-8") as stat:
                # The command name, in parentheses, may itself hold spaces and parentheses.
                table.append((int(entry), int(stat.read().rpartition(")")[2].split()[1])))
    return table


def _adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that none is lost from sight."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _restore_signals() -> None:
    # An ignored signal stays ignored across exec, and Airflow expects SIGINT's default.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _drain(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 4096):
            pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
