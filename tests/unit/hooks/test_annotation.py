from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from wandb_airflow_provider.exceptions import WandbNotFoundError
from wandb_airflow_provider.hooks.annotation import NoteTable, annotate_run
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef

WRITERS = 12


def table(name: str, row: list[Any]) -> NoteTable:
    return NoteTable(f"{name}/outcomes", "gate/outcomes", ["metric", "passed"], [row])


@pytest.mark.slow
def test_writers_at_one_moment_lose_none_of_their_keys_and_none_of_the_run_s_own(
    hook: WandbHook, log_run: Callable[..., Any]
) -> None:
    ref, _ = log_run({"mrr": 0.6})
    hook.get_conn()
    together = threading.Barrier(WRITERS)

    def write(number: int) -> None:
        together.wait(60)
        name = f"gate/{number}"
        annotate_run(hook, ref, name, {f"{name}/passed": number % 2 == 0}, table(name, ["mrr", True]))

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))

    summary = hook.get_run(ref).summary
    assert summary["mrr"] == 0.6
    found = {number: summary.get(f"gate/{number}/passed") for number in range(WRITERS)}
    assert found == {number: number % 2 == 0 for number in range(WRITERS)}
    assert {summary[f"gate/{number}/outcomes"]["nrows"] for number in range(WRITERS)} == {1}


def test_what_a_writer_overwrote_is_put_back_by_whoever_writes_next(
    hook: WandbHook, log_run: Callable[..., Any]
) -> None:
    ref, _ = log_run({"mrr": 0.6})
    annotate_run(hook, ref, "gate/a", {"gate/a/passed": True})
    # Another program, which replaces the summary by what it had read before.
    run = hook.get_conn().run(ref.path)
    for key in [key for key in run.summary.keys() if key.startswith(("gate/", "airflow/notes"))]:  # noqa: SIM118
        del run.summary[key]
    run.summary.update()
    assert "gate/a/passed" not in hook.get_run(ref).summary

    annotate_run(hook, ref, "gate/b", {"gate/b/passed": False})

    summary = hook.get_run(ref).summary
    assert (summary["gate/a/passed"], summary["gate/b/passed"], summary["mrr"]) == (True, False, 0.6)


def test_a_later_note_of_a_name_replaces_the_earlier_one(
    hook: WandbHook, log_run: Callable[..., Any]
) -> None:
    ref, _ = log_run({"mrr": 0.6})
    for passed in (True, False):
        annotate_run(hook, ref, "gate", {"gate/passed": passed})
    annotate_run(hook, ref, "other", {"other/passed": True})
    assert hook.get_run(ref).summary["gate/passed"] is False


def test_a_later_note_counts_also_where_the_clock_is_behind(
    hook: WandbHook, log_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(hours=1)

    ref, _ = log_run({"mrr": 0.6})
    with monkeypatch.context() as patch:
        patch.setattr("wandb_airflow_provider.hooks.annotation.datetime", Ahead)
        annotate_run(hook, ref, "gate", {"gate/passed": True})
    for passed in (False, True, False):
        annotate_run(hook, ref, "gate", {"gate/passed": passed})
        assert hook.get_run(ref).summary["gate/passed"] is passed


def test_a_run_that_is_not_there_is_named(hook: WandbHook, unique: str) -> None:
    with pytest.raises(WandbNotFoundError, match="no-such-run"):
        annotate_run(hook, RunRef("local", unique, "no-such-run"), "gate", {"gate/passed": True})
