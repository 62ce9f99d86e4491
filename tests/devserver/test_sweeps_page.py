"""The page of a sweep."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.devserver.sweep_client import SweepClient, grid
from wandb_airflow_provider.devserver import DevServer


@pytest.fixture
def client(server: DevServer, project: str) -> Iterator[SweepClient]:
    made = SweepClient(server, project)
    with made.http:
        yield made


def test_the_page_of_a_sweep_ranks_its_runs_and_draws_the_metric_by_parameter(
    server: DevServer, client: SweepClient
) -> None:
    config = {
        "method": "grid",
        "name": "depth <b>& rate",
        "metric": {"name": "loss", "goal": "minimize"},
        "parameters": {
            "fixed": {"value": 7},
            "lr": {"values": [0.001, 1]},
            "model": {"parameters": {"kind": {"values": ["<i>x</i>", "y"]}}},
        },
    }
    sweep = client.create(config)
    address = f"{server.url}/local/{client.project}/sweeps/{sweep['name']}"
    assert "No runs yet" in httpx.get(address).text
    agent = client.agent(sweep)
    names = [client.run(agent, loss) for loss in (3.0, 1.0, 2.0)]
    client.beat(agent)

    response = httpx.get(address)
    assert response.status_code == 200
    page = response.text
    assert "<b>" not in page
    assert "<i>" not in page
    assert "depth &lt;b&gt;&amp; rate" in page
    assert "4 of 4" in page
    rows = re.findall(r'<td class="name"><a href="[^"]*/runs/(\w+)">', page)
    assert rows[:3] == [names[1], names[2], names[0]], "the best first, one without the metric last"
    assert page.count('<span class="tag">best</span>') == 1
    assert (
        page.index(f"/runs/{names[1]}")
        < page.index('<span class="tag">best</span>')
        < page.index(f"/runs/{names[2]}")
    )
    data = re.search(r'id="chart-data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    figures = json.loads(data[1])
    assert [
        (figure["layout"]["xaxis"]["title"]["text"], figure["layout"]["xaxis"]["type"]) for figure in figures
    ] == [
        ("lr", "log"),
        ("model.kind", "category"),
    ], "a constant is not drawn"
    assert figures[0]["data"][0]["x"] == [0.001, 0.001, 1]
    assert figures[0]["data"][0]["y"] == [3.0, 1.0, 2.0]


def test_a_sweep_that_is_not_there_has_no_page(server: DevServer, client: SweepClient) -> None:
    client.create(grid(1))
    response = httpx.get(
        f"{server.url}/local/{client.project}/sweeps/nothing", headers={"Accept": "text/html"}
    )
    assert response.status_code == 404
    assert "has no sweep nothing" in response.text
