"""What the pages say about data that the real SDK wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote, urljoin, urlsplit

import httpx
import pytest
import wandb

from tests.devserver.pages.ledger import HOSTILE
from tests.devserver.pages.showcase import Site
from wandb_airflow_provider.devserver import DevServer

WEEK = "weekly_retraining__scheduled__2026-11-22T00:00:00+00:00"
DEPLOY = "deploy_on_promotion__asset_triggered__2026-11-22T00:01:48+00:00"
RUNS = "/local/retrieval/runs"
MODEL = "/local/retrieval/artifacts/model/retriever"
PROMOTED = "22 Nov 2026, 00:01:43 UTC"


def test_every_url_that_the_sdk_gives_is_a_page(site: Site):
    for name, url in site.urls.items():
        assert url.startswith(site.server.url), name
        assert site.page(url).title, name


def test_the_urls_of_the_public_api_lead_to_the_same_pages(site: Site, public_api: Callable[[], wandb.Api]):
    api = public_api()
    run = api.run("local/retrieval/train-2026-11-22-try2")
    assert site.page(run.url).title.startswith("train · try 2")
    project = next(item for item in api.projects("local") if item.name == "retrieval")
    assert site.page(project.url).title.startswith("local/retrieval")
    logged = api.artifact("local/retrieval/retriever:candidate")
    assert site.page(logged.url).title.startswith("retriever:v1")
    linked = api.artifact("local-org/wandb-registry-model/retriever:production")
    assert "/orgs/local-org/registry/model?" in linked.url
    assert "production" in site.page(linked.url).text


def test_the_pages_link_to_artifacts_by_the_sdks_own_urls(site: Site):
    base = site.server.url
    versions = site.page(f"{MODEL}/v1")
    assert site.urls["weights"].removeprefix(base) in versions.links
    assert site.urls["registry"].removeprefix(base) in versions.links
    assert site.urls["model-registry"].removeprefix(base) in versions.links


def test_home_lists_projects_registries_dag_runs_and_runs(site: Site):
    page = site.page("/")
    assert page.links["/local/retrieval"] == "retrieval"
    assert page.links["/orgs/local-org/registry/model"] == "model"
    assert "7 success, 1 failed" in page.row(WEEK)
    assert "1 min 44 s" in page.row(WEEK)
    assert page.row("train · try 2").split()[4:6] == ["retrieval", "success"]


def test_a_project_lists_its_dag_runs_artifacts_and_runs(site: Site):
    page = site.page("/local/retrieval")
    assert page.links[f"{MODEL}"] == "retriever"
    assert "model 2 candidate latest" in page.row("retriever") or "latest candidate" in page.row("retriever")
    assert "7 made by the SDK" in page.text
    assert f"/local/retrieval/groups/{quote(WEEK, safe='')}" in page.links


def test_a_run_shows_where_it_comes_from_before_its_config(site: Site):
    page = site.page(f"{RUNS}/train-2026-11-22-try2")
    assert page.links[f"{RUNS}/weekly_retraining-2026-11-22"].startswith("weekly_retraining")
    assert page.links[f"{RUNS}/prepare_data-2026-11-22"] == "prepare_data"
    assert "Retry of train" in page.text
    assert page.links[f"{RUNS}/train-2026-11-22"] == "train"
    log = page.link_to("Open in Airflow")
    assert log.startswith("http://127.0.0.1:8080/dags/weekly_retraining/runs/")
    assert page.text.index("Retry of") < page.text.index("learning_rate 0.05")
    assert "dimensions 128" in page.text


def test_a_run_plots_each_metric_over_its_steps(site: Site):
    page = site.page(f"{RUNS}/train-2026-11-22-try2")
    charts = json.loads(next(script for script in page.scripts if script.strip()))
    assert [chart["id"] for chart in charts] == ["chart-0", "chart-1"]
    loss, mrr = charts[0]["data"][0], charts[1]["data"][0]
    assert loss["x"] == list(range(120))
    assert loss["y"][0] == pytest.approx(2.16)
    assert mrr["x"] == list(range(0, 120, 10))
    assert "/-/plotly.min.js" in page.loads


def test_a_run_shows_the_artifacts_that_it_used_and_logged(site: Site):
    page = site.page(f"{RUNS}/train-2026-11-22-try2")
    assert page.links["/local/retrieval/artifacts/dataset/corpus/v1"] == "corpus:v1"
    assert page.links[f"{MODEL}/v1"] == "retriever:v1"


def test_a_table_shows_its_first_fifty_rows(site: Site):
    page = site.page(f"{RUNS}/evaluate-2026-11-22-0")
    assert "short/per_query" in page.text
    assert "80 rows, the first 50 shown" in page.text
    assert page.row("Return the 49th item.") == "Return the 49th item. 6 0.1667"
    assert "Return the 50th item." not in page.text


def test_logged_html_is_shown_in_a_sandbox_that_loads_nothing(site: Site):
    page = site.page(f"{RUNS}/report-2026-11-22")
    frame = next(values for tag, values in page.tags if tag == "iframe")
    assert frame["sandbox"] == ""
    response = site.get(str(frame["src"]))
    assert "<h1>Weekly retraining</h1>" in response.text
    assert "normalize.css" not in response.text
    policy = response.headers["content-security-policy"]
    assert policy.startswith("sandbox;")
    assert "default-src 'none'" in policy


def test_files_of_a_run_can_be_read(site: Site):
    page = site.page(f"{RUNS}/train-2026-11-22-try2")
    response = site.get(f"{RUNS}/train-2026-11-22-try2/files/wandb-summary.json")
    assert f"{RUNS}/train-2026-11-22-try2/files/wandb-summary.json" in page.links
    assert response.json()["airflow/state"] == "success"
    assert response.headers["x-content-type-options"] == "nosniff"


def test_a_dag_run_is_a_tree_in_order_of_creation(site: Site):
    page = site.group_page(WEEK)
    order = [row.split(" after:")[0].split(" success")[0].split(" failed")[0] for row in page.rows[1:]]
    assert order == [
        "weekly_retraining · scheduled__2026-11-22T00:00:00+00:00",
        "prepare_data",
        "train",
        "train · try 2 try 2",
        "evaluate[0] map index 0",
        "evaluate[1] map index 1",
        "gate",
        "report",
        "promote",
    ]
    depths = [
        values["style"] for tag, values in page.tags if tag == "div" and values.get("class") == "branch"
    ]
    assert depths == ["--depth: 0"] + ["--depth: 1"] * 8


def test_a_dag_run_shows_state_reason_duration_upstream_and_metrics(site: Site):
    page = site.group_page(WEEK)
    failed = page.row("train after:")
    assert "FloatingPointError: the loss is not finite at step 7" in failed
    assert "failed failed + 8.9 s 14 s" in failed
    assert "after: evaluate[0] , evaluate[1]" in page.row("gate")
    assert page.row("evaluate[1]").endswith("hit_rate@1 0.42 hit_rate@5 0.65 hit_rate@10 0.75 mrr 0.53")
    assert "Tasks without a run: notify skipped" in page.text


def test_a_dag_run_draws_when_each_attempt_took_place(site: Site):
    page = site.group_page(WEEK)
    bars = [values for tag, values in page.tags if tag == "a" and str(values.get("class")).startswith("bar")]
    assert bars[0]["style"] == "left: 0.0%; width: 100.0%"
    assert (bars[2]["class"], bars[3]["class"]) == ("bar bad", "bar good")
    assert bars[3]["style"] == "left: 22.28%; width: 59.11%"
    # Both attempts are on the line of their task, with their states in words.
    assert "train failed try 1, 14 s success try 2, 1 min 01 s evaluate[0]" in page.text
    assert "Timeline 0 30 s 1 min 00 s weekly_retraining success 1 min 44 s prepare_data" in page.text


def test_dag_runs_are_linked_with_those_that_they_started(site: Site):
    assert site.group_page(WEEK).link_to(DEPLOY) == f"/local/retrieval/groups/{quote(DEPLOY, safe='')}"
    started = site.group_page(DEPLOY)
    assert (
        "Started by promote in weekly_retraining__scheduled__2026-11-22T00:00:00+00:00 x-wandb-alias:"
        in started.text
    )
    assert started.link_to(WEEK) == f"/local/retrieval/groups/{quote(WEEK, safe='')}"


def test_an_artifact_shows_versions_aliases_metadata_and_files(site: Site):
    page = site.page(f"{MODEL}/v1")
    assert "train · try 2" in page.row("v1 ")
    assert page.row("v0 ").endswith("7 days ago train")
    assert "training loss 0.27" in page.text
    assert site.get(f"{MODEL}/v1/files/card.md").text == "# Retriever\n"
    assert f"{MODEL}/v1/files/weights.bin" in page.links
    assert site.page(f"{MODEL}").title == site.page(f"{MODEL}/candidate").title == page.title


def test_an_artifact_shows_who_moved_which_alias(site: Site):
    page = site.page(site.urls["registry"])
    moved = [row for row in page.rows if " production moved " in f" {row} "]
    assert moved == [f"{PROMOTED} 13 min ago production moved v0 v1 dev linked"]


def test_lineage_leads_from_the_data_over_the_training_to_the_deployment(site: Site):
    page = site.page(f"{MODEL}/v1")
    boxes = [values for tag, values in page.tags if tag == "a" and str(values.get("class")).startswith("box")]
    found = [values["href"] for values in boxes]
    assert found == [
        f"{MODEL}/v1",
        f"{RUNS}/train-2026-11-22-try2",
        "/local/retrieval/artifacts/dataset/corpus/v1",
        f"{RUNS}/prepare_data-2026-11-22",
        f"{RUNS}/evaluate-2026-11-22-0",
        f"{RUNS}/evaluate-2026-11-22-1",
        f"{RUNS}/promote-2026-11-22",
        f"{RUNS}/build_index-2026-11-22",
        "/local/retrieval/artifacts/index/index/v0",
    ]
    assert sum(1 for tag, values in page.tags if values.get("class") == "arrow") == 8


def test_a_registry_shows_who_holds_an_alias_and_where_it_comes_from(site: Site):
    page = site.page("/orgs/local-org/registry/model")
    holder = next(row for row in page.rows if "production" in row)
    assert "v1 retriever:v1 local/retrieval train · try 2" in holder
    assert page.links[f"{MODEL}/v1"] == "retriever:v1"


def test_a_registrys_project_address_leads_to_the_registry(site: Site):
    response = site.get("/local-org/wandb-registry-model")
    assert response.is_redirect
    assert response.headers["location"] == "/orgs/local-org/registry/model"


def test_every_internal_link_resolves_and_nothing_comes_from_elsewhere(site: Site):
    seen, waiting = set(), ["/", "/local/odd/runs", site.urls["model-registry"], "/local/registry/model"]
    while waiting:
        path = urlsplit(urljoin(site.server.url, waiting.pop()))._replace(fragment="").geturl()
        # Each page signs the same downloads anew; the table of runs can be sorted in many ways.
        is_told_again = "/storage/" in path and any("/storage/" in other for other in seen)
        is_told_again |= "/runs?" in path and "sort=name" not in path
        if path in seen or is_told_again or not path.startswith(f"{site.server.url}/"):
            continue
        seen.add(path)
        response = site.client.get(path, follow_redirects=True)
        assert response.status_code == 200, path
        if (
            not response.headers["content-type"].startswith("text/html")
            or "/files/" in path
            or "/storage/" in path
        ):
            continue
        page = site.read(response)
        assert all(load.startswith("/") and not load.startswith("//") for load in page.loads), path
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.title.endswith("W&B dev server")
        assert not any(link.lower().startswith(("javascript:", "data:")) for link in page.links), path
        assert HOSTILE not in page.html, path
        assert "<b>" not in page.html, path
        waiting += [urljoin(path, link) for link in page.links]
        waiting += [urljoin(path, load) for load in page.loads]
    assert len(seen) > 80


def test_markup_in_names_is_shown_as_text(site: Site):
    page = site.page("/local/odd/runs/hostile")
    assert page.title.startswith(HOSTILE)
    assert page.text.count(HOSTILE) > 8
    assert "javascript:alert(1)" in page.text
    assert "the first 50 shown" in page.text
    assert "not on this server" in page.text
    group = site.page(f"/local/odd/groups/{quote(f'{HOSTILE} group', safe='')}")
    assert HOSTILE in group.text
    artifact = site.page("/local/odd/artifacts/dataset/odd/v0")
    assert "http://127.0.0.1:9/elsewhere.bin" in artifact.links
    assert (
        site.get("/local/odd/artifacts/dataset/odd/v0/files/a folder/<b>.html")
        .headers["content-type"]
        .startswith("text/plain")
    )


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/local/none", "There is no project local/none."),
        ("/local/retrieval/runs/none", "There is no run local/retrieval/runs/none".replace("/runs", "")),
        ("/local/retrieval/runs/none/files/a.txt", "There is no run local/retrieval/none."),
        (f"{RUNS}/train-2026-11-22/files/a.txt", "has no file a.txt."),
        ("/local/retrieval/groups/none", "Project local/retrieval has no group none."),
        (f"{MODEL}/v9", "has no version or alias v9."),
        (f"{MODEL}/v1/files/none", "retriever:v1 has no file none."),
        ("/local/retrieval/artifacts/dataset/retriever/v1", "has no artifact retriever of type dataset."),
        ("/orgs/local-org/registry/none", "There is no registry local-org/none."),
        ("/orgs/local-org/registry/model?selectionPath=a/b/c", "There is no collection a/b/c."),
        ("/-/none.js", "The pages use no file"),
    ],
)
def test_what_is_not_there_is_a_page_with_a_sentence(site: Site, path: str, sentence: str):
    response = site.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("text/html")
    assert sentence in " ".join(response.text.split())


def test_a_browser_gets_a_page_for_any_unknown_address(site: Site):
    response = httpx.get(f"{site.server.url}/a/b/c/d", headers={"Accept": "text/html,*/*;q=0.8"})
    assert response.status_code == 404
    assert "Nothing is at /a/b/c/d." in response.text


def test_a_browser_that_had_to_give_a_key_gets_pages_too():
    with DevServer(host="0.0.0.0", allow_remote=True) as server:
        address = server.url.replace("0.0.0.0", "127.0.0.1")
        browser = {"Accept": "text/html,*/*;q=0.8"}
        refused = httpx.get(f"{address}/local/none/runs", headers=browser)
        assert (refused.status_code, refused.headers["www-authenticate"][:6]) == (401, "Basic ")
        response = httpx.get(f"{address}/local/none/runs", headers=browser, auth=("api", server.api_key))
        assert response.status_code == 404
        assert "There is no project local/none." in response.text
        assert server.unknown_operations() == {}


def test_a_client_with_a_key_gets_json_for_an_unknown_address():
    with DevServer() as server:
        response = httpx.get(f"{server.url}/local/none", auth=("api", server.api_key))
        assert response.status_code == 404
        assert response.json()["error"] == "the dev server does not know GET /local/none."
        assert server.unknown_operations() == {"GET /local/none": 1}


def test_an_empty_server_has_a_home_page():
    with DevServer() as server:
        assert "No project yet" in httpx.get(server.url).text
        assert "No collections yet" in httpx.get(f"{server.url}/orgs/local-org/registry/model").text


def test_a_project_links_to_its_reports_sweeps_and_automations(site: Site):
    page = site.page("/local/lab")
    assert site.page(page.link_to(f"Report {HOSTILE}")).title.startswith(f"Report {HOSTILE}")
    assert page.links[urlsplit(site.urls["sweep"]).path] == f"sweep {HOSTILE}"
    assert page.links["/local/lab/automations"] == "Automations 2"
    assert page.links["/local/lab/runs"] == "Runs 4"
    assert "running grid 2 loss 1" in page.text


def test_automations_show_their_deliveries_and_messages(site: Site):
    page = site.page("/local/lab/automations")
    assert page.row("http://127.0.0.1:").split()[1:4] == ["local/lab/measured:<u>", "finished", "1:"]
    assert "1: 200" in page.text
    assert f"acme alerts local/lab/instrumented {HOSTILE} {HOSTILE} warn 13 min ago" in page.rows
    assert "Fired 1 time" in page.text
    assert "what ADD_ARTIFACT_ALIAS" in page.text.replace(":", "")


def test_a_run_draws_metrics_over_the_steps_that_it_defined(site: Site):
    page = site.page("/local/lab/runs/instrumented")
    charts = {
        chart["id"]: chart for chart in json.loads(next(script for script in page.scripts if script.strip()))
    }
    loss, accuracy = charts["chart-0"], charts["chart-1"]
    assert (loss["layout"]["xaxis"]["title"]["text"], len(loss["data"][0]["x"])) == ("step", 12)
    assert accuracy["layout"]["xaxis"]["title"]["text"] == "epoch"
    assert accuracy["data"][0]["x"] == [0, 0.5, 1.0, 1.5]
    assert "chart-2" not in charts, "the hidden metric has no chart"
    assert charts["system-chart-0"]["layout"]["xaxis"]["title"]["text"] == "seconds"
    assert "metrics of the machine and the process" in page.text


def test_a_run_shows_its_console_images_and_signed_downloads(site: Site):
    page = site.page("/local/lab/runs/instrumented")
    assert f"epoch done {HOSTILE}" in page.text
    assert "\x1b" not in page.html
    assert "stderr it broke" in page.text
    captions = [values["alt"] for tag, values in page.tags if tag == "img" and "loading" in values]
    assert sorted(str(caption) for caption in captions) == ["2", HOSTILE]
    address = next(link for link in page.links if link.startswith("/storage/") and link.endswith(".txt"))
    response = site.get(address)
    assert response.text == HOSTILE
    assert response.headers["content-type"] == "application/octet-stream"
    assert site.get(address.replace("/storage/e", "/storage/f")).status_code == 403


def test_a_run_of_a_sweep_leads_to_the_sweep(site: Site):
    address = urlsplit(site.urls["sweep"]).path
    trial = next(link for link in site.page(address).links if "/runs/" in link)
    assert site.page(trial).links[address] == f"sweep {HOSTILE}"


def test_a_reference_that_was_not_read_has_neither_size_nor_digest(site: Site):
    row = site.page("/local/odd/artifacts/dataset/odd/v0").row("elsewhere.bin")
    assert row == "elsewhere.bin → http://127.0.0.1:9/elsewhere.bin – – –"


def test_an_artifact_says_what_has_changed_since_the_version_before(site: Site):
    page = site.page(f"{MODEL}/v1")
    assert "Changes since v0" in page.text
    assert page.row("training.loss") == "training.loss 0.31 0.27"
    assert "1 file: weights.bin changed" in page.text
    assert page.row("training.loss") in site.page(f"{MODEL}/v1?compare=v0").rows
    assert "Changes since" not in site.page(f"{MODEL}/v0").text


def test_a_registry_tells_who_moved_which_alias(site: Site):
    page = site.page("/orgs/local-org/registry/model")
    assert f"{PROMOTED} 13 min ago retriever production moved v0 v1 dev linked" in page.rows
