"""Controls with arguments that nobody means: each is refused with a sentence, and the server goes on as before."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wandb_airflow_provider.devserver import DevServer, controls
from wandb_airflow_provider.devserver.clock import EARLIEST, LATEST, Clock

VIEWER = "query Me { viewer { username } }"
# They drop everything, which takes long: what may be wrong with them is asked for one by one.
UNFIT = ("reset", "seed")
NUMBERS = [0, 1, -1, 0.5, 10**12, 10**30, 10**400, 1e12, 1e308, -1e308, math.nan, math.inf, -math.inf]
TEXTS = [
    "", "x", "*", "\ud800", "a\udfffb", "\x00", "é", "{", "dev", "local", "http://127.0.0.1:9/x", "x" * 5000,
    "2026-01-01", "0001-01-01", "9999-12-31T23:59:59", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00",
]  # fmt: skip


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    with DevServer(tmp_path_factory.mktemp("controlled")) as running:
        yield running


@pytest.fixture(scope="module")
def client(own: DevServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=own.url, timeout=30) as client:
        yield client


@pytest.fixture
def control(own: DevServer, client: httpx.Client) -> httpx.Client:
    """A client of the controls of a server that is empty."""
    own.reset()
    return client


def send(control: httpx.Client, verb: str, name: str, body: Any) -> httpx.Response:
    if verb == "GET":
        params = {key: value for key, value in body.items() if isinstance(value, str) and value.isprintable()}
        return control.get(f"/_control/{name}", params=params)
    # As Python's own clients write it: NaN and Infinity as such, half a surrogate pair as an escape.
    return control.request(verb, f"/_control/{name}", content=json.dumps(body))


def ask(own: DevServer, client: httpx.Client, body: Any, key: str | None = None) -> httpx.Response:
    return client.post("/graphql", content=json.dumps(body), auth=("api", key or own.api_key))


def still_serves(own: DevServer, control: httpx.Client) -> None:
    for told in ("state", "requests", "deliveries"):
        assert control.get(f"/_control/{told}").status_code == 200, told
    own.faults.clear()
    asked = ask(own, control, {"query": VIEWER})
    assert asked.status_code == 200, asked.text


def values(kind: Any) -> st.SearchStrategy[Any]:
    if kind is str:
        return st.sampled_from(TEXTS) | st.text(max_size=10)
    whole = st.sampled_from([number for number in NUMBERS if isinstance(number, int)]) | st.integers()
    return whole if kind is int else whole | st.sampled_from(NUMBERS) | st.floats()


@pytest.mark.parametrize(("verb", "name"), [found for found in controls._CONTROLS if found[1] not in UNFIT])
def test_control_with_its_own_arguments_of_any_size(
    own: DevServer, control: httpx.Client, verb: str, name: str
) -> None:
    takes = controls._CONTROLS[verb, name][1]

    @settings(
        max_examples=30,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.fixed_dictionaries({}, optional={key: values(kind) for key, kind in takes.items()}))
    def try_out(body: dict[str, Any]) -> None:
        answer = send(control, verb, name, body)
        assert answer.status_code in (200, 400, 404), answer.text[:2000]
        assert "internal error" not in answer.text
        if answer.status_code != 200:
            assert answer.json()["error"]
        assert control.get("/_control/state").status_code == 200

    try_out()
    still_serves(own, control)


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("advance", {"seconds": 1e12}, "it ends with 3000"),
        ("advance", {"seconds": 1e308}, "it ends with 3000"),
        ("advance", {"seconds": 10**400}, "it ends with 3000"),
        ("advance", {"seconds": math.inf}, "it ends with 3000"),
        ("advance", {"seconds": math.nan}, "can only be moved on"),
        ("freeze", {"at": "9999-12-31T23:59:59"}, "from 1970 to 3000, not to 9999-12-31 23:59:59"),
        ("freeze", {"at": "0001-01-01T00:00:00+14:00"}, "from 1970 to 3000"),
        ("seed", {"seed": "s", "at": "9999-12-31"}, "from 1970 to 3000"),
        ("seed", {"seed": "\ud800"}, "half a surrogate pair"),
        ("identity-token", {"seconds": math.inf}, "seconds must be at most 315360000"),
        ("identity-token", {"access_seconds": 10**30}, "access_seconds must be at most 315360000"),
        ("fail", {"retry_after": math.nan}, "retry_after must be from 0 to 86400"),
        ("fail", {"retry_after": 10**400}, "retry_after must be from 0 to 86400"),
        ("fail", {"message": "\ud800"}, "half a surrogate pair"),
        ("delay", {"seconds": math.nan}, "seconds must be from 0 to 3600"),
        ("settle", {"timeout": math.inf}, "timeout must be from 0 to 600"),
        ("settle", {"timeout": math.nan}, "timeout must be from 0 to 600"),
        ("away", {"seconds": math.nan}, "seconds must be from 0 to 600"),
        ("expire", {"key": "\ud800"}, "half a surrogate pair"),
    ],
)
def test_what_nobody_can_mean_is_refused_and_changes_nothing(
    own: DevServer, control: httpx.Client, name: str, body: dict[str, Any], said: str
) -> None:
    key = own.add_account("kept", teams=("local",))
    answer = send(control, "POST", name, body)
    assert (answer.status_code, said in answer.json()["error"]) == (400, True), answer.text
    assert own.faults.waiting() == []
    assert not own.clock.frozen
    assert abs((own.clock() - datetime.now(UTC)).total_seconds()) < 60
    assert ask(own, control, {"query": VIEWER}, key).json() == {"data": {"viewer": {"username": "kept"}}}
    still_serves(own, control)


@pytest.mark.parametrize("frozen", [False, True])
def test_clock_is_set_and_moved_as_far_as_it_goes_and_no_further(frozen: bool) -> None:
    real = [datetime(2026, 5, 1, tzinfo=UTC)]
    clock = Clock(lambda: real[0])
    if frozen:
        assert clock.freeze(EARLIEST) == EARLIEST
    left = (LATEST - clock()).total_seconds()
    with pytest.raises(ValueError, match="it ends with 3000"):
        clock.advance(left + 1)
    assert clock() == (EARLIEST if frozen else real[0])
    assert clock.advance(left) == clock() == LATEST
    clock.unfreeze()
    real[0] += timedelta(days=365)
    assert clock() == LATEST + timedelta(days=365), "time goes on by itself"
    clock.reset()
    assert clock() == real[0]


def test_record_tells_what_json_and_utf_8_do_not_have(own: DevServer, control: httpx.Client) -> None:
    variables = {"x": math.nan, "y": [math.inf, -math.inf, 1.5], "\ud800": "a\udfffb", "z": 10**30}
    body = {"query": VIEWER, "operationName": "Me", "variables": variables}
    assert ask(own, control, body).status_code == 200
    for name in ("Odd\ud800", {"a": 1}, 5):
        ask(own, control, {**body, "operationName": name})
    stream = json.dumps({"files": {"wandb-history.jsonl": {"offset": math.nan, "content": ["\ud800"]}}})
    control.post("/files/local/p/r/file_stream", content=stream, auth=("api", own.api_key))

    told = control.get("/_control/requests").raise_for_status().json()["requests"]
    assert told[0]["variables"] == {
        "x": "NaN",
        "y": ["Infinity", "-Infinity", 1.5],
        "\\ud800": "a\\udfffb",
        "z": 10**30,
    }
    assert len(told) == 5
    assert told[1]["operation"] == "Odd\\ud800"
    content = told[-1]["body"]["files"]["wandb-history.jsonl"]
    assert content == {"offset": "NaN", "content": ["\\ud800"]}
    assert control.get("/_control/state").json()["requests"]["Me"] == 1
