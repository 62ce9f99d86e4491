"""The plugin in pytest runs of their own, as in another team's repository."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

PLUGIN = "wandb_airflow_provider.devserver.pytest_plugin"

_CLIENT = """
import os
from pathlib import Path

import httpx
import pytest

UPSERT = 'mutation U { upsertBucket(input: {modelName: "p", name: "r"}) { inserted } }'


def ask(server, document=UPSERT, key=None):
    answer = httpx.post(
        f"{server.url}/graphql", json={"query": document}, auth=("api", key or server.api_key), timeout=30
    )
    return answer.status_code
"""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run pytest where neither this repository's settings nor its conftest reach."""
    return pytester.runpytest_subprocess(
        "-p", PLUGIN, "--strict-markers", "-p", "no:cacheprovider", *arguments
    )


def test_installed_package_registers_the_plugin_under_the_name_of_its_module() -> None:
    (found,) = entry_points(group="pytest11", name=PLUGIN)
    assert found.value == PLUGIN


def test_loading_the_plugin_imports_nothing_but_pytest() -> None:
    script = (
        "import sys, pytest; before = set(sys.modules);"
        f"import {PLUGIN};"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(found.stdout.split()) <= {"wandb_airflow_provider", "secrets", "hmac", "base64"}


@pytest.mark.slow
def test_each_test_gets_an_empty_server_that_refuses_what_an_earlier_one_still_sends(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        _CLIENT
        + """
seen = {}


@pytest.mark.parametrize("number", range(3))
def test_alone(wandb_server, wandb_faults, number):
    assert wandb_server.runs("p") == []
    assert wandb_server.requests() == []
    assert wandb_faults.waiting() == []
    assert not wandb_server.clock.frozen
    for late in seen.values():
        assert ask(wandb_server, key=late) == 401
    assert wandb_server.runs("p") == []
    assert wandb_server.requests() == []
    assert wandb_server.api_key not in seen.values()
    seen[number] = wandb_server.api_key
    assert ask(wandb_server) == 200
    wandb_faults.fail(503, op="U", times=2)
    assert ask(wandb_server) == 503
    wandb_server.clock.freeze()
    if number == 1:
        wandb_server.go_away()


def test_one_server_for_all(wandb_server):
    assert len(seen) == 3
    assert seen.setdefault("url", wandb_server.url) == wandb_server.url
"""
    )
    run(pytester).assert_outcomes(passed=4)


@pytest.mark.slow
def test_test_that_asks_for_what_the_server_does_not_know_fails_unless_marked(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        _CLIENT
        + """
UNKNOWN = "query FetchThing { projekt { id } }"


def test_unmarked(wandb_server):
    assert ask(wandb_server, UNKNOWN) == 400


@pytest.mark.wandb_allow_unknown
def test_marked(wandb_server):
    assert ask(wandb_server, UNKNOWN) == 400


@pytest.mark.wandb_allow_unknown("FetchThing.projekt")
def test_named(wandb_server):
    assert ask(wandb_server, UNKNOWN) == 400


@pytest.mark.wandb_allow_unknown("Other.thing")
def test_named_wrongly(wandb_server):
    assert ask(wandb_server, UNKNOWN) == 400


def test_after(wandb_server):
    assert wandb_server.unknown_operations() == {}
"""
    )
    result = run(pytester)
    result.assert_outcomes(passed=5, errors=2)
    result.stdout.fnmatch_lines(["*was asked for what it does not know: [[]'FetchThing.projekt'[]]*"])


@pytest.mark.slow
def test_connection_keeps_the_test_off_the_users_own_wandb(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "u" * 40)
    monkeypatch.setenv("WANDB_PROJECT", "precious")
    monkeypatch.setenv("WANDB_BASE_URL", "https://api.example")
    pytester.makeini("[pytest]\nwandb_conn_id = wandb_ml\n")
    pytester.makeconftest(
        """
import pytest

@pytest.fixture(scope="session")
def wandb_server_options():
    return {"teams": ("acme",)}
"""
    )
    pytester.makepyfile(
        _CLIENT
        + """
def test_connection(wandb_connection, wandb_server, tmp_path):
    import wandb
    from airflow.sdk import BaseHook

    found = BaseHook.get_connection("wandb_ml")
    assert (found.conn_type, found.host, found.password) == ("wandb", wandb_server.url, wandb_server.api_key)
    assert found.extra_dejson == {"entity": "acme"}
    assert (wandb_connection.conn_id, wandb_connection.entity) == ("wandb_ml", "acme")
    assert wandb_server.api_key not in repr(wandb_connection)

    assert not {"WANDB_API_KEY", "WANDB_PROJECT"} & set(os.environ)
    assert os.environ["WANDB_BASE_URL"].startswith("http://127.0.0.1:")
    assert Path(os.environ["WANDB_CACHE_DIR"]).is_relative_to(tmp_path)
    assert not Path(os.environ["NETRC"]).exists()
    with pytest.raises(wandb.errors.UsageError, match="No API key configured"):
        wandb.init(project="p")

    settings = wandb.Settings(base_url=wandb_connection.url, api_key=wandb_connection.api_key, console="off")
    with wandb.init(project="p", entity="acme", settings=settings) as run:
        run.log({"loss": 0.5})
    (stored,) = wandb_server.runs("p")
    assert (stored.state, stored.summary["loss"]) == ("finished", 0.5)


@pytest.mark.parametrize("number", range(2))
def test_client_from_the_environment_has_the_key_of_this_test(wandb_connection, monkeypatch, number):
    import wandb

    monkeypatch.setenv("WANDB_BASE_URL", wandb_connection.url)
    monkeypatch.setenv("WANDB_API_KEY", wandb_connection.api_key)
    assert wandb.Api().viewer.username == "dev"


def test_environment_comes_back():
    assert os.environ["WANDB_API_KEY"] == "u" * 40
    assert "AIRFLOW_CONN_WANDB_ML" not in os.environ
"""
    )
    run(pytester, "-W", "ignore").assert_outcomes(passed=4)


@pytest.mark.slow
def test_workers_of_xdist_have_a_server_each(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(
        _CLIENT
        + """
@pytest.mark.parametrize("number", range(6))
def test_alone(wandb_server, worker_id, number):
    assert wandb_server.runs("p") == []
    assert ask(wandb_server) == 200
    assert [run.name for run in wandb_server.runs("p")] == ["r"]
    with Path(os.environ["SERVERS"]).open("a") as file:
        file.write(f"{worker_id} {wandb_server.url}\\n")
"""
    )
    servers = pytester.path / "servers.txt"
    monkeypatch.setenv("SERVERS", str(servers))
    run(pytester, "-n", "2").assert_outcomes(passed=6)
    used = {tuple(line.split()) for line in servers.read_text().splitlines()}
    assert len({worker for worker, _ in used}) == len({url for _, url in used}) == len(used) == 2


def test_missing_extra_is_named(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import sys\nsys.modules['uvicorn'] = None\n")
    pytester.makepyfile("def test_it(wandb_server): ...")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*install 'wandb-airflow-provider[[]devserver[]]'*"])
