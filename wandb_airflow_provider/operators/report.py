"""Report on a candidate: beside its baseline and the runs of the last weeks, for the person who decides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.identity import RunRef, TaskIdentity, slug
from wandb_airflow_provider.operators.base import WandbBaseOperator

if TYPE_CHECKING:
    import wandb
    from airflow.sdk import Context

    from wandb_airflow_provider.artifacts import ArtifactRef
    from wandb_airflow_provider.hooks.report_facts import ReportWish
    from wandb_airflow_provider.hooks.report_process import ReportProcess
    from wandb_airflow_provider.reports.document import Document

__all__ = ["WandbReportOperator"]

_MOST_CHARACTERS = 20_000
_MOST_TITLE = 120


class WandbReportOperator(WandbBaseOperator):
    """
    Write a report on a judged candidate: metrics, recent runs, loss curves, examples, data, config, lineage, cost.

    It is written as a W&B report where wandb-workspaces is installed (extra ``reports``), and always as an artifact
    of type ``report`` with ``report.md`` and ``report.html``. A retry, and a cleared task, replace the W&B report of
    the DAG run; they never add a second one. The texts pass the redaction policy as all else that is sent.

    Pushes ``markdown`` (at most about 20,000 characters; the sections that do not fit are named), ``url`` and
    ``report_id`` of the W&B report (None without one), and ``artifact``.

    :param verdict: The verdict that ``WandbMetricGateOperator`` pushed. (templated)
    :param title: Title of the report. Default: the candidate and its baseline. (templated)
    :param curves: Metrics of the training to draw. Default: the first two of its summary that name a loss. (templated)
    :param table: Key of the evaluated run's table of per-example results. Default: the one that a rule judged.
        (templated)
    :param table_key: Its column that names the example.
    :param table_column: Its column of figures. Needed with ``table``.
    :param baseline_run: The run to compare with: its ``wandb_run`` XCom, or ``entity/project/run_id``. Default: those
        of the version that held the alias. (templated)
    :param days: How far back runs of the same job type are listed.
    :param most_runs: How many of them at most; 0 lists none.
    :param report: ``auto``; ``wandb`` fails without wandb-workspaces; ``markdown`` writes only the artifact.
    :param artifact_name: Default: ``report-`` and the name of the candidate. (templated)
    :raises WandbConfigurationError: no verdict, a wrong argument, or wandb-workspaces is missing. Not retried.
    :raises WandbNotFoundError: the evaluated run is gone. Not retried.
    :raises WandbPermissionError: the key may not write reports. Not retried.
    :raises WandbUnavailableError: W&B could not be reached. Retried.
    """

    template_fields: Sequence[str] = (
        *WandbBaseOperator.template_fields,
        "verdict",
        "title",
        "curves",
        "table",
        "baseline_run",
        "artifact_name",
    )

    def __init__(
        self,
        *,
        verdict: Any,
        title: str | None = None,
        curves: Iterable[str] | None = None,
        table: str | None = None,
        table_key: str | None = None,
        table_column: str | None = None,
        baseline_run: Any = None,
        days: int = 31,
        most_runs: int = 20,
        report: Literal["auto", "wandb", "markdown"] = "auto",
        artifact_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.verdict = verdict
        self.title = title
        self.curves = [curves] if isinstance(curves, str) else None if curves is None else list(curves)
        self.table = table
        self.table_key = table_key
        self.table_column = table_column
        self.baseline_run = baseline_run
        self.days = days
        self.most_runs = most_runs
        self.report = report
        self.artifact_name = artifact_name
        self._process: ReportProcess | None = None
        if report not in ("auto", "wandb", "markdown"):
            self._refuse(f"report is {report!r}; expected 'auto', 'wandb' or 'markdown'")
        if bool(table) != bool(table_column):
            self._refuse("give table and table_column together")
        if table_key and not table:
            self._refuse("table_key has an effect only with table")
        for name, value, least in (("days", days, 1), ("most_runs", most_runs, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 500:
                self._refuse(f"{name} is {value!r}; expected a whole number from {least} to 500")

    def check(self) -> None:
        """Read the rendered arguments."""
        from wandb_airflow_provider.artifacts import validate_artifact_name
        from wandb_airflow_provider.hooks.report_process import has_workspaces, require_workspaces
        from wandb_airflow_provider.operators.candidate import parse_json
        from wandb_airflow_provider.rules import Verdict

        self._verdict = verdict = Verdict.from_json(parse_json(self.verdict))
        self._baseline = RunRef.from_json(parse_json(self.baseline_run)) if self.baseline_run else None
        self._name = validate_artifact_name(
            self.artifact_name or f"report-{slug(verdict.candidate.name, 100)}"
        )
        if self.report == "wandb":
            require_workspaces(f"Task {self.task_id!r}")
        self._in_wandb = self.report == "wandb" or (self.report == "auto" and has_workspaces())

    def execute_in_run(self, context: Context, wandb_run: wandb.Run) -> dict[str, Any]:
        """Read, write the artifact, then the W&B report."""
        from wandb_airflow_provider.hooks.report_facts import read_facts
        from wandb_airflow_provider.reports.document import cleaned
        from wandb_airflow_provider.reports.markdown import to_markdown
        from wandb_airflow_provider.reports.sections import build_report

        facts = read_facts(self.hook, self._verdict, self._wish)
        document = cleaned(build_report(facts, self._title), self.hook.privacy.text)
        document = document._replace(title=_addressable(document.title))
        written = self._log_artifact(wandb_run, document)
        report_id, url = self._write(context, wandb_run, document) if self._in_wandb else (None, None)
        place = url or written.url
        more = f"[The whole report]({place})" if place else ""
        return {
            "markdown": to_markdown(document, most_characters=_MOST_CHARACTERS, more=more),
            "url": url,
            "report_id": report_id,
            "artifact": written.to_json(),
        }

    def on_kill(self) -> None:
        """End the process that writes the report, and finish the run as killed."""
        if self._process is not None:
            self._process.stop()
        super().on_kill()

    @property
    def _title(self) -> str:
        verdict = self._verdict
        held = verdict.baseline
        # A registry numbers the versions linked into it by itself.
        versus = f" against {(held.source or held.path).rpartition(':')[2]}" if held else ""
        return self.title or f"{verdict.candidate.name} {verdict.candidate.version}{versus}"

    @property
    def _wish(self) -> ReportWish:
        from wandb_airflow_provider.hooks.report_facts import ReportWish
        from wandb_airflow_provider.operators.candidate import parse_json

        curves = parse_json(self.curves)
        return ReportWish(
            curves=None if curves is None else tuple(map(str, curves)),
            table=self.table,
            table_key=self.table_key,
            table_column=self.table_column,
            baseline_run=self._baseline.path if self._baseline else None,
            days=self.days,
            most_runs=self.most_runs,
        )

    def _log_artifact(self, wandb_run: wandb.Run, document: Document) -> ArtifactRef:
        from pathlib import Path
        from tempfile import TemporaryDirectory

        from wandb_airflow_provider.hooks.artifacts import log_artifact
        from wandb_airflow_provider.reports.html import to_html
        from wandb_airflow_provider.reports.markdown import to_markdown

        with TemporaryDirectory(prefix="wandb-report-") as folder:
            text = f"# {document.title}\n\n{to_markdown(document)}\n"
            Path(folder, "report.md").write_text(text, encoding="utf-8")
            Path(folder, "report.html").write_text(to_html(document), encoding="utf-8")
            verdict = self._verdict
            metadata = {
                "candidate": verdict.candidate.path,
                "digest": verdict.digest,
                "passed": verdict.passed,
            }
            return log_artifact(wandb_run, self._name, type="report", paths=folder, metadata=metadata)

    def _write(self, context: Context, wandb_run: wandb.Run, document: Document) -> tuple[str, str]:
        """Write the W&B report, over the one of an earlier attempt if there is one."""
        from wandb_airflow_provider.hooks.report_process import ReportProcess, find_report
        from wandb_airflow_provider.provenance import map_index
        from wandb_airflow_provider.reports.blocks import to_blocks

        ti = context["ti"]
        identity = TaskIdentity(ti.dag_id, ti.run_id, ti.task_id, map_index(ti), ti.try_number)
        mark = f"airflow:{identity.wandb_run_id('resume')}"
        entity, project = str(wandb_run.entity), str(wandb_run.project)
        # An earlier attempt may have died between writing the report and saying so; only W&B knows.
        again = ti.try_number > 1 or wandb_run.resumed
        known = find_report(self.hook, entity, project, mark) if again else None
        told = self.hook.privacy.text(f"By task {ti.task_id} of {ti.dag_id}, run {ti.run_id}")
        self._process = ReportProcess(self.hook)
        report_id, url = self._process.save(
            {
                "id": known,
                "entity": entity,
                "project": project,
                "title": document.title,
                "description": f"{told} ({mark})",
                "blocks": to_blocks(document),
            }
        )
        self.log.info("%s the W&B report %s", "Replaced" if known else "Wrote", url)
        with self.hook.translate_errors(f"log the report to the W&B run {wandb_run.id!r}"):
            wandb_run.summary.update({"report/url": url, "report/id": report_id})
        return report_id, url

    def _refuse(self, problem: str) -> None:
        raise WandbConfigurationError(f"Task {self.task_id!r}: {problem}.")


def _addressable(title: str) -> str:
    """Return what may be a title: W&B makes it a part of the report's address as it is."""
    return " ".join(re.sub(r"[^\w.,-]+", " ", title).split())[:_MOST_TITLE].strip() or "Report"
