"""The connection type in a real Airflow: the form of its UI, and the test button."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from wandb_airflow_provider.connection_form import EXTRA_FIELDS
from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.devserver_process import DevServerProcess


def test_the_connection_form_has_the_type_with_its_fields(airflow_cluster: AirflowCluster) -> None:
    # The page that builds the form reads this; it lies outside the public API.
    token = httpx.get(f"{airflow_cluster.url}/auth/token").raise_for_status().json()["access_token"]
    answer = httpx.get(
        f"{airflow_cluster.url}/ui/connections/hook_meta", headers={"Authorization": f"Bearer {token}"}
    )
    (found,) = [kind for kind in answer.raise_for_status().json() if kind["connection_type"] == "wandb"]

    assert found["hook_name"] == "Weights & Biases"
    assert found["hook_class_name"] == "wandb_airflow_provider.hooks.wandb.WandbHook"
    assert set(found["extra_fields"]) == set(EXTRA_FIELDS)
    # What the form saves untouched is what the connection has without the field.
    assert found["extra_fields"]["allow_project_creation"]["value"] is True
    assert found["standard_fields"]["password"]["title"] == "API key"
    assert found["standard_fields"]["host"]["title"] == "API URL"
    assert found["standard_fields"]["login"]["hidden"]


def test_the_test_button_says_whose_key_it_is_or_what_is_wrong(
    airflow_cluster: AirflowCluster, wandb_server: DevServerProcess, tmp_path: Path
) -> None:
    def tested(password: str | None, **extra: str) -> dict[str, Any]:
        body = {
            "connection_id": "tried",
            "conn_type": "wandb",
            "host": wandb_server.url,
            "password": password,
            "extra": json.dumps({"entity": "local", **extra}),
        }
        found: dict[str, Any] = airflow_cluster.api.request("POST", "/connections/test", json=body)
        return found

    good, bad = tested(wandb_server.api_key), tested("x" * 40)

    assert good["status"] is True
    assert "'dev'" in good["message"]
    assert bad["status"] is False
    assert "Check that the connection's password is a valid W&B API key" in bad["message"]
    assert "x" * 40 not in bad["message"]

    file = tmp_path / "token"
    issued = httpx.post(f"{wandb_server.url}/_control/identity-token", json={}).raise_for_status().json()
    file.write_text(issued["token"])
    token, missing = (
        tested(None, identity_token_file=str(file)),
        tested(None, identity_token_file="/no/token"),
    )
    assert token["status"] is True
    assert token["message"].startswith("The identity token belongs to 'dev'")
    assert missing["status"] is False
    assert "The identity token file '/no/token' of connection '" in missing["message"]
