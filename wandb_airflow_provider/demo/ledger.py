"""
What W&B holds about a DAG run, read back with W&B's own client and nothing of this package.

The reading happens in a process of its own, ``python -m wandb_airflow_provider.demo.ledger``, so that W&B's helper
process and its credentials end with it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from wandb_airflow_provider.demo.processes import inherited_environment, run_to_end
from wandb_airflow_provider.demo.wandb_connection import WandbConnectionSettings

if TYPE_CHECKING:
    import wandb

__all__ = ["AliasHolder", "Decision", "Ledger", "LedgerRun", "WatchedAlias", "build_tree"]

_READ_TIMEOUT = 120.0


@dataclass(frozen=True)
class WatchedAlias:
    """
    An alias of a registry collection, as an asset's URI names it.

    The package's own address type is not used: it would load Airflow, and create a home for it in the user's own.
    """

    registry: str
    collection: str
    alias: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.collection}:{self.alias}"

    @classmethod
    def from_uri(cls, uri: str) -> WatchedAlias | None:
        """Read ``wandb://registry/<registry>/<collection>?alias=<alias>``; None for any other URI."""
        parts = urlsplit(uri)
        path = [unquote(part) for part in parts.path.strip("/").split("/")]
        alias = parse_qs(parts.query).get("alias", [])
        if (parts.scheme, parts.netloc) != ("wandb", "registry") or len(path) != 2 or len(alias) != 1:
            return None
        return cls(path[0], path[1], alias[0])


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


@dataclass(frozen=True)
class Decision:
    """
    An entry of the audit of the collection.

    :param number: Its version in the audit, ``v3``.
    """

    number: str
    what: str
    by: str
    why: str


class Ledger:
    """
    Read W&B, without the package's help.

    :param folder: For the answers, the log and the client's files.
    """

    def __init__(self, connection: WandbConnectionSettings, folder: Path) -> None:
        self._folder = folder
        self._env = {
            **inherited_environment(),
            "WANDB_BASE_URL": connection.host,
            "WANDB_API_KEY": connection.api_key,
            "WANDB_ENTITY": connection.entity or "",
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_SILENT": "true",
            **{f"WANDB_{kind}_DIR": str(folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")},
        }

    def alias_holder(self, alias: WatchedAlias) -> AliasHolder | None:
        """Return who holds the alias now, or None."""
        return self.read(alias, [])[0]

    def read(
        self, alias: WatchedAlias, run_paths: Sequence[str]
    ) -> tuple[AliasHolder | None, list[dict[str, Any]], list[Decision]]:
        """
        Return who holds the alias now, every run of the groups that the given runs are in, and what has been decided
        about the collection, each oldest first.

        :param run_paths: ``entity/project/run_id``; none reads neither runs nor decisions.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        answer = self._folder / "answer.json"
        request = {**asdict(alias), "run_paths": list(run_paths)}
        run_to_end(
            "Reading W&B",
            [sys.executable, "-m", "wandb_airflow_provider.demo.ledger", str(answer), json.dumps(request)],
            env=self._env,
            log_path=self._folder / "ledger.log",
            cwd=self._folder,
            timeout=_READ_TIMEOUT,
        )
        found = json.loads(answer.read_text(encoding="utf-8"))
        holder = AliasHolder(**found["holder"]) if found["holder"] else None
        return holder, found["runs"], [Decision(**entry) for entry in found["decisions"]]


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
    import wandb

    answer, request = Path(argv[0]), json.loads(argv[1])
    api = wandb.Api()
    path = f"wandb-registry-{request['registry']}/{request['collection']}:{request['alias']}"
    found = {
        "holder": _holder(api, path),
        "runs": _runs(api, request["run_paths"]),
        "decisions": _decisions(api, request),
    }
    answer.write_text(json.dumps(found, default=str), encoding="utf-8")
    return 0


def _holder(api: wandb.Api, path: str) -> dict[str, Any] | None:
    if not api.artifact_exists(path):
        return None
    artifact = api.artifact(path)
    source = artifact.source_qualified_name if artifact.is_link else None
    return {"version": artifact.version, "digest": artifact.digest, "source": source, "url": artifact.url}


def _runs(api: wandb.Api, run_paths: Sequence[str]) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for path in run_paths:
        group = api.run(path).group
        project = path.rpartition("/")[0]
        runs = api.runs(project, filters={"group": group}, order="+created_at", per_page=500, lazy=False)
        records.extend(map(_record, runs))
    return records


def _decisions(api: wandb.Api, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read the audit, in which each decision is a version; its first one makes it."""
    entity = next((path.partition("/")[0] for path in request["run_paths"]), None)
    audit = f"{entity}/airflow-audit/audit.{request['registry']}.{request['collection']}"
    if entity is None or not api.artifact_collection_exists(audit, "audit"):
        return []
    return [_decision(artifact) for artifact in reversed(list(api.artifacts("audit", audit)))]


def _decision(artifact: Any) -> dict[str, Any]:
    entry = json.loads(artifact.metadata["airflow_audit"])
    approval, verdict = entry["approval"] or {}, entry["verdict"] or {}
    return {
        "number": artifact.version,
        "what": f"{entry['kind']} {entry['event']}",
        "by": approval.get("by") or f"task {entry['task']['task_id']}",
        "why": entry["why"] or entry["note"] or verdict.get("summary") or "",
    }


def _record(run: Any) -> dict[str, Any]:
    return {
        "path": f"{run.entity}/{run.project}/{run.id}",
        "url": run.url,
        "name": run.name,
        "state": run.state,
        "config": dict(run.config),
        "summary": {name: value for name, value in run.summary_metrics.items() if _is_plain(value)},
        "created_at": run.created_at,
        "heartbeat_at": run.heartbeat_at,
    }


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float | str)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
