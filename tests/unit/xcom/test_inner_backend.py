"""Another XCom backend behind this one: what it keeps, what is found in it, and what is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pandas as pd
import pytest
from airflow.sdk.bases.xcom import BaseXCom

from tests.unit.xcom.conftest import FRAME, Backend, pull, push
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.operators.xcom import _read_xcom
from wandb_airflow_provider.xcom.reference import MARKER, Producer
from wandb_airflow_provider.xcom.referrers import references_in


class Shouting(BaseXCom):
    """An inner backend that keeps its values in capitals, and says what it removes."""

    purged: ClassVar[list[Any]] = []

    @staticmethod
    def serialize_value(value: Any, **where: Any) -> str:
        return BaseXCom.serialize_value({"inner": value, "for": [where["task_id"], where["key"]]})

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        return BaseXCom.deserialize_value(result)["inner"]

    @classmethod
    def purge(cls, xcom: Any, *args: Any) -> None:
        cls.purged.append(xcom.value)


def test_an_inner_backend_keeps_what_becomes_no_artifact_and_the_references(
    backend: Backend, option: Any, supervisor: Any
) -> None:
    option(inner_backend=f"{__name__}.Shouting")
    raw = push(backend, "small")
    assert raw == {"inner": "small", "for": ["task", "return_value"]}
    assert pull(backend, raw) == "small"
    frame = push(backend, FRAME)
    assert frame["inner"][MARKER] == 1
    pd.testing.assert_frame_equal(pull(backend, frame), FRAME)
    supervisor.xcoms[("task", "return_value", -1)] = raw
    Shouting.purged.clear()
    backend.delete(key="return_value", task_id="task", dag_id="dag", run_id="run1")
    assert Shouting.purged == [raw]


def test_what_is_no_backend_is_refused_as_the_inner_one(backend: Backend, option: Any) -> None:
    for name in ("json.JSONDecoder", "no_such_module.Backend", "wandb_airflow_provider.WandbXComBackend"):
        option(inner_backend=name)
        with pytest.raises(WandbConfigurationError, match="inner_backend"):
            push(backend, 1)


class Hiding(BaseXCom):
    """An inner backend that leaves nothing but a number in Airflow's database."""

    kept: list[str] = []  # noqa: RUF012

    @staticmethod
    def serialize_value(value: Any, **where: Any) -> Any:
        Hiding.kept.append(json.dumps(value))
        return BaseXCom.serialize_value(len(Hiding.kept) - 1)

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        return json.loads(Hiding.kept[BaseXCom.deserialize_value(result)])


def test_a_reference_that_an_inner_backend_keeps_is_found(
    backend: Backend, option: Any, supervisor: Any
) -> None:
    option(inner_backend=f"{__name__}.Hiding")
    supervisor.xcoms[("task", "return_value", -1)] = push(backend, FRAME)
    read = _read_xcom(Producer("dag", "run1", "task", "return_value"))
    assert [ref.name for ref in references_in(read)] == ["dag.task.return_value"]
    assert _read_xcom(Producer("dag", "run1", "other", "return_value")) is None


@pytest.fixture(autouse=True)
def forget_kept() -> Iterator[None]:
    yield
    Hiding.kept.clear()
