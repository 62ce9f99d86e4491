"""The options of the section: documented as they are, read when asked for, refused when wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.provider_info import get_provider_info
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.reference import MARKER, Producer, StoredReference, dag_run_of

PAGE = Path(__file__).resolve().parents[3] / "docs" / "xcom.md"


def test_the_documented_options_and_defaults_are_those_of_the_code() -> None:
    rows = [
        line.strip("|").split("|") for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")
    ]
    documented = {cells[0].strip(" `"): cells[1].strip(" `") for cells in rows}
    for name, option in settings.OPTIONS.items():
        assert documented[name] == (option["default"] or "empty"), name
    assert get_provider_info()["config"]["wandb_xcom"]["options"] == settings.OPTIONS


def test_defaults_hold_without_a_configuration() -> None:
    assert settings.storage() is None
    assert settings.limits() == (10 << 30, 100_000)
    assert (settings.purge(), settings.on_unavailable()) == ("keep", "fail")
    assert settings.pickle_classes() == frozenset()
    assert (settings.allow_object_arrays(), settings.copy_object_paths()) == (False, True)


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("threshold_bytes", "many", settings.threshold_bytes),
        ("max_files", "0", settings.limits),
        ("purge", "later", settings.purge),
        ("on_unavailable", "spool", settings.on_unavailable),
    ],
)
def test_a_wrong_value_is_refused(name: str, value: str, read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"AIRFLOW__WANDB_XCOM__{name.upper()}", value)
    with pytest.raises(WandbConfigurationError, match=f"Option '{name}'"):
        read()


def test_names_follow_the_producer_and_never_meet() -> None:
    assert Producer("d", "r", "t", "return_value").artifact_name == "d.t.return_value"
    assert Producer("d", "r", "t", "k", 3, ("x",)).artifact_name == "d.t.k.3--x"
    assert Producer("d", "r1", "t", "k").artifact_name == Producer("d", "r2", "t", "k").artifact_name
    cases = [
        Producer("a.b", "r", "c", "k"),
        Producer("a", "r", "b.c", "k"),
        Producer("a", "r", "b", "c.k"),
        Producer("ä", "r", "t", "k"),
        Producer("ö", "r", "t", "k"),
        Producer("d" * 250, "r", "t", "k"),
        Producer("d" * 250, "r", "t", "other"),
        Producer("d", "r", "t", "k", 3),
        Producer("d", "r", "t", "k.3"),
        Producer("d", "r", "t", "k", part=("3",)),
        Producer("d", "r", "t", "k--3"),
    ]
    names = [case.artifact_name for case in cases]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 128 for name in names)


@pytest.mark.parametrize("run_id", ["manual__2026-01-01T00:00:00+00:00", "a/b:c ü=", "=", "%41"])
def test_an_alias_gives_back_its_dag_run(run_id: str) -> None:
    alias = Producer("d", run_id, "t", "k").alias
    assert alias is not None
    assert not set(alias) & set("/:")
    assert dag_run_of(alias) == run_id
    assert Producer("d", "x" * 200, "t", "k").alias is None


def test_a_reference_survives_its_json() -> None:
    ref = StoredReference(
        "sha256:" + "a" * 64, "text", "d.t.k", 3, 1, "str", "e/p/d.t.k:v0", None, "https://x/y", "run=1"
    )
    assert StoredReference.from_json(ref.to_json()) == ref
    assert ref.to_json()[MARKER] == 1
