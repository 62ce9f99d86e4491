"""Federated login with each SDK that the package supports: what it relies on, by wandb's public names alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import SDKS
from wandb_airflow_provider.devserver import DevServer

OLDEST = (0, 30)
# Older environments are there for the dev server alone.
SUPPORTED = [
    name for name in sorted(SDKS) if name == "newest" or tuple(map(int, re.findall(r"\d+", name))) >= OLDEST
]
SCRIPT = """
import json, os, sys
from pathlib import Path

import wandb

url, key, project, folder = sys.argv[1:]
token = Path(folder, "token")
quiet = {"base_url": url, "silent": True, "console": "off"}
found = {"version": wandb.__version__}


def login():
    wandb.setup(wandb.Settings(identity_token_file=str(token), credentials_file=os.devnull, **quiet))


def log(**settings):
    with wandb.init(entity="local", project=project, settings=wandb.Settings(**quiet, **settings)) as run:
        run.log({"loss": 1})


def name(**arguments):
    return wandb.Api(overrides={"base_url": url}, **arguments).viewer.username


def error(use):
    try:
        use()
    except Exception as raised:
        return [type(raised).__module__.partition(".")[0], str(raised)]


os.environ["WANDB_API_KEY"] = "f" * 40
login()
log()
found["token"] = name()
log(api_key=key)
found["key"] = name(api_key=key)
login()
long_lived = wandb.Api(overrides={"base_url": url})
found["again"] = long_lived.viewer.username
token.write_text(Path(folder, "refused").read_text())
found["refused"] = [error(name), error(log)]
found["variables"] = {name: value for name, value in os.environ.items() if "TOKEN" in name or "CREDENTIALS" in name}
print(json.dumps(found))
"""


@pytest.mark.parametrize("sdk_name", SUPPORTED)
def test_a_process_logs_in_with_a_token_file_and_a_key_by_turns(
    sdk_name: str, server: DevServer, tmp_path: Path
) -> None:
    project = f"federated-{sdk_name.replace('.', '-')}"
    server.add_account("robot", teams=("local",))
    (tmp_path / "token").write_text(server.issue_identity_token("robot") + "\n")
    (tmp_path / "refused").write_text(server.issue_identity_token("robot", audience="elsewhere"))
    (tmp_path / "home").mkdir()

    ran = subprocess.run(
        [SDKS[sdk_name], "-c", SCRIPT, server.url, server.api_key, project, str(tmp_path)],
        cwd=tmp_path,
        # Nothing of this process: neither its login nor its settings.
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
    assert [found["token"], found["key"], found["again"]] == ["robot", "dev", "robot"]
    assert [run.user for run in server.runs(project)] == ["robot", "dev"]
    for package, message in found["refused"]:
        assert package == "wandb"
        assert "failed to retrieve access token: HTTP 400: {" in message
        assert "is for the audience 'elsewhere'; expected 'local-org' or 'wandb'." in message
    assert found["variables"] == {}
    secret = (tmp_path / "token").read_text()
    left = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert not [path for path in left if secret in path.read_text(errors="replace")]
    assert not [path for path in left if path.name == "credentials.json"]
