"""The privacy gate: what is left out, replaced, hashed and kept, whatever the data look like."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.privacy import PrivacyGate
from wandb_airflow_provider.redaction import KNOWN_VALUES, RedactionPolicy

SALT, OTHER_SALT = b"a long random salt", b"another random salt"


def gate(salt: bytes | None = SALT, **policy: Any) -> PrivacyGate:
    return PrivacyGate(RedactionPolicy.parse({"salt": "variable:salt", **policy}), salt)


KEYS = st.sampled_from(
    ["ssn", "customer_id", "lr", "a/ssn", "Name", "x.customer_id", "jane@example.com", "loss"]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.emails(),
    st.sampled_from(
        [
            "mail jane@example.com",
            "Bearer abc.def-1234567",
            "x://u:p@h.example.com",
            "[redacted:email]",
            "C-123456",
        ]
    ),
)
VALUES = st.dictionaries(
    KEYS,
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=12,
    ),
    max_size=5,
)
POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "deny": st.lists(st.sampled_from(["ssn", "name", "*.loss", "l?", "config.lr"]), max_size=3),
        "hash": st.lists(st.sampled_from(["customer_id", "name", "x.*"]), max_size=2),
        "allow": st.lists(st.sampled_from(["lr", "loss", "customer_id"]), max_size=2),
        "values": st.lists(
            st.sampled_from(
                [
                    *KNOWN_VALUES,
                    {"name": "customer", "regex": r"C-\d+", "hash": True},
                    {"name": "digit", "regex": r"^\d|[a-f]+"},
                    {"name": "word", "regex": r"\w+"},
                ]
            ),
            max_size=4,
        ),
    },
)


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(values=VALUES, policy=POLICIES)
def test_redacting_twice_changes_nothing_more(values: dict[str, Any], policy: dict[str, Any]) -> None:
    privacy = gate(**policy)
    once = privacy.mapping("config", values)
    assert privacy.mapping("config", once) == once


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(values=VALUES)
def test_a_denied_key_survives_at_no_depth(values: dict[str, Any]) -> None:
    before = repr(values)
    sent = gate(deny=["ssn", "name"], values=[]).mapping("config", values)
    assert not any({"ssn", "name"} & set(key.lower().split("/")) for key in keys(sent))
    assert repr(values) == before


@settings(max_examples=100, deadline=None)
@given(text=st.text(min_size=1), other=st.text(min_size=1))
def test_a_hash_depends_on_the_salt_and_the_value_alone(text: str, other: str) -> None:
    assume(text != other)

    def hashed(value: str, salt: bytes = SALT, key: str = "customer") -> Any:
        return gate(salt, hash=["customer", "buyer"]).mapping("metrics", {key: value})[key]

    assert hashed(text) == hashed(text, key="buyer") != hashed(other)
    assert hashed(text) != hashed(text, OTHER_SALT)
    assert text not in hashed(text) or len(text) < 5


@settings(max_examples=100, deadline=None)
@given(address=st.emails(), around=st.text(alphabet="abc \n<>()'\"", max_size=8))
def test_no_address_is_left_in_a_text(address: str, around: str) -> None:
    local, _, domain = address.rpartition("@")
    # Allowed in an address, and what separates addresses from their surroundings in a URL.
    assume(not set(local) & set("/=?&"))
    assume(domain.replace(".", "").replace("-", "").isalnum())
    assert f"@{domain}" not in gate().text(f"{around} {address} {around}")


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("postgres://ana:s3cr@t@db.example.com/x", "postgres://[redacted:url_password]@db.example.com/x"),
        ("log?run=manual__jane%40example.com", "log?run=[redacted:email]"),
        ("key AKIAIOSFODNN7EXAMPLE.", "key [redacted:api_key]."),
        ("sk-learn-model-for-churn stays", "sk-learn-model-for-churn stays"),
        (
            "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
            "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
        ),
        ("Authorization: Bearer a1b2c3d4e5f6", "Authorization: Bearer [redacted:token]"),
        ("Basic understanding", "Basic understanding"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----", "[redacted:api_key]"),
    ],
)
def test_known_values_are_recognised(text: str, sent: str) -> None:
    assert gate().text(text) == sent


def test_what_is_hashed_is_hashed_whatever_its_type() -> None:
    number = uuid.UUID(int=7)
    sent = gate(hash=["id"]).mapping("config", {"id": number, "x": {"id": [1, b"1", None]}})
    assert sent["id"].startswith("[hmac:")
    assert sent["x"]["id"][0] == sent["x"]["id"][1] != sent["id"]
    assert sent["x"]["id"][2] is None


def test_an_allow_list_keeps_the_place_of_a_run_and_nothing_else() -> None:
    given = {
        "lr": 1,
        "city": "Bonn",
        "model": {"lr": 2, "depth": 3},
        "airflow": {"dag_id": "d", "owner": "ana", "params": {"city": "Bonn", "lr": 4}},
        "stage/airflow": {"task_id": "t"},
    }
    sent = gate(allow=["lr"], deny=["dag_id", "owner"]).mapping("config", given)
    assert sent == {
        "lr": 1,
        "model": {"lr": 2},
        "airflow": {"dag_id": "d", "params": {"lr": 4}},
        "stage/airflow": {"task_id": "t"},
    }


def test_two_policies_together_forbid_what_either_forbids() -> None:
    first = RedactionPolicy.parse(
        {"deny": ["a"], "allow": ["x", "y"], "max_table_rows": 9, "sample": {"m": 0.5}, "media": "keep"}
    )
    second = RedactionPolicy.parse(
        {"deny": ["b"], "allow": ["y", "z"], "max_table_rows": 90, "sample": {"m": 0.1}, "values": []}
    )
    both = first.merged(second)
    sent = PrivacyGate(both).mapping("config", {"x": 1, "y": 2, "z": 3, "a": {"y": 1}, "b": 1})
    assert sent == {"y": 2}
    assert (both.max_table_rows, both.sample, both.media) == (9, (("m", 0.1),), "drop")
    assert both.values == first.values
    assert both.merged(both) == both
    assert RedactionPolicy.parse(both.to_json()) == both
    assert hash(both)


@pytest.mark.parametrize(
    "policy",
    [
        {"denied": []},
        {"deny": "email"},
        {"deny": [""]},
        {"hash": ["id"]},
        {"hash": ["id"], "salt": "hunter2hunter2"},
        {"values": ["phone"]},
        {"values": [{"name": "x", "regex": "("}]},
        {"values": [{"name": "x", "regex": "a*"}]},
        {"max_table_rows": -1},
        {"sample": {"m": 0}},
        {"sample": {"m": 1.5}},
        {"media": "some"},
        "deny: [",
        "just text",
    ],
)
def test_a_policy_that_cannot_be_understood_is_refused(policy: Any) -> None:
    with pytest.raises(WandbConfigurationError) as refused:
        RedactionPolicy.parse(policy)
    assert "hunter2" not in str(refused.value)


def test_a_policy_may_be_yaml() -> None:
    assert RedactionPolicy.parse("deny: [ssn]\nmax_table_rows: 3\n").deny == ("ssn",)


def test_a_short_salt_is_refused() -> None:
    with pytest.raises(WandbConfigurationError, match="fewer than 16 bytes"):
        gate(b"short", hash=["id"])


def test_a_name_by_which_others_find_it_is_refused_and_not_changed() -> None:
    with pytest.raises(WandbConfigurationError) as refused:
        gate().require_clean("The alias", "for-jane@example.com")
    assert "jane" not in str(refused.value)


def test_a_long_table_is_sampled_alike_each_time_and_says_how_long_it_was() -> None:
    rows = [[n, f"C-{n}", f"{n}@example.com"] for n in range(1000)]
    privacy = gate(max_table_rows=10, deny=["table.t.mail"], hash=["customer"])
    table = privacy.table("t", ["n", "customer", "mail"], rows)
    assert table == privacy.table("t", ["n", "customer", "mail"], rows)
    assert (table.columns, len(table.rows), table.total, table.reduced) == (["n", "customer"], 10, 1000, True)
    assert all(row[1].startswith("[hmac:") for row in table.rows)


def test_statistics_of_a_table_show_no_row() -> None:
    rows = [[float(n), f"name {n % 3}", None] for n in range(5)]
    table = gate(statistics=["*"]).table("t", ["age", "name", "gap"], rows)
    figures = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert figures["age"] == {
        "column": "age",
        "kind": "number",
        "count": 5,
        "missing": 0,
        "distinct": 5,
        "mean": 2.0,
        "min": 0.0,
        "p25": 1.0,
        "p50": 2.0,
        "p75": 3.0,
        "max": 4.0,
    }
    assert (figures["name"]["distinct"], figures["name"]["min"]) == (3, None)
    assert (figures["gap"]["missing"], figures["gap"]["kind"]) == (5, "other")
    assert gate(statistics=["*"]).table("t", table.columns, table.rows).rows == table.rows


def test_distinct_groups_stay_distinct() -> None:
    privacy = gate()
    groups = {privacy.distinct(f"dag__manual__{name}@example.com") for name in ("ana", "bob")}
    assert len(groups) == 2
    assert not any("ana" in group or "bob" in group for group in groups)
    assert {privacy.distinct(group) for group in groups} == groups
