"""The options of the section: documented as they are, read when asked for, refused when wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbXComRefusedError
from wandb_airflow_provider.provider_info import get_provider_info
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.reference import MARKER, Producer, StoredReference, dag_run_of, scope_of

REF = StoredReference(
    "sha256:" + "a" * 64, "text", "d.t.k", 3, 1, "str", "e/p/d.t.k:v0", None, "https://x/y", "run=1"
)
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
    assert (settings.storage(), settings.deployment()) == (None, "")
    assert settings.limits() == (10 << 30, 100_000)
    assert (settings.purge(), settings.on_unavailable()) == ("keep", "fail")
    assert settings.pickle_classes() == frozenset()
    assert (settings.allow_object_arrays(), settings.copy_object_paths()) == (False, True)


def test_the_name_of_this_airflow_is_that_of_the_section_or_of_the_general_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__WANDB__DEPLOYMENT", "Ünited states, 2")
    alias = Producer("d", "run1", "t", "k", deployment=settings.deployment()).alias
    assert alias.startswith("run=run1==-nited-states-2-")
    assert dag_run_of(alias, settings.deployment()) == "run1"
    monkeypatch.setenv("AIRFLOW__WANDB_XCOM__DEPLOYMENT", "eu.prod_1")
    assert settings.deployment() == "eu.prod_1"


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
    assert not set(alias) & set("/:")
    assert dag_run_of(alias) == run_id
    named = Producer("d", run_id, "t", "k", deployment="here")
    assert (dag_run_of(named.alias, "here"), dag_run_of(named.alias), dag_run_of(alias, "here")) == (
        run_id,
        None,
        None,
    )
    long = named._replace(dag_run_id=run_id + "x" * 200)
    assert len(long.alias) <= 128
    assert dag_run_of(long.alias, "here") is None
    # Whatever it begins with, it is not read as another id.
    digests = [Producer("d", f"{number}{'x' * 200}", "t", "k").alias for number in range(200)]
    assert [dag_run_of(digest) for digest in digests] == [None] * 200
    others = {run.alias for run in (long, long._replace(deployment=""), long._replace(dag_run_id="y" * 200))}
    assert len(others) == 3
    for run in (alias, named.alias, long.alias):
        StoredReference.from_json({**REF.to_json(), "alias": run})


@pytest.mark.parametrize(
    "alias", ["latest", "run=", "run==", "run=a b", "run=a==b c", "run===" + "0" * 63, 3]
)
def test_a_reference_with_another_alias_is_refused(alias: Any) -> None:
    with pytest.raises(WandbXComRefusedError, match="alias is"):
        StoredReference.from_json({**REF.to_json(), "alias": alias})


@pytest.mark.parametrize("scope", ["", "..", "a/b", "x" * 129, 3])
def test_a_reference_with_another_scope_is_refused(scope: Any) -> None:
    with pytest.raises(WandbXComRefusedError, match="scope is"):
        StoredReference.from_json({**REF.to_json(), "scope": scope})


def test_what_projects_servers_and_airflows_keep_in_one_store_is_apart() -> None:
    places = [
        ("", "https://api.wandb.ai", "acme", "churn"),
        ("here", "https://api.wandb.ai", "acme", "churn"),
        ("", "http://wandb.acme", "acme", "churn"),
        ("", "https://api.wandb.ai", "other", "churn"),
        ("", "https://api.wandb.ai", "acme", "Ü/churn"),
    ]
    assert len({scope_of(*place) for place in places}) == len(places)
    for place in places:
        found = REF._replace(scope=scope_of(*place))
        assert StoredReference.from_json(found.to_json()).location.count("/") == 2


def test_a_reference_survives_its_json() -> None:
    assert StoredReference.from_json(REF.to_json()) == REF
    assert REF.to_json()[MARKER] == 1
