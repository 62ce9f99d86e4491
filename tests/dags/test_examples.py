"""The DAGs that are shipped: all parse, the examples run to their end, and nothing public lacks one."""

from __future__ import annotations

import ast
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import wandb_airflow_provider
from tests.dags.conftest import Ledger
from wandb_airflow_provider import read_audit

DAGS = Path(__file__).resolve().parents[2] / "dags"
EXAMPLES = sorted(DAGS.glob("example_*.py"))

RunDag = Callable[..., Any]


def load(path: Path) -> Any:
    """Return the one DAG of a file."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(path, bundle_name="dags-folder")
    assert bag.import_errors == {}
    (dag,) = bag.dags.values()
    return dag


def states(dag_run: Any) -> dict[str, str]:
    """Return the state of each task instance by ``task_id`` or ``task_id[map_index]``."""
    return {
        ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]": str(ti.state)
        for ti in dag_run.get_task_instances()
    }


def pushed(dag_run: Any, task_id: str, key: str = "return_value") -> Any:
    """Return an XCom of a task that is not mapped."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        query = XComModel.get_many(run_id=dag_run.run_id, dag_ids=dag_run.dag_id, task_ids=task_id, key=key)
        (row,) = session.scalars(query).all()
        return XComModel.deserialize_value(row)


def asset_events(name: str) -> list[Any]:
    """Return the events of an asset, oldest first."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = select(AssetEvent).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        return list(session.scalars(query.where(AssetModel.name == name).order_by(AssetEvent.id)))


def used_names(path: Path) -> set[str]:
    """Return the names that a source file mentions outside of comments and text."""
    return {node.id for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("path", sorted(DAGS.glob("*.py")), ids=lambda path: path.stem)
def test_dag_file_parses_and_names_its_dag_like_the_file(path: Path) -> None:
    dag = load(path)
    assert dag.dag_id == path.stem
    assert dag.catchup is False


def test_quickstart_logs_its_loss_under_the_pipeline_run(ledger: Ledger, run_dag: RunDag) -> None:
    dag_run = run_dag(load(DAGS / "example_quickstart.py"))

    assert dag_run.state == "success"
    runs = {run.name: run for run in ledger.api().runs("local/quickstart", lazy=False)}
    assert set(runs) == {f"example_quickstart · {dag_run.run_id}", "prepare", "train"}
    losses = [row["loss"] for row in runs["train"].scan_history(keys=["loss"])]
    assert len(losses) == 100
    assert losses[-1] < 0.01 < losses[0]
    assert pushed(dag_run, "train")["slope"] == pytest.approx(2.0, abs=0.1)
    assert runs["train"].config["airflow"]["upstream_runs"] == ["/".join(runs["prepare"].path)]


@pytest.mark.slow
def test_artifacts_example_leaves_a_lineage_from_dataset_to_vocabulary(
    ledger: Ledger, run_dag: RunDag
) -> None:
    dag_run = run_dag(load(DAGS / "example_artifacts.py"))

    assert dag_run.state == "success"
    runs = ledger.runs()
    assert [a.name for a in runs["log_dataset"].logged_artifacts()] == ["example-texts:v0"]
    assert [a.name for a in runs["download"].used_artifacts()] == ["example-texts:v0"]
    assert [a.name for a in runs["count_words"].used_artifacts()] == ["example-texts:v0"]
    assert [a.name for a in runs["count_words"].logged_artifacts()] == ["example-vocabulary:v0"]
    assert pushed(dag_run, "show_size") == len("the dog sleeps\n")
    assert not Path(pushed(dag_run, "make_folder")).exists()


def test_gate_example_promotes_holds_back_and_is_rolled_back(ledger: Ledger, run_dag: RunDag) -> None:
    # Loaded anew each time: Airflow's `dag.test()` writes a run's params into the DAG.
    promotion = DAGS / "example_gate_and_promotion.py"

    first = run_dag(load(promotion))
    assert (first.state, states(first)["tell_why"]) == ("success", "skipped")
    assert states(first)["wait_for_alias"] == "success"

    held_back = run_dag(load(promotion), run_conf={"seed": 3, "least_accuracy": 1.5})
    assert (held_back.state, states(held_back)["promote"]) == ("success", "skipped")
    assert "accuracy" in pushed(held_back, "tell_why")

    second = run_dag(load(promotion), run_conf={"seed": 2})
    before, after = (pushed(run, "promote")["current"] for run in (first, second))
    assert second.state == "success"
    assert before["digest"] != after["digest"]
    assert pushed(second, "wait_for_alias")["digest"] == after["digest"]

    undone = run_dag(load(DAGS / "example_rollback.py"))
    assert undone.state == "success"
    assert pushed(undone, "rollback")["current"]["digest"] == before["digest"]


@pytest.mark.slow
def test_stages_example_takes_a_model_as_far_as_its_gates_let_it_and_the_audit_says_why(
    ledger: Ledger, run_dag: RunDag
) -> None:
    good = run_dag(load(DAGS / "example_stages.py"))
    assert (good.state, states(good)["promote_production"]) == ("success", "success")
    weak = run_dag(load(DAGS / "example_stages.py"), run_conf={"seed": 2, "skill": 0.7})
    assert states(weak)["promote_dev"] == "success"
    assert states(weak)["promote_production"] == "skipped"

    promoted = pushed(good, "promote_production")
    history = read_audit("model", "example-staged")
    assert history.cause is not None
    assert history.cause.task.dag_run_id == good.run_id
    assert history.holder is not None
    assert history.holder.digest == promoted["current"]["digest"]
    # The last gate has stopped the weak one.
    assert [entry.event for entry in history.entries] == ["passed", "intended", "done", "stopped"]
    assert history.entries[-1].task.dag_run_id == weak.run_id

    decisions = [event.extra["wandb_decision"] for event in asset_events("wandb_decisions")]
    passed = [
        [(stage, "verdict", "passed"), (stage, "promotion", "done")]
        for stage in ("dev", "staging", "production")
    ]
    assert [(one["alias"], one["kind"], one["event"]) for one in decisions] == [
        *(decision for stage in (*passed, *passed[:2]) for decision in stage),
        ("production", "verdict", "stopped"),
    ]
    assert decisions[5]["after"]["digest"] == promoted["current"]["digest"]
    (logged,) = (
        run for run in ledger.runs().values() if run.config.get("promotion") and "production" in run.name
    )
    assert logged.url == promoted["page"]
    assert logged.summary["promotion/page"]["_type"] == "html-file"

    gone = run_dag(load(DAGS / "example_demote.py"))
    assert pushed(gone, "demote")["previous"]["digest"] == pushed(weak, "promote_dev")["current"]["digest"]
    assert read_audit("model", "example-staged", "dev").holder is None

    # The weak one has been in the registry, and never in production.
    undo = {"collection": "example-staged", "version": "v1", "expected_holder": "v0"}
    undo |= {"reason": "It was needed after all."}
    unjudged = run_dag(load(DAGS / "rollback.py"), run_conf=undo)
    assert states(unjudged)["rollback"] == "failed"
    better = run_dag(load(DAGS / "example_stages.py"), run_conf={"seed": 3, "skill": 0.96})
    history = read_audit("model", "example-staged")
    assert history.holder is not None
    assert history.holder.digest == pushed(better, "promote_production")["current"]["digest"]
    undo |= {"version": "v0", "expected_holder": "v2"}
    tried = run_dag(load(DAGS / "rollback.py"), run_conf={**undo, "dry_run": True})
    assert pushed(tried, "rollback")["would_change"] is True
    assert read_audit("model", "example-staged").holder == history.holder
    assert states(run_dag(load(DAGS / "rollback.py"), run_conf=undo))["rollback"] == "success"
    again = run_dag(load(DAGS / "rollback.py"), run_conf=undo)
    assert states(again)["rollback"] == "failed"
    last = read_audit("model", "example-staged")
    assert last.cause is not None
    assert (last.cause.kind, last.cause.note) == ("rollback", "It was needed after all.")
    assert [entry.event for entry in last.entries][4:] == [
        "refused",
        *("passed", "intended", "done"),
        *("intended", "done", "refused"),
    ]


@pytest.mark.slow
def test_gate_rules_example_promotes_what_is_as_good_and_stops_what_is_worse_beyond_noise(
    ledger: Ledger, run_dag: RunDag
) -> None:
    example = DAGS / "example_gate_rules.py"
    first = run_dag(load(example))
    assert (first.state, states(first)["quality_gate.promote"]) == ("success", "success")
    verdict = pushed(first, "quality_gate.gate")
    assert [outcome["reason"] for outcome in verdict["outcomes"]][3:] == [
        "no_baseline_allowed",
        "passed",
        "above_maximum",
    ]
    assert "eval/latency = 0.3 s: must be at most 0.2 s" in pushed(first, "quality_gate.report")

    as_good = run_dag(load(example), run_conf={"seed": 2})
    assert states(as_good)["quality_gate.promote"] == "success"
    noise = pushed(as_good, "quality_gate.gate")["outcomes"][3]
    assert (noise["reason"], noise["samples"]) == ("passed", 370)

    worse = run_dag(load(example), run_conf={"seed": 3, "skill": 0.6})
    assert (worse.state, states(worse)["quality_gate.promote"]) == ("success", "skipped")
    verdict = pushed(worse, "quality_gate.gate")
    assert [outcome["result"] for outcome in verdict["outcomes"]].count("failed") == 1
    assert verdict["outcomes"][3]["reason"] == "change_not_shown"
    runs = ledger.api().runs("local/gate-rules", filters={"job_type": "evaluate"}, lazy=False)
    assert sorted(run.summary["gate/passed"] for run in runs) == [False, True, True]


@pytest.mark.slow
def test_report_example_compares_with_production_and_promotes_what_a_person_approves(
    ledger: Ledger, run_dag: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wandb_airflow_provider.operators.approval import WandbApprovalOperator

    read: list[str] = []

    def answer(self: Any, context: Any) -> Any:
        read.append(self.body)
        event = {
            "chosen_options": ["Approve"],
            "params_input": {"alias": "production", "note": f"Answer {len(read)}."},
            "responded_at": datetime.now(UTC),
            "responded_by_user": {"id": "7", "name": "alice"},
        }
        return self.execute_complete(context, event)

    # `dag.test()` waits for an answer over Airflow's API, which does not run here.
    monkeypatch.setattr(WandbApprovalOperator, "execute", answer)
    first = run_dag(load(DAGS / "example_report.py"))
    assert (first.state, states(first)["quality_gate.promote"]) == ("success", "success")
    assert "- Baseline: none yet" in read[0]

    second = run_dag(load(DAGS / "example_report.py"), run_conf={"seed": 2, "skill": 0.72})
    assert (second.state, states(second)["quality_gate.promote"]) == ("success", "success")
    for line in (
        "| skill | 0.72 | 0.7 |",
        "| Training: cost/usd | 0.42 | 0.42 | +0 (+0 %) |",
        "the same content",
    ):
        assert line in read[1]
    promoted = pushed(second, "quality_gate.promote")
    assert (promoted["approval"]["by"], promoted["approval"]["params"]["note"]) == ("alice", "Answer 2.")
    decisions = [event.extra["wandb_decision"] for event in asset_events("wandb_ranker_decisions")]
    assert [(one["kind"], one["event"]) for one in decisions] == [
        ("verdict", "passed"),
        ("approval", "approved"),
        ("promotion", "done"),
    ] * 2
    history = read_audit("model", "report-ranker")
    assert history.cause is not None
    assert history.cause.approval == promoted["approval"]
    assert [entry.event for entry in history.entries] == ["passed", "approved", "intended", "done"] * 2
    page = pushed(first, "quality_gate.promote")["page"]
    assert f"[why it holds the alias]({page})" in read[1]
    written = pushed(second, "quality_gate.report")
    (evaluated,) = ledger.api().runs(
        "local/reports",
        filters={"group": f"example_report__{second.run_id}", "jobType": "evaluate"},
        lazy=False,
    )
    assert evaluated.summary["gate/approval_by"] == "alice"
    found = {report.id: report.display_name for report in ledger.api().reports("local/reports")}
    assert len(found) == 2
    assert found[written["report_id"]] == "report-ranker v1 against v0"


@pytest.mark.slow
def test_mapped_example_keeps_each_index_apart(ledger: Ledger, run_dag: RunDag) -> None:
    dag_run = run_dag(load(DAGS / "example_mapped_training.py"))

    assert dag_run.state == "success"
    runs = ledger.runs()
    for index in range(3):
        scored = runs[f"candidates.score[{index}]"].config["airflow"]["upstream_runs"]
        assert scored == ["/".join(runs[f"candidates.fit[{index}]"].path)]
    described = {"/".join(runs[f"describe[{index}]"].path) for index in range(2)}
    assert set(runs["candidates.fit[0]"].config["airflow"]["upstream_runs"]) == described
    assert pushed(dag_run, "pick")["learning_rate"] == 0.5


@pytest.mark.slow
def test_auto_instrument_example_has_a_tree_that_its_tasks_know_nothing_of(
    logged_in: Ledger, listening: None, run_dag: RunDag
) -> None:
    dag_run = run_dag(load(DAGS / "example_auto_instrument.py"))

    assert dag_run.state == "success"
    runs = list(logged_in.api().runs("local/auto-instrument", order="+created_at", lazy=False))
    assert {run.group for run in runs} == {f"example_auto_instrument__{dag_run.run_id}"}
    assert [(run.job_type, run.state) for run in runs] == [
        ("prepare", "finished"),
        *[("fit", "finished")] * 2,
    ]
    prepared, *fitted = sorted(runs, key=lambda run: run.config["airflow"]["map_index"])
    assert prepared.summary["airflow/state"] == "success"
    assert [run.config["airflow"]["map_index"] for run in fitted] == [0, 1]
    assert [run.config["airflow"]["upstream_runs"] for run in fitted] == [["/".join(prepared.path)]] * 2
    assert pushed(dag_run, "prepare", "wandb_run_url") == prepared.url


@pytest.mark.slow
def test_single_run_example_is_one_run_with_a_step_axis_for_each_task(
    ledger: Ledger, run_dag: RunDag
) -> None:
    dag_run = run_dag(load(DAGS / "example_single_run.py"))

    assert dag_run.state == "success"
    (run,) = ledger.runs().values()
    rows = list(run.scan_history())
    assert [row["train/step"] for row in rows if "train/loss" in row] == list(range(50))
    assert [row["evaluate/step"] for row in rows if "evaluate/error" in row] == list(range(20))
    assert run.summary["evaluate/worst"] == pytest.approx(pushed(dag_run, "evaluate"))


@pytest.mark.slow
def test_reconcile_example_closes_the_pipeline_run_that_its_closing_task_could_not(
    ledger: Ledger, run_dag: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Any, context: Any) -> None:
        raise RuntimeError("no memory left")

    with monkeypatch.context() as patch:
        patch.setattr("wandb_airflow_provider.operators.pipeline.WandbPipelineCloseOperator.execute", fails)
        left_open = run_dag(load(DAGS / "example_single_run.py"))
    assert left_open.state == "success"
    (run,) = ledger.runs().values()
    assert run.summary["airflow/state"] == "running"

    maintenance = load(DAGS / "example_reconcile.py")
    maintenance.task_dict["reconcile"].quiet_for = 0
    closed = pushed(run_dag(maintenance), "reconcile")

    assert [entry["run"] for entry in closed] == ["/".join(run.path)]
    (run,) = ledger.runs().values()
    assert (run.state, run.summary["airflow/state"]) == ("finished", "success")
    assert "its closing task is 'failed'" in run.summary["airflow/reconciled"]["source"]
    assert run.summary["timeline"]["nrows"] == 2
    assert run.summary["airflow/tasks/success"] == 2


@pytest.mark.slow
def test_child_process_example_shows_scripts_as_runs_of_their_tasks(ledger: Ledger, run_dag: RunDag) -> None:
    dag_run = run_dag(load(DAGS / "example_child_processes.py"))

    assert dag_run.state == "success"
    runs = {run.name: run for run in ledger.api().runs("local/child-processes", lazy=False)}
    root = runs[f"example_child_processes · {dag_run.run_id}"]
    assert runs["train"].summary["slope"] == pytest.approx(2.0, abs=0.5)
    # The DAG's value wins over the script's own.
    assert (runs["train"].config["learning_rate"], runs["train"].config["steps"]) == (0.05, 50)
    assert runs["score"].summary["distance"] == 0.5
    for name, upstream in (("train", "prepare"), ("score", "train")):
        provenance = runs[name].config["airflow"]
        assert provenance["parent_run"] == "/".join(root.path)
        assert provenance["upstream_runs"] == ["/".join(runs[upstream].path)]
    assert pushed(dag_run, "describe").startswith(f"{root.group}/describe-")


@pytest.mark.slow
def test_redaction_example_sends_no_customer_and_exact_totals(
    ledger: Ledger, run_dag: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_WANDB_REDACTION_SALT", "a long text that no one guesses")
    dag_run = run_dag(load(DAGS / "example_redaction.py"))

    assert dag_run.state == "success"
    (run,) = ledger.api().runs("local/redaction", filters={"job_type": "answer"}, lazy=False)
    params = run.config["airflow"]["params"]
    assert params["customer"].startswith("[hmac:")
    assert params["contact"] == "[redacted:email]"
    assert run.summary["sampling/inference/seconds/count"] == 500
    assert run.summary["sampling/inference/seconds/sum"] == pytest.approx(pushed(dag_run, "answer"))
    assert "inference/prompt" not in run.summary
    assert (run.summary["answers/rows_sent"], run.summary["answers/rows_total"]) == (50, 500)


def test_each_example_file_is_run_by_a_test() -> None:
    source = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    ran = {path for path in EXAMPLES if f'DAGS / "{path.name}"' in source}
    assert ran == set(EXAMPLES)


def test_each_public_operator_and_sensor_has_an_example() -> None:
    public = {name for name in wandb_airflow_provider.__all__ if name.endswith(("Operator", "Sensor"))}
    shown = set().union(*(used_names(path) for path in EXAMPLES))
    assert public
    assert public - shown == set()
