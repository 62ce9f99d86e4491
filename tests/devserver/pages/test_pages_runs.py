"""The table of runs: what its address finds, in which order, and what it says of a query without meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.devserver.pages.page import Page
from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.resolvers.projects import insert_project
from wandb_airflow_provider.devserver.runs_table import insert_run
from wandb_airflow_provider.devserver.store import dumps


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a project of 120 runs."""
    with DevServer(tmp_path_factory.mktemp("many")) as server:
        with server.backend.store.write() as conn:
            insert_project(conn, "local", "many", now="2026-01-01T00:00:00.000000+00:00")
            for number in range(120):
                at = f"2026-01-01T00:00:00.{number:06d}+00:00"
                facts = {
                    "display_name": f"run {number}",
                    "state": "failed" if number % 4 == 0 else "finished",
                    "user": "dev",
                    "job_type": "train" if number % 2 else "evaluate",
                    "notes": "Why it *ran*: <b>again</b>",
                    "tags": '["even"]' if number % 2 == 0 else "[]",
                    "config": dumps({"lr": {"value": number / 100}, "model": {"value": {"kind": "a b"}}}),
                    "summary": dumps(
                        {"loss": number % 10, "airflow/state": "skipped"} if number > 117 else {}
                    ),
                }
                insert_run(
                    conn, "local", "many", f"r{number}", {**facts, "created_at": at, "heartbeat_at": at}
                )
        yield f"{server.url}/local/many"


def test_notes_of_a_run_are_markdown_in_which_tags_are_text(many: str):
    expected = "<p>Why it <em>ran</em>: &lt;b&gt;again&lt;/b&gt;</p>"
    assert expected in httpx.get(f"{many}/runs/r1", timeout=60).text


def test_runs_are_listed_fifty_to_a_page(many: str):
    first = httpx.get(f"{many}/runs")
    assert names(first) == [f"run {number}" for number in range(119, 69, -1)]
    last = httpx.get(f"{many}/runs?page=3")
    assert names(last) == [f"run {number}" for number in range(19, -1, -1)]
    assert "Page 3 of 3" in last.text
    assert names(httpx.get(f"{many}/runs?page=99")) == names(last)
    assert httpx.get(f"{many}/runs?page=x").text == first.text
    assert f'href="{urlsplit(many).path}/runs">All 120 runs' in httpx.get(many).text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=run 11", ["run 119", "run 118", "run 117"]),
        ('q="run 11"&sort=name', ["run 11", "run 110", "run 111"]),
        ("q=state:failed&sort=created", ["run 0", "run 4", "run 8"]),
        ("q=state:skipped", ["run 119", "run 118"]),
        ("q=state:failed|skipped", ["run 119", "run 118", "run 116"]),
        ("q=state!=failed job=train", ["run 119", "run 117", "run 115"]),
        ("q=job:VALU tag:even", ["run 118", "run 116", "run 114"]),
        ("q=config.lr>=1.18", ["run 119", "run 118"]),
        ("q=config.lr < 0.02&sort=config.lr", ["run 0", "run 1"]),
        ('q=config.model.kind="a b" id=r7', ["run 7"]),
        ("q=summary.loss>0&sort=summary.loss", ["run 118", "run 119"]),
        ("q=user!=dev", []),
        ("q=created>2026-01-02", []),
    ],
)
def test_runs_are_found_and_sorted_by_what_the_address_says(many: str, query: str, expected: list[str]):
    response = httpx.get(f"{many}/runs", params=query.replace(" ", "%20").replace("+", "%2B"))
    assert response.status_code == 200, Page(response).text
    assert names(response)[:3] == expected


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("q=foo=1", "Runs have no 'foo' to look for. Known: name, id, state,"),
        ("q=state>3", "'state' has no order: state>3 means nothing."),
        ("q=created>yesterday", "needs an ISO time, not 'yesterday'"),
        ("sort=<b>", "Runs cannot be sorted by '<b>'."),
        ("columns=loss", "'loss' is no column: write summary.<key> or config.<key>."),
    ],
)
def test_a_query_that_means_nothing_says_so(many: str, query: str, sentence: str):
    response = httpx.get(f"{many}/runs", params=query)
    assert response.status_code == 400
    assert sentence in Page(response).text


def test_the_table_of_runs_shows_the_keys_that_are_asked_for_and_keeps_them_in_its_links(many: str):
    page = Page(httpx.get(f"{many}/runs?q=config.lr<2&columns=config.lr,summary.loss&sort=-config.lr"))
    assert page.row("run 119").endswith("1.19 9")
    sorted_by = [dict(values) for tag, values in page.tags if tag == "th" and values.get("aria-sort")]
    assert [values["aria-sort"] for values in sorted_by] == ["descending"]
    kept = "?q=config.lr%3C2&sort=config.lr&columns=config.lr%2Csummary.loss"
    assert page.links[kept] == "config.lr"
    assert "all finished 90 failed 30" in page.text


def names(response: httpx.Response) -> list[str]:
    """Return the names of the runs in a table."""
    return re.findall(r'<td class="name"><a href="[^"]*">([^<]*)</a>', response.text)
