"""Deletion of versions whose time to live is over by the server's clock. What is linked to a registry stays."""

from __future__ import annotations

import dataclasses

from wandb_airflow_provider.devserver.accounts import Account
from wandb_airflow_provider.devserver.artifacts import names, versions
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import RequestContext

POLICY = Account(id="", username="artifact-ttl", email="", entity="", role="admin", teams=())
"""Whom the history of aliases names for the deletion of expired versions."""

_DUE = (
    "SELECT a.id FROM artifacts a WHERE a.expires_at <= ? AND a.state = 'COMMITTED' AND NOT EXISTS ("
    "SELECT 1 FROM artifact_memberships m JOIN artifact_collections c ON c.id = m.collection_id"
    " JOIN projects p ON p.internal_id = c.project_id WHERE m.artifact_id = a.id AND p.name LIKE ?)"
)


def delete_expired(ctx: RequestContext) -> None:
    """Delete the versions whose time is over, with their aliases; cheap where there are none."""
    due = (stamp(ctx.now()), f"{names.REGISTRY_PREFIX}%")
    with ctx.store.read() as conn:
        if conn.execute(f"{_DUE} LIMIT 1", due).fetchone() is None:
            return
    policy = dataclasses.replace(ctx, user=POLICY)
    with ctx.store.write() as conn:
        for (artifact_id,) in conn.execute(_DUE, due).fetchall():
            versions.delete(
                policy, conn, versions.get(conn, artifact_id), delete_aliases=True, reason="expired"
            )
