from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from airflow.sdk import DAG

from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.views import list_reports
from wandb_airflow_provider.exceptions import (
    WandbConfigurationError,
    WandbNotFoundError,
    WandbPermissionError,
    WandbUnavailableError,
)
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.operators.report import WandbReportOperator

HOSTILE = "<script>alert(1)</script> | **x** [y](javascript:z)"
RULES: list[dict[str, Any]] = [
    {"metric": "eval/mrr", "minimum": 0.5},
    {"metric": "eval/mrr", "min_change": -0.01},
    {"kind": "paired", "table": "eval/ranks", "column": "rr", "key": "query", "change_above": -0.5},
    {"metric": "eval/latency", "maximum": 0.2, "unit": "s", "severity": "warn"},
]


def report(verdict: Any, **arguments: Any) -> WandbReportOperator:
    with DAG("weekly", schedule=None):
        return WandbReportOperator(task_id="report", verdict=verdict, **arguments)


def load(server: DevServer, url: str) -> Any:
    """Load a report back with wandb-workspaces, in a process that has the account in its environment."""
    code = (
        "import json, sys, warnings\nwarnings.simplefilter('ignore')\n"
        "import wandb_workspaces.reports.v2 as reports\n"
        "found = reports.Report.from_url(sys.argv[1])\n"
        "blocks = [[type(b).__name__, getattr(b, 'text', '')] for b in found.blocks]\n"
        "grids = [b for b in found.blocks if isinstance(b, reports.PanelGrid)]\n"
        "panels = [[type(p).__name__, [str(getattr(y, 'name', y)) for y in p.y]] for g in grids for p in g.panels]\n"
        "filters = [r.filters for g in grids for r in g.runsets]\n"
        "print(json.dumps([found.title, found.description, blocks, panels, filters]))"
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "WANDB_API_KEY": server.api_key,
        "WANDB_BASE_URL": server.url,
        "WANDB_SILENT": "true",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, url],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


class Lab:
    """Trains and evaluates versions, judges and promotes them, all as a user's DAG would leave them in W&B."""

    def __init__(self, hook: WandbHook, server: DevServer, project: str, folder: Path) -> None:
        self.hook, self._server, self.project, self._folder = hook, server, project, folder
        self._count = 0

    def run(self, job_type: str, name: str, config: dict[str, Any], work: Callable[[Any, Path], Any]) -> Any:
        import wandb

        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        settings = wandb.Settings(
            base_url=self._server.url,
            api_key=self._server.api_key,
            console="off",
            silent=True,
            disable_git=True,
        )
        run = wandb.init(
            entity="local",
            project=self.project,
            job_type=job_type,
            name=name,
            config=config,
            dir=folder,
            settings=settings,
            reinit="create_new",
        )
        done = work(run, folder)
        ref = RunRef(run.entity, run.project, run.id, url=run.url)
        run.finish()
        return ref, done

    def train(self, name: str, rate: float, documents: int) -> Any:
        import wandb

        def work(run: Any, folder: Path) -> str:
            data = wandb.Artifact("corpus", type="dataset", metadata={"documents": documents})
            (folder / "corpus.txt").write_text("x" * documents)
            data.add_file(str(folder / "corpus.txt"))
            run.use_artifact(data)
            for step in range(30):
                # A NaN among the losses must not end the report.
                run.log({"train/loss": math.nan if step == 7 else rate + 1 / (1 + step)})
            run.summary.update({"cost/usd": rate * 10})
            model = wandb.Artifact("ranker", type="model")
            (folder / "model.txt").write_text(name)
            model.add_file(str(folder / "model.txt"))
            return str(run.log_artifact(model).wait().qualified_name)

        ref, path = self.run("train", name, {"lr": rate, "layers": {"depth": 3}, "note": HOSTILE}, work)
        return ref, self.hook.get_artifact(path)

    def evaluate(self, name: str, model: Any, mrr: float) -> Any:
        import wandb

        def work(run: Any, folder: Path) -> None:
            run.use_artifact(model.path)
            rows = [[f"q{index}", min(1.0, mrr + index / 100)] for index in range(40)]
            run.log({"eval/ranks": wandb.Table(columns=["query", "rr"], data=rows)})
            run.summary.update({"eval/mrr": mrr, "eval/latency": 0.3, "broken": math.nan})

        return self.run("evaluate", name, {}, work)[0]

    def runs(self, job_type: str) -> list[Any]:
        """The runs of a kind, as W&B has them."""
        api = self.hook.get_conn()
        return list(api.runs(f"local/{self.project}", filters={"jobType": job_type}, lazy=False))


@pytest.fixture(scope="module")
def lab(server: DevServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A promoted version, an older run of the month, and a candidate with its verdict."""
    from datetime import UTC, datetime

    from wandb_airflow_provider import sdk
    from wandb_airflow_provider.hooks.evidence import read_run
    from wandb_airflow_provider.promotion import PromotionRecord, TaskMark
    from wandb_airflow_provider.registry import RegistryAlias
    from wandb_airflow_provider.rules import Demand, evaluate

    with pytest.MonkeyPatch.context() as patch:
        extra = {"entity": "local", "timeout": 10, "project": "report-lab"}
        value = {"conn_type": "wandb", "host": server.url, "password": server.api_key, "extra": extra}
        patch.setenv("AIRFLOW_CONN_WANDB_DEFAULT", json.dumps(value))
        hook = WandbHook()
        made = Lab(hook, server, "report-lab", tmp_path_factory.mktemp("lab"))
        _, older = made.train("train 0", 0.3, 90)
        made.evaluate("evaluate 0", older, 0.4)
        _, old = made.train("train 1", 0.1, 100)
        judged_old = made.evaluate("evaluate 1", old, 0.6)
        _, new = made.train(f"train 2 {HOSTILE}", 0.2, 120)
        judged = made.evaluate("evaluate 2", new, 0.55)
        target = RegistryAlias("model", "ranker", "production")
        holder = hook.link_to_registry(old, "model", "ranker", ["production"])
        demands = [Demand("run", "table", "eval/ranks")]

        def verdict(run: Any, version: Any, rules: list[dict[str, Any]], **more: Any) -> Any:
            figures = read_run(hook, hook.get_run(run), demands)
            return evaluate(
                rules, figures, candidate=version, run=run, evaluated_at=datetime.now(UTC), **more
            )

        record = PromotionRecord(
            target=target,
            state="completed",
            verdict=verdict(judged_old, old, RULES[:1]),
            previous=None,
            approval=None,
            note=None,
            task=TaskMark("weekly", "manual__0", "promote"),
            wandb_run=judged_old.path,
            at=datetime.now(UTC).isoformat(),
        )
        hook.update_artifact_metadata(old, record.added_to({}))
        before = read_run(hook, hook.get_run(judged_old), demands)
        made.verdict = verdict(judged, new, RULES, baseline=holder, baseline_metrics=before).to_json()  # type: ignore[attr-defined]
        yield made
        sdk.release()


@pytest.fixture
def judged(lab: Any, connect: Callable[..., None], server: DevServer) -> Any:
    from wandb_airflow_provider import sdk

    connect(server, extra={"project": "report-lab"})
    yield lab
    sdk.release()


@pytest.mark.slow
def test_a_report_compares_the_candidate_with_its_baseline_and_is_loaded_back(
    judged: Any, run_task: Callable[..., Any], server: DevServer, tmp_path: Path
) -> None:
    before = len(server.requests())
    finished = run_task(report(judged.verdict), dag_run_id="manual__whole")
    assert (finished.state, finished.error) == ("success", None), str(finished.error)
    asked = [request.operation or request.path for request in server.requests()[before:]]
    pushed = finished.xcom()

    # What is read of W&B: two lists and the named runs, two histories for each curve, inputs, tables, a promotion.
    counts = {
        name: asked.count(name)
        for name in ("Runs", "RunSampledHistory", "RunInputArtifacts", "RunFiles", "Run")
    }
    assert counts == {"Runs": 3, "RunSampledHistory": 3, "RunInputArtifacts": 2, "RunFiles": 2, "Run": 2}
    assert len([name for name in asked if name.startswith("ProjectArtifactCollection")]) <= 2
    assert len(asked) < 75

    text = pushed["markdown"]
    for line in (
        "**Failed.** local/report-lab/ranker:v2 failed 1 of 4 rules",
        "| eval/mrr | 0.55 | 0.6 | -0.05 (-8.333 %) | change \\>= -0.01 | FAILED: eval/mrr = 0.55: changed by -0.05",
        "| eval/latency | 0.3 s | 0.3 s | +0 s (+0 %) | \\<= 0.2 s | warning: eval/latency = 0.3 s",
        "eval/ranks: rr. 40 examples: 0 rose, 40 fell, 0 are as before. Shown are 20.",
        "| corpus: documents | 120 | 100 |",
        "| lr | 0.2 | 0.1 |",
        "| Training: cost/usd | 2 | 1 | +1 (+100 %) |",
        "- → registry: model/ranker, held by [local-org/wandb-registry-model/ranker:v0]",
    ):
        assert line in text, line
    names = [
        found for found in ("evaluate 2 (candidate)", "evaluate 1 (baseline)", "evaluate 0") if found in text
    ]
    assert len(names) == 3
    assert "depth" not in text.partition("## Config")[2].partition("##")[0]

    title, description, blocks, panels, filters = load(server, pushed["url"])
    assert title == "ranker v2 against v1"
    assert "By task report of weekly, run manual__whole" in description
    headings = [
        "Verdict",
        "Runs of the last 31 days",
        "Loss curves",
        "Examples",
        "Data",
        "Config",
        "Lineage",
        "Cost",
    ]
    assert [shown for kind, shown in blocks if kind == "H2"] == headings
    assert panels == [["LinePlot", ["train/loss"]]]
    drawn = {run.name: run.id for run in judged.runs("train")}
    assert all(drawn[name] in filters[0] for name in drawn)
    written = [shown for kind, shown in blocks if kind == "MarkdownBlock"]
    assert text.partition("## Runs of")[0].strip().endswith(written[2])

    address = urlsplit(pushed["url"]).path
    page = httpx.get(f"{server.url}{address}", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "<script>alert(1)" not in page.text
    assert "train/loss" in page.text

    folder = Path(judged.hook.get_conn().artifact(pushed["artifact"]["path"]).download(root=str(tmp_path)))
    assert (folder / "report.md").read_text("utf-8").startswith("# ranker v2 against v1\n\n## Verdict")
    html = (folder / "report.html").read_text("utf-8")
    assert html.count("<polyline") == 3
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html
    own = judged.hook.get_run(RunRef.from_json(finished.xcom("wandb_run")))
    assert (own.summary["report/url"], own.summary["report/id"]) == (pushed["url"], pushed["report_id"])


@pytest.mark.slow
def test_a_retry_replaces_the_report_and_another_dag_run_writes_its_own(
    judged: Any, run_task: Callable[..., Any], server: DevServer
) -> None:
    def reports() -> list[tuple[str, str]]:
        return [(found.id, found.title) for found in list_reports(server.backend, "local", "report-lab")]

    before = len(reports())
    first = run_task(report(judged.verdict, title="First / try?", most_runs=0)).xcom()
    assert len(reports()) == before + 1
    assert (first["report_id"], "First try") in reports()
    again = run_task(report(judged.verdict, title="Second", most_runs=0), try_number=2).xcom()
    assert (again["report_id"], again["artifact"]["name"]) == (first["report_id"], first["artifact"]["name"])
    assert len(reports()) == before + 1
    assert (first["report_id"], "Second") in reports()
    # A DAG run deleted and started again under its old name is the same DAG run to W&B.
    anew = run_task(report(judged.verdict, title="Third", most_runs=0)).xcom()
    assert anew["report_id"] == first["report_id"]
    other = run_task(report(judged.verdict, most_runs=0), dag_run_id="manual__2").xcom()
    assert other["report_id"] != first["report_id"]
    assert len(reports()) == before + 2


def test_without_the_extra_the_artifact_and_the_markdown_are_the_report(
    judged: Any, run_task: Callable[..., Any], server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wandb_airflow_provider.hooks import report_process

    before = len(list_reports(server.backend, "local", "report-lab"))
    monkeypatch.setattr(report_process, "find_spec", lambda name: None)
    finished = run_task(report(judged.verdict, artifact_name="own-name"), dag_run_id="manual__without")
    assert (finished.state, finished.error) == ("success", None), str(finished.error)
    pushed = finished.xcom()
    assert (pushed["url"], pushed["report_id"], pushed["artifact"]["name"]) == (None, None, "own-name")
    assert "## Lineage" in pushed["markdown"]
    assert len(list_reports(server.backend, "local", "report-lab")) == before

    refused = run_task(report(judged.verdict, report="wandb"), dag_run_id="manual__refused")
    assert isinstance(refused.error, WandbConfigurationError)
    assert "extra 'reports'" in str(refused.error)


@pytest.mark.slow
def test_what_a_redaction_policy_keeps_back_is_in_no_report(
    judged: Any, connect: Callable[..., None], run_task: Callable[..., Any], server: DevServer, tmp_path: Path
) -> None:
    policy = {
        "deny": ["config.lr", "table.eval.ranks.query"],
        "values": [{"name": "name", "regex": "train 2"}],
    }
    connect(server, extra={"project": "report-lab", "redaction": policy})
    finished = run_task(report(judged.verdict), dag_run_id="manual__redacted")
    assert (finished.state, finished.error) == ("success", None), str(finished.error)
    pushed = finished.xcom()
    folder = Path(judged.hook.get_conn().artifact(pushed["artifact"]["path"]).download(root=str(tmp_path)))
    everywhere = [
        pushed["markdown"],
        (folder / "report.md").read_text("utf-8"),
        (folder / "report.html").read_text("utf-8"),
        json.dumps(load(server, pushed["url"])),
    ]
    for text in everywhere:
        assert "train 2" not in text
        assert "q18" not in text
        assert "| lr |" not in text
    assert "redacted" in pushed["markdown"]
    assert "| rr | rr.baseline | rr.change |" in pushed["markdown"]


@pytest.mark.slow
def test_neither_key_nor_account_of_the_process_is_anywhere_but_in_its_environment(
    judged: Any, run_task: Callable[..., Any], server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    given: list[dict[str, Any]] = []
    plain = subprocess.Popen

    def start(command: Any, *args: Any, **kwargs: Any) -> Any:
        if "wandb_airflow_provider.reports.save" in command:
            given.append({"command": command, **kwargs})
        return plain(command, *args, **kwargs)

    monkeypatch.setenv("WANDB_ENTITY", "somebody-else")
    monkeypatch.setattr(subprocess, "Popen", start)
    finished = run_task(report(judged.verdict, most_runs=0), dag_run_id="manual__key")
    assert finished.state == "success", str(finished.error)
    (process,) = given
    environment = process["env"]
    assert (environment["WANDB_API_KEY"], environment["WANDB_BASE_URL"]) == (server.api_key, server.url)
    assert "WANDB_ENTITY" not in environment
    assert server.api_key not in " ".join(process["command"])
    assert server.api_key not in os.environ.values()
    assert server.api_key not in json.dumps(finished.xcom())


@pytest.mark.slow
def test_a_report_that_cannot_be_written_fails_as_its_cause_deserves(
    judged: Any, run_task: Callable[..., Any], server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults.fail(403, op="upsertView", times=None)
    refused = run_task(report(judged.verdict, most_runs=0), dag_run_id="manual__refused-by-wandb")
    server.faults.clear()
    assert isinstance(refused.error, WandbPermissionError), refused.error
    assert "Could not write the report 'ranker v2 against v1' in local/report-lab" in str(refused.error)

    # As when the machine's memory ends.
    monkeypatch.setattr(sys, "executable", "/bin/false")
    died = run_task(report(judged.verdict, most_runs=0), dag_run_id="manual__died")
    assert isinstance(died.error, WandbUnavailableError), died.error
    assert "ended with status 1 and without an answer" in str(died.error)


def test_a_run_that_is_gone_is_named(judged: Any, run_task: Callable[..., Any]) -> None:
    from wandb_airflow_provider.rules import Verdict

    gone = RunRef("local", "report-lab", "gone-run")
    verdict = Verdict.from_json(judged.verdict)._replace(run=gone).to_json()
    finished = run_task(report(verdict), dag_run_id="manual__gone")
    assert isinstance(finished.error, WandbNotFoundError)
    assert "local/report-lab/gone-run" in str(finished.error)


@pytest.mark.parametrize(
    "arguments",
    [
        {"report": "pdf"},
        {"days": 0},
        {"most_runs": 10_000},
        {"table": "eval/ranks"},
        {"table_key": "query"},
    ],
)
def test_a_wrong_report_is_found_when_the_dag_is_parsed(arguments: dict[str, Any]) -> None:
    with pytest.raises(WandbConfigurationError, match="Task 'report'"):
        report({}, **arguments)
