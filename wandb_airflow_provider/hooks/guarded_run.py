"""An open run whose every public way to W&B goes through the privacy gate, also for code that finds it by itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from types import MethodType
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.hooks.sampled_rows import SampledRows
from wandb_airflow_provider.hooks.sent_values import SentValues, redacted_artifact

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.privacy import PrivacyGate

__all__ = ["guard_run"]


def guard_run(run: wandb.Run, gate: PrivacyGate) -> None:
    """
    Put the gate between a run and all who hold it, ``wandb.run``, ``wandb.log`` and integrations included.

    The run, its config and its summary become instances of subclasses of their own classes, which redact and then do
    what they did. Guarding a run twice changes nothing.
    """
    if getattr(run, "_airflow_guard", None) is not None:
        return
    plain: Any = run
    kind: Any = type(run)
    guard = SampledRows(SentValues(gate), run.id)
    plain.__class__ = _guarded(kind)
    plain._airflow_guard = guard
    _swap(run.config, _guarded_config, guard.values)
    _swap(run.summary, _guarded_summary, guard.values)
    module = sys.modules["wandb"]
    # `wandb.log` and its like are methods of the run as it was.
    for name, value in list(vars(module).items()):
        if type(value) is MethodType and value.__self__ is run:
            setattr(module, name, getattr(run, name))


def _swap(part: Any, guarded: Callable[[Any], Any], values: SentValues, **own: Any) -> None:
    # Not by assignment: config and summary take an attribute for a key of theirs.
    object.__setattr__(part, "__class__", guarded(type(part)))
    for name, value in {"_airflow_guard": values, **own}.items():
        object.__setattr__(part, name, value)


def _property(base: Any, name: str, clean: Callable[[SentValues, Any], Any]) -> Any:
    """Return a property of the run whose values are cleaned before they are set."""
    plain = getattr(base, name)

    def change(run: Any, value: Any) -> None:
        plain.fset(run, clean(run._airflow_guard.values, value))

    return property(plain.fget, change, doc=plain.__doc__)


@cache
def _guarded(base: Any) -> Any:
    """Return the guarded kind of ``wandb.Run``."""

    class GuardedRun(base):  # type: ignore[misc]
        _airflow_guard: SampledRows | None = None

        def __reduce_ex__(self, protocol: Any) -> Any:
            raise WandbConfigurationError(
                f"The W&B run {self.id!r} is under a redaction policy, which does not reach other processes. Log from "
                "the task itself."
            )

        @property
        def _values(self) -> SentValues:
            return self._airflow_guard.values  # type: ignore[union-attr]

        def log(self, data: Any, step: int | None = None, commit: bool | None = None) -> None:
            row = self._airflow_guard.row(data, step, commit)  # type: ignore[union-attr]
            if row is not None:
                super().log(row, step=step, commit=commit)

        def finish(self, *args: Any, **kwargs: Any) -> Any:
            totals = self._airflow_guard.take_totals()  # type: ignore[union-attr]
            if totals:
                self.summary.update(totals)
            return super().finish(*args, **kwargs)

        name = _property(base, "name", lambda values, name: values.text(name))
        notes = _property(base, "notes", lambda values, notes: values.text(notes))
        tags = _property(base, "tags", lambda values, tags: tuple(map(values.text, tags)))

        def define_metric(self, name: str, step_metric: Any = None, *args: Any, **kwargs: Any) -> Any:
            step = self._values.key(step_metric) if isinstance(step_metric, str) else step_metric
            return super().define_metric(self._values.key(name), step, *args, **kwargs)

        def alert(self, title: str, text: str = "", *args: Any, **kwargs: Any) -> Any:
            return super().alert(self._values.text(title), self._values.text(text), *args, **kwargs)

        def write_logs(self, text: str) -> Any:
            return super().write_logs(self._values.text(text))

        def save(self, glob_str: Any = None, *args: Any, **kwargs: Any) -> Any:
            self._values.require_clean("The file", glob_str)
            return super().save(glob_str, *args, **kwargs)

        def log_artifact(self, artifact_or_path: Any, *args: Any, **kwargs: Any) -> Any:
            return super().log_artifact(self._checked(artifact_or_path, args, kwargs), *args, **kwargs)

        def upsert_artifact(self, artifact_or_path: Any, *args: Any, **kwargs: Any) -> Any:
            return super().upsert_artifact(self._checked(artifact_or_path, args, kwargs), *args, **kwargs)

        def finish_artifact(self, artifact_or_path: Any, *args: Any, **kwargs: Any) -> Any:
            return super().finish_artifact(self._checked(artifact_or_path, args, kwargs), *args, **kwargs)

        def use_artifact(self, artifact_or_name: Any, *args: Any, **kwargs: Any) -> Any:
            return super().use_artifact(self._checked(artifact_or_name, args, kwargs), *args, **kwargs)

        def link_artifact(self, artifact: Any, *args: Any, **kwargs: Any) -> Any:
            return super().link_artifact(self._checked(artifact, args, kwargs), *args, **kwargs)

        def log_model(self, *args: Any, **kwargs: Any) -> Any:
            self._checked(None, args, kwargs)
            return super().log_model(*args, **kwargs)

        def link_model(self, *args: Any, **kwargs: Any) -> Any:
            self._checked(None, args, kwargs)
            return super().link_model(*args, **kwargs)

        def log_code(self, *args: Any, **kwargs: Any) -> Any:
            self._checked(None, args, kwargs)
            return super().log_code(*args, **kwargs)

        def _checked(self, artifact: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
            """Refuse forbidden names among the arguments, and redact what an artifact says about itself."""
            for given in (*args, *kwargs.values()):
                for text in [given] if isinstance(given, str) else given if isinstance(given, list) else []:
                    self._values.require_clean("The argument", text if isinstance(text, str) else None)
            if isinstance(artifact, str):
                self._values.require_clean("The artifact", artifact)
                return artifact
            return redacted_artifact(self._values, artifact)

    GuardedRun.__name__ = GuardedRun.__qualname__ = base.__name__
    GuardedRun.__doc__ = base.__doc__
    return GuardedRun


@cache
def _guarded_config(base: Any) -> Any:
    """Return the guarded kind of ``wandb.Config``."""

    class GuardedConfig(base):  # type: ignore[misc]
        _airflow_guard: SentValues

        def __setitem__(self, key: str, value: Any) -> None:
            for cleaned, kept in self._airflow_guard.mapping("config", {key: value}).items():
                super().__setitem__(cleaned, kept)

        def __setattr__(self, key: str, value: Any) -> None:
            self[key] = value

        def update(self, d: Any, allow_val_change: bool | None = None) -> None:
            super().update(self._sent(d), allow_val_change)

        def setdefaults(self, d: Any) -> None:
            super().setdefaults(self._sent(d))

        def update_locked(self, d: Any, *args: Any, **kwargs: Any) -> None:
            super().update_locked(self._sent(d), *args, **kwargs)

        def merge_locked(self, d: Any, *args: Any, **kwargs: Any) -> None:
            super().merge_locked(self._sent(d), *args, **kwargs)

        def persist(self) -> None:
            # Sends everything, also what was changed inside a nested value.
            super().update(self._sent(dict(self)), allow_val_change=True)

        def _sent(self, values: Any) -> dict[str, Any]:
            import argparse

            given = vars(values) if isinstance(values, argparse.Namespace) else values
            if isinstance(given, str):
                raise WandbConfigurationError(
                    "Under a redaction policy the config takes no name of a file: read it, and pass the values."
                )
            return self._airflow_guard.mapping("config", dict(given))

    return GuardedConfig


@cache
def _guarded_summary(base: Any) -> Any:
    """Return the guarded kind of ``wandb.Summary``, or of a nested part of one."""

    class GuardedSummary(base):  # type: ignore[misc]
        _airflow_guard: SentValues
        _airflow_path: str = "summary"

        def update(self, d: Mapping[str, Any]) -> None:
            super().update(self._airflow_guard.mapping(self._airflow_path, d))

        def __getitem__(self, key: str) -> Any:
            found = super().__getitem__(key)
            if not isinstance(found, Mapping) and hasattr(found, "update") and hasattr(found, "keys"):
                path = f"{self._airflow_path}.{key}"
                _swap(found, _guarded_summary, self._airflow_guard, _airflow_path=path)
            return found

        def __getattr__(self, key: str) -> Any:
            if key.startswith("__"):
                raise AttributeError(key)
            return self[key]

    return GuardedSummary
