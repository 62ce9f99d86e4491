"""What the server says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.graphql.features import FEATURES
from wandb_airflow_provider.devserver.graphql.registry import RequestContext, query


@query("serverInfo")
def server_info(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Return the features, and that any client version will do."""
    return {
        "__typename": "ServerInfo",
        "features": [
            {"__typename": "ServerFeature", "name": name, "isEnabled": enabled}
            for name, enabled in FEATURES.items()
        ],
        "cliVersionInfo": {"min_cli_version": "0.0.1", "max_cli_version": "9999.0.0"},
        "latestLocalVersionInfo": None,
    }
