"""What runs of W&B hold, without what differs from one execution to the next."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

from tests.run_trees import RunTrees, path

Portrait = dict[str, Any]

# How long it took, and the SDK's own notes.
_DROPPED = {"airflow/seconds", "airflow/task_seconds", "airflow/wall_seconds"}
_DROPPED |= {"_timestamp", "_runtime", "_wandb", "artifact_path", "_latest_artifact_path"}
# Named by their run and the moment.
_NOTES = "airflow/notes/"
# Made from the address of Airflow.
_DROPPED |= {"deployment"}
# Their content has durations, moments and addresses in it.
_VARYING_FILES = {"timeline.table.json", "report.html", "report.md"}
_OF_CONTENT = {"path", "sha256", "size"}
_REPLACED = {
    "<moment>": re.compile(r"\d{4}-\d\d-\d\dT\d\d(:|%3A)\d\d(:|%3A)\d\d(\.\d+)?((\+|%2B)00(:|%3A)00|Z)"),
    "<host>": re.compile(r"(?<=http://)(127\.0\.0\.1|localhost):\d+"),
    # Made from the address of W&B.
    "<scope>": re.compile(r"(?<=/xcom/)[\w.-]+-[0-9a-f]{16}(?=/)"),
    # Made from the id of the DAG run.
    "<reference>": re.compile(r"(?<=\bref==)[0-9a-f]{64}\b"),
    "<id>": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
}
_RANDOM_END = re.compile(r"-\w{6}(?=:v\d+$)")


def portraits(trees: RunTrees, dag_id: str) -> dict[str, Portrait]:
    """
    Return what all runs of a DAG run hold, by display name; every name must be there once.

    Runs are called by their names wherever they are mentioned, and the DAG run by that word.
    """
    names = _names(trees)
    runs = trees.group(dag_id)
    found = {names[path(run)]: _portrait(trees, run, names) for run in runs}
    assert len(found) == len(runs)
    return found


def differences(found: Any, expected: Any, where: str = "") -> list[str]:
    """Return where two portraits differ, and what is there."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return [
            line
            for key in sorted(found.keys() | expected.keys())
            for line in differences(found.get(key), expected.get(key), f"{where}/{key}")
        ]
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        pairs = enumerate(zip(found, expected, strict=True))
        return [line for index, pair in pairs for line in differences(*pair, f"{where}/{index}")]
    return [] if found == expected else [f"{where}: {found!r}, on one machine {expected!r}"]


def _names(trees: RunTrees) -> dict[str, str]:
    """What each run is called by: its name, or its DAG's for a root, whose name has the date in it."""
    return {
        key: run.config["airflow"]["dag_id"] if run.job_type == "pipeline" else run.name
        for key, run in trees.runs.items()
    }


def _portrait(trees: RunTrees, run: Any, names: dict[str, str]) -> Portrait:
    facts = {
        "job_type": run.job_type,
        "state": run.state,
        "tags": sorted(run.tags),
        "config": _stable(run.config),
        "summary": _stable(json.loads(json.dumps(run.summary._json_dict))),
        "history": [_stable(row) for row in run.scan_history()],
        "logged": sorted((_artifact(each) for each in run.logged_artifacts()), key=str),
        "used": sorted(each.name for each in run.used_artifacts()),
    }
    text = json.dumps(facts, sort_keys=True)
    for key, name in names.items():
        text = text.replace(key, f"<{name}>").replace(key.rpartition("/")[2], f"<{name}>")
    for dag_run in trees.dag_runs.values():
        name = dag_run.dag_run_id
        # As it is, as an address has it, and as an alias has it.
        for spelled in (name, quote(name, safe=""), name.replace(":", "=3A")):
            text = text.replace(spelled, "<DAG run>")
    for word, pattern in _REPLACED.items():
        text = pattern.sub(word, text)
    portrait: Portrait = json.loads(text)
    return portrait


def _artifact(artifact: Any) -> Portrait:
    entries = artifact.manifest.entries
    return {
        "type": artifact.type,
        "name": _RANDOM_END.sub("", artifact.name) if artifact.type == "run_table" else artifact.name,
        "digest": None if entries.keys() & _VARYING_FILES else artifact.digest,
        "aliases": sorted(artifact.aliases),
        "metadata": _stable(artifact.metadata),
        "entries": {
            name: None if name in _VARYING_FILES else entry.ref or entry.digest
            for name, entry in entries.items()
        },
    }


def _stable(value: Any, key: str = "") -> Any:
    if isinstance(value, list):
        return [_stable(each) for each in value]
    if not isinstance(value, dict):
        return value
    varying = value.get("_type") == "html-file" or f"{key}.table.json" in _VARYING_FILES
    return {
        name: _stable(each, name)
        for name, each in value.items()
        if name not in _DROPPED and not name.startswith(_NOTES) and not (varying and name in _OF_CONTENT)
    }
