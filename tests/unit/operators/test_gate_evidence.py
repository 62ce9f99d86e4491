"""What the gate reads of W&B for each kind of rule, and where it leaves its verdict."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from tests.unit.operators.conftest import gate
from wandb_airflow_provider.exceptions import (
    WandbConfigurationError,
    WandbGateFailedError,
    WandbUnavailableError,
)
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.operators.gate import WandbMetricGateOperator
from wandb_airflow_provider.rules import Verdict

COLUMNS = ["id", "language", "rr"]
GOOD = {"metric": "mrr", "minimum": 0.5}


def rows(shift: float = 0.0) -> list[list[Any]]:
    levels = [0.5 + 0.1 * math.sin(index) + shift + 0.01 * shift * math.cos(index) for index in range(40)]
    return [[f"q{index}", "en" if index % 2 else "de", level] for index, level in enumerate(levels)]


@pytest.fixture
def evaluate(server: Any, hook: WandbHook, unique: str, tmp_path: Path) -> Callable[..., Any]:
    """``evaluate(shift)`` logs a version and a run that used it, with a history and a table of per-example results."""
    import wandb

    numbers = iter(range(100))
    settings = wandb.Settings(
        base_url=server.url, api_key=server.api_key, console="off", silent=True, disable_git=True
    )

    def evaluate(
        shift: float = 0.0, *, uses: bool = True, mrr: float = 0.6, points: int = 0
    ) -> tuple[Any, Any]:
        folder = tmp_path / f"evaluation-{next(numbers)}"
        folder.mkdir()
        (folder / "weights.txt").write_text(f"{shift} {folder.name}")
        with wandb.init(
            entity="local", project=unique, dir=folder, settings=settings, reinit="create_new"
        ) as run:
            artifact = wandb.Artifact("encoder", type="model")
            artifact.add_file(str(folder / "weights.txt"))
            path = run.log_artifact(artifact).wait().qualified_name
        with wandb.init(
            entity="local",
            project=unique,
            dir=folder,
            settings=settings,
            reinit="create_new",
            job_type="evaluate",
        ) as run:
            if uses:
                run.use_artifact(path)
            for loss in (3.0, 2.0, 1.0):
                run.log({"loss": loss})
            for point in range(points):
                run.log({"long": point})
            run.log({"mrr": mrr, "ranks": wandb.Table(columns=COLUMNS, data=rows(shift))})
            ref = RunRef(run.entity, run.project, run.id, url=run.url)
        return ref, hook.get_artifact(path)

    return evaluate


def counts(server: Any, since: int) -> Counter[str]:
    """How often each operation was sent."""
    return Counter(request.operation for request in server.requests()[since:] if request.operation)


@pytest.mark.slow
def test_histories_tables_slices_and_noise_are_judged_from_what_w_and_b_holds(
    hook: WandbHook, evaluate: Callable[..., Any], run_task: Callable[..., Any], unique: str
) -> None:
    _, held = evaluate()
    hook.link_to_registry(held, "model", unique, ["production"])
    # The holder was promoted by hand, so that the run which logged it counts, and that has no table.
    baseline, _ = evaluate()
    # More points than W&B hands out at once.
    run, version = evaluate(0.1, points=2500)
    paired = {"kind": "paired", "table": "ranks", "column": "rr"}
    same = {"metric": "mrr", "min_change": 0, "baseline_run": baseline.path}
    rules = [
        {"metric": "loss", "aggregate": "slope", "below": 0},
        {"metric": "loss", "aggregate": "mean", "window": 2, "maximum": 1.5},
        {
            "kind": "table",
            "table": "ranks",
            "column": "rr",
            "by": "language",
            "min_samples": 20,
            "minimum": 0.5,
        },
        {**paired, "key": "id", "change_above": 0.05, "baseline_run": baseline.path},
        {"kind": "age", "max_age": "1 h"},
        {"metric": "long", "aggregate": "mean", "window": 2400, "minimum": 0},
        {"kind": "any", "rules": [{"metric": "mrr", "minimum": 0.9}, same]},
        {"kind": "table", "table": "ranks", "column": "rr", "min_change": 0, "severity": "warn"},
    ]
    finished = run_task(
        gate(
            rules=rules,
            run=run.path,
            candidate=version.path,
            baseline_registry="model",
            baseline_collection=unique,
        )
    )
    assert (finished.state, finished.error) == ("success", None), str(finished.error)
    verdict = Verdict.from_json(finished.xcom())
    assert verdict.candidate_use == "used"
    assert [outcome.result for outcome in verdict.outcomes] == ["passed"] * 7 + ["warning"]
    assert verdict.outcomes[1].value == 1.5
    assert (verdict.outcomes[5].value, verdict.outcomes[5].samples) == (1299.5, 2400)
    assert [part["samples"] for part in verdict.outcomes[2].details["slices"]] == [20, 20]
    assert verdict.outcomes[3].details["limit"] > 0.05
    assert verdict.outcomes[7].reason == "baseline_metric_missing"
    assert "7 of 8 rules, none stops it. Warnings: mean rr of ranks cannot be compared" in verdict.summary


@pytest.mark.slow
def test_the_verdict_is_shown_in_the_evaluated_run_and_in_the_pipeline_run(
    server: Any,
    hook: WandbHook,
    evaluate: Callable[..., Any],
    run_task: Callable[..., Any],
    unique: str,
    tmp_path: Path,
) -> None:
    import wandb

    from wandb_airflow_provider.pipeline import wandb_pipeline

    run, version = evaluate()
    with DAG("weekly", schedule=None), wandb_pipeline(project=unique):
        judging = WandbMetricGateOperator(task_id="gate", rules=[GOOD], run=run.path, candidate=version.path)
    opening = judging.dag.task_dict["wandb_pipeline_open"]
    assert run_task(opening).state == "success"
    finished = run_task(judging)
    assert (finished.state, finished.error) == ("success", None), str(finished.error)
    own = RunRef.from_json(finished.xcom("wandb_run"))
    (root,) = hook.list_runs("local", unique, {"display_name": {"$regex": "^weekly"}})
    for record, prefix in ((hook.get_run(run), "gate"), (root, "gate/gate")):
        assert record.summary[f"{prefix}/passed"] is True
        assert record.summary[f"{prefix}/failed_rules"] == 0
        assert "passed all 1 rules" in record.summary[f"{prefix}/summary"]
        assert record.summary[f"{prefix}/judged_by"] == own.path
        entry = record.summary[f"{prefix}/outcomes"]
        assert (entry["_type"], entry["nrows"]) == ("table-file", 1)
        api = wandb.Api(api_key=server.api_key, overrides={"base_url": server.url})
        file = api.run(record.ref.path).file(entry["path"]).download(root=str(tmp_path), replace=True)
        table = json.loads(file.read())
        file.close()
        assert table["columns"][:3] == ["metric", "threshold", "value"]
        assert table["data"][0][:3] == ["mrr", ">= 0.5", 0.6]
    # What the evaluated run had measured is still there.
    assert hook.get_run(run).summary["mrr"] == 0.6


@pytest.fixture
def clock(server: Any) -> Iterator[Any]:
    """W&B's clock, which shows the time again afterwards."""
    yield server.clock
    server.clock.reset()


@pytest.mark.slow
@pytest.mark.parametrize("at_one_time", [False, True])
def test_the_last_good_runs_are_those_of_the_same_kind_that_a_gate_let_pass(
    hook: WandbHook, evaluate: Callable[..., Any], run_task: Callable[..., Any], clock: Any, at_one_time: bool
) -> None:
    if at_one_time:
        clock.freeze()
    rolling = {"metric": "mrr", "min_change": -0.01, "last_good": 2, "when_no_baseline": "pass"}
    for mrr, state, baseline in (
        (0.6, "success", None),
        (0.7, "success", 0.6),
        (0.5, "failed", 0.65),
        (0.66, "success", 0.65),
    ):
        run, version = evaluate(mrr=mrr)
        finished = run_task(gate(rules=[rolling], run=run.path, candidate=version.path))
        assert finished.state == state, finished.error
        assert finished.xcom()["outcomes"][0]["baseline_value"] == pytest.approx(baseline)


@pytest.mark.slow
def test_a_run_that_began_later_is_no_baseline_of_the_one_before(
    hook: WandbHook, evaluate: Callable[..., Any], run_task: Callable[..., Any], clock: Any
) -> None:
    rolling = {"metric": "mrr", "min_change": -0.01, "last_good": 2, "when_no_baseline": "pass"}
    first, candidate = evaluate(mrr=0.6)
    clock.advance(2)
    second, later = evaluate(mrr=0.7)
    passed = run_task(gate(rules=[rolling], run=second.path, candidate=later.path))
    assert passed.state == "success", passed.error
    judged = run_task(gate(rules=[rolling], run=first.path, candidate=candidate.path), dag_run_id="weekly-1")
    assert judged.state == "success", judged.error
    assert judged.xcom()["outcomes"][0]["baseline_value"] is None


@pytest.mark.slow
def test_a_run_that_did_not_use_the_candidate_is_not_judged_unless_told_otherwise(
    hook: WandbHook, evaluate: Callable[..., Any], run_task: Callable[..., Any]
) -> None:
    run, version = evaluate(uses=False)
    refused = run_task(gate(rules=[GOOD], run=run.path, candidate=version.path, retries=2))
    assert refused.state == "failed"
    assert isinstance(refused.error, WandbGateFailedError)
    assert f"neither used nor logged {version.path}" in str(refused.error)
    assert refused.xcom() is None
    trusted = run_task(gate(rules=[GOOD], run=run.path, candidate=version.path, check_candidate_use=False))
    assert (trusted.state, trusted.error) == ("success", None), str(trusted.error)
    assert Verdict.from_json(trusted.xcom()).candidate_use == "unchecked"


@pytest.mark.slow
def test_a_gate_on_the_summary_alone_reads_no_history_and_no_file(
    server: Any, hook: WandbHook, evaluate: Callable[..., Any], run_task: Callable[..., Any]
) -> None:
    run, version = evaluate()
    since = len(server.requests())
    assert run_task(gate(rules=[GOOD], run=run.path, candidate=version.path)).state == "success"
    plain = counts(server, since)
    since = len(server.requests())
    slices = {"kind": "table", "table": "ranks", "column": "rr", "minimum": 0.1}
    history = {"metric": "loss", "aggregate": "last", "maximum": 5}
    twice = [slices, slices | {"by": "language"}, history, history | {"aggregate": "max"}]
    assert run_task(gate(rules=twice, run=run.path, candidate=version.path)).state == "success"
    more = counts(server, since) - plain
    assert not [name for name in plain if "History" in name]
    # One file and one history, each for two rules.
    assert more["RunFiles"] == 1, more
    assert sum(count for name, count in more.items() if name.endswith("HistoryPage")) == 1, more


def test_without_scipy_nothing_is_read(
    server: Any, hook: WandbHook, run_task: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "scipy" else find(name, *a)
    )
    rule = {"kind": "paired", "table": "t", "column": "v", "against_column": "w", "change_above": 0}
    before = len(server.requests())
    finished = run_task(gate(rules=[rule], run="local/p/r", candidate="local/p/x:v0", retries=2))
    assert isinstance(finished.error, WandbConfigurationError)
    assert "[statistics]" in str(finished.error)
    assert len(server.requests()) == before


def test_rules_may_be_yaml_text_with_templates(
    hook: WandbHook, evaluate: Callable[..., Any], run_task: Callable[..., Any]
) -> None:
    run, version = evaluate()
    with DAG("weekly", schedule=None, params={"least": 0.65}):
        operator = WandbMetricGateOperator(
            task_id="gate",
            rules="rules:\n- {metric: mrr, minimum: '{{ params.least }}'}",
            run=run.path,
            candidate=version.path,
        )
    finished = run_task(operator)
    assert isinstance(finished.error, WandbGateFailedError)
    assert "must be at least 0.65" in str(finished.error)


@pytest.mark.slow
def test_a_table_whose_file_is_not_the_one_that_was_logged_is_refused(
    server: Any, hook: WandbHook, evaluate: Callable[..., Any], run_task: Callable[..., Any], tmp_path: Path
) -> None:
    run, version = evaluate()
    entry = hook.get_run(run).summary["ranks"]
    forged = tmp_path / entry["path"]
    forged.parent.mkdir(parents=True)
    forged.write_text(json.dumps({"columns": COLUMNS, "data": rows(0.5)}))
    hook.get_conn().run(run.path).upload_file(str(forged), root=str(tmp_path))
    rule = {"kind": "table", "table": "ranks", "column": "rr", "minimum": 0.1}
    finished = run_task(gate(rules=[rule], run=run.path, candidate=version.path, retries=2))
    assert finished.state == "failed"
    assert isinstance(finished.error, WandbGateFailedError)
    assert "SHA-256" in str(finished.error)
    for place in (str(forged), f"../{forged.name}"):
        hook.get_conn().run(run.path).summary.update({"ranks": entry | {"path": place}})
        finished = run_task(gate(rules=[rule], run=run.path, candidate=version.path))
        assert isinstance(finished.error, WandbGateFailedError)
        assert "no file of a run" in str(finished.error)


@pytest.mark.parametrize(
    ("attribute", "says"), [("MAX_ROWS", "has 30 of the 40 rows"), ("columns", "several columns of one name")]
)
def test_a_table_of_which_not_all_can_be_read_is_refused(
    hook: WandbHook,
    evaluate: Callable[..., Any],
    run_task: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    attribute: str,
    says: str,
) -> None:
    import wandb

    with monkeypatch.context() as patch:
        if attribute == "MAX_ROWS":
            # wandb writes so many rows to the file, and all of them to the count in the summary.
            patch.setattr(wandb.Table, "MAX_ROWS", 30)
        else:
            patch.setattr(sys.modules[__name__], "COLUMNS", ["id", "id", "rr"])
        run, version = evaluate()
    rule = {"kind": "table", "table": "ranks", "column": "rr", "minimum": 0.1}
    finished = run_task(gate(rules=[GOOD, rule], run=run.path, candidate=version.path, retries=2))
    assert finished.state == "failed"
    assert isinstance(finished.error, WandbGateFailedError)
    assert says in str(finished.error)
    assert finished.xcom() is None


@pytest.mark.slow
def test_evidence_that_w_and_b_does_not_hand_out_is_no_verdict_and_is_asked_for_again(
    hook: WandbHook,
    evaluate: Callable[..., Any],
    run_task: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from wandb_airflow_provider.hooks import evidence

    def goes_down(*arguments: Any) -> Any:
        raise WandbUnavailableError("the line went down")

    run, version = evaluate()
    rule = {"metric": "loss", "aggregate": "last", "maximum": 5, "on_missing": "pass"}
    with monkeypatch.context() as patch:
        patch.setattr(evidence, "_history", goes_down)
        finished = run_task(gate(rules=[GOOD, rule], run=run.path, candidate=version.path, retries=2))
    assert finished.state == "up_for_retry", finished.error
    assert isinstance(finished.error, WandbUnavailableError)
    assert finished.xcom() is None
    again = run_task(gate(rules=[GOOD, rule], run=run.path, candidate=version.path, retries=2), try_number=2)
    assert (again.state, again.xcom()["outcomes"][1]["value"]) == ("success", 1.0)
