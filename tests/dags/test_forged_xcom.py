"""References that someone writes through Airflow's API, as the tasks meet that read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from airflow.sdk import DAG, task
from fastapi.testclient import TestClient

from tests.dags.conftest import Ledger
from tests.dags.test_examples import pushed
from tests.dags.test_panel import token as token
from tests.dags.test_xcom import backend as backend
from wandb_airflow_provider.exceptions import WandbXComIntegrityError, WandbXComRefusedError
from wandb_airflow_provider.xcom.backend import WandbXComBackend
from wandb_airflow_provider.xcom.index import INDEX_NAME
from wandb_airflow_provider.xcom.stores import objects

pytestmark = pytest.mark.slow

ELSEWHERE = "a-project-that-nobody-has-named"
SECRET = "what only others may read"


@pytest.fixture
def api(token: Callable[..., str]) -> Iterator[Callable[..., Any]]:
    """``api(path, body)`` posts to Airflow's API as somebody who may edit DAG runs and is no administrator."""
    from airflow.api_fastapi.app import create_app

    with TestClient(create_app("core")) as client:

        def post(path: str, body: Any) -> Any:
            bearer = {"Authorization": f"Bearer {token('user')}"}
            answer = client.post(f"/api/v2{path}", json=body, headers=bearer)
            assert answer.status_code == 201, answer.text
            return answer.json()

        yield post


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every place from which something could have been fetched."""
    found: list[str] = []
    open_place = objects.open_place

    def note(url: str, what: str) -> Any:
        found.append(url)
        return open_place(url, what)

    monkeypatch.setattr(objects, "open_place", note)
    return found


def stored(value: Any, patch: pytest.MonkeyPatch, **options: str) -> dict[str, Any]:
    """Return the reference to a value that really is there, in a place which the tasks do not know."""
    with patch.context() as changed:
        for name, option in options.items():
            changed.setenv(f"AIRFLOW__WANDB_XCOM__{name.upper()}", option)
        return WandbXComBackend.serialize_value(  # type: ignore[return-value]
            value, key="k", task_id="t", dag_id="d", run_id="r", map_index=-1
        )


def test_a_posted_reference_is_refused_at_once_and_nothing_is_fetched(
    ledger: Ledger,
    run_dag: Callable[..., Any],
    api: Callable[..., Any],
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    import pandas as pd

    secret = pd.DataFrame({"text": [SECRET]})
    shared, private = tmp_path / "shared", tmp_path / "private"
    elsewhere = stored(secret, monkeypatch, project=ELSEWHERE)
    local = stored(secret, monkeypatch, storage=str(private))
    monkeypatch.setenv("AIRFLOW__WANDB_XCOM__READABLE_STORAGE", str(shared))
    url = ledger.server.url
    place, refused = {"store": f"file://{shared}"}, WandbXComRefusedError
    forged: dict[str, tuple[type[Exception], str, Callable[[Any, Any], Any]]] = {
        "project": (refused, ELSEWHERE, lambda own, other: elsewhere),
        "entity": (
            refused,
            "project another-team/",
            lambda own, other: {**own, "artifact": own["artifact"].replace("local/", "another-team/")},
        ),
        "path": (refused, "neither 'storage'", lambda own, other: {**local, "artifact": None}),
        "passwd": (refused, "neither 'storage'", lambda own, other: {**own, "store": "file:///etc"}),
        "dots": (
            refused,
            "neither 'storage'",
            lambda own, other: {**local, "store": f"file://{shared}/../private"},
        ),
        "name": (
            refused,
            "name is '../private/",
            lambda own, other: {**local, **place, "artifact": None, "name": f"../private/{local['name']}"},
        ),
        "url": (
            refused,
            "neither 'storage'",
            lambda own, other: {**own, "store": f"{url}/taken", "artifact": None},
        ),
        "digest": (
            WandbXComIntegrityError,
            "its index has the digest",
            lambda own, other: {**other, "digest": own["digest"]},
        ),
    }
    found: dict[str, Any] = {}

    with DAG("forged_xcoms", schedule=None) as dag:

        @task
        def make() -> Any:
            return pd.DataFrame({"n": [1]})

        @task
        def other() -> Any:
            return secret

        @task
        def forge(dag_run: Any = None) -> None:
            path = (
                f"/dags/forged_xcoms/dagRuns/{quote(dag_run.run_id, safe='')}/taskInstances/make/xcomEntries"
            )
            own, others = pushed(dag_run, "make"), pushed(dag_run, "other")
            for key, (_, _, change) in forged.items():
                api(path, {"key": key, "value": change(own, others)})
            api(path, {"key": "right", "value": own})
            opened.clear()
            ledger.server.backend.requests.clear()

        @task(retries=2, retry_delay=timedelta())
        def read(key: str, ti: Any = None) -> None:
            try:
                found[key] = ti.xcom_pull(task_ids="make", key=key)
            except Exception as error:
                found[key] = error
                raise

        [make(), other()] >> forge() >> [read.override(task_id=key)(key) for key in (*forged, "right")]

    dag_run = run_dag(dag)
    tasks = {ti.task_id: (ti.state, ti.try_number) for ti in dag_run.get_task_instances()}

    assert tasks.pop("right") == ("success", 1)
    assert found.pop("right")["n"].tolist() == [1]
    assert {tasks.pop(name) for name in ("make", "other", "forge")} == {("success", 1)}
    assert tasks == dict.fromkeys(forged, ("failed", 1))
    for key, (error, why, _) in forged.items():
        assert type(found[key]) is error, (key, found[key])
        assert why in str(found[key]), key
    assert opened == []
    asked = ledger.server.requests()
    assert not [
        request for request in asked if ELSEWHERE in repr(request) or "another-team/" in repr(request)
    ]
    assert ledger.server.requests(path="*taken*") == []
    # Of the value whose digest is another one's, only what has the digest was read.
    parts = [request.path.split("/") for request in asked if request.path.startswith("/artifactsV2/")]
    assert sorted((part[5].split(".")[1], part[-1]) for part in parts) == [
        ("make", INDEX_NAME),
        ("make", "table.arrows"),
        ("other", INDEX_NAME),
    ]
    assert SECRET not in repr(found)
