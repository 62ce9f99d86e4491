"""Two weekly retraining DAG runs, a deployment, and markup where text belongs, written by the real SDK."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import wandb

from tests.devserver.pages.lab import fill_lab
from tests.devserver.pages.showcase import PROJECT, Site

DAG = "weekly_retraining"
LOG_URL = (
    "http://127.0.0.1:8080/dags/weekly_retraining/runs/{dag_run_id}/tasks/{task_id}?try_number={try_number}"
)
HOSTILE = "<script>document.title='owned'</script><b>\"bold'</b>"


@dataclass
class DagRun:
    """One DAG run whose tasks write runs; ``week`` numbers it and is part of every run id."""

    site: Site
    dag_id: str
    dag_run_id: str
    week: str
    root_parent: str | None = None
    triggered_by: list[dict[str, Any]] = field(default_factory=list)
    succeeded: dict[str, list[str]] = field(default_factory=dict)

    @property
    def group(self) -> str:
        return f"{self.dag_id}__{self.dag_run_id}"

    @property
    def root_id(self) -> str:
        return f"{self.dag_id}-{self.week}"

    def path(self, run_id: str) -> str:
        return f"local/{PROJECT}/{run_id}"

    def provenance(self, task_id: str | None, **more: Any) -> dict[str, Any]:
        facts = {"dag_id": self.dag_id, "dag_run_id": self.dag_run_id, "task_id": task_id, "map_index": -1}
        return {
            "try_number": 1,
            **facts,
            "operator": "_WandbDecoratedOperator",
            "run_type": "scheduled",
            "logical_date": "2026-11-22T00:00:00+00:00",
            "params": {"learning_rate": 0.05, "max_pairs": 4000},
            "owner": "airflow",
            "git_commit": "9d8198e4c4a2f07be2b0c5f0a2a3b0d1c2e3f405",
            "bundle": {"name": "dags-folder", "version": None},
            "retry_of": None,
            "triggered_by": self.triggered_by,
            **more,
        }

    @contextmanager
    def root(self, seconds: float, **summary: Any) -> Iterator[None]:
        """Open the root, let tasks run, and close the root, as the setup and teardown tasks do."""
        config = {"airflow": self.provenance(None, parent_run=self.root_parent, upstream_runs=[])}
        arguments = {
            "name": f"{self.dag_id} · {self.dag_run_id}",
            "group": self.group,
            "job_type": "pipeline",
            "tags": [self.dag_id, "production"],
            "config": config,
        }
        with self.site.run(self.root_id, seconds=0.4, **arguments) as run:
            self.site.urls[self.root_id] = run.url
            run.summary["airflow/state"] = "running"
        yield
        with self.site.run(self.root_id, seconds=seconds, resume="allow", **arguments) as run:
            run.summary.update({"airflow/state": "success", "airflow/runs": 7, **summary})
            rows = [["promote", -1, "success", self.path("x")], ["notify", -1, "skipped", None]]
            run.log({"timeline": wandb.Table(columns=["task_id", "map_index", "state", "run"], data=rows)})

    @contextmanager
    def task(
        self, task_id: str, seconds: float, *upstream: str, state: str = "success", **more: Any
    ) -> Iterator[wandb.Run]:
        """Open the run of one task attempt."""
        try_number, index = more.get("try_number", 1), more.get("map_index", -1)
        suffix = (f"-{index}" if index >= 0 else "") + (f"-try{try_number}" if try_number > 1 else "")
        run_id = f"{task_id}-{self.week}{suffix}"
        name = (
            task_id
            + (f"[{index}]" if index >= 0 else "")
            + (f" · try {try_number}" if try_number > 1 else "")
        )
        places = {"dag_run_id": self.dag_run_id, "task_id": task_id, "try_number": try_number}
        retry_of = self.path(f"{task_id}-{self.week}") if try_number > 1 else None
        settings = more.pop("config", {})
        provenance = self.provenance(
            task_id,
            parent_run=self.path(self.root_id),
            upstream_runs=[self.path(run_id) for name in upstream for run_id in self.succeeded[name]],
            **{"retry_of": retry_of, "log_url": LOG_URL.format(**places), **more},
        )
        with self.site.run(
            run_id,
            seconds=seconds,
            exit_code=0 if state in ("success", "skipped") else 1,
            name=name,
            group=self.group,
            job_type=task_id,
            tags=[self.dag_id, "production"],
            config={**settings, "airflow": provenance},
        ) as run:
            self.site.urls[run_id] = run.url
            yield run
            if state == "success":
                self.succeeded.setdefault(task_id, []).append(run_id)
            run.summary["airflow/state"] = state


def fill(site: Site) -> None:
    """Write everything that the pages are to show."""
    weekly_retraining(site, "2026-11-15", quality=0.0)
    site.clock.time = datetime(2026, 11, 22, 0, 0, 3, tzinfo=UTC)
    weekly_retraining(site, "2026-11-22", quality=0.04, fail_first_training=True)
    deployment(site, "2026-11-22")
    hostile(site)
    fill_lab(site, HOSTILE)
    site.clock.advance(780)


def weekly_retraining(site: Site, week: str, *, quality: float, fail_first_training: bool = False) -> None:
    """Write the runs of one weekly DAG run; ``quality`` is added to its figures."""
    dag = DagRun(site, DAG, f"scheduled__{week}T00:00:00+00:00", week)
    with dag.root(0.9, **{"airflow/task_seconds": 96.4}):
        with dag.task("prepare_data", 8.5) as run:
            corpus = wandb.Artifact(
                "corpus", type="dataset", metadata={"pairs": 3912, "source": "standard library"}
            )
            _add_text(
                corpus, "pairs.jsonl", f'{{"query": "Return the square root of x.", "week": "{week}"}}\n' * 50
            )
            _add_text(corpus, "schema.json", '{"query": "string", "passage": "string"}')
            run.log({"pairs": 3912, "modules": 212})
            run.log_artifact(corpus).wait()
        if fail_first_training:
            with dag.task("train", 14.2, "prepare_data", state="failed") as run:
                run.use_artifact(corpus)
                run.summary["airflow/reason"] = "FloatingPointError: the loss is not finite at step 7"
                _log_curve(run, steps=7, quality=0)
        more = {"try_number": 2} if fail_first_training else {}
        config = {
            "learning_rate": 0.05,
            "model": {"kind": "projection", "dimensions": 128, "layers": [256, 128]},
        }
        with dag.task("train", 61.3, "prepare_data", config=config, **more) as run:
            run.use_artifact(corpus)
            _log_curve(run, steps=120, quality=quality)
            weights = wandb.Artifact(
                "retriever", type="model", metadata={"training": {"loss": 0.31 - quality}}
            )
            _add_text(weights, "weights.bin", f"weights of {week}" * 400)
            _add_text(weights, "card.md", "# Retriever\n")
            run.log_artifact(weights, aliases=["candidate"]).wait()
        for index, name in enumerate(("short", "long")):
            with dag.task("evaluate", 6.0 + index, "train", map_index=index) as run:
                run.use_artifact(weights)
                run.use_artifact(corpus)
                _log_evaluation(run, name, quality)
        with dag.task("gate", 1.4, "evaluate") as run:
            run.summary.update({"gate": {"passed": True, "rules": 3}, "hit_rate@10": 0.71 + quality})
        with dag.task("report", 2.1, "gate") as run:
            page = "<h1>Weekly retraining</h1><p>MRR <b>0.52</b> against 0.31 untrained.</p><script>alert(1)</script>"
            run.log({"report": wandb.Html(page)})
        with dag.task("promote", 1.9, "report", "gate") as run:
            run.use_artifact(weights)
            linked = run.link_artifact(weights, "wandb-registry-model/retriever", aliases=["production"])
            run.summary.update({"promotion/changed": True})
            site.urls["registry"] = linked.url
            shelved = run.link_artifact(weights, "local/model-registry/shelf", aliases=["kept"])
            site.urls["model-registry"] = shelved.url
        site.urls["weights"], site.urls["corpus"] = weights.url, corpus.url


def deployment(site: Site, week: str) -> None:
    """Write the DAG run that the promotion has started."""
    source = f"local/{PROJECT}/promote-{week}"
    event = {"kind": "asset", "asset": "x-wandb-alias://model/retriever/production", "run": source}
    dag = DagRun(
        site, "deploy_on_promotion", "asset_triggered__2026-11-22T00:01:48+00:00", week, source, [event]
    )
    with dag.root(0.5), dag.task("build_index", 12.8) as run:
        run.use_artifact("local-org/wandb-registry-model/retriever:production")
        index = wandb.Artifact("index", type="index")
        _add_text(index, "index.bin", "0123456789" * 1000)
        run.log_artifact(index).wait()


def hostile(site: Site) -> None:
    """Write markup wherever a user can put text, and values of every odd kind."""
    with site.run(
        "hostile",
        seconds=3,
        project="odd",
        name=HOSTILE,
        group=f"{HOSTILE} group",
        job_type=HOSTILE,
        tags=["<i>tag</i>"],
        notes=HOSTILE,
        config={
            HOSTILE: HOSTILE,
            "javascript": "javascript:alert(1)",
            "deep": {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}},
            "empty": {},
            "list": [{"a": HOSTILE}, {"a": None}],
            "airflow": {
                "parent_run": HOSTILE,
                "upstream_runs": "no list",
                "log_url": "javascript:alert(1)",
                "x": 1,
            },
        },
    ) as run:
        run.log({HOSTILE: 1.0, "broken": math.nan, "nested": {"value": 2, HOSTILE: HOSTILE}})
        run.log({HOSTILE: 2.0, "broken": 3.0, "_hidden": 1})
        run.log(
            {"table": wandb.Table(columns=["a", HOSTILE], data=[[index, HOSTILE] for index in range(70)])}
        )
        run.alert(HOSTILE, HOSTILE)
        artifact = wandb.Artifact("odd", type="dataset", description=HOSTILE, metadata={HOSTILE: HOSTILE})
        _add_text(artifact, "a folder/<b>.html", HOSTILE)
        artifact.add_reference("http://127.0.0.1:9/elsewhere.bin", checksum=False)
        run.log_artifact(artifact, aliases=["<u>"]).wait()
        run.link_artifact(artifact, "wandb-registry-dataset/odd", aliases=["<u>"])


def _log_curve(run: wandb.Run, *, steps: int, quality: float) -> None:
    for step in range(steps):
        row: dict[str, Any] = {"loss": 0.3 - quality + 1.9 * math.exp(-step / 25) + 0.02 * math.sin(step)}
        if step % 10 == 0:
            row["validation/mrr"] = 0.52 + quality - 0.2 * math.exp(-step / 30)
        run.log(row)


def _log_evaluation(run: wandb.Run, name: str, quality: float) -> None:
    rows = [[f"Return the {index}th item.", index % 11 + 1, 1 / (index % 11 + 1)] for index in range(80)]
    table = wandb.Table(columns=["query", "rank", "reciprocal_rank"], data=rows)
    figures: Mapping[str, float] = {"hit_rate@1": 0.38, "hit_rate@5": 0.61, "hit_rate@10": 0.71, "mrr": 0.49}
    run.log({f"{name}/per_query": table, **{key: value + quality for key, value in figures.items()}})


def _add_text(artifact: wandb.Artifact, path: str, content: str) -> None:
    with artifact.new_file(path) as file:
        file.write(content)
