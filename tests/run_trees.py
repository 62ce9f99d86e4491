"""The runs of several DAG runs as W&B holds them, arranged by what they say about themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from wandb_airflow_provider.demo.airflow_api import DagRun

Tree = dict[str, set[str]]
"""Display name of each run below the root, to the names of the runs it names as upstream."""


@dataclass
class RunTrees:
    """The ended DAG runs by DAG, and every W&B run of their projects by path."""

    dag_runs: dict[str, DagRun] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)

    def group(self, dag_id: str) -> list[Any]:
        group = f"{dag_id}__{self.dag_runs[dag_id].dag_run_id}"
        return [run for run in self.runs.values() if run.group == group]

    def root(self, dag_id: str) -> Any:
        (root,) = [run for run in self.group(dag_id) if run.job_type == "pipeline"]
        return root

    def children(self, dag_id: str) -> list[Any]:
        """All but the root; every one must hang under the root."""
        root = self.root(dag_id)
        children = [run for run in self.group(dag_id) if run is not root]
        assert {run.config["airflow"]["parent_run"] for run in children} == {path(root)}
        return children

    def child(self, dag_id: str, name: str) -> Any:
        (run,) = [run for run in self.group(dag_id) if run.name == name]
        return run

    def tree(self, dag_id: str, runs: Iterable[Any] | None = None) -> Tree:
        """
        Read the tree back from what the runs say about themselves.

        :param runs: Some of the children instead of all.
        """
        children = self.children(dag_id) if runs is None else list(runs)
        assert len({run.name for run in children}) == len(children)
        return {
            run.name: {self.runs[upstream].name for upstream in run.config["airflow"]["upstream_runs"]}
            for run in children
        }


def path(run: Any) -> str:
    return "/".join(run.path)
