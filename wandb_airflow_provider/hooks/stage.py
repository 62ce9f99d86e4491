"""A stage: what one task sees of the W&B run that all tasks of a DAG run share."""

from __future__ import annotations

import logging
import threading
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    import wandb

__all__ = ["AXES_KEY", "PROVENANCE_SUFFIX", "StageRun", "StageValues", "restore_axes"]

PROVENANCE_SUFFIX = "/airflow"
"""Config key, after the stage's name, that holds where the stage comes from."""
AXES_KEY = "metrics"
"""Key of a stage's provenance under which the ``define_metric`` calls of the stage are kept."""

log = logging.getLogger(__name__)


class StageValues(MutableMapping[str, Any]):
    """The part of a run's config or summary whose keys begin with the stage's name, without that name."""

    def __init__(self, values: Any, stage: str) -> None:
        object.__setattr__(self, "_values", values)
        object.__setattr__(self, "_prefix", f"{stage}/")

    _values: Any
    _prefix: str

    def __getitem__(self, key: str) -> Any:
        return self._values[self._prefix + key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._values[self._prefix + key] = value

    def __delitem__(self, key: str) -> None:
        del self._values[self._prefix + key]

    def __iter__(self) -> Iterator[str]:
        keys = list(self._values.keys())
        return (key.removeprefix(self._prefix) for key in keys if key.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def update(self, values: Any = (), /, **keywords: Any) -> None:
        """
        Set several values at once; ``allow_val_change`` goes to the config's own ``update``.

        :param values: A mapping, pairs, or the namespace of an argument parser.
        """
        options = {name: keywords.pop(name) for name in ("allow_val_change",) if name in keywords}
        self._values.update(self._named(values, keywords), **options)

    def setdefaults(self, values: Any) -> None:
        """Set those of the values that the config has not got."""
        self._values.setdefaults(self._named(values, {}))

    def as_dict(self) -> dict[str, Any]:
        """Return the values of the stage."""
        return dict(self)

    def _named(self, values: Any, keywords: Mapping[str, Any]) -> dict[str, Any]:
        given = dict(vars(values) if isinstance(values, Namespace) else values) | dict(keywords)
        return {self._prefix + key: value for key, value in given.items()}


class StageRun:
    """
    The run that all tasks of a DAG run share, as one task's code uses it.

    ``log``, ``define_metric``, ``config`` and ``summary`` put the stage's name before every key, and each stage has a
    step axis of its own, ``<stage>/step``, which begins at 0, or where the stage stopped when it is continued. All
    else is the run's own. What wandb itself logs (``watch``, system metrics, ``wandb.log``) bears no prefix.

    :param run: The open run.
    :param stage: The stage's name, the first part of its keys.
    """

    def __init__(self, run: wandb.Run, stage: str) -> None:
        own = {
            "_run": run,
            "_stage": stage,
            "_row_lock": threading.Lock(),
            "_step": _next_step(run, stage),
            "_row_is_open": False,
            "config": StageValues(run.config, stage),
            "summary": StageValues(run.summary, stage),
        }
        for name, value in own.items():
            object.__setattr__(self, name, value)
        self._keep_axis({"name": f"{stage}/*", "step_metric": f"{stage}/step"})

    _run: wandb.Run
    _stage: str
    _row_lock: threading.Lock
    _step: int
    _row_is_open: bool
    config: StageValues
    summary: StageValues

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        # Libraries ask isinstance(run, wandb.Run) before they log to a run that they are given.
        return type(self._run)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._run, name, value)

    def __repr__(self) -> str:
        return f"<stage {self._stage!r} of {self._run!r}>"

    def __enter__(self) -> StageRun:
        self._run.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.__exit__(kind, error, trace)

    @property
    def step(self) -> int:
        """The step that the next row of this stage gets."""
        return self._step

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        """
        Log a row under the stage's name, at a step of the stage's own axis.

        As with ``wandb.Run.log``: without ``step`` each call is a row, with ``step`` (or ``commit=False``) calls are
        collected into one row until a later step comes, and a step that is over is refused with a warning.
        """
        with self._row_lock:
            if step is not None and step < self._step:
                log.warning(
                    "Step %s of stage %r is over (the next is %s); what was logged for it is ignored: %s",
                    *(step, self._stage, self._step, sorted(data)),
                )
                return
            if step is not None and step > self._step:
                self.close_row()
                object.__setattr__(self, "_step", step)
            commits = step is None if commit is None else commit
            self._run.log({**self._prefixed(data), f"{self._stage}/step": self._step}, commit=commits)
            object.__setattr__(self, "_row_is_open", not commits)
            if commits:
                object.__setattr__(self, "_step", self._step + 1)

    def define_metric(self, name: str, step_metric: str | None = None, **options: Any) -> Any:
        """Like ``wandb.Run.define_metric`` for a metric of this stage; without ``step_metric`` on the stage's steps."""
        step_name = getattr(step_metric, "name", step_metric) or "step"
        named = step_name if step_name.startswith(f"{self._stage}/") else f"{self._stage}/{step_name}"
        return self._keep_axis({"name": f"{self._stage}/{name}", "step_metric": named, **options})

    def _prefixed(self, data: dict[str, Any]) -> dict[str, Any]:
        return {f"{self._stage}/{key}": value for key, value in data.items()}

    def close_row(self) -> None:
        """Let the summary know of a row that later calls might still add to."""
        if self._row_is_open:
            self._run.log({}, commit=True)
            object.__setattr__(self, "_row_is_open", False)

    def _keep_axis(self, definition: dict[str, Any]) -> Any:
        """Define a metric, and note it: the next task to open the run must define it again, or W&B forgets it."""
        key = f"{self._stage}{PROVENANCE_SUFFIX}"
        provenance = dict(self._run.config.get(key) or {})  # type: ignore[no-untyped-call]
        known = [entry for entry in provenance.get(AXES_KEY) or [] if entry["name"] != definition["name"]]
        self._run.config.update({key: {**provenance, AXES_KEY: [*known, definition]}}, allow_val_change=True)  # type: ignore[no-untyped-call]
        return self._run.define_metric(**definition)


def restore_axes(run: wandb.Run) -> None:
    """
    Define the metrics of all stages of a run that is opened again.

    W&B keeps the definitions of the last process that opened the run, and forgets those of the ones before.
    """
    for key, provenance in list(run.config.items()):  # type: ignore[no-untyped-call]
        if key.endswith(PROVENANCE_SUFFIX) and isinstance(provenance, Mapping):
            definitions: Iterable[Mapping[str, Any]] = provenance.get(AXES_KEY) or ()
            for definition in definitions:
                run.define_metric(**definition)


def _next_step(run: wandb.Run, stage: str) -> int:
    reached = run.summary.get(f"{stage}/step")  # type: ignore[no-untyped-call]
    return 0 if reached is None else int(reached) + 1
