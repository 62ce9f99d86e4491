"""What a connection may say, and what each mistake in it is answered with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import Connection

from wandb_airflow_provider.connection import EXTRA_FIELDS, WandbConnection
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.redaction import RedactionPolicy

KEY = "0123456789abcdef0123456789abcdef01234567"


def parse(**fields: Any) -> WandbConnection:
    given = {"conn_id": "acme", "conn_type": "wandb", "password": KEY, **fields}
    if "extra" in given:
        given["extra"] = json.dumps(given["extra"])
    return WandbConnection.from_airflow(Connection(**given))


def test_everything_but_the_key_has_a_default() -> None:
    assert parse() == WandbConnection("acme", KEY)


def test_every_field_of_the_extra_is_read() -> None:
    extra = {
        "entity": " research ",
        "project": "churn",
        "organization": "acme",
        "identity_token_file": " /var/run/secrets/wandb/token ",
        "timeout": "7.5",
        "allow_project_creation": False,
        "redaction": '{"deny": ["ssn"]}',
    }
    assert set(extra) == set(EXTRA_FIELDS)
    assert parse(extra=extra, password=None) == WandbConnection(
        "acme",
        None,
        entity="research",
        project="churn",
        organization="acme",
        identity_token_file="/var/run/secrets/wandb/token",
        timeout=7.5,
        allow_project_creation=False,
        redaction=RedactionPolicy(deny=("ssn",)),
    )


def test_a_policy_that_cannot_be_understood_is_refused_with_the_connection_s_name() -> None:
    with pytest.raises(WandbConfigurationError, match=r"'acme'.*unknown fields \['denied'\]"):
        parse(extra={"redaction": {"denied": ["ssn"]}})


def test_fields_left_empty_in_the_form_are_as_good_as_absent() -> None:
    empty = dict.fromkeys(EXTRA_FIELDS, "")
    assert parse(extra=empty) == parse(extra=dict.fromkeys(EXTRA_FIELDS)) == WandbConnection("acme", KEY)


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ({"host": "wandb.example.com"}, "https://wandb.example.com"),
        ({"host": "https://wandb.example.com/"}, "https://wandb.example.com"),
        ({"host": "http://127.0.0.1:8080"}, "http://127.0.0.1:8080"),
        ({"host": "wandb.example.com", "port": 8443}, "https://wandb.example.com:8443"),
        ({"host": "127.0.0.1", "port": 80, "schema": "http"}, "http://127.0.0.1:80"),
        ({"host": "https://gateway.example.com/wandb/"}, "https://gateway.example.com/wandb"),
        ({"host": ""}, None),
    ],
)
def test_the_host_may_be_written_in_each_usual_way(fields: dict[str, Any], host: str | None) -> None:
    assert parse(**fields).host == host


@pytest.mark.parametrize(
    "host",
    [
        "ftp://wandb.example.com",
        "https://",
        "https://wandb.example.com?team=x",
        "https://wandb.example.com#runs",
        "https://user@wandb.example.com",
        "https://wandb.example.com:port",
        "https://wandb.example.com:99999",
        "https://[::1",
        "wandb example com",
    ],
)
def test_a_host_that_is_no_url_is_refused_by_name(host: str) -> None:
    with pytest.raises(WandbConfigurationError, match=r"'acme' has the host .*expected the API URL"):
        parse(host=host)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"conn_type": "http"}, "has type 'http'; a W&B connection has type 'wandb'"),
        ({"password": None}, "has no password. Put the W&B API key there"),
        ({"password": ""}, r"has no password.*Or name an identity_token_file\."),
        (
            {"extra": {"identity_token_file": "/t"}},
            r"a password and an identity_token_file '/t': two ways to log in",
        ),
        (
            {"password": None, "extra": {"identity_token_file": "run/token"}},
            "is no absolute path, such as '/var",
        ),
        ({"password": None, "extra": {"identity_token_file": "~/token"}}, "is no absolute path"),
        ({"password": None, "extra": {"identity_token_file": KEY}}, "is no absolute path"),
        ({"password": None, "extra": {"identity_token_file": "/a\0b"}}, "is no absolute path"),
        ({"extra": {"entiti": "acme"}}, r"unknown extra fields \['entiti'\]; known are \['allow_project"),
        ({"extra": {"timeout": "soon"}}, "timeout 'soon' is not a positive number of seconds"),
        ({"extra": {"timeout": 0}}, "timeout 0 is not a positive"),
        ({"extra": {"timeout": "nan"}}, "timeout 'nan' is not a positive"),
        ({"extra": {"timeout": "inf"}}, "timeout 'inf' is not a positive"),
        ({"extra": {"allow_project_creation": "perhaps"}}, "is 'perhaps'; expected true or false"),
    ],
)
def test_each_mistake_has_a_sentence_of_its_own(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(WandbConfigurationError, match=message) as caught:
        parse(**fields)
    assert "'acme'" in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("extra", ["entity=acme", "[1]", "null", '"text"'])
def test_an_extra_that_is_no_object_is_refused_rather_than_ignored(extra: str) -> None:
    connection = Connection(conn_id="acme", conn_type="wandb", password=KEY, extra=extra)
    with pytest.raises(WandbConfigurationError, match="'acme': its extra is not a JSON object"):
        WandbConnection.from_airflow(connection)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), (True, True), ("", True)])
def test_a_flag_may_be_text(text: Any, value: bool) -> None:
    assert parse(extra={"allow_project_creation": text}).allow_project_creation is value


def test_the_key_is_in_no_printed_form() -> None:
    connection = parse(host="wandb.example.com")
    assert KEY not in f"{connection!r} {connection}"
    assert str(connection) == "connection 'acme' (https://wandb.example.com)"


def test_a_connection_uri_is_understood() -> None:
    uri = f"wandb://:{KEY}@wandb.example.com:8443/http?entity=research&timeout=3"
    connection = WandbConnection.from_airflow(Connection.from_uri(uri, conn_id="acme"))
    assert (connection.host, connection.entity) == ("http://wandb.example.com:8443", "research")
    assert (connection.api_key, connection.timeout) == (KEY, 3.0)
