"""
What W&B holds about a DAG run, read back through the package's own hook.

The reading happens in a process of its own, ``python -m wandb_airflow_provider.demo.ledger``, which has the
environment of Airflow's tasks: the same connection, and W&B's helper process ends with it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from wandb_airflow_provider.demo.errors import DemoError
from wandb_airflow_provider.demo.processes import run_to_end

__all__ = ["AliasHolder", "Ledger", "LedgerRun", "RegistryAlias", "build_tree"]

_READ_TIMEOUT = 120.0


@dataclass(frozen=True)
class RegistryAlias:
    """An alias of a collection in a registry."""

    registry: str
    collection: str
    alias: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.collection}:{self.alias}"

    @classmethod
    def from_uri(cls, uri: str) -> RegistryAlias | None:
        """Read an asset URI ``wandb://registry/collection?alias=…``; None for any other."""
        parts = urlsplit(uri)
        collection = parts.path.strip("/").rpartition("/")[2]
        alias = parse_qs(parts.query).get("alias")
        if parts.scheme != "wandb" or not parts.netloc or not collection or not alias:
            return None
        registry = parts.path.strip("/").rpartition("/")[0] or parts.netloc
        return cls(registry.removeprefix("wandb-registry-"), collection, alias[0])


@dataclass(frozen=True)
class AliasHolder:
    """The version that an alias points to."""

    version: str
    digest: str
    source: str | None
    url: str | None

    def __str__(self) -> str:
        return f"{self.version} (digest {self.digest[:12]}{f', from {self.source}' if self.source else ''})"


@dataclass(frozen=True)
class LedgerRun:
    """One W&B run with those below it."""

    path: str
    name: str
    state: str
    url: str | None
    duration: float | None
    reason: str | None
    metrics: Mapping[str, float]
    children: tuple[LedgerRun, ...] = field(default=())


class Ledger:
    """
    Read W&B as Airflow's tasks see it.

    :param env: Environment of the reading process: Airflow's.
    :param folder: For the answers and the log.
    """

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self._env = env
        self._folder = folder

    def alias_holder(self, alias: RegistryAlias) -> AliasHolder | None:
        """Return who holds the alias now, or None."""
        found = self._read("alias", alias.registry, alias.collection, alias.alias)
        if found is None:
            return None
        return AliasHolder(found["version"], found["digest"], found["source"], found["url"])

    def runs(self, entity: str, project: str, group: str) -> list[dict[str, Any]]:
        """Return the runs of a group as plain records, oldest first."""
        found: list[dict[str, Any]] = self._read("runs", entity, project, group)
        return found

    def group_of(self, run_path: str) -> str:
        """Return the group of a run, given as ``entity/project/run_id``."""
        group: str = self._read("group", run_path)
        return group

    def _read(self, *request: str) -> Any:
        self._folder.mkdir(parents=True, exist_ok=True)
        answer = self._folder / "answer.json"
        run_to_end(
            "Reading W&B",
            [sys.executable, "-m", "wandb_airflow_provider.demo.ledger", str(answer), *request],
            env=self._env,
            log_path=self._folder / "ledger.log",
            cwd=self._folder,
            timeout=_READ_TIMEOUT,
        )
        return json.loads(answer.read_text(encoding="utf-8"))


def build_tree(records: Iterable[Mapping[str, Any]]) -> list[LedgerRun]:
    """
    Arrange runs under the parents that their own config names.

    :return: The runs whose parent is none of the given ones.
    """
    records = list(records)
    paths = {record["path"] for record in records}
    below: dict[str | None, list[Mapping[str, Any]]] = {}
    for record in records:
        parent = _parent_path(record)
        below.setdefault(parent if parent in paths else None, []).append(record)

    def arrange(parent: str | None) -> tuple[LedgerRun, ...]:
        return tuple(_ledger_run(record, arrange(record["path"])) for record in below.get(parent, []))

    return list(arrange(None))


def _parent_path(record: Mapping[str, Any]) -> str | None:
    parent = (record["config"].get("airflow") or {}).get("parent_run")
    if isinstance(parent, Mapping):
        parent = parent.get("path")
    return parent if parent != record["path"] else None


def _ledger_run(record: Mapping[str, Any], children: tuple[LedgerRun, ...]) -> LedgerRun:
    summary = record["summary"]
    return LedgerRun(
        path=record["path"],
        name=record["name"],
        state=record["state"],
        url=record["url"],
        duration=_seconds_between(record["created_at"], record["heartbeat_at"]),
        reason=summary.get("airflow/reason"),
        metrics={
            name: float(value)
            for name, value in summary.items()
            if isinstance(value, int | float)
            and not isinstance(value, bool)
            and not name.startswith(("_", "airflow/"))
        },
        children=children,
    )


def _seconds_between(start: str | None, end: str | None) -> float | None:
    if not start or not end:
        return None
    first, last = (datetime.fromisoformat(moment.replace("Z", "+00:00")) for moment in (start, end))
    return (last.replace(tzinfo=None) - first.replace(tzinfo=None)).total_seconds()


def _main(argv: list[str]) -> int:
    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.identity import RunRef

    answer, kind, *request = argv
    hook = WandbHook()
    found: Any
    if kind == "alias":
        ref = hook.get_alias(*request)
        found = ref.to_json() if ref is not None else None
    elif kind == "group":
        found = hook.get_run(RunRef.from_json(request[0])).group
    elif kind == "runs":
        entity, project, group = request
        found = [
            {
                "path": record.ref.path,
                "url": record.ref.url,
                "name": record.name,
                "state": record.state,
                "config": record.config,
                "summary": {name: _plain(value) for name, value in record.summary.items()},
                "created_at": record.created_at,
                "heartbeat_at": record.heartbeat_at,
            }
            for record in hook.list_runs(entity, project, {"group": group})
        ]
    else:
        raise DemoError(f"Unknown request {kind!r}.")
    Path(answer).write_text(json.dumps(found, default=str), encoding="utf-8")
    return 0


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | None) else None


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
