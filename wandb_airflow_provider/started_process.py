"""The process that a task attempt starts, and its run: made before it, closed after it."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from wandb_airflow_provider.carriers import KeyCarrier, SecretCarrier, carrier_of
from wandb_airflow_provider.environment import KEY_VARIABLE, ProcessRun, RunArguments
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbError, WandbUnavailableError
from wandb_airflow_provider.identity import METRICS_KEY, RUN_KEY, RunRef
from wandb_airflow_provider.kubernetes_secret import KubernetesSecret

if TYPE_CHECKING:
    from airflow.sdk import Context

    from wandb_airflow_provider.carriers import Carrier
    from wandb_airflow_provider.credentials import ProcessFolder

__all__ = ["StartedProcess"]

log = logging.getLogger(__name__)

# Airflow sends SIGKILL 5 seconds after SIGTERM.
_KILL_GRACE_SECONDS = 4.0
# How long what the process still has to send may take when it is ended: it logs in by a file that is removed then.
_LAST_SECONDS = {"failed": 20.0, "killed": 2.0}


class StartedProcess(ProcessRun):
    """One process of one task attempt, whose run is made before it starts and closed after it has ended."""

    def __init__(
        self, context: Context, arguments: RunArguments, secrets: Literal["auto", "none"] | KubernetesSecret
    ) -> None:
        super().__init__(context, arguments)
        self._task: Any = context["task"]
        self._carrier: Carrier = carrier_of(self._task)
        self._secrets = secrets
        self._folder: ProcessFolder | None = None
        self._outage: WandbUnavailableError | None = None
        self._began_at = time.monotonic()
        self._ended: str | None = None
        self._ending = threading.Lock()
        if self.task_has_run:
            raise WandbConfigurationError(
                f"Task {self._task.task_id!r} opens a W&B run itself; WandbChildRun is for operators that do not."
            )
        if isinstance(secrets, KubernetesSecret) and not isinstance(self._carrier, SecretCarrier):
            raise WandbConfigurationError(
                f"Task {self._task.task_id!r}: a {self._task.task_type} does not run in Kubernetes and cannot read "
                f"{secrets!r}. Leave secrets at 'auto'."
            )

    def begin(self) -> None:
        """Create the run, and prepare the operator."""
        from wandb_airflow_provider.hooks.runs import release_when_idle

        self._spec = self.spec()
        variables = self._carrier.merge(self.variables(self._spec))
        try:
            ref = self._reserve()
        except WandbUnavailableError as error:
            if self._spec.on_unavailable == "fail":
                raise
            self._outage = error
            release_when_idle(1)
            self._begin_without_wandb(variables, error)
            return
        # Alive, it would serve the process as well, through a variable that processes inherit.
        release_when_idle()
        self._ref = ref
        self._watch()
        self._carrier.give({**variables, **self._local_variables()})
        self._give_credentials()

    def _reserve(self) -> RunRef:
        from wandb_airflow_provider.hooks.child_runs import reserve_run

        ref = self._reserved()
        if ref is None:
            ref = reserve_run(self.hook, self._spec)
            self._announce(self.context, ref)
            log.info("W&B run %s: %s", ref, ref.url)
        return ref

    def _begin_without_wandb(self, variables: Mapping[str, str], error: WandbUnavailableError) -> None:
        spec = self._spec
        if spec.on_unavailable == "skip" or not self._carrier.on_worker:
            log.warning(
                "W&B is unavailable, and the process runs without its W&B run %s (on_unavailable=%r): nothing of it is "
                "recorded. %s",
                spec.wandb_run_id,
                spec.on_unavailable,
                error,
            )
            self._carrier.give({"WANDB_MODE": "disabled"})
            return
        log.warning(
            "W&B is unavailable, and the W&B run %s goes to the spool %s (on_unavailable='offline'). %s",
            spec.wandb_run_id,
            spec.spool,
            error,
        )
        self._ref = RunRef(str(spec.entity), str(spec.project), spec.wandb_run_id, offline=True)
        self._announce(self.context, self._ref)
        self._watch()
        self._carrier.give({**variables, "WANDB_MODE": "offline", "WANDB_DIR": str(self._own_folder().path)})

    def _reserved(self) -> RunRef | None:
        """Return the run that this attempt has made before it deferred; to make it again would reopen it."""
        pushed = self.context["ti"].xcom_pull(key=RUN_KEY)
        if pushed is None:
            return None
        ref = RunRef.from_json(pushed)
        return ref if ref.wandb_run_id == self._spec.wandb_run_id else None

    def _local_variables(self) -> dict[str, str]:
        if not self._carrier.on_worker or "WANDB_DIR" in self._carrier.given:
            return {}
        return {"WANDB_DIR": str(self._own_folder().path)}

    def _own_folder(self) -> ProcessFolder:
        from wandb_airflow_provider.credentials import ProcessFolder

        if self._folder is None:
            self._folder = ProcessFolder()
        return self._folder

    def _give_credentials(self) -> None:
        task_id, carrier, secrets = self._task.task_id, self._carrier, self._secrets
        if KEY_VARIABLE in carrier.given:
            log.warning(
                "Task %r: %s is in the operator's environment, which Airflow stores with the rendered templates. "
                "Remove it there: WandbChildRun passes the key.",
                task_id,
                KEY_VARIABLE,
            )
            return
        if secrets == "none":
            return
        if isinstance(secrets, KubernetesSecret) and isinstance(carrier, SecretCarrier):
            carrier.give_secret(secrets)
        elif carrier.on_worker:
            self._give_file()
        elif (api_key := self.hook.connection.api_key) is None:
            log.warning(
                "Task %r: no W&B credentials were passed, because the process of a %s does not see the identity token "
                "file of this worker. Mount a token of its own there, name it in WANDB_IDENTITY_TOKEN_FILE, and say "
                "secrets='none'.",
                task_id,
                self._task.task_type,
            )
        elif isinstance(carrier, KeyCarrier):
            seen_by = carrier.give_key(api_key)
            log.warning("Task %r: the W&B API key is visible to %s.", task_id, seen_by)
        else:
            log.warning(
                "Task %r: no W&B credentials were passed, because they would be visible in the specification of a %s. "
                "Its process needs its own: pass secrets=KubernetesSecret(...) for a pod, keep a netrc file on a "
                "remote machine, or say secrets='none' when it has them.",
                task_id,
                self._task.task_type,
            )

    def _give_file(self) -> None:
        from wandb_airflow_provider import sdk
        from wandb_airflow_provider.identity_token import login_variables

        connection = self.hook.connection
        if connection.api_key is None:
            given = login_variables(str(connection.identity_token_file))
        else:
            netrc = self._own_folder().write_key(sdk.base_url(connection), connection.api_key)
            given = {"NETRC": str(netrc)}
        if self._carrier.inherits:
            # wandb prefers these to the file, or refuses both, and they may belong to another account.
            names = (KEY_VARIABLE, "WANDB_IDENTITY_TOKEN_FILE")
            given = {name: "" for name in names if os.environ.get(name)} | given
        self._carrier.give(given)

    def _watch(self) -> None:
        """See to the run's end, however the task ends. Only this copy of the task, which executes, is changed."""
        task = self._task
        post_execute, on_kill = task.post_execute, task.on_kill

        def succeeded(context: Context, result: Any = None) -> None:
            post_execute(context, result)
            self._end("success")

        def killed() -> None:
            on_kill()
            from airflow.providers.common.compat.sdk import AirflowTaskTimeout

            # A timeout is no kill: Airflow goes on to fail the task, which says why.
            if not isinstance(sys.exc_info()[1], AirflowTaskTimeout):
                self._kill()

        task.post_execute, task.on_kill = succeeded, killed
        task.on_success_callback = [*task.on_success_callback, lambda context: self._end("success")]
        task.on_skipped_callback = [*task.on_skipped_callback, lambda context: self._end("skipped")]
        task.on_failure_callback = [*task.on_failure_callback, self._failed]
        task.on_retry_callback = [*task.on_retry_callback, self._failed]

    def _failed(self, context: Context) -> None:
        error: Any = context.get("exception")
        self._end("failed", f"{type(error).__name__}: {error}" if error is not None else None)

    def _kill(self) -> None:
        # In a thread of its own: the interrupted code may hold a lock that the client waits for.
        reason = "The task was stopped from outside (SIGTERM)."
        thread = threading.Thread(
            target=self._end, args=("killed", reason), name="wandb-airflow-kill", daemon=True
        )
        thread.start()
        thread.join(_KILL_GRACE_SECONDS)

    def _end(self, state: str, reason: str | None = None) -> None:
        """Complete the run, once; what fails here is logged, and never changes the outcome of the task."""
        from wandb_airflow_provider.hooks.child_runs import Completed, complete_run, spool_run, summary_of
        from wandb_airflow_provider.hooks.runs import release_when_idle

        with self._ending:
            if self._ended in (state, "killed"):
                return
            self._ended = state
            summary = summary_of(self.hook, state, reason, time.monotonic() - self._began_at)
            completed = Completed()
            try:
                if self._outage is None:
                    completed = complete_run(self.hook, self._ref, self._spec, summary)
            except WandbUnavailableError as error:
                self._outage = error
            except WandbError as error:
                log.error("W&B run %s could not be completed: %s", self._ref, error)
            finally:
                release_when_idle()
            if self._folder is not None and state in _LAST_SECONDS:
                self._folder.wait_until_unused(_LAST_SECONDS[state])
            if (
                self._outage is not None
                and self._spec.on_unavailable == "offline"
                and self._folder is not None
            ):
                self._folder.remove_key()
                spool_run(self.hook, self._spec, str(self._folder.path), summary, self._outage)
                return
            if self._outage is not None:
                log.error("W&B run %s could not be completed: %s", self._ref, self._outage)
            self._put_away(completed.by_process)
            # The code that a kill interrupts may be in the middle of a request to Airflow.
            if completed.metrics and state != "killed":
                self._show(completed.metrics)

    def _show(self, metrics: Mapping[str, float]) -> None:
        """Let Airflow's pages show the run's figures."""
        try:
            self.context["ti"].xcom_push(key=METRICS_KEY, value=dict(metrics))
        except Exception as error:
            log.warning("The figures of the W&B run %s are not shown in Airflow: %s", self._ref, error)

    def _put_away(self, complete: bool) -> None:
        if self._folder is None:
            return
        # Of a flow whose task went well, the runs that lie here are those of its steps, which are all sent.
        went_well = self._ended in ("success", "skipped") and not any(
            self._folder.path.glob(f"wandb/*run-*-{self._ref.wandb_run_id}")
        )
        kept = self._folder.put_away(keep_unsent=not complete and not went_well)
        if kept is not None:
            log.warning(
                "The process did not finish the W&B run %s. What it may not have sent is in %s; `wandb sync` uploads "
                "it.",
                self._ref,
                kept,
            )
