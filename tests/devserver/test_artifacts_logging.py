from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import wandb
from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.artifacts import queries

OpenRun = Callable[..., wandb.Run]
FreshApi = Callable[..., wandb.Api]
Draft = Callable[..., wandb.Artifact]


def read_folder(folder: str | Path) -> dict[str, bytes]:
    root = Path(folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_folder_comes_back_byte_for_byte_and_verifies(
    open_run: OpenRun, fresh_api: FreshApi, project: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "data.bin").write_bytes(bytes(range(256)) * 4000)
    (source / "deep" / "er" / "täg.txt").write_text("grüße")
    (source / "empty.txt").write_bytes(b"")
    artifact = wandb.Artifact("corpus", type="dataset", metadata={"rows": 3}, description="what it is")
    artifact.add_dir(str(source))
    with open_run() as run:
        run.log_artifact(artifact).wait()

    found = fresh_api().artifact(f"local/{project}/corpus:v0")
    assert (found.type, found.metadata, found.description) == ("dataset", {"rows": 3}, "what it is")
    assert (found.state, found.file_count, found.size) == ("COMMITTED", 3, 1_024_007)
    assert found.digest == artifact.digest == found.manifest.digest()
    folder = found.download(root=str(tmp_path / "download"))
    assert read_folder(folder) == read_folder(source)
    found.verify(root=folder)


def test_single_file_is_downloaded_by_its_path(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str, server: DevServer, tmp_path: Path
) -> None:
    with open_run() as run:
        run.log_artifact(draft("pair", {"one.txt": "first", "sub/two.txt": "second"})).wait()
    found = fresh_api().artifact(f"local/{project}/pair:latest")
    path = found.get_entry("sub/two.txt").download(root=str(tmp_path / "single"))
    assert Path(path).read_text() == "second"
    assert not (tmp_path / "single" / "one.txt").exists()
    assert server.requests()[-1].path.startswith(f"/artifactsV2/default/local/{project}/pair/")


def test_part_of_an_artifact_is_downloaded_by_prefix(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str, tmp_path: Path
) -> None:
    with open_run() as run:
        run.log_artifact(draft("parts", {"train/a.txt": "a", "train/b.txt": "b", "test/c.txt": "c"})).wait()
    folder = (
        fresh_api()
        .artifact(f"local/{project}/parts:v0")
        .download(str(tmp_path / "part"), path_prefix="train/")
    )
    assert read_folder(folder) == {"train/a.txt": b"a", "train/b.txt": b"b"}


def test_references_are_listed_and_downloaded_beside_files(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str, server: DevServer, tmp_path: Path
) -> None:
    (tmp_path / "outside.csv").write_text("a,b\n1,2\n")
    artifact = draft("mixed", {"inside.txt": "stored here"})
    artifact.add_reference(f"file://{tmp_path / 'outside.csv'}", name="outside.csv")
    artifact.add_reference(f"{server.url}/ready", name="ready.txt")
    artifact.add_reference("s3://bucket/big.parquet", name="s3.parquet", checksum=False)
    # The SDK adds gs:// itself only where Google's library is installed.
    google = ArtifactManifestEntry(
        path="gs.parquet", digest="etag", ref="gs://bucket/big.parquet", size=10**10
    )
    artifact.manifest.add_entry(google)
    with open_run() as run:
        run.log_artifact(artifact).wait()

    found = fresh_api().artifact(f"local/{project}/mixed:v0")
    references = {path: entry.ref for path, entry in found.manifest.entries.items()}
    assert references == {
        "inside.txt": None,
        "outside.csv": f"file://{tmp_path / 'outside.csv'}",
        "ready.txt": f"{server.url}/ready",
        "s3.parquet": "s3://bucket/big.parquet",
        "gs.parquet": "gs://bucket/big.parquet",
    }
    listed = {file.name: file.direct_url for file in found.files()}
    assert listed.keys() == references.keys()
    assert found.size > 10**10
    assert listed["s3.parquet"] == "s3://bucket/big.parquet"
    assert Path(found.get_entry("outside.csv").download(str(tmp_path / "refs"))).read_text() == "a,b\n1,2\n"
    assert Path(found.get_entry("ready.txt").download(str(tmp_path / "refs"))).read_text() == "ok"
    assert found.get_entry("s3.parquet").ref_target() == "s3://bucket/big.parquet"


def test_download_of_an_artifact_includes_its_references(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str, tmp_path: Path
) -> None:
    (tmp_path / "outside.csv").write_text("a,b\n")
    artifact = draft("both", {"inside.txt": "stored here"})
    artifact.add_reference(f"file://{tmp_path / 'outside.csv'}")
    with open_run() as run:
        run.log_artifact(artifact).wait()
    folder = fresh_api().artifact(f"local/{project}/both:v0").download(root=str(tmp_path / "all"))
    assert read_folder(folder) == {"inside.txt": b"stored here", "outside.csv": b"a,b\n"}


def test_each_new_content_is_the_next_version_and_becomes_latest(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str
) -> None:
    with open_run() as run:
        for number in range(3):
            logged = run.log_artifact(draft("series", {"n.txt": str(number)}), aliases=[f"n{number}"]).wait()
            assert logged.version == f"v{number}"
            assert sorted(logged.aliases) == ["latest", f"n{number}"]
    api = fresh_api()
    assert [
        (item.version, sorted(item.aliases)) for item in api.artifacts("dataset", f"local/{project}/series")
    ] == [
        ("v2", ["latest", "n2"]),
        ("v1", ["n1"]),
        ("v0", ["n0"]),
    ]
    assert api.artifact(f"local/{project}/series").version == "v2"


def test_same_content_is_no_new_version_but_takes_the_aliases_and_is_output_of_both_runs(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str
) -> None:
    with open_run(id="first") as run:
        run.log_artifact(draft("model", {"w": "same"}), aliases=["candidate"]).wait()
        run.log_artifact(draft("model", {"w": "other"}), aliases=["candidate"]).wait()
    with open_run(id="second") as run:
        again = run.log_artifact(draft("model", {"w": "same"}), aliases=["candidate"]).wait()
    assert again.version == "v0"
    api = fresh_api()
    assert [
        (item.version, sorted(item.aliases)) for item in api.artifacts("dataset", f"local/{project}/model")
    ] == [
        ("v1", []),
        ("v0", ["candidate", "latest"]),
    ]
    assert [item.name for item in api.run(f"local/{project}/first").logged_artifacts()] == [
        "model:v0",
        "model:v1",
    ]
    assert [item.name for item in api.run(f"local/{project}/second").logged_artifacts()] == ["model:v0"]
    assert again.logged_by().id == "first"


def test_same_content_under_another_name_is_a_version_of_its_own(
    open_run: OpenRun, draft: Draft, project: str
) -> None:
    with open_run() as run:
        run.log_artifact(draft("one", {"f": "shared"})).wait()
        assert (
            run.log_artifact(draft("two", {"f": "shared"})).wait().qualified_name == f"local/{project}/two:v0"
        )


def test_version_numbers_are_not_used_again_after_a_deletion(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str
) -> None:
    with open_run() as run:
        run.log_artifact(draft("gone", {"f": "0"})).wait()
        run.log_artifact(draft("gone", {"f": "1"})).wait()
        fresh_api().artifact(f"local/{project}/gone:v1").delete(delete_aliases=True)
        assert run.log_artifact(draft("gone", {"f": "2"})).wait().version == "v2"
        # Deleted content is not found by its digest any more.
        assert run.log_artifact(draft("gone", {"f": "1"})).wait().version == "v3"


def test_incremental_artifact_adds_to_the_latest_version(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str, tmp_path: Path
) -> None:
    with open_run() as run:
        run.log_artifact(draft("grow", {"a": "1", "b": "1"})).wait()
        run.log_artifact(draft("grow", {"b": "2", "c": "2"}, incremental=True)).wait()
    found = fresh_api().artifact(f"local/{project}/grow:v1")
    assert read_folder(found.download(str(tmp_path / "grown"))) == {"a": b"1", "b": b"2", "c": b"2"}
    assert found.file_count == 3
    assert found.digest == found.manifest.digest()


def test_draft_from_a_version_keeps_files_without_uploading_them_again(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str, tmp_path: Path
) -> None:
    with open_run() as run:
        run.log_artifact(draft("edited", {"keep": "kept", "drop": "dropped"}, metadata={"n": 1})).wait()
        changed = fresh_api().artifact(f"local/{project}/edited:v0").new_draft()
        changed.remove("drop")
        with changed.new_file("add") as file:
            file.write("added")
        logged = run.log_artifact(changed).wait()
    assert (logged.version, logged.metadata) == ("v1", {"n": 1})
    found = fresh_api().artifact(f"local/{project}/edited:v1")
    assert read_folder(found.download(str(tmp_path / "edited"))) == {"keep": b"kept", "add": b"added"}


def test_distributed_artifact_collects_the_parts_of_several_runs(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str, tmp_path: Path
) -> None:
    for part in range(2):
        with open_run(group="writers") as run:
            run.upsert_artifact(draft("shards", {f"{part}.txt": str(part)}), distributed_id="all")
    assert not fresh_api().artifact_exists(f"local/{project}/shards:latest")
    with open_run(group="writers") as run:
        run.finish_artifact(draft("shards", {"end.txt": "end"}), distributed_id="all")
    found = fresh_api().artifact(f"local/{project}/shards:v0")
    assert read_folder(found.download(str(tmp_path / "shards"))) == {
        "0.txt": b"0",
        "1.txt": b"1",
        "end.txt": b"end",
    }


def test_table_in_an_artifact_is_read_back(open_run: OpenRun, fresh_api: FreshApi, project: str) -> None:
    artifact = wandb.Artifact("tables", type="predictions")
    artifact.add(wandb.Table(columns=["q", "rank"], data=[["how", 1], ["why", 3]]), "ranks")
    with open_run() as run:
        run.log_artifact(artifact).wait()
        run.log({"shown": wandb.Table(columns=["x"], data=[[1]])})
    table = fresh_api().artifact(f"local/{project}/tables:v0").get("ranks")
    assert (table.columns, table.data) == (["q", "rank"], [["how", 1], ["why", 3]])
    logged = fresh_api().run(f"local/{project}/{run.id}").logged_artifacts()
    assert sorted(item.type for item in logged) == ["predictions", "run_table"]


def test_reference_to_an_entry_of_another_artifact_is_resolved(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str, tmp_path: Path
) -> None:
    with open_run() as run:
        source = run.log_artifact(draft("source", {"deep/file.txt": "from the source"})).wait()
        pointing = wandb.Artifact("pointing", type="dataset")
        pointing.add_reference(source.get_entry("deep/file.txt"), name="alias.txt")
        run.log_artifact(pointing).wait()
    found = fresh_api().artifact(f"local/{project}/pointing:v0")
    assert read_folder(found.download(str(tmp_path / "pointing"))) == {"alias.txt": b"from the source"}


def test_runs_that_log_at_the_same_time_get_versions_of_their_own(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str
) -> None:
    runs = [open_run() for _ in range(4)]

    def log(number: int) -> str:
        return runs[number].log_artifact(draft("busy", {"n": str(number)})).wait().version

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(log, range(4))) == ["v0", "v1", "v2", "v3"]
    holders = [item for item in fresh_api().artifacts("dataset", f"local/{project}/busy") if item.aliases]
    assert [(item.version, item.aliases) for item in holders] == [("v3", ["latest"])]


def test_broken_content_on_the_server_is_noticed(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str, server: DevServer, tmp_path: Path
) -> None:
    content = f"only in {project}"
    with open_run() as run:
        run.log_artifact(draft("broken", {"f.txt": content})).wait()
    stored = server.backend.blobs.path(hashlib.md5(content.encode()).hexdigest())
    stored.write_bytes(b"x" * len(content))
    found = fresh_api().artifact(f"local/{project}/broken:v0")
    folder = found.download(root=str(tmp_path / "broken"))
    with pytest.raises(ValueError, match=r"Digest mismatch for file: f\.txt"):
        found.verify(root=folder)


def test_artifacts_survive_a_restart_of_the_server(
    server: DevServer, open_run: OpenRun, draft: Draft, tmp_path: Path
) -> None:
    def connect(running: DevServer) -> wandb.Api:
        return wandb.Api(overrides={"base_url": running.url}, api_key=running.api_key)

    with DevServer(tmp_path / "kept") as first, open_run(url=first.url, project="kept") as run:
        run.log_artifact(draft("kept", {"f": "before"}), aliases=["gold"]).wait()
        run.link_artifact(
            connect(first).artifact("local/kept/kept:gold"), "wandb-registry-dataset/kept", ["prod"]
        )
    with DevServer(tmp_path / "kept") as second:
        found = connect(second).artifact("wandb-registry-dataset/kept:prod")
        assert read_folder(found.download(str(tmp_path / "after"))) == {"f": b"before"}
        with open_run(url=second.url, project="kept") as run:
            assert run.log_artifact(draft("kept", {"f": "after"})).wait().version == "v1"


@pytest.mark.slow
def test_many_files_are_listed_and_downloaded_over_several_pages(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str, server: DevServer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    files = {f"{number:03}.txt": str(number) for number in range(130)}
    with open_run() as run:
        run.log_artifact(draft("many", files)).wait()
    monkeypatch.setenv("WANDB_ARTIFACT_FETCH_FILE_URL_BATCH_SIZE", "40")
    found = fresh_api().artifact(f"local/{project}/many:v0")
    assert len(found.files()) == 130
    assert [file.name for file in found.files(per_page=33)] == sorted(files)
    assert [file.name for file in found.files(names=["007.txt", "nothing"])] == ["007.txt"]
    before = len(server.requests("GetArtifactMembershipFileUrls"))
    assert len(read_folder(found.download(str(tmp_path / "many")))) == 130
    assert len(server.requests("GetArtifactMembershipFileUrls")) - before == 4


def test_entries_and_edges_are_readable_behind_http(
    open_run: OpenRun, draft: Draft, project: str, server: DevServer
) -> None:
    with open_run(id="maker") as run:
        logged = run.log_artifact(draft("seen", {"f.txt": "12345"}), tags=["gold"]).wait()
    with open_run(id="user") as run:
        run.use_artifact(logged)
    backend = server.backend
    (collection,) = queries.list_collections(backend, "local", project)
    assert (collection.name, collection.kind, collection.type) == ("seen", "SEQUENCE", "dataset")
    assert (collection.aliases, collection.version_count, collection.latest_version) == (("latest",), 1, 0)
    (version,) = queries.list_versions(backend, collection.id)
    assert (version.version, version.aliases, version.tags) == (0, ("latest",), ("gold",))
    assert (version.source, version.is_link, version.added_by) == (f"local/{project}/seen:v0", False, "dev")
    (entry,) = queries.list_entries(backend, version.artifact_id)
    assert (entry.path, entry.size_bytes, entry.ref) == ("f.txt", 5, None)
    made, used = queries.list_edges(backend, version.artifact_id)
    assert (made.kind, used.kind, used.used_through) == ("output", "input", f"local/{project}")
    assert queries.list_run_edges(backend, used.run_id) == [used]
