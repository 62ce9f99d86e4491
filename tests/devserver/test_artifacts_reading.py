from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import wandb
from wandb.errors import CommError
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

OpenRun = Callable[..., wandb.Run]
FreshApi = Callable[..., wandb.Api]
Draft = Callable[..., wandb.Artifact]


@pytest.fixture
def mnist(open_run: OpenRun, draft: Draft, project: str) -> str:
    """Two versions of a dataset and one of a model. Returns the project's path."""
    with open_run(id="first") as run:
        run.log_artifact(draft("mnist", {"digits": "v0"}, metadata={"split": "train"}), aliases=["my_alias"])
        run.log_artifact(draft("mnist", {"digits": "v1"}), tags=["gold", "big"])
        run.log_artifact(draft("net", {"weights": "w"}, type="model"))
    return f"local/{project}"


def test_version_is_found_by_number_by_alias_and_without_either(mnist: str, fresh_api: FreshApi) -> None:
    api = fresh_api()
    assert api.artifact(f"{mnist}/mnist:v0").aliases == ["my_alias"]
    assert api.artifact(f"{mnist}/mnist:my_alias").version == "v0"
    assert api.artifact(f"{mnist}/mnist").version == "v1"
    assert api.artifact(f"{mnist}/mnist:v1", type="dataset").tags == ["gold", "big"]
    with pytest.raises(CommError, match="type 'model' specified but this artifact is of type 'dataset'"):
        api.artifact(f"{mnist}/mnist:v1", type="model")


def test_existence_is_answered_for_versions_and_collections(mnist: str, fresh_api: FreshApi) -> None:
    api = fresh_api()
    assert api.artifact_exists(f"{mnist}/mnist:v0")
    assert api.artifact_exists(f"{mnist}/mnist:my_alias")
    assert not api.artifact_exists(f"{mnist}/mnist:v2")
    assert not api.artifact_exists(f"{mnist}/mnist:nobody")
    assert not api.artifact_exists(f"{mnist}/nothing:v0")
    assert not api.artifact_exists("local/no-such-project/mnist:v0")
    assert api.artifact_collection_exists(f"{mnist}/mnist", "dataset")
    assert not api.artifact_collection_exists(f"{mnist}/mnist", "model")
    assert not api.artifact_collection_exists(f"{mnist}/nothing", "dataset")


def test_types_and_collections_are_listed_filtered_and_ordered(mnist: str, fresh_api: FreshApi) -> None:
    api = fresh_api()
    assert {kind.name for kind in api.artifact_types(mnist)} == {"dataset", "model"}
    kind = api.artifact_type("dataset", mnist)
    assert [found.name for found in kind.collections()] == ["mnist"]
    assert kind.collection("mnist").aliases == ["my_alias", "latest"]
    project = api.project(mnist.split("/")[1], entity="local")
    assert [found.name for found in project.collections(order="-name")] == ["net", "mnist"]
    assert [found.name for found in project.collections(filters={"name": {"$regex": "^n"}})] == ["net"]
    assert [found.name for found in project.collections(per_page=1, order="name")] == ["mnist", "net"]
    with pytest.raises(WandbApiFailedError, match="cannot filter by 'colour'"):
        list(project.collections(filters={"colour": "red"}))


def test_versions_are_listed_filtered_ordered_and_paged(mnist: str, fresh_api: FreshApi) -> None:
    api, path = fresh_api(), f"{mnist}/mnist"
    assert [item.name for item in api.artifacts("dataset", path)] == ["mnist:v1", "mnist:v0"]
    assert [item.name for item in api.artifacts("dataset", path, order="version_index")] == [
        "mnist:v0",
        "mnist:v1",
    ]
    for order in ("-version_index", "-createdAt"):
        assert [item.name for item in api.artifacts("dataset", path, order=order)] == ["mnist:v1", "mnist:v0"]
    assert [item.name for item in api.artifacts("dataset", path, tags=["gold"])] == ["mnist:v1"]
    paged = api.artifacts("dataset", path, per_page=1)
    first, cursor = next(paged).name, paged.cursor
    assert [first, *(item.name for item in api.artifacts("dataset", path, per_page=1, start=cursor))] == [
        "mnist:v1",
        "mnist:v0",
    ]


def test_edges_tell_who_logged_and_who_used(mnist: str, open_run: OpenRun, fresh_api: FreshApi) -> None:
    with open_run(id="second") as run:
        run.use_artifact("mnist:v0")
        run.use_artifact("mnist:latest")
    api = fresh_api()
    first, second = api.run(f"{mnist}/first"), api.run(f"{mnist}/second")
    assert {item.name for item in first.logged_artifacts()} == {"mnist:v0", "mnist:v1", "net:v0"}
    assert [item.name for item in second.used_artifacts()] == ["mnist:v0", "mnist:v1"]
    assert list(first.used_artifacts()) == []
    version = api.artifact(f"{mnist}/mnist:v0")
    assert version.logged_by().id == "first"
    assert [run.id for run in version.used_by()] == ["second"]
    assert len(second.used_artifacts(per_page=1)) == 2


def test_use_of_a_draft_logs_it_first(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str
) -> None:
    with open_run(id="both") as run:
        run.use_artifact(draft("made", {"f": "x"})).wait()
    found = fresh_api().run(f"local/{project}/both")
    assert [item.name for item in found.used_artifacts()] == ["made:v0"]


def test_run_read_later_can_log_and_use(mnist: str, fresh_api: FreshApi) -> None:
    api = fresh_api()
    run, version = api.run(f"{mnist}/first"), api.artifact(f"{mnist}/mnist:v1")
    run.use_artifact(version)
    assert [item.name for item in api.run(f"{mnist}/first").used_artifacts()] == ["mnist:v1"]


def test_saved_changes_are_seen_by_a_new_client(mnist: str, fresh_api: FreshApi) -> None:
    version = fresh_api().artifact(f"{mnist}/mnist:v0")
    version.description = "explained"
    version.metadata = {"split": "all", "rows": 7}
    version.tags = ["reviewed"]
    version.aliases = ["my_alias", "extra"]
    version.ttl = timedelta(days=30)
    version.save()
    found = fresh_api().artifact(f"{mnist}/mnist:v0")
    assert (found.description, found.metadata, found.tags) == (
        "explained",
        {"split": "all", "rows": 7},
        ["reviewed"],
    )
    assert (sorted(found.aliases), found.ttl) == (["extra", "my_alias"], timedelta(days=30))

    found.tags = []
    found.aliases = ["extra"]
    found.ttl = None
    found.save()
    again = fresh_api().artifact(f"{mnist}/mnist:v0")
    assert (again.tags, again.aliases, again.ttl) == ([], ["extra"], None)
    assert not fresh_api().artifact_exists(f"{mnist}/mnist:my_alias")


def test_alias_moved_between_versions_is_seen_by_a_new_client(mnist: str, fresh_api: FreshApi) -> None:
    version = fresh_api().artifact(f"{mnist}/mnist:v1")
    version.aliases.append("my_alias")
    version.save()
    api = fresh_api()
    assert api.artifact(f"{mnist}/mnist:my_alias").version == "v1"
    assert api.artifact(f"{mnist}/mnist:v0").aliases == []


def test_time_to_live_given_when_logging_is_kept(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str
) -> None:
    artifact = draft("brief", {"f": "x"})
    artifact.ttl = timedelta(hours=1)
    with open_run() as run:
        run.log_artifact(artifact).wait()
    assert fresh_api().artifact(f"local/{project}/brief:v0").ttl == timedelta(hours=1)


def test_version_with_aliases_is_deleted_only_with_them(mnist: str, fresh_api: FreshApi) -> None:
    version = fresh_api().artifact(f"{mnist}/mnist:v0")
    with pytest.raises(CommError, match="it has the aliases 'my_alias'"):
        version.delete()
    assert fresh_api().artifact_exists(f"{mnist}/mnist:v0")
    version.delete(delete_aliases=True)
    api = fresh_api()
    assert not api.artifact_exists(f"{mnist}/mnist:v0")
    assert [item.name for item in api.artifacts("dataset", f"{mnist}/mnist")] == ["mnist:v1"]
    # The run's record of what it logged outlives the version.
    states = {item.name: item.state for item in api.run(f"{mnist}/first").logged_artifacts()}
    assert states["mnist:v0"] == "DELETED"


def test_version_without_aliases_is_deleted_without_more(mnist: str, fresh_api: FreshApi) -> None:
    version = fresh_api().artifact(f"{mnist}/mnist:v0")
    version.aliases = []
    version.save()
    version.delete()
    assert not fresh_api().artifact_exists(f"{mnist}/mnist:v0")


def test_collection_is_renamed_described_tagged_and_retyped(mnist: str, fresh_api: FreshApi) -> None:
    collection = fresh_api().artifact_collection("dataset", f"{mnist}/mnist")
    collection.name = "digits"
    collection.description = "handwritten"
    collection.tags = ["vision", "small set"]
    collection.type = "corpus"
    collection.save()
    found = fresh_api().artifact_collection("corpus", f"{mnist}/digits")
    assert (found.description, sorted(found.tags)) == ("handwritten", ["small set", "vision"])
    found.tags = ["vision"]
    found.save()
    assert fresh_api().artifact_collection("corpus", f"{mnist}/digits").tags == ["vision"]
    assert fresh_api().artifact(f"{mnist}/digits:v1").type == "corpus"


def test_deleted_collection_frees_its_name(
    mnist: str, fresh_api: FreshApi, open_run: OpenRun, draft: Draft
) -> None:
    fresh_api().artifact_collection("dataset", f"{mnist}/mnist").delete()
    assert not fresh_api().artifact_exists(f"{mnist}/mnist:v0")
    with open_run() as run:
        assert run.log_artifact(draft("mnist", {"digits": "v0"}, type="model")).wait().version == "v0"


def test_model_shortcuts_log_use_and_link(
    open_run: OpenRun, fresh_api: FreshApi, project: str, tmp_path: Path
) -> None:
    (tmp_path / "model.txt").write_text("weights")
    with open_run() as run:
        run.log_model(tmp_path / "model.txt", name="shortcut", aliases=["candidate"])
        linked = run.link_model(tmp_path / "model.txt", "My Model", name="shortcut", aliases=["staging"])
    assert linked.qualified_name == "local/model-registry/My Model:v0"
    assert fresh_api().artifact("local/model-registry/My Model:staging").source_name == "shortcut:v0"
    with open_run() as run:
        path = run.use_model(f"local/{project}/shortcut:latest")
    assert Path(path).read_text() == "weights"
