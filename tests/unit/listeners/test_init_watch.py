"""``wandb.init`` is watched also where wandb is imported later, and by a process that never imports it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_PROCESS = """
import importlib.util, json, sys
from wandb_airflow_provider.listeners.init_watch import InitWatch

class Watcher:
    calls = []
    def additions(self, arguments):
        return {"group": "g"}
    def opened(self, run, arguments):
        self.calls.append([run, sorted(arguments)])

watch = InitWatch(Watcher())
before = list(sys.meta_path)
watch.start()
assert importlib.util.find_spec("json") is not None
STEPS
watch.stop()
assert sys.meta_path == before
print(json.dumps(Watcher.calls))
"""
_FAKE = """
def init(entity=None, project=None, *, group=None):
    if entity == "nobody":
        raise ValueError("nobody")
    return [entity, project, group]
"""
_IMPORTED = """
import wandb
loader = wandb.__spec__.loader
assert type(loader).__module__ != "wandb_airflow_provider.listeners.init_watch", loader
assert wandb.__loader__ is loader
"""


@pytest.mark.parametrize(
    ("steps", "calls"),
    [
        ("", []),
        (
            f'{_IMPORTED}assert wandb.init("e", project="p") == ["e", "p", "g"]',
            [[["e", "p", "g"], ["entity", "project"]]],
        ),
        (
            f"{_IMPORTED}try:\n    wandb.init('nobody')\n    assert False\nexcept ValueError:\n    pass",
            [],
        ),
        (
            f"{_IMPORTED}try:\n    wandb.init(nonsense=1)\n    assert False\nexcept TypeError:\n    pass",
            [],
        ),
        (
            f"{_IMPORTED}watch.stop()\nassert wandb.init('e') == ['e', None, None]",
            [],
        ),
        (
            f"{_IMPORTED}mine = lambda: 1\nwandb.init = mine\nwatch.stop()\nassert wandb.init is mine",
            [],
        ),
    ],
    ids=["never", "called", "raises", "called-wrong", "stopped", "replaced-by-others"],
)
def test_an_import_after_the_start_is_watched(tmp_path: Path, steps: str, calls: list[object]) -> None:
    (tmp_path / "wandb.py").write_text(_FAKE)
    code = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n{_PROCESS.replace('STEPS', steps)}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == calls


def test_an_environment_without_wandb_says_so_as_ever() -> None:
    steps = (
        # Also without the folder "wandb" that runs leave where they were started.
        "import os\nsys.path = [p for p in sys.path if not os.path.isdir(os.path.join(p, 'wandb'))]\n"
        "try:\n    import wandb\n    assert False\n"
        "except ModuleNotFoundError as error:\n    assert error.name == 'wandb'"
    )
    done = subprocess.run(
        [sys.executable, "-c", _PROCESS.replace("STEPS", steps)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
