"""What the operator tests share: runs with metrics and versions of a model in the dev server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef


@pytest.fixture
def hook(server: Any, connect: Callable[..., None], unique: str) -> Iterator[WandbHook]:
    """A hook for the dev server and a project of the test's own; operators find the same connection."""
    from wandb_airflow_provider import sdk

    connect(server, extra={"project": unique})
    yield WandbHook()
    sdk.release()


@pytest.fixture
def log_run(server: Any, hook: WandbHook, unique: str, tmp_path: Path) -> Callable[..., Any]:
    """``log_run(metrics, content)`` logs a finished run, and a version of ``encoder`` when it has content."""
    import wandb

    numbers = iter(range(100))

    def log(
        metrics: dict[str, Any], content: str | None = None, *, exit_code: int = 0
    ) -> tuple[RunRef, ArtifactRef | None]:
        folder = tmp_path / f"run-{next(numbers)}"
        folder.mkdir()
        settings = wandb.Settings(
            base_url=server.url, api_key=server.api_key, console="off", silent=True, disable_git=True
        )
        run = wandb.init(entity="local", project=unique, dir=folder, settings=settings, reinit="create_new")
        run.log(metrics)
        path = None
        if content is not None:
            (folder / "weights.txt").write_text(content)
            artifact = wandb.Artifact("encoder", type="model")
            artifact.add_file(str(folder / "weights.txt"))
            path = run.log_artifact(artifact).wait().qualified_name
        ref = RunRef(run.entity, run.project, run.id, url=run.url)
        run.finish(exit_code=exit_code)
        return ref, hook.get_artifact(path) if path else None

    return log
