"""Judge a candidate by rules, and decide what runs next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import SkipMixin

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import (
    WandbConfigurationError,
    WandbGateFailedError,
    WandbPermanentError,
)
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.operators.base import WandbBaseOperator
from wandb_airflow_provider.rules import Rule, Verdict, evaluate, parse_rules
from wandb_airflow_provider.rules.evidence import EVALUATED, HOLDER
from wandb_airflow_provider.rules.parsing import has_templates

if TYPE_CHECKING:
    import wandb
    from airflow.sdk import Context

    from wandb_airflow_provider.hooks.audit_log import AuditLog

__all__ = ["VERDICT_KEY", "WandbMetricGateOperator"]

VERDICT_KEY = "wandb_verdict"
"""XCom key of the verdict; there also when the gate fails."""


class WandbMetricGateOperator(WandbBaseOperator, SkipMixin):
    """
    Judge a version by what the run that evaluated it measured, and stop what follows when it is not good enough.

    The figures are those that W&B has stored of the evaluated run, which must be finished and must have used or
    logged the version; histories and tables are read only when a rule is about them. The digest in the verdict is
    W&B's own at this moment. A figure that is missing, NaN or of a wrong type fails.

    Pushes the verdict as return value and under ``wandb_verdict``, whether it passed or not. The gate's own run, the
    evaluated run and the pipeline run each get it as ``gate/passed``, ``gate/summary`` and the table
    ``gate/outcomes``; in the pipeline run the keys begin with ``gate/<task_id>/``. With a baseline alias the verdict,
    or why there is none, is first appended to the audit of its collection, and sent with the asset events of the task's
    outlets.

    :param rules: Rules, their JSON values, whose bounds may be templates, or YAML text of these. (templated)
    :param run: The evaluated run: its ``wandb_run`` XCom, or ``entity/project/run_id``. (templated)
    :param candidate: The version judged: the output of the task that logged it, or
        ``[[entity/]project/]name:version``. (templated)
    :param baseline_registry: Registry of the version to compare with. Needed by rules that compare with the
        holder's own figures; for rules with ``against`` it tells a first promotion from a figure that was
        not measured. (templated)
    :param baseline_collection: Its collection. (templated)
    :param baseline_alias: The alias whose current holder is the baseline. (templated)
    :param mode: ``fail`` fails the task without a retry; ``skip`` succeeds and skips what is downstream;
        ``branch`` follows ``on_pass`` or ``on_fail``.
    :param on_pass: Task ids to follow when the candidate passed, in mode ``branch``.
    :param on_fail: Task ids to follow when it did not, in mode ``branch``; none skips all.
    :param ignore_downstream_trigger_rules: In mode ``skip``, skip everything downstream but teardowns. False
        skips only the tasks directly downstream, and leaves the rest to their trigger rules.
    :param check_candidate_use: Refuse an evaluated run that has neither used nor logged content of the candidate's
        digest: its figures are another version's.
    :raises WandbGateFailedError: a rule does not hold, the evaluated run or one compared with has not finished, or the
        evaluated one has not used the candidate. Not retried.
    :raises WandbConfigurationError: no rules, a wrong argument, or scipy is missing for a statistical test. Nothing
        was read or sent. Not retried.
    :raises WandbNotFoundError: the evaluated run or the candidate does not exist. Not retried.
    :raises WandbUnavailableError: W&B could not be read, or the audit not be written. Retried.
    """

    inherits_from_skipmixin = True
    template_fields: Sequence[str] = (
        *WandbBaseOperator.template_fields,
        "rules",
        "run",
        "candidate",
        "baseline_registry",
        "baseline_collection",
        "baseline_alias",
    )

    def __init__(
        self,
        *,
        rules: Iterable[Rule | Mapping[str, Any]] | str,
        run: Any,
        candidate: Any,
        baseline_registry: str | None = None,
        baseline_collection: str | None = None,
        baseline_alias: str = "production",
        mode: Literal["fail", "skip", "branch"] = "fail",
        on_pass: str | Iterable[str] = (),
        on_fail: str | Iterable[str] = (),
        ignore_downstream_trigger_rules: bool = True,
        check_candidate_use: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # An iterator would be used up by the check below.
        self.rules = list(rules) if isinstance(rules, Iterator) else rules
        self.run = run
        self.candidate = candidate
        self.baseline_registry = baseline_registry
        self.baseline_collection = baseline_collection
        self.baseline_alias = baseline_alias
        self.mode = mode
        self.on_pass = [on_pass] if isinstance(on_pass, str) else list(on_pass)
        self.on_fail = [on_fail] if isinstance(on_fail, str) else list(on_fail)
        self.ignore_downstream_trigger_rules = ignore_downstream_trigger_rules
        self.check_candidate_use = check_candidate_use
        self._audit: AuditLog | None = None
        if mode not in ("fail", "skip", "branch"):
            raise WandbConfigurationError(
                f"Task {self.task_id!r}: mode is {mode!r}; expected 'fail', 'skip' or 'branch'."
            )
        if (mode == "branch") != bool(self.on_pass):
            raise WandbConfigurationError(
                f"Task {self.task_id!r}: on_pass names the tasks to follow in mode 'branch', and only there."
            )
        if self.on_fail and mode != "branch":
            raise WandbConfigurationError(
                f"Task {self.task_id!r}: on_fail has an effect only in mode 'branch'."
            )
        if bool(baseline_registry) != bool(baseline_collection):
            raise WandbConfigurationError(
                f"Task {self.task_id!r}: give baseline_registry and baseline_collection together."
            )
        if not has_templates(self.rules):
            # A wrong rule is found when the DAG is parsed, not at the end of a training.
            self._check_baseline(parse_rules(self.rules))

    def execute(self, context: Context) -> Any:
        """Judge inside a run of its own, then skip what must not follow."""
        pushed = super().execute(context)
        self._steer(context, passed=pushed["passed"])
        return pushed

    def execute_in_run(self, context: Context, wandb_run: wandb.Run) -> dict[str, Any]:
        """Judge, publish the verdict, and fail when the mode asks for it."""
        from wandb_airflow_provider.hooks.verdict_log import log_verdict, show_verdict

        try:
            verdict = self._judge()
        except WandbPermanentError as error:
            self._write_down(context, wandb_run, why=str(error))
            raise
        value = verdict.to_json()
        # Before anyone can read it from XCom: a promotion looks there whether this gate has said so.
        self._write_down(context, wandb_run, verdict)
        # Pushed before anything else can fail or skip: Airflow stores a return value only on plain success.
        context["ti"].xcom_push(key=VERDICT_KEY, value=value)
        if self.do_xcom_push:
            context["ti"].xcom_push(key="return_value", value=value)
        self.log.info("%s", verdict.summary)
        log_verdict(self.hook, wandb_run, verdict, self._parsed_rules)
        root, instance = self._place(context, self.hook.entity, self.hook.project)
        show_verdict(self.hook, wandb_run, verdict, RunRef.from_json(root) if root else None, instance)
        if not verdict.passed and self.mode == "fail":
            raise WandbGateFailedError(f"The gate stops here: {verdict.summary}")
        return value

    def on_kill(self) -> None:
        """Finish the runs of the task and of the audit as killed."""
        super().on_kill()
        if self._audit is not None:
            self._audit.kill()

    def check(self) -> None:
        """Read the rendered arguments."""
        from wandb_airflow_provider.operators.candidate import parse_json, parse_path
        from wandb_airflow_provider.registry import RegistryAlias

        self._parsed_rules = parse_rules(parse_json(self.rules))
        self._check_baseline(self._parsed_rules)
        if any(rule.needs_scipy for rule in self._parsed_rules):
            from wandb_airflow_provider.rules.paired_tests import require_scipy

            require_scipy(f"Task {self.task_id!r}")
        self._evaluated_run = RunRef.from_json(parse_json(self.run))
        self._given_candidate = parse_path(self.candidate, "candidate")
        self._baseline_target = (
            RegistryAlias(self.baseline_registry, self.baseline_collection, self.baseline_alias)
            if self.baseline_registry and self.baseline_collection
            else None
        )

    def _check_baseline(self, rules: Iterable[Rule]) -> None:
        for rule in rules:
            if rule.needs_holder and not self.baseline_registry:
                raise WandbConfigurationError(
                    f"Task {self.task_id!r}: the rule {str(rule)!r} compares with a baseline. Give "
                    "baseline_registry and baseline_collection, or the rule's 'against' or 'baseline_run'."
                )

    def _judge(self) -> Verdict:
        from wandb_airflow_provider.hooks.evidence import (
            FINISHED,
            candidate_use,
            read_baselines,
            read_holder,
            read_run,
        )
        from wandb_airflow_provider.operators.candidate import read_candidate

        record = self.hook.get_run(self._evaluated_run)
        if record.state != FINISHED:
            raise WandbGateFailedError(
                f"The evaluated run {record.ref} is {record.state!r}, not {FINISHED!r}: its metrics may be "
                "incomplete. Let the gate run after the task that evaluates; if that one failed, look there."
            )
        candidate = read_candidate(self.hook, self._given_candidate)
        self._require_unchanged(candidate)
        use = candidate_use(self.hook, record, candidate) if self.check_candidate_use else "unchecked"
        target = self._baseline_target
        holder = self.hook.get_alias(target.registry, target.collection, target.alias) if target else None
        demands = [demand for rule in self._parsed_rules for demand in rule.demands()]
        held = [demand for demand in demands if demand.subject == HOLDER]
        figures = None
        if holder and target and held:
            figures = read_holder(self.hook, holder, target, held, judged=(candidate, record))
        return evaluate(
            self._parsed_rules,
            read_run(self.hook, record, [demand for demand in demands if demand.subject == EVALUATED]),
            candidate=candidate,
            run=record.ref,
            evaluated_at=datetime.now(UTC),
            baseline=holder,
            baseline_metrics=figures,
            baselines=read_baselines(self.hook, record, demands),
            candidate_use=use,
        )

    def _require_unchanged(self, candidate: ArtifactRef) -> None:
        given = self._given_candidate
        if isinstance(given, ArtifactRef) and given.digest != candidate.digest:
            raise WandbGateFailedError(
                f"The candidate {candidate} has the digest {candidate.digest!r} in W&B, and the upstream task passed "
                f"{given.digest!r}. The reference was changed on its way, or the version was deleted and its number "
                "used again."
            )

    def _write_down(
        self, context: Context, wandb_run: wandb.Run, verdict: Verdict | None = None, why: str | None = None
    ) -> None:
        """Append the verdict, or why there is none, to the audit of the collection that the gate guards."""
        from wandb_airflow_provider.hooks.audit_log import AuditLog
        from wandb_airflow_provider.operators.decision import new_entry, settle, verdict_entry

        target = self._baseline_target
        if target is None:
            return
        if wandb_run.offline or wandb_run.disabled:
            self.log.warning("This task's run is not in W&B, nor is its verdict in the audit of %s.", target)
            return
        links = {"gate_run": wandb_run.url}
        if verdict is not None:
            entry = new_entry(context, "verdict", target, "passed" if verdict.passed else "stopped")
            entry = verdict_entry(entry, verdict, links)
            why = None if verdict.passed else verdict.summary
        else:
            entry = new_entry(context, "verdict", target, "refused")
            given = self._given_candidate
            after = given if isinstance(given, ArtifactRef) else None
            links["evaluated_run"] = self._evaluated_run.url
            entry = entry._replace(after=after, links={**entry.links, **links})
        self._audit = AuditLog(self.hook, target.registry, target.collection)
        try:
            settle(context, self._audit, entry._replace(why=why))
        except WandbPermanentError as error:
            # What moves an alias is refused without an audit; to judge moves nothing, and the finding stands.
            self.log.warning("What the gate found is not in the audit %s: %s", self._audit.path, error)
        finally:
            self._audit = None

    def _steer(self, context: Context, *, passed: bool) -> None:
        """Skip what must not follow. Raises Airflow's signal for that, which ends the task as a success."""
        ti: Any = context["ti"]
        if self.mode == "branch":
            self.skip_all_except(ti=ti, branch_task_ids=self.on_pass if passed else self.on_fail)
        elif self.mode == "skip" and not passed and self.downstream_task_ids:
            everything = self.ignore_downstream_trigger_rules
            below = self.get_flat_relatives(upstream=False) if everything else self.downstream_list
            self.skip(ti=ti, tasks=[task for task in below if not task.is_teardown])
