"""One task attempt whose own code opens W&B runs: their place, their exit codes, and a run for the task itself."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from wandb_airflow_provider import settings
from wandb_airflow_provider.hierarchy import find_pipeline
from wandb_airflow_provider.identity import CONFIG_KEY, RunRef, TaskIdentity, clean_tags
from wandb_airflow_provider.listeners.environment import GROUP, JOB_TYPE, Labels, RunEnvironment
from wandb_airflow_provider.listeners.init_watch import InitWatch
from wandb_airflow_provider.listeners.open_runs import OpenRuns
from wandb_airflow_provider.listeners.term_signal import TermSignal

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.hooks.runs import RunSession
    from wandb_airflow_provider.listeners.task_source import TaskSource
    from wandb_airflow_provider.privacy import PrivacyGate

__all__ = ["Ending", "InstrumentedTask"]

log = logging.getLogger(__name__)

_KILL_SECONDS = 4.0
_MAX_REASON = 1000
_ANSWER_SECONDS = 10.0
# Airflow ends a process that is still there so many seconds after its task; this much before, we stop waiting.
_OVERTIME_MARGIN = 5.0


class Ending(NamedTuple):
    """
    How a task attempt ended.

    :param state: What the summary ``airflow/state`` of its runs says.
    """

    exit_code: int
    state: str
    reason: str | None = None


class InstrumentedTask:
    """
    From the start of a task attempt in this process to its end there.

    No method raises what W&B, Airflow or this class get wrong: the first such error is a warning in the task's
    log, and the task goes on.

    :param ti: The ``RuntimeTaskInstance`` of the task, rendered.
    """

    def __init__(self, ti: Any) -> None:
        from wandb_airflow_provider.provenance import map_index

        self._ti = ti
        self._pid = os.getpid()
        self._pipeline = find_pipeline(ti.task.dag)
        self._identity = TaskIdentity(ti.dag_id, ti.run_id, ti.task_id, map_index(ti), ti.try_number)
        self._environment = RunEnvironment()
        self._watch = InitWatch(self)
        self._signal = TermSignal(self._killed, _KILL_SECONDS)
        self._runs = OpenRuns()
        self._session: RunSession | None = None
        self._ended = False
        self._warned = False

    def is_for(self, ti: Any) -> bool:
        """Return whether this is that attempt, in this process."""
        return bool(self._ti.id == ti.id) and self.is_here

    @property
    def is_here(self) -> bool:
        """Whether the task began in this process, and not in the one that it was forked from."""
        return self._pid == os.getpid()

    def begin(self) -> None:
        """Prepare the process for the task's code."""
        with self._quietly("prepare the environment"):
            # A policy of the connection would have to be asked for, by every task.
            guarded = self._pipeline is not None and self._pipeline.redaction is not None
            if guarded:
                self._environment.export(self._redacted_labels, self._machine_settings)
            else:
                self._environment.export(self._labels, {})
        with self._quietly("open a run for the task"):
            if settings.run_per_task() and self._source.needs_run:
                self._open()
        with self._quietly("watch wandb.init"):
            self._watch.start()
        with self._quietly("watch for SIGTERM"):
            self._signal.watch()

    def end(self, ending: Ending) -> None:
        """Finish the runs that are still open as the task ended."""
        self._ended = True
        # These first: closing the last run of ours ends wandb's helper process.
        with self._quietly("describe the run that the task left open"):
            run = self._runs.current()
            if run is not None and not self._is_own(run):
                self._adopt(run)
        with self._quietly("finish the runs that the task left open"):
            if len(self._runs) and not self._runs.finish(
                ending.exit_code, self._summary(ending), seconds=self._finish_seconds
            ):
                raise TimeoutError(
                    f"W&B took more than {self._finish_seconds:.0f} s to receive what they logged; the rest is in "
                    "their folders, and `wandb sync` uploads it"
                )
        with self._quietly("finish the run of the task"):
            if self._session is not None:
                self._session.close(ending.exit_code, ending.state, reason=ending.reason)

    def leave(self) -> None:
        """Undo :meth:`begin`; ends runs as deferred where the task has not ended, but waits or runs again later."""
        if not self._ended:
            self.end(Ending(0, "deferred"))
        with self._quietly("restore the process"):
            self._signal.release()
            self._watch.stop()
            self._environment.restore()
        with self._quietly("end wandb's helper process"):
            if "wandb" in sys.modules:
                from wandb_airflow_provider import sdk

                sdk.release()

    def additions(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return group, job type and tags for a ``wandb.init`` that names none; its tags are kept."""
        found: dict[str, Any] = {}
        with self._quietly("place the run"):
            # The environment says the same, unless wandb has read it before the task began.
            given = arguments.get("settings") or {}
            named = given if isinstance(given, Mapping) else vars(given)
            labels = self._redacted_labels
            for argument, setting, variable, value in (
                ("group", "run_group", GROUP, labels.group),
                ("job_type", "run_job_type", JOB_TYPE, labels.job_type),
            ):
                if arguments.get(argument) is None and named.get(setting) is None:
                    found[argument] = value if self._environment.sets(variable) else os.environ.get(variable)
            tags = arguments.get("tags") or named.get("run_tags") or self._environment.tags_before
            found["tags"] = list(clean_tags([*([tags] if isinstance(tags, str) else tags), *labels.tags]))
        return found

    def opened(self, run: wandb.Run, arguments: Mapping[str, Any]) -> None:
        """Give a run that user code has opened its provenance, and announce it."""
        with self._quietly("take note of a run"):
            if self._is_own(run):
                # wandb has returned the run that is open and ignored the rest of the call.
                config = arguments.get("config")
                if isinstance(config, Mapping):
                    run.config.update(dict(config), allow_val_change=True)  # type: ignore[no-untyped-call]
            else:
                self._adopt(run)

    def _adopt(self, run: Any) -> None:
        if not self._runs.add(run):
            return
        with self._quietly(f"describe the run {run.id}"):
            if self._gate.policy is not None:
                from wandb_airflow_provider.hooks.guarded_run import guard_run

                guard_run(run, self._gate)
            found = run.config.get(CONFIG_KEY)
            if found is None or (isinstance(found, Mapping) and "dag_run_id" in found):
                # One that is there comes from an attempt whose run this one resumes.
                provenance = self._source.provenance(run.entity, run.project, run.id)
                run.config.update({CONFIG_KEY: provenance}, allow_val_change=True)
        with self._quietly(f"announce the run {run.id}"):
            if len(self._runs) == 1 and self._session is None and run.entity and not run.offline:
                ref = RunRef(run.entity, run.project, run.id, url=run.url)
                log.info("W&B run %s: %s", ref, ref.url)
                self._source.announce(ref)

    def _open(self) -> None:
        hook = self._source.hook
        # A task that has nothing to do with W&B must not wait for it as long as one that has.
        hook.connection = replace(hook.connection, timeout=min(hook.connection.timeout, _ANSWER_SECONDS))
        spec = self._source.run_spec()._replace(finish_timeout=self._finish_seconds)
        session = hook.open_run(spec)
        session.__enter__()
        self._session = session
        self._source.announce(session.ref)

    def _is_own(self, run: wandb.Run) -> bool:
        return self._session is not None and self._session.run is run

    def _killed(self) -> None:
        if self._ended:
            # Airflow has the task's state already and waits no longer for the process.
            return
        with self._quietly("finish the runs of the killed task"):
            from wandb_airflow_provider.hooks.runs import EXIT_KILLED, REASON_KEY, STATE_KEY

            run = self._runs.current()
            if run is not None and not self._is_own(run):
                self._runs.add(run)
            # No request to Airflow from here: the interrupted code may be in the middle of one.
            summary = {STATE_KEY: "killed", REASON_KEY: "The task was stopped from outside (SIGTERM)."}
            in_time = self._runs.kill(EXIT_KILLED, summary, seconds=_KILL_SECONDS)
            if self._session is not None:
                self._session.kill()
            if not in_time:
                raise TimeoutError("W&B took too long, and will mark them as crashed")

    def _summary(self, ending: Ending) -> dict[str, Any]:
        from wandb_airflow_provider.hooks.runs import REASON_KEY, STATE_KEY

        summary: dict[str, Any] = {STATE_KEY: ending.state}
        if ending.reason is not None:
            with self._quietly("say why the task failed"):
                summary[REASON_KEY] = self._source.privacy.text(ending.reason)[:_MAX_REASON]
        return summary

    @cached_property
    def _gate(self) -> PrivacyGate:
        """What may be sent of the task: all that its policy lets through; nothing, where that cannot be read."""
        try:
            return self._source.privacy
        except Exception as error:
            from wandb_airflow_provider.privacy import PrivacyGate
            from wandb_airflow_provider.redaction import RedactionPolicy

            log.error(
                "Nothing that this task logs is sent to W&B: its redaction policy cannot be read. %s", error
            )
            return PrivacyGate(RedactionPolicy(deny=("*",)))

    @property
    def _labels(self) -> Labels:
        tags = self._pipeline.tags if self._pipeline is not None else ()
        return Labels(
            self._identity.group, self._identity.task_id, clean_tags([self._identity.dag_id, *tags])
        )

    @cached_property
    def _redacted_labels(self) -> Labels:
        return self._labels.redacted(self._source.privacy)

    @property
    def _machine_settings(self) -> Mapping[str, str]:
        """Return what keeps wandb from recording the machine, where the policy says so."""
        from wandb_airflow_provider import sdk

        policy = self._source.privacy.policy
        return sdk.unknown_machine_variables() if policy is not None and policy.machine == "drop" else {}

    @cached_property
    def _source(self) -> TaskSource:
        from wandb_airflow_provider.listeners.task_source import TaskSource

        return TaskSource(self._ti, self._pipeline, self._identity)

    @cached_property
    def _finish_seconds(self) -> float:
        from airflow.providers.common.compat.sdk import conf

        return max(1.0, float(conf.get("core", "task_success_overtime", fallback=20)) - _OVERTIME_MARGIN)

    @contextmanager
    def _quietly(self, action: str) -> Iterator[None]:
        """Log an error instead of raising it: the first as a warning, for it tends to explain the others."""
        try:
            yield
        except Exception as error:
            say: Callable[..., None] = log.debug if self._warned else log.warning
            self._warned = True
            say(
                "[wandb] auto_instrument could not %s (task %s.%s, which is not affected). %s: %s",
                action,
                self._ti.dag_id,
                self._ti.task_id,
                type(error).__name__,
                error,
            )
