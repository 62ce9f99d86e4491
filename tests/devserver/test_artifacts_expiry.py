"""Time to live: by the server's clock, which these tests move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import wandb
from wandb.sdk.artifacts.artifact_ttl import ArtifactTTL

from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.artifacts import lifetimes, queries

OpenRun = Callable[..., wandb.Run]
Draft = Callable[..., wandb.Artifact]


class Timed:
    """A server of its own whose clock stands until it is moved."""

    def __init__(self, folder: Path) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.server = DevServer(folder, now=lambda: self.now)

    def api(self) -> wandb.Api:
        return wandb.Api(overrides={"base_url": self.server.url}, api_key=self.server.api_key)

    def versions(self) -> list[str]:
        return sorted(item.name for item in self.api().artifacts("dataset", "local/kept/brief"))


@pytest.fixture
def timed(tmp_path: Path) -> Iterator[Timed]:
    made = Timed(tmp_path / "timed")
    with made.server:
        yield made


def test_version_is_gone_when_its_time_is_over_and_others_stay(
    timed: Timed, open_run: OpenRun, draft: Draft
) -> None:
    lasting, hour, linked = (draft("brief", {"f": text}) for text in ("lasting", "hour", "linked"))
    hour.ttl, linked.ttl = timedelta(hours=1), timedelta(hours=1)
    with open_run(url=timed.server.url, project="kept") as run:
        run.log_artifact(lasting).wait()
        run.log_artifact(linked).wait()
        run.link_artifact(
            timed.api().artifact("local/kept/brief:v1"), "wandb-registry-dataset/promoted", ["prod"]
        )
        run.log_artifact(hour, aliases=["newest"]).wait()
    timed.now += timedelta(minutes=59)
    assert timed.versions() == ["brief:v0", "brief:v1", "brief:v2"]
    timed.now += timedelta(minutes=1)
    assert timed.versions() == ["brief:v0", "brief:v1"], "the linked one is kept"
    assert not timed.api().artifact_exists("local/kept/brief:newest")
    assert timed.api().artifact("wandb-registry-dataset/promoted:prod").source_name == "brief:v1"
    (collection,) = queries.list_collections(timed.server.backend, "local", "kept")
    changes = queries.alias_history(timed.server.backend, collection.id, "newest")
    assert [(change.action, change.reason, change.user) for change in changes] == [
        ("added", "logged", "dev"),
        ("removed", "expired", "artifact-ttl"),
    ]
    timed.api().artifact("wandb-registry-dataset/promoted:prod").unlink()
    assert timed.versions() == ["brief:v0"], "nothing keeps it any longer"
    with open_run(url=timed.server.url, project="kept") as run:
        assert run.log_artifact(draft("brief", {"f": "next"})).wait().version == "v3"


def test_inherited_time_to_live_is_that_of_the_collection_or_else_of_the_team(
    timed: Timed, open_run: OpenRun, draft: Draft
) -> None:
    own = draft("brief", {"f": "own"})
    own.ttl = timedelta(days=9)
    with open_run(url=timed.server.url, project="kept") as run:
        run.log_artifact(draft("brief", {"f": "inherits"})).wait()
        run.log_artifact(own).wait()

    def ttl(version: str) -> timedelta | None:
        found: timedelta | None = timed.api().artifact(f"local/kept/brief:{version}").ttl
        return found

    store = timed.server.backend.store
    (collection,) = queries.list_collections(timed.server.backend, "local", "kept")
    assert (ttl("v0"), ttl("v1")) == (None, timedelta(days=9))
    with store.write() as conn:
        lifetimes.set_entity_default(conn, "local", 7 * 86400)
    assert (ttl("v0"), ttl("v1")) == (timedelta(days=7), timedelta(days=9))
    with store.write() as conn:
        lifetimes.set_collection_default(conn, collection.id, 3 * 86400)
    assert ttl("v0") == timedelta(days=3)

    changed = timed.api().artifact("local/kept/brief:v1")
    changed.ttl = ArtifactTTL.INHERIT
    changed.save()
    assert ttl("v1") == timedelta(days=3)
    kept = timed.api().artifact("local/kept/brief:v0")
    kept.ttl = None
    kept.save()
    assert ttl("v0") is None
    timed.now += timedelta(days=3)
    assert timed.versions() == ["brief:v0"]
