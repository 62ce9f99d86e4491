"""Ask a person whether a candidate may have its alias, and keep the answer in W&B whatever it is."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import DownstreamTasksSkipped
from airflow.providers.standard.exceptions import HITLRejectException, HITLTimeoutError
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict

from wandb_airflow_provider.artifacts import validate_alias
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbError
from wandb_airflow_provider.identity import TaskIdentity
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
    ``response_timeout``, ``fail_on_reject`` and ``notifiers``. The answer is added to the summaries of the evaluated
    run and the pipeline run under ``gate/approval``; what is not approved also to the audit of the collection, as a
    refused promotion. W&B being away is a warning: the answer stands, and asking twice would be worse.

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
            self._show(context, verdict, answer)
            if answer["answer"] != self.APPROVE:
                self._refuse(context, verdict, answer)
        except WandbError as error:
            self.log.warning("The answer stands, and not all of W&B has it: %s", error)
        finally:
            release_when_idle()

    def _show(self, context: Context, verdict: Verdict, answer: Mapping[str, Any]) -> None:
        from wandb_airflow_provider.identity import RunRef
        from wandb_airflow_provider.provenance import map_index

        ti: Any = context["ti"]
        identity = TaskIdentity(ti.dag_id, ti.run_id, ti.task_id, map_index(ti), ti.try_number)
        root = self._parent(ti, identity, self.hook.entity, self.hook.project)
        values = {
            _PREFIX: answer["answer"],
            f"{_PREFIX}_by": answer["by"],
            f"{_PREFIX}_at": answer["at"],
            f"{_PREFIX}_note": (answer["params"] or {}).get(NOTE_PARAM) or None,
        }
        sent = self.hook.privacy.mapping("summary", values)
        for ref in (verdict.run, RunRef.from_json(root) if root else None):
            if ref is not None:
                with self.hook.translate_errors(f"add the answer to the W&B run {ref}"):
                    api = self.hook.get_conn()
                    api.flush()  # type: ignore[no-untyped-call]
                    api.run(ref.path).summary.update(sent)  # type: ignore[no-untyped-call]

    def _refuse(self, context: Context, verdict: Verdict, answer: Mapping[str, Any]) -> None:
        """Append to the audit that the promotion was refused; an approved one appends what it does itself."""
        from wandb_airflow_provider.audit import AuditEntry
        from wandb_airflow_provider.hooks.audit_log import AuditLog
        from wandb_airflow_provider.promotion import TaskMark
        from wandb_airflow_provider.provenance import map_index

        ti: Any = context["ti"]
        why = "Nobody answered in time." if answer["by"] is None else f"Rejected by {answer['by']}."
        audit = AuditLog(self.hook, self.registry, self.collection)
        try:
            audit.append(
                AuditEntry(
                    decision=uuid.uuid4().hex,
                    kind="promotion",
                    event="refused",
                    at=datetime.now(UTC).isoformat(),
                    target=RegistryAlias(self.registry, self.collection, self.alias),
                    task=TaskMark(ti.dag_id, ti.run_id, ti.task_id, map_index(ti)),
                    try_number=ti.try_number,
                    before=verdict.baseline,
                    after=verdict.candidate,
                    verdict=verdict.to_json(),
                    approval={name: answer[name] for name in ("by", "at", "params")},
                    note=(answer["params"] or {}).get(NOTE_PARAM) or None,
                    why=why,
                    links={"evaluated_run": verdict.run.url, "version": verdict.candidate.url},
                )
            )
        finally:
            audit.close()


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
