"""Where the demo's W&B is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["WandbConnectionSettings"]


@dataclass(frozen=True)
class WandbConnectionSettings:
    """Where W&B is and who asks, as an Airflow connection carries it."""

    host: str
    api_key: str = field(repr=False)
    entity: str | None = None
    project: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the JSON form that Airflow reads from ``AIRFLOW_CONN_…`` variables."""
        extra = {"entity": self.entity, "project": self.project, **self.extra}
        return json.dumps(
            {
                "conn_type": "wandb",
                "host": self.host,
                "password": self.api_key,
                "extra": {name: value for name, value in extra.items() if value is not None},
            }
        )
