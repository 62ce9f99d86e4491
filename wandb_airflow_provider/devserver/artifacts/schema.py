"""
Tables of artifacts.

A *collection* of a project (``project_id`` is its ``internal_id``, which survives a rename) is a sequence, where
versions are logged, or a portfolio, where versions are linked, as in a registry. A *membership* puts a version into
a collection under the collection's own version number; aliases belong to memberships and are unique in their
collection. Rows of deleted collections and versions stay, so that edges and the history of aliases stay readable.
"""

from __future__ import annotations

from wandb_airflow_provider.devserver.store import register_schema

register_schema(
    """
CREATE TABLE IF NOT EXISTS artifact_types (
    id TEXT PRIMARY KEY,
    project_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (project_id, name)
);

CREATE TABLE IF NOT EXISTS artifact_collections (
    id TEXT PRIMARY KEY,
    project_id INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('SEQUENCE', 'PORTFOLIO')),
    name TEXT NOT NULL,
    type_name TEXT NOT NULL,
    description TEXT,
    state TEXT NOT NULL DEFAULT 'READY' CHECK (state IN ('READY', 'DELETED')),
    next_version INTEGER NOT NULL DEFAULT 0,
    ttl_seconds INTEGER,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS artifact_collections_by_name
    ON artifact_collections (project_id, name) WHERE state = 'READY';

CREATE TABLE IF NOT EXISTS artifact_collection_tags (
    id TEXT PRIMARY KEY,
    collection_id TEXT NOT NULL REFERENCES artifact_collections (id),
    name TEXT NOT NULL,
    UNIQUE (collection_id, name)
);

CREATE TABLE IF NOT EXISTS artifacts (
    id TEXT PRIMARY KEY,
    collection_id TEXT NOT NULL REFERENCES artifact_collections (id),
    version INTEGER,
    state TEXT NOT NULL CHECK (state IN ('PENDING', 'COMMITTED', 'DELETED')),
    digest TEXT NOT NULL,
    digest_algorithm TEXT NOT NULL,
    description TEXT,
    metadata TEXT,
    ttl_seconds INTEGER,
    ttl_inherited INTEGER NOT NULL DEFAULT 1,
    expires_at TEXT,
    history_step INTEGER,
    size INTEGER NOT NULL DEFAULT 0,
    file_count INTEGER NOT NULL DEFAULT 0,
    commit_hash TEXT,
    manifest_id TEXT,
    same_as TEXT REFERENCES artifacts (id),
    distributed_id TEXT,
    requested_aliases TEXT NOT NULL DEFAULT '[]',
    created_by_run TEXT,
    created_by_user TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS artifacts_by_digest ON artifacts (collection_id, digest);
CREATE INDEX IF NOT EXISTS artifacts_by_end ON artifacts (expires_at)
    WHERE expires_at IS NOT NULL AND state = 'COMMITTED';

CREATE TABLE IF NOT EXISTS artifact_ttl_defaults (
    entity TEXT PRIMARY KEY,
    seconds INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS artifact_clients (
    client_id TEXT PRIMARY KEY,
    artifact_id TEXT NOT NULL REFERENCES artifacts (id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS artifact_tags (
    id TEXT PRIMARY KEY,
    artifact_id TEXT NOT NULL REFERENCES artifacts (id),
    name TEXT NOT NULL,
    UNIQUE (artifact_id, name)
);

CREATE TABLE IF NOT EXISTS artifact_memberships (
    id TEXT PRIMARY KEY,
    collection_id TEXT NOT NULL REFERENCES artifact_collections (id),
    artifact_id TEXT NOT NULL REFERENCES artifacts (id),
    version INTEGER NOT NULL,
    created_by_user TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (collection_id, version),
    UNIQUE (collection_id, artifact_id)
);
CREATE INDEX IF NOT EXISTS artifact_memberships_by_artifact ON artifact_memberships (artifact_id);

CREATE TABLE IF NOT EXISTS artifact_aliases (
    id TEXT PRIMARY KEY,
    collection_id TEXT NOT NULL REFERENCES artifact_collections (id),
    membership_id TEXT NOT NULL REFERENCES artifact_memberships (id),
    alias TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (collection_id, alias)
);
CREATE INDEX IF NOT EXISTS artifact_aliases_by_membership ON artifact_aliases (membership_id);

CREATE TABLE IF NOT EXISTS artifact_alias_events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    collection_id TEXT NOT NULL REFERENCES artifact_collections (id),
    alias TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('added', 'moved', 'removed')),
    previous_artifact_id TEXT REFERENCES artifacts (id),
    previous_version INTEGER,
    artifact_id TEXT REFERENCES artifacts (id),
    version INTEGER,
    user TEXT NOT NULL,
    reason TEXT NOT NULL,
    at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS artifact_alias_events_by_collection ON artifact_alias_events (collection_id, seq);

CREATE TABLE IF NOT EXISTS artifact_manifests (
    id TEXT PRIMARY KEY,
    artifact_id TEXT NOT NULL REFERENCES artifacts (id),
    type TEXT NOT NULL CHECK (type IN ('FULL', 'INCREMENTAL', 'PATCH')),
    digest TEXT NOT NULL,
    base_artifact_id TEXT REFERENCES artifacts (id),
    blob_md5 TEXT,
    created_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS artifact_manifests_by_artifact ON artifact_manifests (artifact_id);

CREATE TABLE IF NOT EXISTS artifact_entries (
    artifact_id TEXT NOT NULL REFERENCES artifacts (id),
    path TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    ref TEXT,
    birth_artifact_id TEXT,
    extra TEXT NOT NULL,
    PRIMARY KEY (artifact_id, path)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS artifact_edges (
    kind TEXT NOT NULL CHECK (kind IN ('output', 'input')),
    run_id TEXT NOT NULL,
    artifact_id TEXT NOT NULL REFERENCES artifacts (id),
    used_through TEXT,
    created_at TEXT NOT NULL,
    PRIMARY KEY (kind, run_id, artifact_id)
);
CREATE INDEX IF NOT EXISTS artifact_edges_by_artifact ON artifact_edges (artifact_id, kind);

CREATE TABLE IF NOT EXISTS registries (
    project_id INTEGER PRIMARY KEY,
    allow_all_types INTEGER NOT NULL DEFAULT 1,
    updated_at TEXT NOT NULL
);
"""
)
