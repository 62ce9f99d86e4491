"""
Give a registry alias back to the version that held it before, or to a named one, now.

Trigger it by hand, with its form, or let an alert do it: by Airflow's REST API, or with `TriggerDagRunOperator` and the
parameters as `conf`. Why has to be said; it is kept in the audit of the collection. A version that never held the alias
is refused: to promote one takes a gate. With `expected_holder` an alert that comes twice, or late, does not roll back
what somebody has repaired meanwhile.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from wandb_airflow_provider import WandbRollbackOperator, wandb_pipeline

NAME = {"type": "string", "minLength": 1}
OPTIONAL = {"type": ["null", "string"]}

with (
    DAG(
        "rollback",
        schedule=None,
        catchup=False,
        max_active_runs=1,
        params={
            "registry": Param("model", **NAME, description="Registry, without the prefix of its project."),
            "collection": Param("docstring-embeddings", **NAME, description="Its collection."),
            "alias": Param("production", **NAME, description="The alias to give back."),
            "version": Param(
                None,
                **OPTIONAL,
                pattern="^(v[0-9]+)?$",
                description="Version to restore that held the alias, such as v3; empty for the one before.",
            ),
            "expected_holder": Param(
                None,
                **OPTIONAL,
                description="Only while this version holds the alias, such as v4; empty for any.",
            ),
            "dry_run": Param(
                False, type="boolean", description="Say what would be changed, and change nothing."
            ),
            "reason": Param(type="string", minLength=5, description="Why; kept in the audit."),
        },
        tags=["wandb", "rollback"],
        doc_md=__doc__,
    ),
    wandb_pipeline(project="docstring-retrieval", tags=["rollback"]),
):
    # [START rollback]
    WandbRollbackOperator(
        task_id="rollback",
        registry="{{ params.registry }}",
        collection="{{ params.collection }}",
        alias="{{ params.alias }}",
        version="{{ params.version or '' }}",
        expected_holder="{{ params.expected_holder or '' }}",
        dry_run="{{ params.dry_run }}",
        note="{{ params.reason }}",
    )
    # [END rollback]
