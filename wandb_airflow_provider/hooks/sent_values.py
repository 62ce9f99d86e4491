"""What a run may send of the values it is given: texts, tables, media and artifacts."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.privacy import DROPPED, PrivacyGate

if TYPE_CHECKING:
    from wandb_airflow_provider.privacy import RedactedTable

__all__ = ["SentValues", "redacted_artifact"]

log = logging.getLogger(__name__)

_TABLE_SUFFIX = ".table.json"
# Numbers only, and wandb reads them itself.
_TENSOR_PACKAGES = frozenset({"torch", "tensorflow", "jax", "jaxlib"})
_FIGURE_PACKAGES = frozenset({"matplotlib", "plotly", "bokeh", "PIL", "moviepy", "rdkit"})


class SentValues:
    """The privacy gate for values of wandb's own types too."""

    def __init__(self, gate: PrivacyGate) -> None:
        self.gate = gate
        self.text, self.key, self.require_clean = gate.text, gate.key, gate.require_clean
        self._warned: set[str] = set()

    def mapping(self, area: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what may be sent of keys and values; of a shortened table also how long it was."""
        sizes: dict[str, Any] = {}

        def leaf(path: str, value: Any) -> Any:
            return self._leaf(path, value, sizes)

        sent = self.gate.mapping(area, values, leaf)
        return {**sent, **sizes} if sizes else sent

    def table(self, name: str, columns: Any, rows: Any) -> RedactedTable:
        """Return what may be sent of a table whose cells may be media."""
        return self.gate.table(name, columns, rows, lambda path, value: self._leaf(path, value, {}))

    def _leaf(self, path: str, value: Any, sizes: dict[str, Any]) -> Any:
        import wandb

        if isinstance(value, wandb.Table):
            return self._table(path, value.columns, value.data, sizes)
        if isinstance(value, wandb.Histogram | wandb.Artifact):
            return value
        if hasattr(value, "spec") and isinstance(getattr(value, "table", None), wandb.Table):
            return self._chart(path, value, sizes)
        package = type(value).__module__.partition(".")[0]
        if package == "pandas" and hasattr(value, "columns"):
            return self._table(path, value.columns, value.astype(object).to_numpy().tolist(), sizes)
        if package in _TENSOR_PACKAGES:
            return value
        if isinstance(value, wandb.data_types.WBValue) or package in _FIGURE_PACKAGES:
            return self._media(path, value)
        return self.gate.object(path, value)

    def _table(self, path: str, columns: Any, rows: Any, sizes: dict[str, Any]) -> Any:
        from wandb_airflow_provider import sdk

        name = path.partition(".")[2]
        table = self.table(name, columns, rows)
        if table.reduced:
            key = self.key(name)
            sizes |= {f"{key}/rows_total": table.total, f"{key}/rows_sent": len(table.rows)}
        return sdk.table_of(table.columns, table.rows)

    def _chart(self, path: str, chart: Any, sizes: dict[str, Any]) -> Any:
        texts = {
            field: {name: self.text(text) if isinstance(text, str) else text for name, text in given.items()}
            for field in ("fields", "string_fields")
            if isinstance(given := getattr(chart.spec, field, None), Mapping)
        }
        return dataclasses.replace(
            chart,
            table=self._table(path, chart.table.columns, chart.table.data, sizes),
            spec=dataclasses.replace(chart.spec, **texts),
        )

    def _media(self, path: str, value: Any) -> Any:
        if self.gate.policy is None or self.gate.policy.media == "keep":
            return value
        if path not in self._warned:
            self._warned.add(path)
            log.warning(
                "%s: a value of type %s is not sent, because the redaction policy cannot look into it. "
                "Set media='keep' in the policy to send it as it is.",
                *(path, type(value).__name__),
            )
        return DROPPED


def redacted_artifact(values: SentValues, artifact: Any) -> Any:
    """
    Redact what an artifact that is not committed says about itself, and the tables in it.

    Files are sent as they are; their names and addresses are checked.

    :raises WandbConfigurationError: a name in it holds what the policy removes. Nothing has been sent.
    """
    import wandb

    if not isinstance(artifact, wandb.Artifact) or not artifact.is_draft():
        return artifact
    values.require_clean("The artifact", artifact.name)
    for path, entry in list(artifact.manifest.entries.items()):
        values.require_clean("The file", path)
        if entry.ref is not None:
            values.require_clean("The reference", str(entry.ref))
        if path.endswith(_TABLE_SUFFIX) and entry.local_path and values.gate.policy is not None:
            _replace_table(values, artifact, path, Path(entry.local_path))
    artifact.metadata = values.gate.mapping("metadata", artifact.metadata or {})
    if artifact.description:
        artifact.description = values.text(artifact.description)
    return artifact


def _replace_table(values: SentValues, artifact: Any, path: str, stored: Path) -> None:
    from wandb_airflow_provider import sdk

    content = json.loads(stored.read_text("utf-8"))
    name = path.removesuffix(_TABLE_SUFFIX)
    table = values.table(name, content["columns"], content["data"])
    if (table.columns, table.rows) == (content["columns"], content["data"]):
        return
    # Written by wandb itself in an artifact of no one's: added to this one, its file would be there already.
    scratch = sdk.new_artifact("redacted", "table", description=None, metadata={})
    added = scratch.add(sdk.table_of(table.columns, table.rows), name)
    artifact.remove(path)
    with artifact.new_file(path, mode="w") as file:
        file.write(Path(str(added.local_path)).read_text("utf-8"))
