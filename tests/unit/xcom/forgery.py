"""What someone plants who can write XComs, artifacts or objects, and the way by which tasks read it."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

from wandb_airflow_provider.xcom.backend import WandbXComBackend
from wandb_airflow_provider.xcom.settings import Limits

Raw = namedtuple("Raw", "value")
LIMITS = Limits(1 << 20, 100)
Forge = Callable[..., Any]


def pull(raw: Any) -> Any:
    return WandbXComBackend.deserialize_value(Raw(raw))
