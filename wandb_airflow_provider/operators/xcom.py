"""Remove stored XComs to which nothing refers any more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from wandb_airflow_provider.exceptions import WandbConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from wandb_airflow_provider.xcom.reference import Producer

__all__ = ["WandbXComCleanupOperator"]


class WandbXComCleanupOperator(BaseOperator):
    """
    Find stored XComs to which no XCom in Airflow's database refers, and remove them from W&B and the object store.

    That is what remains of DAG runs that were deleted, of attempts that were retried or cleared, and of tasks that were
    killed between storing a value and pushing its reference. Kept is what is younger than ``min_age_hours``, what a
    DAG run stored that is at work, what another task passes on, what has an alias of someone's own or is linked,
    what belongs to another project or Airflow, and every artifact that the XCom backend did not write.

    Returns ``{"orphans": [{"artifact", "location", "size_bytes", "why"}], "removed": n, "size_bytes": total}``. An
    orphan to which something refers again when it is about to be removed is kept; ``removed`` does not count it.

    :param dry_run: Only say what would be removed. The default, because what is removed is gone. Without it the
        option ``deployment`` of ``[wandb_xcom]`` must be set: values of another name, or without one, are kept.
    :param project: W&B project to look through. Default: that of ``[wandb_xcom]``, else the connection's. (templated)
    :param min_age_hours: Values younger than this are kept: their reference may be about to be written. Less than an
        hour is only safe while no other task stores values.
    :raises WandbUnavailableError: W&B or the object store cannot be reached. Retried.
    :raises WandbConfigurationError: there is no project to look through, or no ``deployment`` to remove values of. Not
        retried.
    """

    template_fields: Sequence[str] = ("project",)
    ui_color = "#fff3c9"

    def __init__(
        self, *, dry_run: bool = True, project: str | None = None, min_age_hours: float = 24.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if min_age_hours < 0:
            raise WandbConfigurationError(
                f"Task {self.task_id!r}: min_age_hours is {min_age_hours!r}; expected a number that is not negative."
            )
        # BaseOperator has a method named dry_run.
        self.only_report = dry_run
        self.project = project
        self.min_age_hours = min_age_hours

    def execute(self, context: Context) -> dict[str, Any]:
        """Find orphans, remove them unless told not to, and report."""
        from wandb_airflow_provider.hooks.runs import borrowed_sdk
        from wandb_airflow_provider.hooks.wandb import WandbHook
        from wandb_airflow_provider.xcom import settings
        from wandb_airflow_provider.xcom.orphans import find_orphans, remove_orphan
        from wandb_airflow_provider.xcom.referrers import Airflow

        if not self.only_report and not settings.deployment():
            raise WandbConfigurationError(
                f"Task {self.task_id!r}: to remove stored XComs, set 'deployment' of [wandb_xcom] to a name that no "
                "other Airflow has. It is kept with each value, so that those of others are not taken for orphans."
            )
        hook = WandbHook(
            settings.wandb_conn_id(), entity=settings.entity(), project=self.project or settings.project()
        )
        min_age = timedelta(hours=self.min_age_hours)
        airflow = Airflow(_read_xcom, partial(_is_at_work, context["ti"]))
        with borrowed_sdk():
            orphans = list(find_orphans(hook, airflow, min_age=min_age))
            removed = []
            for orphan in orphans:
                what = orphan.artifact or orphan.location
                if self.only_report:
                    self.log.info("Would remove %s: %s.", what, orphan.why)
                elif remove_orphan(hook, airflow, orphan, min_age=min_age):
                    removed.append(orphan)
                    self.log.info("Removed %s: %s.", what, orphan.why)
                else:
                    self.log.info("Kept %s: it is in use again.", what)
        return {
            "orphans": [orphan.to_json() for orphan in orphans],
            "removed": len(removed),
            "size_bytes": sum(orphan.size_bytes for orphan in orphans),
        }


def _is_at_work(ti: Any, dag_id: str, dag_run_id: str) -> bool:
    """Say whether Airflow has a DAG run that has not ended."""
    states = ["queued", "running"]
    return bool(ti.get_dr_count(dag_id=dag_id, run_ids=[dag_run_id], states=states))


def _read_xcom(producer: Producer) -> Any:
    """Return an XCom as it is in Airflow's database, or as the inner backend keeps it."""
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time.comms import GetXCom, XComResult
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    from wandb_airflow_provider.xcom.backend import inner_backend

    answer = SUPERVISOR_COMMS.send(
        GetXCom(
            key=producer.key,
            dag_id=producer.dag_id,
            run_id=producer.dag_run_id,
            task_id=producer.task_id,
            map_index=producer.map_index,
        )
    )
    if not isinstance(answer, XComResult):
        raise TypeError(f"Expected an XCom of {producer}, received {answer!r}")
    inner = inner_backend()
    if inner is BaseXCom or answer.value is None:
        return answer.value
    return inner.deserialize_value(answer)
