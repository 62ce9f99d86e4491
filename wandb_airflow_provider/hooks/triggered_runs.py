"""The way from a run to the DAG runs that it started: a file in it for each, written by the one that was started."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbError
from wandb_airflow_provider.identity import CONFIG_KEY, RunRef

if TYPE_CHECKING:
    from wandb_airflow_provider.hooks.wandb import WandbHook

__all__ = ["FOLDER", "name_in_sources"]

FOLDER = "airflow/triggered"
"""Folder among the files of a run that names the DAG runs which it started."""

log = logging.getLogger(__name__)

_MOST = 20
_PLACE = ("dag_id", "dag_run_id")


def name_in_sources(hook: WandbHook, ref: RunRef, provenance: Mapping[str, Any]) -> dict[str, str]:
    """
    Put a link to a pipeline run into the runs that ``triggered_by`` of its provenance names.

    A file of its own for each, ``airflow/triggered/<run id>.json``: config, summary and tags of a run are written as a
    whole, so that two DAG runs which add to them at once, or one that does while the run is still open, would undo
    what the other wrote. Never raises; what cannot be written is a warning.

    :param provenance: ``config["airflow"]`` of the pipeline run.
    :return: Addresses of the runs that were found, by their path.
    """
    content = {
        "dag_id": provenance["dag_id"],
        "dag_run_id": provenance["dag_run_id"],
        "run": ref.path,
        "url": ref.url,
    }
    found: dict[str, str] = {}
    for source, cause in _sources(provenance["triggered_by"]):
        try:
            with hook.translate_errors(f"add to the W&B run {source.path!r}"):
                run = hook.get_conn().run(source.path)
                if _check(hook, run, source, cause):
                    found[source.path] = run.url
                    _write(hook, run, f"{ref.wandb_run_id}.json", {**content, "kind": cause["kind"]})
        except (WandbError, OSError) as error:
            log.warning("The W&B run %s, which started this DAG run, does not say so: %s", source, error)
    return found


def _sources(triggered_by: Sequence[Mapping[str, Any]]) -> Iterator[tuple[RunRef, Mapping[str, Any]]]:
    """Yield the runs of other DAG runs, and those that logged a version whose alias moved."""
    found = {
        entry["run"]: entry
        for entry in triggered_by
        if entry.get("run") and (entry.get("dag_run_id") or entry.get("artifact"))
    }
    for run, entry in list(found.items())[:_MOST]:
        try:
            yield RunRef.from_json(run), entry
        except WandbConfigurationError as error:
            log.warning("What started this DAG run names no W&B run: %s", error)


def _check(hook: WandbHook, run: Any, source: RunRef, cause: Mapping[str, Any]) -> bool:
    """
    Say whether the run is one of ours, so that it may be written to.

    :raises WandbConfigurationError: it is not what started this DAG run. Whoever may start a DAG, or send an event,
        chooses what that says, but not in which run our key writes.
    """
    place = run.config.get(CONFIG_KEY) or {}
    if not cause.get("dag_run_id"):
        version = str(cause["artifact"])
        if hook.get_artifact(version).source_run != source.path:
            raise WandbConfigurationError(
                f"It has not logged the artifact {version!r}, of which the event is."
            )
        # One that is not of Airflow may be anybody's, and is left alone.
        return bool(place.get("dag_run_id"))
    expected = _redacted(hook, {key: cause.get(key) for key in _PLACE})
    if any(expected.get(key) is None or place.get(key) != expected[key] for key in _PLACE):
        raise WandbConfigurationError(
            f"It is not of the DAG run {cause.get('dag_id')}/{cause['dag_run_id']}, which this one was started by."
        )
    return True


def _write(hook: WandbHook, run: Any, name: str, content: Mapping[str, Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="wandb-airflow-") as folder:
        path = Path(folder, FOLDER, name)
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(_redacted(hook, content), indent=2), "utf-8")
        run.upload_file(str(path), root=folder)


def _redacted(hook: WandbHook, content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the policy leaves of it, as of what stands under this key in a config."""
    sent: Mapping[str, Any] = (
        hook.privacy.mapping("config", {CONFIG_KEY: dict(content)}).get(CONFIG_KEY) or {}
    )
    return sent
