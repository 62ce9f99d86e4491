"""A Python process of its own that uses wandb's SDK, apart from the settings and folders of whoever starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def start_script(script: str, folder: str, *arguments: object) -> subprocess.Popen[str]:
    """
    Start a script with pipes for its input and output.

    :param folder: Where the SDK has its caches and settings; also the first of the script's arguments.
    """
    own = {
        f"WANDB_{name}_DIR": str(Path(folder, name.lower()))
        for name in ("CACHE", "DATA", "CONFIG", "ARTIFACT")
    }
    # No system folder is read or written, and nothing is sent elsewhere.
    environment = {**os.environ, **own, "HOME": folder, "WANDB_ERROR_REPORTING": "false"}
    command = [sys.executable, "-c", script, folder, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def end_script(process: subprocess.Popen[str]) -> str:
    """
    Wait for the end of a script and return what it printed, except what was already read.

    :raises RuntimeError: it failed; the message has what it wrote to standard error.
    """
    output, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"A benchmark script ended with exit code {process.returncode}:\n{errors}")
    return output


def run_script(script: str, folder: str, *arguments: object) -> str:
    """Run a script to its end and return the last line that it printed."""
    return end_script(start_script(script, folder, *arguments)).splitlines()[-1]
