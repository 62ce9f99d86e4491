"""Reports and workspaces, saved and read with the SDK, and the page that shows a report."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import wandb

from wandb_airflow_provider.devserver import DevServer, queries
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.history import HISTORY, write_lines
from wandb_airflow_provider.devserver.pages import markdown
from wandb_airflow_provider.devserver.pages.report_page import address
from wandb_airflow_provider.devserver.pages.runsets import resolve
from wandb_airflow_provider.devserver.resolvers.projects import insert_project
from wandb_airflow_provider.devserver.runs_table import get_run, insert_run
from wandb_airflow_provider.devserver.store import dumps
from wandb_airflow_provider.devserver.views import get_report, list_reports

with warnings.catch_warnings():
    # The library still uses what pydantic has deprecated.
    warnings.simplefilter("ignore")
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces

RUNS: dict[str, dict[str, Any]] = {
    "a": {"config": {"lr": 0.1, "opt": "adam"}, "summary": {"loss": 0.5}, "state": "finished"},
    "b": {"config": {"lr": 0.2, "opt": "adam"}, "summary": {"loss": 0.25}, "state": "failed"},
    "c": {"config": {"lr": 0.3, "opt": "sgd"}, "summary": {}, "state": "finished"},
}

GraphQL = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(autouse=True)
def _account(server: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reports library makes its own client from the environment."""
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", server.api_key)
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture
def filled(server: DevServer, project: str) -> str:
    """A project with the runs above, each with ten steps of history."""
    backend = server.backend
    with backend.store.write() as conn:
        insert_project(conn, "local", project, now=stamp(backend.now()))
        for number, (name, run) in enumerate(RUNS.items()):
            moment = f"2026-01-0{number + 1}T00:00:00.000000+00:00"
            values = {
                "display_name": f"run <{name}>",
                "user": "dev",
                "state": run["state"],
                "created_at": moment,
                "heartbeat_at": moment,
                "config": dumps({key: {"value": value} for key, value in run["config"].items()}),
                "summary": dumps(run["summary"]),
            }
            insert_run(conn, "local", project, name, values)
            row = get_run(conn, "local", project, name)
            assert row is not None
            lines = [dumps({"_step": step, "loss": 1 / (step + 1)}) for step in range(10)]
            write_lines(conn, row["pk"], HISTORY, 0, lines)
    return project


def make(project: str, *blocks: Any, **arguments: Any) -> reports.Report:
    return reports.Report(
        project=project, entity="local", **{"title": "Weekly report", **arguments}, blocks=list(blocks)
    )


def page(server: DevServer, report: reports.Report) -> str:
    answer = httpx.get(f"{server.url}{urlsplit(report.url).path}", headers={"Accept": "text/html"})
    assert answer.status_code == 200, answer.text
    return answer.text


def test_report_is_saved_loaded_edited_listed_and_deleted(
    server: DevServer, api: wandb.Api, project: str, fresh_api: Callable[..., wandb.Api]
) -> None:
    report = make(project, reports.H1("First"), reports.P("words"), description="about it")
    report.save(draft=True)
    (draft,) = list_reports(server.backend, "local", project)
    assert (draft.title, draft.draft, draft.user, draft.id) == ("Weekly report", True, "dev", report.id)
    assert list(api.reports(f"local/{project}")) == []

    report.save()
    loaded = reports.Report.from_url(report.url)
    assert (loaded.title, loaded.description, loaded.blocks) == ("Weekly report", "about it", report.blocks)
    loaded.blocks.append(reports.MarkdownBlock("*more*"))
    loaded.title = "Renamed"
    loaded.save()
    assert loaded.id == report.id

    make(project, title="Other").save()
    listed = {found.display_name: found for found in fresh_api().reports(f"local/{project}")}
    assert set(listed) == {"Renamed", "Other"}
    found = listed["Renamed"]
    assert (found.id, found.description, found.user["username"]) == (report.id, "about it", "dev")
    assert [block["type"] for block in found.spec["blocks"]].count("markdown-block") == 1
    assert found.created_at.endswith("Z")
    assert [item.display_name for item in fresh_api().reports(f"local/{project}", name="Other")] == ["Other"]
    record = get_report(server.backend, "local", project, found.id)
    assert record is not None
    assert urlsplit(found.url).path == address(record)

    assert loaded.delete() is True
    assert [item.title for item in list_reports(server.backend, "local", project)] == ["Other"]
    with pytest.raises(Exception, match="there is no report or workspace with the id"):
        loaded.delete()


def test_share_link_is_made_once_and_revoked(filled: str) -> None:
    report = make(filled, reports.PanelGrid(runsets=[reports.Runset(entity="local", project=filled)])).save()
    assert report.get_share_url() is None
    link = report.enable_share_link()
    assert link.startswith(f"{report.url}?accessToken=")
    assert report.enable_share_link() == report.get_share_url() == link
    assert report.disable_share_link() is True
    assert report.get_share_url() is None


def test_workspace_is_saved_and_loaded_by_its_url(filled: str) -> None:
    section = workspaces.Section(name="Losses", panels=[reports.LinePlot(y=["loss"])])
    workspace = workspaces.Workspace(entity="local", project=filled, name="Mine", sections=[section])
    workspace.save()
    loaded = workspaces.Workspace.from_url(workspace.url)
    assert loaded.name == "Mine"
    assert [item.name for item in loaded.sections if item.panels] == ["Losses"]
    loaded.name = "Ours"
    loaded.save()
    copy = workspaces.Workspace.from_url(loaded.url).save_as_new_view()
    assert copy.url != workspace.url
    assert workspaces.Workspace.from_url(workspace.url).name == "Ours"


def test_view_is_refused_without_project_json_or_rights(
    project: str, graphql: GraphQL, read_only_key: str
) -> None:
    document = "mutation S($in: UpsertViewInput!) { upsertView(input: $in) { view { id } inserted } }"
    view = {"entityName": "local", "projectName": "no-such", "name": "x", "spec": "{}"}
    assert graphql(document, {"in": view})[0] == 404
    assert graphql(document, {"in": {**view, "spec": "[]"}})[0] == 400
    assert graphql(document, {"in": {**view, "spec": "{"}})[0] == 400
    assert graphql(document, {"in": view}, read_only_key)[0] == 403
    assert graphql(document, {"in": {**view, "id": "Vmlldzo5OTk="}})[0] == 404


def test_page_shows_the_text_of_a_report_and_escapes_it(server: DevServer, project: str) -> None:
    report = make(
        project,
        reports.H1("Aims <b>"),
        reports.TableOfContents(),
        reports.P(
            ["See ", reports.Link("here", "https://example.com/x"), " and ", reports.InlineCode("x=1")]
        ),
        reports.P(["Not ", reports.Link("this", "javascript:alert(1)")]),
        reports.UnorderedList(["one", ["two ", reports.Link("bad", "javascript:alert(2)")]]),
        reports.CheckedList([reports.CheckedListItem("done", checked=True)]),
        reports.CodeBlock("print('<hi>')"),
        reports.MarkdownBlock(
            "**bold** <script>alert(3)</script> [x](javascript:alert(4)) ![pic](https://example.com/p.png)"
        ),
        reports.LatexBlock("e=mc^2"),
        reports.Image("https://example.com/a.png", "caption"),
        reports.CalloutBlock("mind <i>this</i>"),
        reports.BlockQuote("quoted"),
        reports.HorizontalRule(),
        reports.H2("Later", collapsed_blocks=[reports.P("hidden words")]),
        reports.WeaveBlockSummaryTable(entity="local", project=project, table_name="t"),
        title="A/B <test> -- final",
    ).save()
    text = page(server, report)
    assert "<script>alert" not in text
    assert "javascript:" not in text.replace("[x](javascript:alert(4))", "")
    assert "<b>" not in text
    for expected in (
        "A/B &lt;test&gt; -- final",
        "Aims &lt;b&gt;",
        '<a href="#heading-0">',
        '<a href="https://example.com/x" rel="noopener noreferrer">here</a>',
        "<code>x=1</code>",
        "<strong>bold</strong>",
        "&lt;script&gt;alert(3)",
        '<a href="https://example.com/p.png" rel="noopener noreferrer">pic</a>',
        "print(&#39;&lt;hi&gt;&#39;)",
        "e=mc^2",
        "caption",
        "mind &lt;i&gt;this",
        "quoted",
        "<hr>",
        "hidden words",
        "<code>weave-panel</code>",
        'type="checkbox" disabled',
    ):
        assert expected in text, expected


def test_page_draws_the_panels_over_the_runs_that_the_run_set_selects(server: DevServer, filled: str) -> None:
    grid = reports.PanelGrid(
        runsets=[
            reports.Runset(
                entity="local",
                project=filled,
                name="Adam",
                filters="Config('opt') == 'adam'",
                run_settings={"a": reports.RunSettings(color="#ff0000")},
            )
        ],
        panels=[
            reports.LinePlot(title="Losses", x="Step", y=["loss"]),
            reports.BarPlot(title="Final", metrics=["loss"]),
            reports.ScalarChart(title="Mean loss", metric="loss", groupby_aggfunc="mean"),
            reports.ScatterPlot(x=reports.Config("lr"), y=reports.SummaryMetric("loss")),
            reports.RunComparer(diff_only="split"),
            reports.MarkdownPanel("some **words**"),
            reports.CustomChart(query={"summaryTable": {"tableKey": "t"}}, chart_name="wandb/line"),
            reports.MediaBrowser(media_keys=["img"]),
        ],
    )
    text = page(server, make(filled, grid).save())
    data = json.loads(text.split('id="chart-data">')[1].split("</script>")[0])
    line, bar, scatter = data
    assert [trace["name"] for trace in line["data"]] == ["run &lt;b&gt;", "run &lt;a&gt;"]
    assert line["data"][0]["x"] == list(range(10))
    assert line["data"][1]["line"]["color"] == "#ff0000"
    assert (bar["data"][0]["x"], bar["data"][0]["orientation"]) == ([0.25, 0.5], "h")
    assert (scatter["data"][0]["x"], scatter["data"][0]["y"]) == ([0.2, 0.1], [0.25, 0.5])
    assert "0.375" in text
    assert "mean of 2 runs" in text
    assert "config.lr" in text
    assert "config.opt" not in text
    assert "<strong>words</strong>" in text
    assert "type &#39;Vega2&#39;" in text
    assert "type &#39;Media Browser&#39;" in text
    assert f'2 runs of <a href="/local/{filled}">' in text.replace("\u202f", "")


def test_runs_of_one_name_are_drawn_apart(
    server: DevServer, filled: str, fresh_api: Callable[..., wandb.Api]
) -> None:
    for name in "ab":
        run = fresh_api().run(f"local/{filled}/{name}")
        run.name = "twin"
        run.update()
    panels = [reports.BarPlot(metrics=["loss"]), reports.LinePlot(x="Step", y=["loss", "none"])]
    text = page(server, make(filled, reports.PanelGrid(panels=panels)).save())
    bar, line = json.loads(text.split('id="chart-data">')[1].split("</script>")[0])
    assert bar["data"][0]["y"] == ["twin (b)", "twin (a)"]
    assert [trace["name"] for trace in line["data"]] == [
        "run &lt;c&gt; · loss",
        "twin (b) · loss",
        "twin (a) · loss",
    ]


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({}, "cba"),
        ({"sort": {"keys": [{"key": {"section": "summary", "name": "loss"}, "ascending": True}]}}, "bac"),
        ({"search": {"query": "<A>"}}, "a"),
        ({"search": {"query": "[ab]", "isRegex": True}}, "ba"),
        ({"selections": {"root": 1, "tree": ["a"]}}, "cb"),
        ({"selections": {"root": 0, "tree": [{"value": "g", "children": ["a", "c"]}]}}, "ca"),
        (
            {
                "filters": {
                    "filterFormat": "filterV2",
                    "filters": [
                        {"key": {"section": "config", "name": "lr.value"}, "op": "<=", "value": 0.1},
                        {
                            "key": {"section": "run", "name": "state"},
                            "op": "=",
                            "value": "failed",
                            "connector": "OR",
                        },
                        {
                            "key": {"section": "run", "name": "name"},
                            "op": "=",
                            "value": "x",
                            "disabled": True,
                        },
                    ],
                }
            },
            "ba",
        ),
        (
            {
                "filters": {
                    "op": "OR",
                    "filters": [
                        {
                            "op": "AND",
                            "filters": [
                                {
                                    "op": "IN",
                                    "key": {"section": "run", "name": "state"},
                                    "value": ["finished"],
                                },
                                {"op": "!=", "key": {"section": "config", "name": "opt"}, "value": "sgd"},
                            ],
                        }
                    ],
                }
            },
            "a",
        ),
    ],
)
def test_run_set_selects_the_runs_that_it_describes(
    server: DevServer, filled: str, spec: dict[str, Any], names: str
) -> None:
    found = resolve(server.backend, spec, "local", filled)
    assert ("".join(run.name for run in found.runs), found.problem) == (names, None)


def test_run_set_that_cannot_be_read_says_why(server: DevServer, filled: str) -> None:
    leaf = {"key": {"section": "run", "name": "moonPhase"}, "op": "=", "value": 1}
    found = resolve(
        server.backend, {"filters": {"filterFormat": "filterV2", "filters": [leaf]}}, "local", filled
    )
    assert found.runs == []
    assert "moonPhase" in (found.problem or "")


@pytest.mark.parametrize(
    "spec",
    [
        {"blocks": 3},
        {"blocks": [3, {"type": "heading"}, {"type": "list", "children": [1]}, {"type": "image", "url": 4}]},
        {
            "blocks": [
                {
                    "type": "panel-grid",
                    "metadata": {"runSets": [7], "panelBankSectionConfig": {"panels": [1, {}]}},
                }
            ]
        },
        {"blocks": [{"type": "panel-grid", "metadata": {"customRunColors": [], "runSets": "x"}}]},
    ],
)
def test_page_bears_a_report_that_no_client_would_write(
    server: DevServer, filled: str, graphql: GraphQL, spec: dict[str, Any]
) -> None:
    document = "mutation S($in: UpsertViewInput!) { upsertView(input: $in) { view { id } } }"
    view = {"entityName": "local", "projectName": filled, "displayName": "Odd", "spec": json.dumps(spec)}
    _, answer = graphql(document, {"in": view})
    found = answer["data"]["upsertView"]["view"]["id"]
    assert httpx.get(f"{server.url}/local/{filled}/reports/Odd--{found}").status_code == 200
    assert queries.get_project(server.backend, "local", filled) is not None


def test_page_of_an_unknown_report_says_so(server: DevServer, filled: str) -> None:
    answer = httpx.get(f"{server.url}/local/{filled}/reports/x--Vmlldzo5", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert "There is no such report" in answer.text


@pytest.mark.parametrize(
    "url", ["//evil.example", "data:text/html,x", "JaVaScRiPt:alert(1)", "vbscript:x", "file:///etc"]
)
def test_markdown_links_lead_to_the_web_only(url: str) -> None:
    assert "<a " not in markdown.to_html(f"[x]({url})")
