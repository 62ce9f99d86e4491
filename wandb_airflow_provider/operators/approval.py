"""Ask a person whether a candidate may have its alias, and keep the answer in W&B whatever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import DownstreamTasksSkipped
from airflow.providers.standard.exceptions import HITLRejectException, HITLTimeoutError
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict

from wandb_airflow_provider.artifacts import validate_alias
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbError
from wandb_airflow_provider.operators.base import TaskRunSource
from wandb_airflow_provider.operators.candidate import parse_json
from wandb_airflow_provider.registry import RegistryAlias

if TYPE_CHECKING:
    from airflow.sdk import Context

    from wandb_airflow_provider.hierarchy import PipelineSettings
    from wandb_airflow_provider.rules import Verdict

__all__ = ["ALIAS_PARAM", "APPROVAL_KEY", "NOTE_PARAM", "WandbApprovalOperator"]

APPROVAL_KEY = "wandb_approval"
"""XCom key of the answer; there also after a rejection, of which Airflow keeps no return value, and a timeout."""
ALIAS_PARAM = "alias"
NOTE_PARAM = "note"

_PREFIX = "gate/approval"


class WandbApprovalOperator(TaskRunSource, ApprovalOperator):
    """
    Airflow's ``ApprovalOperator`` for a candidate: its answer is kept in W&B, and who gave it and when.

    Takes all arguments of ``ApprovalOperator``, such as ``subject``, ``body``, ``assigned_users``,
    ``response_timeout``, ``fail_on_reject`` and ``notifiers``. The answer is appended to the audit
    of the collection, sent with the asset events of the task's outlets, and added to the summaries of the evaluated run
    under ``gate/approval`` and of the pipeline run under ``gate/approval/<task_id>``. W&B being away is a warning: the
    answer stands, and asking twice would be worse.

    Pushes what ``ApprovalOperator`` does, and under ``wandb_approval``, whatever the answer, a mapping of ``answer``
    (``Approve``, ``Reject`` or ``timeout``), ``by``, ``at`` and ``params``.

    :param verdict: The verdict on the candidate. (templated)
    :param registry: Registry of the alias asked about. (templated)
    :param collection: Its collection. (templated)
    :param alias: The alias. (templated)
    :param aliases: Aliases that the person may choose from, ``alias`` among them, which is the default. Default: no
        choice.
    :param ask_note: Let the person write a note.
    :param on_timeout: When nobody answers within ``response_timeout``: ``fail`` fails the task, ``skip`` rejects.
    :param wandb_conn_id: Airflow connection. Default: the pipeline's, else ``wandb_default``.
    :raises HITLTimeoutError: nobody answered in time. Retried, by asking again.
    :raises HITLRejectException: the answer is no, with ``fail_on_reject``.
    """

    template_fields: Sequence[str] = (
        *ApprovalOperator.template_fields,
        "verdict",
        "registry",
        "collection",
        "alias",
        "wandb_conn_id",
        "entity",
        "project",
    )

    def __init__(
        self,
        *,
        verdict: Any,
        registry: str,
        collection: str,
        alias: str,
        aliases: Sequence[str] = (),
        ask_note: bool = True,
        on_timeout: Literal["fail", "skip"] = "fail",
        wandb_conn_id: str | None = None,
        entity: str | None = None,
        project: str | None = None,
        **kwargs: Any,
    ) -> None:
        chosen = (aliases,) if isinstance(aliases, str) else tuple(aliases)
        if on_timeout not in ("fail", "skip"):
            raise WandbConfigurationError(f"on_timeout is {on_timeout!r}; expected 'fail' or 'skip'.")
        if on_timeout == "skip":
            if kwargs.get("defaults", self.REJECT) not in (self.REJECT, [self.REJECT]):
                raise WandbConfigurationError("on_timeout='skip' rejects: leave out 'defaults'.")
            if not kwargs.get("response_timeout"):
                raise WandbConfigurationError("on_timeout='skip' has an effect only with response_timeout.")
            kwargs["defaults"] = self.REJECT
        asked: dict[str, Any] = {}
        if chosen:
            if alias not in chosen:
                raise WandbConfigurationError(
                    f"The aliases to choose from are {list(chosen)!r}; {alias!r}, with whose holder the candidate was "
                    "compared, must be among them."
                )
            for name in chosen:
                validate_alias(name)
            asked[ALIAS_PARAM] = Param(
                alias, type="string", enum=list(chosen), description="The alias to move."
            )
        if ask_note:
            asked[NOTE_PARAM] = Param("", type=["string", "null"], description="Kept with the promotion.")
        super().__init__(params={**asked, **_own_params(kwargs.pop("params", None))}, **kwargs)
        self.verdict = verdict
        self.registry = registry
        self.collection = collection
        self.alias = alias
        self.aliases = chosen
        self.ask_note = ask_note
        self.on_timeout = on_timeout
        self.wandb_conn_id = wandb_conn_id
        self.entity = entity
        self.project = project

    @property
    def pipeline(self) -> PipelineSettings | None:  # type: ignore[override]
        """The settings of the ``wandb_pipeline(...)`` of this task's DAG, if it has one."""
        from wandb_airflow_provider.hierarchy import find_pipeline

        return find_pipeline(self.dag)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Take the answer, keep it, and let Airflow do with it what it does."""
        try:
            result = super().execute_complete(context, event)
        except (DownstreamTasksSkipped, HITLRejectException, HITLTimeoutError):
            self._keep(context, _answer(event))
            raise
        self._keep(context, _answer(event))
        return result

    def _keep(self, context: Context, answer: dict[str, Any]) -> None:
        from wandb_airflow_provider.hooks.runs import release_when_idle
        from wandb_airflow_provider.rules import Verdict

        context["ti"].xcom_push(key=APPROVAL_KEY, value=answer)
        try:
            verdict = Verdict.from_json(parse_json(self.verdict))
            self._write_down(context, verdict, answer)
            self._show(context, verdict, answer)
        except WandbError as error:
            self.log.warning("The answer stands, and not all of W&B has it: %s", error)
        finally:
            release_when_idle()

    def _show(self, context: Context, verdict: Verdict, answer: Mapping[str, Any]) -> None:
        """Add the answer to the evaluated run and to the pipeline run, where there may be several."""
        from wandb_airflow_provider.hooks.annotation import annotate_run
        from wandb_airflow_provider.identity import RunRef

        root, instance = self._place(context, self.hook.entity, self.hook.project)
        places = [(verdict.run, _PREFIX)]
        if root is not None:
            places.append((RunRef.from_json(root), f"{_PREFIX}/{instance}"))
        for ref, prefix in places:
            values = {
                prefix: answer["answer"],
                f"{prefix}_by": answer["by"],
                f"{prefix}_at": answer["at"],
                f"{prefix}_note": (answer["params"] or {}).get(NOTE_PARAM) or None,
            }
            annotate_run(self.hook, ref, prefix, values)

    def _write_down(self, context: Context, verdict: Verdict, answer: Mapping[str, Any]) -> None:
        """Append the answer to the audit of the collection, and tell the task's outlets."""
        from wandb_airflow_provider.hooks.audit_log import AuditLog
        from wandb_airflow_provider.operators.decision import new_entry, settle, verdict_entry

        approved = answer["answer"] == self.APPROVE
        params = answer["params"] or {}
        alias = params.get(ALIAS_PARAM) if approved and self.aliases else None
        target = RegistryAlias(self.registry, self.collection, alias or self.alias)
        entry = verdict_entry(
            new_entry(context, "approval", target, "approved" if approved else "refused"), verdict, {}
        )
        why = "Nobody answered in time." if answer["by"] is None else f"Rejected by {answer['by']}."
        audit = AuditLog(self.hook, self.registry, self.collection)
        settle(
            context,
            audit,
            entry._replace(
                # The verdict knows who held the gate's alias, and of another one nobody.
                before=entry.before if target.alias == self.alias else None,
                approval={name: answer[name] for name in ("by", "at", "params")},
                note=params.get(NOTE_PARAM) or None,
                why=None if approved and answer["by"] is not None else why,
            ),
        )


def _own_params(given: Any) -> dict[str, Any]:
    """Return the task's params without the DAG's, which Airflow adds, and which the form must not ask for."""
    if not isinstance(given, ParamsDict):
        return dict(given or {})
    if hasattr(ParamsDict, "filter_params_by_source"):  # not in older Airflow
        given = ParamsDict.filter_params_by_source(given, source="task")
    return {name: given.get_param(name) for name in given}


def _answer(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer as it is kept."""
    user, at = event.get("responded_by_user"), event.get("responded_at")
    return {
        "answer": "timeout" if "error" in event else event["chosen_options"][0],
        "by": (user.get("name") or user.get("id")) if isinstance(user, Mapping) else None,
        "at": at.isoformat() if isinstance(at, datetime) else at,
        "params": dict(event.get("params_input") or {}),
    }
