"""Artifacts: versions, aliases, files, references, lineage and deletion."""

from __future__ import annotations

from datetime import timedelta

import wandb
from flows import Ground, flow


@flow
def log_use_and_download_an_artifact(ground: Ground) -> None:
    with ground.init(job_type="make") as maker:
        artifact = ground.artifact("corpus", "one", metadata={"rows": 1}, description="text")
        logged = maker.log_artifact(artifact, aliases=["candidate"], tags=["checked"])
        logged.wait()
        assert logged.version == "v0"
    with ground.init(job_type="take") as taker:
        used = taker.use_artifact("corpus:candidate")
        folder = used.download(root=str(ground.folder / "down"))
        with open(f"{folder}/data.txt") as file:
            assert file.read() == "one"
        assert used.verify(root=folder) is None
    read = ground.api().artifact(f"{ground.path}/corpus:v0")
    assert (read.metadata, read.description, read.type) == ({"rows": 1}, "text", "dataset")
    assert set(read.aliases) == {"candidate", "latest"}
    assert list(read.tags) == ["checked"]
    assert read.logged_by().id == maker.id
    assert [run.id for run in read.used_by()] == [taker.id]
    api = ground.api()
    assert [a.name for a in api.run(f"{ground.path}/{maker.id}").logged_artifacts()] == ["corpus:v0"]
    assert [a.name for a in api.run(f"{ground.path}/{taker.id}").used_artifacts()] == ["corpus:v0"]


@flow
def identical_content_makes_no_new_version(ground: Ground) -> None:
    with ground.init() as run:
        assert run.log_artifact(ground.artifact("same", "x")).wait().version == "v0"
        assert run.log_artifact(ground.artifact("same", "y")).wait().version == "v1"
        assert run.log_artifact(ground.artifact("same", "x"), aliases=["again"]).wait().version == "v0"
    assert set(ground.api().artifact(f"{ground.path}/same:v0").aliases) >= {"again"}


@flow
def change_a_version(ground: Ground) -> None:
    with ground.init() as run:
        run.log_artifact(ground.artifact("model", "x", type="model")).wait()
    artifact = ground.api().artifact(f"{ground.path}/model:v0")
    artifact.aliases.append("best")
    artifact.metadata["score"] = 0.5
    artifact.description = "good"
    artifact.tags = ["t"]
    artifact.save()
    again = ground.api().artifact(f"{ground.path}/model:best")
    assert (again.version, again.metadata["score"], again.description) == ("v0", 0.5, "good")
    assert list(again.tags) == ["t"]
    again.aliases.remove("best")
    again.save()
    assert not ground.api().artifact_exists(f"{ground.path}/model:best")


@flow
def delete_versions_and_collections(ground: Ground) -> None:
    with ground.init() as run:
        for content in ("a", "b", "c"):
            run.log_artifact(ground.artifact("old", content)).wait()
    api = ground.api()
    api.artifact(f"{ground.path}/old:v0").delete()
    refusal = ""
    try:
        api.artifact(f"{ground.path}/old:v2").delete()
    except Exception as error:
        refusal = str(error)
    assert "alias" in refusal, refusal
    api.artifact(f"{ground.path}/old:v2").delete(delete_aliases=True)
    versions = ground.api().artifacts("dataset", f"{ground.path}/old")
    assert [version.version for version in versions] == ["v1"]
    with ground.init() as run:
        assert run.log_artifact(ground.artifact("old", "d")).wait().version == "v3"
    ground.api().artifact_collection("dataset", f"{ground.path}/old").delete()
    assert not ground.api().artifact_collection_exists(f"{ground.path}/old", "dataset")


@flow
def references(ground: Ground) -> None:
    file = ground.file("outside.txt", "outside")
    artifact = wandb.Artifact("refs", type="dataset")
    artifact.add_reference(f"file://{file}", name="outside.txt")
    artifact.add_reference("https://example.invalid/x.bin", name="x.bin", checksum=False)
    with ground.init() as run:
        run.log_artifact(artifact).wait()
    read = ground.api().artifact(f"{ground.path}/refs:v0")
    assert set(read.manifest.entries) == {"outside.txt", "x.bin"}
    path = read.get_entry("outside.txt").download(root=str(ground.folder / "down"))
    with open(path) as handle:
        assert handle.read() == "outside"


@flow
def incremental_artifact(ground: Ground) -> None:
    with ground.init() as run:
        run.log_artifact(ground.artifact("grown", "a")).wait()
        draft = wandb.Artifact("grown", type="dataset", incremental=True)
        with draft.new_file("more.txt") as file:
            file.write("b")
        run.log_artifact(draft).wait()
    assert set(ground.api().artifact(f"{ground.path}/grown:v1").manifest.entries) == {"data.txt", "more.txt"}


@flow
def draft_of_a_version(ground: Ground) -> None:
    with ground.init() as run:
        logged = run.log_artifact(ground.artifact("base", "a")).wait()
        draft = logged.new_draft()
        draft.remove("data.txt")
        with draft.new_file("other.txt") as file:
            file.write("b")
        run.log_artifact(draft).wait()
    assert set(ground.api().artifact(f"{ground.path}/base:v1").manifest.entries) == {"other.txt"}


@flow
def distributed_artifact(ground: Ground) -> None:
    for part in ("a", "b"):
        with ground.init(group="writers") as run:
            artifact = wandb.Artifact("parts", type="dataset")
            with artifact.new_file(f"{part}.txt") as file:
                file.write(part)
            run.upsert_artifact(artifact, distributed_id="writers")
    with ground.init(group="writers") as run:
        run.finish_artifact(wandb.Artifact("parts", type="dataset"), distributed_id="writers")
    assert set(ground.api().artifact(f"{ground.path}/parts:latest").manifest.entries) == {"a.txt", "b.txt"}


@flow
def list_types_collections_and_versions(ground: Ground) -> None:
    with ground.init() as run:
        for index in range(3):
            run.log_artifact(ground.artifact("many", str(index))).wait()
        run.log_artifact(ground.artifact("weights", "w", type="model")).wait()
    api = ground.api()
    assert {kind.name for kind in api.artifact_types(ground.path)} >= {"dataset", "model"}
    assert [c.name for c in api.artifact_collections(ground.path, "model")] == ["weights"]
    assert [a.version for a in api.artifacts("dataset", f"{ground.path}/many", per_page=2)] == [
        "v2",
        "v1",
        "v0",
    ]
    collection = api.artifact_collection("dataset", f"{ground.path}/many")
    collection.description = "rows"
    collection.tags = ["blue"]
    collection.save()
    again = ground.api().artifact_collection("dataset", f"{ground.path}/many")
    assert again.description == "rows"
    assert list(again.tags) == ["blue"]


@flow
def version_is_gone_when_its_time_to_live_is_over(ground: Ground) -> None:
    short = ground.artifact("brief", "a")
    short.ttl = timedelta(hours=1)
    with ground.init() as run:
        run.log_artifact(short).wait()
        run.log_artifact(ground.artifact("brief", "b")).wait()
    changed = ground.api().artifact(f"{ground.path}/brief:v1")
    assert changed.ttl is None
    for ttl, told in ((timedelta(hours=1), timedelta(hours=1)), (wandb.ArtifactTTL.INHERIT, None)):
        changed.ttl = ttl
        changed.save()
        assert ground.api().artifact(f"{ground.path}/brief:v1").ttl == told
    assert ground.api().artifact(f"{ground.path}/brief:v0").ttl == timedelta(hours=1)
    ground.ask("advance", seconds=3600)
    versions = ground.api().artifacts("dataset", f"{ground.path}/brief")
    assert [version.version for version in versions] == ["v1"]
