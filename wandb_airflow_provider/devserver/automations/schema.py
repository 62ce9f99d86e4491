"""
Tables of automations, and the database triggers that note events.

``automation_events`` is an outbox: a row is written in the transaction of the change that it tells of, whichever
code makes the change, and only while an enabled automation waits for that type of event. ``automation_dirty_runs``
names runs whose streams may have new lines; ``mark`` counts up with each message. ``automation_executions`` holds
every firing, with what is to be sent.
"""

from __future__ import annotations

# Their tables must exist before triggers can be put on them.
from wandb_airflow_provider.devserver import runs_table
from wandb_airflow_provider.devserver.artifacts import schema as artifact_schema
from wandb_airflow_provider.devserver.automations.author import ACTING_USER_FUNCTION
from wandb_airflow_provider.devserver.store import register_schema

__all__ = ["METRIC_EVENTS", "artifact_schema", "runs_table"]

METRIC_EVENTS = ("RUN_METRIC", "RUN_METRIC_CHANGE", "RUN_METRIC_ZSCORE")


def _waiting(*event_types: str) -> str:
    names = ", ".join(f"'{name}'" for name in event_types)
    return f"EXISTS (SELECT 1 FROM automations WHERE enabled = 1 AND event_type IN ({names}))"  # noqa: S608


_TABLES_AND_TRIGGERS = f"""
CREATE TABLE IF NOT EXISTS integrations (
    pk INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('webhook', 'slack')),
    entity TEXT NOT NULL,
    name TEXT NOT NULL,
    url TEXT,
    channel TEXT,
    access_token TEXT,
    secret_name TEXT,
    secret TEXT,
    created_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS team_secrets (
    entity TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (entity, name)
);
CREATE TABLE IF NOT EXISTS automations (
    pk INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT UNIQUE,
    name TEXT NOT NULL,
    description TEXT,
    enabled INTEGER NOT NULL,
    entity TEXT NOT NULL,
    scope_type TEXT NOT NULL,
    scope_key TEXT NOT NULL,
    event_type TEXT NOT NULL,
    event_filter TEXT NOT NULL,
    action_type TEXT NOT NULL,
    action TEXT NOT NULL,
    integration TEXT,
    user TEXT NOT NULL,
    since INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    UNIQUE (entity, name)
);
CREATE INDEX IF NOT EXISTS automations_by_event ON automations (event_type, enabled);
CREATE TABLE IF NOT EXISTS automation_events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    type TEXT NOT NULL,
    collection TEXT,
    artifact TEXT,
    version INTEGER,
    run INTEGER,
    detail TEXT NOT NULL,
    user TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS automation_dirty_runs (run INTEGER PRIMARY KEY, mark INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS automation_windows (
    automation INTEGER NOT NULL,
    run INTEGER NOT NULL,
    stream TEXT NOT NULL,
    next_offset INTEGER NOT NULL,
    recent TEXT,
    PRIMARY KEY (automation, run, stream)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS automation_crashes (
    run INTEGER NOT NULL,
    heartbeat_at TEXT NOT NULL,
    PRIMARY KEY (run, heartbeat_at)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS automation_executions (
    pk INTEGER PRIMARY KEY AUTOINCREMENT,
    automation TEXT NOT NULL,
    automation_name TEXT NOT NULL,
    event_type TEXT NOT NULL,
    subject TEXT NOT NULL,
    run INTEGER,
    action_type TEXT NOT NULL,
    action TEXT NOT NULL,
    integration TEXT,
    variables TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('PENDING', 'FINISHED', 'FAILED')),
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at TEXT,
    created_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS automation_executions_due
    ON automation_executions (next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS automation_executions_by_run ON automation_executions (automation, run, created_at);
CREATE TABLE IF NOT EXISTS webhook_attempts (
    execution INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at TEXT NOT NULL,
    status INTEGER,
    error TEXT,
    seconds REAL NOT NULL,
    PRIMARY KEY (execution, number)
) WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS automation_on_alias AFTER INSERT ON artifact_alias_events
WHEN NEW.action IN ('added', 'moved') AND {_waiting("ADD_ARTIFACT_ALIAS")}
BEGIN
    INSERT INTO automation_events (type, collection, artifact, version, detail, user)
    VALUES ('ADD_ARTIFACT_ALIAS', NEW.collection_id, NEW.artifact_id, NEW.version, NEW.alias, NEW.user);
END;
CREATE TRIGGER IF NOT EXISTS automation_on_version AFTER INSERT ON artifact_memberships
WHEN {_waiting("CREATE_ARTIFACT", "LINK_MODEL")}
BEGIN
    INSERT INTO automation_events (type, collection, artifact, version, detail, user)
    SELECT CASE kind WHEN 'PORTFOLIO' THEN 'LINK_MODEL' ELSE 'CREATE_ARTIFACT' END, NEW.collection_id, NEW.artifact_id,
        NEW.version, '', NEW.created_by_user
    FROM artifact_collections WHERE id = NEW.collection_id;
END;
CREATE TRIGGER IF NOT EXISTS automation_on_unlink AFTER DELETE ON artifact_memberships
WHEN {_waiting("UNLINK_ARTIFACT")}
BEGIN
    INSERT INTO automation_events (type, collection, artifact, version, detail, user)
    SELECT 'UNLINK_ARTIFACT', OLD.collection_id, OLD.artifact_id, OLD.version, '', {ACTING_USER_FUNCTION}()
    FROM artifact_collections WHERE id = OLD.collection_id AND kind = 'PORTFOLIO';
END;
CREATE TRIGGER IF NOT EXISTS automation_on_tag AFTER INSERT ON artifact_tags
WHEN {_waiting("ADD_ARTIFACT_TAG")}
BEGIN
    INSERT INTO automation_events (type, artifact, detail, user)
    VALUES ('ADD_ARTIFACT_TAG', NEW.artifact_id, NEW.name, {ACTING_USER_FUNCTION}());
END;
CREATE TRIGGER IF NOT EXISTS automation_on_untag AFTER DELETE ON artifact_tags
WHEN {_waiting("REMOVE_ARTIFACT_TAG")}
BEGIN
    INSERT INTO automation_events (type, artifact, detail, user)
    VALUES ('REMOVE_ARTIFACT_TAG', OLD.artifact_id, OLD.name, {ACTING_USER_FUNCTION}());
END;
CREATE TRIGGER IF NOT EXISTS automation_on_collection_tag AFTER INSERT ON artifact_collection_tags
WHEN {_waiting("ADD_COLLECTION_TAG")}
BEGIN
    INSERT INTO automation_events (type, collection, detail, user)
    VALUES ('ADD_COLLECTION_TAG', NEW.collection_id, NEW.name, {ACTING_USER_FUNCTION}());
END;
CREATE TRIGGER IF NOT EXISTS automation_on_collection_untag AFTER DELETE ON artifact_collection_tags
WHEN {_waiting("REMOVE_COLLECTION_TAG")}
BEGIN
    INSERT INTO automation_events (type, collection, detail, user)
    VALUES ('REMOVE_COLLECTION_TAG', OLD.collection_id, OLD.name, {ACTING_USER_FUNCTION}());
END;
CREATE TRIGGER IF NOT EXISTS automation_on_run AFTER INSERT ON runs
WHEN {_waiting("RUN_STATE")}
BEGIN
    INSERT INTO automation_events (type, run, detail, user) VALUES ('RUN_STATE', NEW.pk, NEW.state, NEW.user);
END;
CREATE TRIGGER IF NOT EXISTS automation_on_run_state AFTER UPDATE OF state ON runs
WHEN NEW.state IS NOT OLD.state AND {_waiting("RUN_STATE")}
BEGIN
    INSERT INTO automation_events (type, run, detail, user) VALUES ('RUN_STATE', NEW.pk, NEW.state, NEW.user);
END;
CREATE TRIGGER IF NOT EXISTS automation_on_heartbeat AFTER UPDATE OF heartbeat_at ON runs
WHEN {_waiting(*METRIC_EVENTS)}
BEGIN
    INSERT INTO automation_dirty_runs VALUES (NEW.pk, 0) ON CONFLICT (run) DO UPDATE SET mark = mark + 1;
END;
"""  # noqa: S608 - fixed names

register_schema(_TABLES_AND_TRIGGERS)
