"""A stage of a shared run: its rows, its part of config and summary, and writers side by side."""

from __future__ import annotations

import subprocess
import sys
import threading
from argparse import Namespace
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest

from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.sdk import RunSpec

OTHER_WRITER = """
import sys
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.sdk import RunSpec
spec = RunSpec("shared-run", "r", "g", "pipeline", entity="local", project=sys.argv[1], stage="b", shared=True)
with WandbHook().open_run(spec._replace(config={"b/airflow": {"task_id": "b"}})) as session:
    print("opened", flush=True)
    sys.stdin.readline()
    for value in range(20):
        session.task_run.log({"metric": value})
    sys.stdin.readline()
"""


@pytest.fixture
def open_stage(hook: WandbHook, unique: str) -> Callable[..., Any]:
    """``open_stage("train")`` opens the run ``shared-run`` for one stage."""

    def open_stage(stage: str | None, **arguments: Any) -> Any:
        config = {f"{stage}/airflow": {"task_id": stage}} if stage else {}
        spec = RunSpec("shared-run", "r", "g", "pipeline", entity="local", project=unique, config=config)
        return hook.open_run(spec._replace(stage=stage, **arguments))

    return open_stage


@pytest.fixture
def read(hook: WandbHook, unique: str) -> Callable[[], Any]:
    def read() -> Any:
        return hook.get_conn().run(RunRef("local", unique, "shared-run").path)

    return read


def test_a_stage_is_used_like_a_run_and_writes_only_under_its_name(
    open_stage: Callable[..., Any], read: Callable[[], Any]
) -> None:
    import wandb

    with open_stage("train") as session:
        run = session.task_run
        assert isinstance(run, wandb.Run)
        assert (run.id, run.step, repr(run)[:13]) == ("shared-run", 0, "<stage 'train")
        with run as same:
            assert same is run
            run.notes = "a note"
            run.config.update(Namespace(depth=3), allow_val_change=True)
            run.config["lr"] = 0.1
            run.config.setdefaults({"lr": 9, "seed": 1})
            run.summary.update({"best": 1}, last=2)
            run.summary.gone = 3
            assert run.summary.gone == 3
            del run.summary["gone"]
            with pytest.raises(AttributeError, match="'gone'"):
                _ = run.summary.gone
            with pytest.raises(AttributeError):
                _ = run.config._unknown
            assert run.config.as_dict()["lr"] == run.config.lr == run.config["lr"] == 0.1
            assert run.config.get("nothing") is None
            assert {"best", "last"} <= set(run.summary)
            assert len(run.summary) == len(list(run.summary))
            run.log({"a": 1}, commit=False)
            run.log({"b": 2})
            run.log({"a": 3}, step=4, commit=True)
            run.log({"a": 4})
    stored = read()
    rows = [{k: v for k, v in row.items() if k.startswith("train/")} for row in stored.scan_history()]
    assert rows == [
        {"train/a": 1, "train/b": 2, "train/step": 0},
        {"train/a": 3, "train/step": 4},
        {"train/a": 4, "train/step": 5},
    ]
    assert stored.notes == "a note"
    assert {k: v for k, v in stored.config.items() if k != "train/airflow"} == {
        "train/depth": 3,
        "train/lr": 0.1,
        "train/seed": 1,
    }
    assert "train/gone" not in stored.summary


def test_rows_that_were_collected_are_sent_when_the_stage_ends(
    open_stage: Callable[..., Any], read: Callable[[], Any]
) -> None:
    with open_stage("train") as session:
        session.task_run.log({"a": 1}, step=3)
    with open_stage("train") as session:
        assert session.task_run.step == 4
    assert [(row["train/step"], row["train/a"]) for row in read().scan_history()] == [(3, 1)]


def test_a_metric_defined_by_a_stage_keeps_its_definition_when_others_open_the_run(
    open_stage: Callable[..., Any], read: Callable[[], Any]
) -> None:
    with open_stage("train") as session:
        epoch = session.task_run.define_metric("epoch")
        session.task_run.define_metric("accuracy", step_metric=epoch, summary="max")
        for accuracy in (1, 3, 2):
            session.task_run.log({"accuracy": accuracy, "epoch": accuracy * 10})
    with open_stage("check"):
        pass
    stored = read()
    defined = stored.rawconfig["_wandb"]["m"]
    names = [entry.get("1") or entry.get("2") for entry in defined]
    by_name = dict(zip(names, defined, strict=True))
    # wandb 0.30 keeps patterns to itself, and sends what they have matched.
    patterns = {name for name in names if str(name).endswith("/*")}
    assert patterns == {"train/*", "check/*"} or version("wandb").startswith("0.30.")
    assert {"train/accuracy", "train/epoch", "train/step"} <= set(names)
    # Field 5 of a definition is the place of its step metric in the list, counted from 1.
    assert names[by_name["train/accuracy"]["5"] - 1] == "train/epoch"
    for pattern in patterns:
        assert names[by_name[pattern]["5"] - 1] == f"{pattern.removesuffix('/*')}/step"
    assert stored.summary["train/accuracy"]["max"] == 3


def test_threads_of_one_task_lose_no_row(open_stage: Callable[..., Any], read: Callable[[], Any]) -> None:
    with open_stage("train") as session:
        run = session.task_run

        def work() -> None:
            for _ in range(50):
                run.log({"a": 1})

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [row["train/step"] for row in read().scan_history()] == list(range(200))


@pytest.mark.slow
def test_in_shared_mode_stages_side_by_side_keep_each_other_s_rows_and_leave_the_state_to_the_pipeline(
    open_stage: Callable[..., Any], read: Callable[[], Any], unique: str
) -> None:
    with open_stage(None, shared=True):
        pass
    other = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", OTHER_WRITER, unique],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdin is not None
    assert other.stdout is not None
    while "opened" not in other.stdout.readline():
        assert other.poll() is None
    with open_stage("a", shared=True) as one:
        other.stdin.write("\n")
        other.stdin.flush()
        for value in range(20):
            one.task_run.log({"metric": value})
        one.close(1, "failed", reason="ValueError: no")
    other.communicate("\n", timeout=60)
    assert other.returncode == 0
    assert read().state == "running", "a failed stage does not end what others write to"
    with open_stage(None, shared=True):
        pass
    stored = read()
    rows = list(stored.scan_history())
    for stage in ("a", "b"):
        found = {row[f"{stage}/step"]: row[f"{stage}/metric"] for row in rows if f"{stage}/metric" in row}
        assert found == {value: value for value in range(20)}
    assert (stored.state, stored.summary["airflow/state"]) == ("finished", "success")
    assert (stored.summary["a/airflow/state"], stored.summary["b/airflow/state"]) == ("failed", "success")
    assert "a/airflow" in stored.config
