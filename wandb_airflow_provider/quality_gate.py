"""``wandb_quality_gate``: gate, report, approval and promotion of one candidate as a task group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.record import Record

if TYPE_CHECKING:
    from airflow.sdk import TaskGroup

    from wandb_airflow_provider.operators.approval import WandbApprovalOperator
    from wandb_airflow_provider.operators.gate import WandbMetricGateOperator
    from wandb_airflow_provider.operators.promote import WandbPromoteOperator
    from wandb_airflow_provider.rules import Rule

__all__ = ["QualityGate", "wandb_quality_gate"]

_BODY = (
    "{{% set report = ti.xcom_pull(task_ids={task_id!r}) %}}"
    "{{{{ report['markdown'] if report is mapping else report }}}}"
)
_FILLED_IN = "((ti.xcom_pull(task_ids={task_id!r}) or {{}}).get('params_input') or {{}}).get({param!r})"


class QualityGate(Record):
    """
    The tasks of a quality gate.

    :param group: The task group, to set before and after other tasks.
    :param report: None where none was asked for.
    :param approve: None where no approval was asked for.
    """

    group: TaskGroup
    gate: WandbMetricGateOperator
    report: Any
    approve: Any
    promote: WandbPromoteOperator

    @property
    def verdict(self) -> Any:
        """The verdict, as an argument of other tasks."""
        return self.gate.output

    @property
    def promotion(self) -> Any:
        """What the promotion pushed, as an argument of other tasks."""
        return self.promote.output


def wandb_quality_gate(
    group_id: str = "quality_gate",
    *,
    prefix_group_id: bool = True,
    rules: Iterable[Rule | Mapping[str, Any]] | str,
    run: Any,
    candidate: Any,
    registry: str,
    collection: str,
    alias: str = "production",
    mode: Literal["skip", "fail"] = "skip",
    report: Callable[[WandbMetricGateOperator], Any] | bool = True,
    approval: Mapping[str, Any] | bool = True,
    note: str | None = None,
    outlets: Sequence[Any] = (),
    gate_arguments: Mapping[str, Any] | None = None,
    promote_arguments: Mapping[str, Any] | None = None,
) -> QualityGate:
    """
    Add a task group to the DAG: judge a candidate, report, ask a person, and move the alias.

    The tasks are ``gate``, ``report``, ``approve`` and ``promote``, each after the one before it. The baseline is the
    version that holds the alias which the candidate is to get. Whether the gate or a person stops a candidate, what
    follows is skipped, and the alias stays where it is. Verdict, answer and promotion are each kept in the audit of the
    collection. A candidate that was compared with one version does not replace another that was promoted since, while
    its approval waited for example: ``expected_holder`` of the promotion is ``verdict``, unless the person may choose
    the alias or the gate's baseline is another one.

    :param group_id: Id of the task group, and the first part of the tasks' ids.
    :param prefix_group_id: False leaves that part out, so that tasks which a DAG had before keep their ids and history.
    :param rules: As of :class:`~wandb_airflow_provider.operators.gate.WandbMetricGateOperator`.
    :param run: The evaluated run.
    :param candidate: The version judged.
    :param registry: Registry of the alias.
    :param collection: Its collection.
    :param alias: The alias to move.
    :param mode: What a candidate that does not pass does: ``skip`` what follows, or ``fail`` the task.
    :param report: True for the verdict as Markdown, or a function that is given the gate, inside the group, and
        returns the task of a report. What that pushes is the body of the approval: Markdown, or a mapping with
        the key ``markdown``. False for none; the approval then shows the verdict's summary.
    :param approval: True for Airflow's ``ApprovalOperator``, as
        :class:`~wandb_airflow_provider.operators.approval.WandbApprovalOperator`; or its arguments: ``aliases`` to
        choose from, ``ask_note``, ``on_timeout``, and Airflow's own, such as ``assigned_users``, ``response_timeout``
        and ``subject``. False for none: what passes the gate is promoted.
    :param note: Free text kept with the promotion. (templated)
    :param outlets: Airflow assets to whose events gate, approval and promotion each add what was decided, as
        ``extra["wandb_decision"]``.
    :param gate_arguments: Further arguments of the gate.
    :param promote_arguments: Further arguments of
        :class:`~wandb_airflow_provider.operators.promote.WandbPromoteOperator`.
    :raises WandbConfigurationError: a wrong argument.
    """
    from airflow.sdk import TaskGroup

    from wandb_airflow_provider.operators.gate import WandbMetricGateOperator
    from wandb_airflow_provider.operators.promote import WandbPromoteOperator

    if mode not in ("skip", "fail"):
        raise WandbConfigurationError(
            f"Quality gate {group_id!r}: mode is {mode!r}; expected 'skip' or 'fail'. For branches, use "
            "WandbMetricGateOperator by itself."
        )
    with TaskGroup(group_id, prefix_group_id=prefix_group_id) as group:
        gate = WandbMetricGateOperator(
            task_id="gate",
            rules=rules,
            run=run,
            candidate=candidate,
            mode=mode,
            **{
                "baseline_registry": registry,
                "baseline_collection": collection,
                "baseline_alias": alias,
                "outlets": list(outlets),
                **(gate_arguments or {}),
            },
        )
        last: Any = gate
        written = _report(report, gate)
        if written is not None:
            gate >> written
            last = written
        target = {"registry": registry, "collection": collection, "alias": alias}
        approve = _approval(approval, gate, written, {**target, "outlets": list(outlets)})
        if approve is not None:
            last >> approve
            last = approve
        promote = WandbPromoteOperator(
            task_id="promote",
            verdict=gate.output,
            approval=approve.output if approve is not None else None,
            **{
                **target,
                "note": note,
                "outlets": list(outlets),
                **_compared(gate, approve, target),
                **_filled_in(approve, alias, note),
                **(promote_arguments or {}),
            },
        )
        _require_grounds(group_id, gate, approve, promote)
        last >> promote
    return QualityGate(group, gate, written, approve, promote)


def _report(report: Callable[[WandbMetricGateOperator], Any] | bool, gate: WandbMetricGateOperator) -> Any:
    """Return the operator of the report."""
    if report is False:
        return None
    if report is True:
        from airflow.sdk import task

        verdict: Any = gate.output
        written = task(task_id="report")(verdict_markdown)(verdict)
    elif callable(report):
        written = report(gate)
    else:
        raise WandbConfigurationError(
            f"Task {gate.task_id!r}: report is {report!r}; expected true, false, or a function of the gate."
        )
    operator = getattr(written, "operator", written)
    if not hasattr(operator, "task_id"):
        raise WandbConfigurationError(
            f"Task {gate.task_id!r}: the report's function returned {operator!r}; expected the task of the report."
        )
    return operator


def _approval(
    approval: Mapping[str, Any] | bool, gate: WandbMetricGateOperator, written: Any, target: Mapping[str, Any]
) -> WandbApprovalOperator | None:
    if approval is False:
        return None
    from wandb_airflow_provider.operators.approval import WandbApprovalOperator

    if written is not None:
        body = _BODY.format(task_id=written.task_id)
    else:
        body = f"{{{{ ti.xcom_pull(task_ids={gate.task_id!r})['summary'] }}}}"
    given = dict(approval) if isinstance(approval, Mapping) else {}
    subject = "Promote the candidate to {registry}/{collection}:{alias}?".format(**target)
    if given.get("aliases"):
        subject = "Promote the candidate in {registry}/{collection}?".format(**target)
    place = {name: getattr(gate, name) for name in ("wandb_conn_id", "entity", "project")}
    return WandbApprovalOperator(
        **{
            "task_id": "approve",
            "subject": subject,
            "body": body,
            "verdict": gate.output,
            # A second try would ask a second time.
            "retries": 0,
            **place,
            **target,
            **given,
        }
    )


def _require_grounds(
    group_id: str,
    gate: WandbMetricGateOperator,
    approve: WandbApprovalOperator | None,
    promote: WandbPromoteOperator,
) -> None:
    """Refuse what the promotion would refuse at its end whatever the candidate is."""
    if promote.audited_verdict and not gate.baseline_registry:
        raise WandbConfigurationError(
            f"Quality gate {group_id!r}: a gate without baseline_registry writes its verdict into no audit, where the "
            "promotion looks for it. Leave the baseline as it is."
        )
    if (
        approve is not None
        and approve.APPROVE in (approve.defaults or ())
        and not promote.allow_default_approval
    ):
        raise WandbConfigurationError(
            f"Quality gate {group_id!r}: the approval's default answer is {approve.APPROVE!r}, by nobody. Leave out "
            "'defaults', or give promote_arguments={'allow_default_approval': True} where silence is to be consent."
        )


def _compared(
    gate: WandbMetricGateOperator, approve: WandbApprovalOperator | None, target: Mapping[str, str]
) -> dict[str, str]:
    """Let the promotion insist on the holder that the gate has compared with, if it is the holder of that alias."""
    compared = (gate.baseline_registry, gate.baseline_collection, gate.baseline_alias)
    chosen = approve is not None and approve.aliases
    return {} if chosen or compared != tuple(target.values()) else {"expected_holder": "verdict"}


def _filled_in(approve: WandbApprovalOperator | None, alias: str, note: str | None) -> dict[str, str]:
    """Return the templates by which the promotion takes what the approver filled in, before what the DAG says."""
    if approve is None:
        return {}
    from wandb_airflow_provider.operators.approval import ALIAS_PARAM, NOTE_PARAM

    found = {}
    for param, asked, default in (
        (ALIAS_PARAM, approve.aliases, alias),
        (NOTE_PARAM, approve.ask_note, note or ""),
    ):
        if asked:
            said = _FILLED_IN.format(task_id=approve.task_id, param=param)
            found[param] = (
                f"{{% set said = {said} %}}{{% if said %}}{{{{ said }}}}{{% else %}}{default}{{% endif %}}"
            )
    return found


def verdict_markdown(verdict: dict[str, Any]) -> str:
    """Return a verdict as people read it."""
    from wandb_airflow_provider.rules import Verdict

    return Verdict.from_json(verdict).to_markdown()
