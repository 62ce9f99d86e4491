"""Where a run comes from: its ``config["airflow"]``. Users can write anything there, so only the right types count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wandb_airflow_provider.devserver.pages.values import ordered
from wandb_airflow_provider.devserver.queries import RunRecord

CONFIG_KEY = "airflow"
_LABELS = {
    "dag_id": "DAG",
    "dag_run_id": "DAG run",
    "task_id": "Task",
    "map_index": "Map index",
    "try_number": "Try",
    "operator": "Operator",
    "run_type": "Run type",
    "logical_date": "Logical date",
    "data_interval_start": "Data interval from",
    "data_interval_end": "Data interval to",
    "run_after": "Run after",
    "started_at": "Task started",
    "params": "Params",
    "owner": "Owner",
    "dag_version": "DAG version",
    "bundle": "Bundle",
    "git_commit": "Git commit",
}
_LINKS = ("parent_run", "upstream_runs", "retry_of", "triggered_by", "log_url")


@dataclass(frozen=True)
class Trigger:
    """
    What started a DAG run: another DAG run or an asset's event.

    :param run: Path of the run behind it, or None if it named none.
    :param text: The rest of what is known about it.
    """

    run: str | None
    text: str

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Trigger:
        """Read one entry of ``triggered_by``."""
        known = _texts(recorded.get(key) for key in ("asset", "dag_id", "dag_run_id", "task_id"))
        return cls(_text(recorded.get("run")), " · ".join(known))


@dataclass(frozen=True)
class Origin:
    """
    The provenance of a run.

    :param triggers: What started the DAG run.
    :param details: Everything else that was recorded, under its key.
    """

    parent_run: str | None
    upstream_runs: tuple[str, ...]
    retry_of: str | None
    triggers: tuple[Trigger, ...]
    log_url: str | None
    details: dict[str, Any]

    @classmethod
    def of(cls, run: RunRecord) -> Origin | None:
        """Return the provenance of a run, or None if it has none."""
        recorded = run.config.get(CONFIG_KEY)
        if not isinstance(recorded, Mapping):
            return None
        return cls(
            parent_run=_text(recorded.get("parent_run")),
            upstream_runs=_texts(_list(recorded.get("upstream_runs"))),
            retry_of=_text(recorded.get("retry_of")),
            triggers=tuple(
                Trigger.of(item) for item in _list(recorded.get("triggered_by")) if isinstance(item, Mapping)
            ),
            log_url=_text(recorded.get("log_url")),
            details={key: value for key, value in recorded.items() if key not in _LINKS},
        )

    @property
    def triggering_runs(self) -> list[str]:
        """The paths of the runs behind what started the DAG run, without repeats."""
        return list(dict.fromkeys(trigger.run for trigger in self.triggers if trigger.run))

    def facts(self, seen: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """
        Return the details that say something, with labels: those of Airflow first, then others by key.

        :param seen: Details that a reader sees already.
        """
        details = {key: value for key, value in self.details.items() if (key, value) not in seen.items()}
        others = [(key, value) for key, value in ordered(details) if key not in _LABELS]
        known = [(label, details.get(key)) for key, label in _LABELS.items() if not self._is_unmapped(key)]
        return [(label, value) for label, value in known + others if value not in (None, {}, [])]

    def _is_unmapped(self, key: str) -> bool:
        return key == "map_index" and self.details.get(key) == -1

    def text(self, key: str) -> str | None:
        """Return a detail that is a text, or None."""
        return _text(self.details.get(key))

    def whole(self, key: str) -> int | None:
        """Return a detail that is a whole number, or None."""
        value = self.details.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def shown_state(run: RunRecord) -> str:
    """
    Return the state to show for a run: what its task wrote about itself, else W&B's.

    A pipeline's root run is finished in W&B while its DAG run goes on; a skipped task's run is finished too.
    """
    told = run.summary.get("airflow/state")
    return told if isinstance(told, str) and told and run.state != "running" else run.state


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(value for value in values if isinstance(value, str) and value)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
