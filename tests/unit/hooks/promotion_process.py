"""A promotion in a process of its own, as a worker's task is: run by a test, with ``given`` as its only global."""

from __future__ import annotations

import json
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

given: dict[str, Any] = globals()["given"]
os.environ.update(given["environment"])

from wandb_airflow_provider.artifacts import ArtifactRef  # noqa: E402
from wandb_airflow_provider.audit import AuditEntry  # noqa: E402
from wandb_airflow_provider.exceptions import WandbPromotionRefusedError  # noqa: E402
from wandb_airflow_provider.hooks.alias_move import AliasMove  # noqa: E402
from wandb_airflow_provider.hooks.audit_log import AuditLog  # noqa: E402
from wandb_airflow_provider.hooks.wandb import WandbHook  # noqa: E402
from wandb_airflow_provider.promotion import TaskMark  # noqa: E402
from wandb_airflow_provider.registry import RegistryAlias  # noqa: E402

hook = WandbHook()
version = ArtifactRef.from_json(given["version"])
target = RegistryAlias.from_json(given["target"])
audit = AuditLog(hook, target.registry, target.collection)
entry = AuditEntry(
    decision=uuid.uuid4().hex,
    kind="promotion",
    event="intended",
    at=datetime.now(UTC).isoformat(),
    target=target,
    task=TaskMark("weekly", given["dag_run_id"], "promote"),
    try_number=1,
    before=ArtifactRef.from_json(given["before"]),
    after=version,
)
move = AliasMove(hook, audit, entry)
given["begin"].wait(given["patience"])
answer: dict[str, Any] = {"error": None, "kind": None}
try:
    with move.announced():
        move.give(version)
        move.complete()
except WandbPromotionRefusedError as error:
    answer = {"error": str(error), "kind": type(error).__name__}
finally:
    audit.close()
Path(given["answer"]).write_text(json.dumps(answer), encoding="utf-8")
