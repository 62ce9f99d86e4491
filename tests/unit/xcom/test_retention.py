"""How long W&B keeps a value: for ever, until it is cleared, or for some days."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.xcom.conftest import FRAME, Backend, push
from wandb_airflow_provider.xcom.orphans import find_orphans
from wandb_airflow_provider.xcom.reference import StoredReference
from wandb_airflow_provider.xcom.referrers import Airflow
from wandb_airflow_provider.xcom.stored_value import StoredValue
from wandb_airflow_provider.xcom.stores import artifact as artifacts

NOTHING = Airflow(lambda producer: None, lambda dag_id, dag_run_id: False)
"""An Airflow without XComs and DAG runs."""


def test_what_a_cleared_task_stored_is_deleted_only_with_that_policy_and_when_no_one_else_refers_to_it(
    backend: Backend, option: Any, hook: Any, supervisor: Any
) -> None:
    from wandb_airflow_provider.exceptions import WandbArtifactNotFoundError

    option(deployment="tests")
    raw = push(backend, FRAME)
    push(backend, FRAME, run_id="run2")
    where = {"key": "return_value", "task_id": "task", "dag_id": "dag"}
    supervisor.xcoms[("task", "return_value", -1)] = raw
    backend.delete(run_id="run1", **where)
    assert hook.get_artifact(raw["artifact"]).version == "v0"
    option(purge="delete")
    backend.delete(run_id="run1", **where)
    assert set(hook.get_artifact(raw["artifact"]).aliases) == {"latest", "run=run2==tests"}
    supervisor.xcoms[("other", "return_value", -1)] = raw
    backend.delete(run_id="run2", **{**where, "task_id": "other"})
    assert hook.get_artifact(raw["artifact"]).version == "v0"
    backend.delete(run_id="run2", **where)
    with pytest.raises(WandbArtifactNotFoundError):
        hook.get_artifact(raw["artifact"])


@pytest.mark.parametrize("linked", [True, False])
def test_a_version_that_was_linked_is_neither_an_orphan_nor_purged(
    backend: Backend, option: Any, hook: Any, supervisor: Any, linked: bool
) -> None:
    option(purge="delete", deployment="tests")
    raw = push(backend, FRAME)
    supervisor.xcoms[("task", "return_value", -1)] = raw
    api = hook.get_conn()
    if linked:
        api.artifact(raw["artifact"]).link(f"local/{hook.project}/chosen")
    found = list(find_orphans(hook, NOTHING, min_age=timedelta(0)))
    assert [orphan.artifact for orphan in found] == ([] if linked else [raw["artifact"]])
    backend.delete(key="return_value", task_id="task", dag_id="dag", run_id="run1")
    assert api.artifact_exists(raw["artifact"]) is linked


def test_an_artifact_with_an_end_is_removed_by_w_and_b(backend: Backend, option: Any, hook: Any) -> None:
    option(purge="ttl", ttl_days=3)
    raw = push(backend, FRAME)
    assert hook.get_conn().artifact(raw["artifact"]).ttl == timedelta(days=3)
    option(purge="keep")
    other = push(backend, FRAME, key="other")
    assert hook.get_conn().artifact(other["artifact"]).ttl is None


def test_a_version_that_is_stored_again_lasts_as_long_as_a_new_one(
    backend: Backend, option: Any, hook: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    option(purge="ttl", ttl_days=30)
    raw = push(backend, FRAME)
    days = lambda: hook.get_conn().artifact(raw["artifact"]).ttl / timedelta(days=1)  # noqa: E731
    assert days() == 30
    monkeypatch.setattr(artifacts, "age_of", lambda artifact: timedelta(days=29))
    before = sum("UpdateArtifact" in str(request.operation) for request in server.requests())
    push(backend, FRAME, run_id="run2")
    assert days() == 59
    push(backend, StoredValue(StoredReference.from_json(raw)), run_id="run3")
    assert days() == 59
    after = sum("UpdateArtifact" in str(request.operation) for request in server.requests())
    assert after - before == 2
    # By who keeps a version for ever, it is kept for ever.
    artifact = hook.get_conn().artifact(raw["artifact"])
    artifact.ttl = None
    artifact.save()
    push(backend, FRAME, run_id="run4")
    assert hook.get_conn().artifact(raw["artifact"]).ttl is None


def test_a_version_with_an_end_that_is_stored_again_to_be_kept_has_none(
    backend: Backend, option: Any, hook: Any
) -> None:
    option(purge="ttl")
    raw = push(backend, FRAME)
    option(purge="keep")
    assert push(backend, FRAME, run_id="run2")["artifact"] == raw["artifact"]
    assert hook.get_conn().artifact(raw["artifact"]).ttl is None
