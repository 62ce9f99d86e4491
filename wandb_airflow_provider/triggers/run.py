"""Wait in the triggerer until a W&B run has ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.triggers.reader import WandbReader
from wandb_airflow_provider.triggers.shared_poll import DEFAULT_POLL_INTERVAL, SharedPollTrigger
from wandb_airflow_provider.waiting.run import RunObservation, judge_run, outcomes_of

if TYPE_CHECKING:
    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.waiting.decision import Decision

__all__ = ["RunReader", "WandbRunTrigger"]


class WandbRunTrigger(SharedPollTrigger):
    """
    Wait until a run has ended; sends one event.

    All triggers of one connection and project share one poll loop, which reads all their runs with one request a
    page.

    :param wandb_run: ``entity/project/run_id``, or a run as tasks push it under ``wandb_run``.
    :param outcomes: What final states mean: ``succeed``, ``fail``, ``skip`` or ``wait``.
    :param missing: Whether a run that does not exist is waited for or fails the waiting.
    :param end_time: The deadline in seconds since the epoch.
    """

    own = ("wandb_run", "outcomes", "missing")

    def __init__(
        self,
        *,
        wandb_run: str | dict[str, Any],
        outcomes: Mapping[str, str] | None = None,
        missing: Literal["wait", "fail"] = "fail",
        wandb_conn_id: str = DEFAULT_CONN_ID,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        end_time: float | None = None,
        looked: bool = False,
    ) -> None:
        super().__init__(
            wandb_conn_id=wandb_conn_id, poll_interval=poll_interval, end_time=end_time, looked=looked
        )
        self.wandb_run = wandb_run
        self.outcomes = outcomes
        self.missing = missing

    def check(self) -> None:
        """
        Refuse wrong arguments.

        :raises WandbConfigurationError: not a run, or outcomes that mean nothing.
        """
        super().check()
        outcomes_of(self.outcomes)

    def __str__(self) -> str:
        return f"The W&B run {self.awaited()}"

    def _place(self) -> tuple[str | None, ...]:
        ref = RunRef.from_json(self.wandb_run)
        return (ref.entity, ref.project)

    def awaited(self) -> str:
        """Return the run's path."""
        return RunRef.from_json(self.wandb_run).path

    def reader(self) -> WandbReader:
        """Return a reader for runs of one project."""
        return RunReader(self.wandb_conn_id)

    def judge(self, observed: RunObservation) -> Decision:
        """Return what a read of the run means."""
        return judge_run(self.awaited(), observed, outcomes_of(self.outcomes), self.missing)


class RunReader(WandbReader):
    """Reads the states of runs of one project in one request a page."""

    observation = RunObservation

    def _read(
        self, hook: WandbHook, targets: Sequence[str], strict: Collection[str]
    ) -> Mapping[str, RunObservation]:
        from wandb_airflow_provider.hooks.watched import run_states

        refs = {path: RunRef.from_json(path) for path in targets}
        one = refs[targets[0]]
        there = run_states(hook, one.entity, one.project, {ref.wandb_run_id for ref in refs.values()})
        return {path: _observation(there.get(ref.wandb_run_id), ref) for path, ref in refs.items()}


def _observation(run: Any, ref: RunRef) -> RunObservation:
    if run is None:
        return RunObservation()
    return RunObservation(run.state, ref._replace(url=run.url), run.name)
