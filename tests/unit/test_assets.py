from __future__ import annotations

import importlib
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from wandb_airflow_provider.assets import sanitize_uri, wandb_alias_asset
from wandb_airflow_provider.exceptions import WandbInvalidNameError
from wandb_airflow_provider.provider_info import get_provider_info


def test_the_asset_of_an_alias_is_named_by_its_uri_and_watched() -> None:
    asset = wandb_alias_asset("model", "search", "production", poll_interval=5)
    assert asset.name == asset.uri == "wandb://registry/model/search?alias=production"
    (watcher,) = asset.watchers
    _, kwargs = watcher.trigger.serialize()
    assert (kwargs["mode"], kwargs["poll_interval"], kwargs["first"]) == ("watch", 5.0, "baseline")
    assert asset.extra == {"registry": "model", "collection": "search", "alias": "production"}


def test_another_connection_makes_another_asset() -> None:
    asset = wandb_alias_asset("model", "search", "production", wandb_conn_id="staging")
    assert asset.uri == "wandb://registry/model/search?alias=production&conn=staging"
    assert asset != wandb_alias_asset("model", "search", "production")


def test_a_dag_scheduled_by_an_alias_is_serialized_with_its_watcher() -> None:
    asset = wandb_alias_asset("model", "search", "team production")
    dag = DAG("deploy", schedule=[asset])
    stored: Any = DagSerialization.to_dict(dag)
    assert "WandbRegistryAliasTrigger" in str(stored)
    assert "team+production" in str(stored)


def test_airflow_accepts_the_scheme_by_the_registered_handler() -> None:
    (registered,) = [info for info in get_provider_info()["asset-uris"] if "wandb" in info["schemes"]]
    module, _, name = registered["handler"].rpartition(".")
    assert getattr(importlib.import_module(module), name) is sanitize_uri
    good = urlsplit("wandb://registry/model/search?alias=production")
    assert sanitize_uri(good) == good
    long = urlsplit("wandb://registry/wandb-registry-model/search/?alias=production")
    assert sanitize_uri(long) == good
    with pytest.raises(WandbInvalidNameError):
        sanitize_uri(urlsplit("wandb://registry/model?alias=production"))


def test_a_name_that_w_and_b_refuses_is_found_when_the_dag_is_parsed() -> None:
    with pytest.raises(WandbInvalidNameError):
        wandb_alias_asset("model", "search", "v3")
