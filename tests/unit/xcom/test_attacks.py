"""What someone may write who can write XComs, artifacts or objects: each is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.unit.xcom.forgery import LIMITS, Forge, pull
from wandb_airflow_provider.exceptions import WandbXComIntegrityError, WandbXComRefusedError
from wandb_airflow_provider.xcom.backend import WandbXComBackend
from wandb_airflow_provider.xcom.index import INDEX_NAME, FileFacts, Index, digest_of
from wandb_airflow_provider.xcom.reference import MARKER, StoredReference

HELLO = (
    Index("text", {}, {"value.txt": FileFacts(5, hashlib.sha256(b"hello").hexdigest(), 0o600)})
    .to_bytes()
    .decode()
)


def test_a_planted_value_with_everything_right_is_read(forge: Forge) -> None:
    assert pull(forge({"codec": "text"}, {"value.txt": b"hello"})) == "hello"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../../etc"},
        {"name": ".."},
        {"digest": "sha256:../../../etc/passwd"},
        {"digest": "md5:1234"},
        {"store": "file:///etc"},
        {"store": "s3://other-bucket/xcom"},
        {"store": None},
        {"artifact": "local/p/evil:latest"},
        {"artifact": "local/../evil:v0"},
        {"artifact": "local/p/another:v0"},
        {"codec": "../pickle"},
        {"codec": "unknown"},
        {"codec": "bytes"},
        {"size_bytes": -1},
        {"size_bytes": True},
        {"size_bytes": 1 << 62},
        {"url": "javascript:alert(1)"},
        {"alias": "production"},
        {"kind": 7},
        {MARKER: 2},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_forged_reference_is_refused(forge: Forge, changes: dict[str, Any]) -> None:
    raw = forge({"codec": "text"}, {"value.txt": b"hello"}, **changes)
    with pytest.raises(WandbXComRefusedError):
        pull(raw)


@pytest.mark.parametrize(
    "raw",
    [
        {MARKER: 1},
        {MARKER: 1, "inline": "files"},
        {MARKER: 1, "inline": ["bytes"], "data": ""},
        {MARKER: 1, "inline": "bytes", "data": "*"},
        {MARKER: 1, "inline": "bytes", "data": "ä"},
        {MARKER: 1, "inline": "bytes", "data": 7},
        {MARKER: 1, "inline": "files", "index": "\ud800", "digest": "", "files": {}},
        {MARKER: 1, "inline": "files", "index": HELLO, "digest": digest_of(HELLO.encode()), "files": []},
        {MARKER: 1, "inline": "files", "index": HELLO, "digest": digest_of(HELLO.encode()), "files": {}},
    ],
    ids=ascii,
)
def test_half_a_reference_is_refused(raw: Any) -> None:
    with pytest.raises(WandbXComRefusedError):
        pull({"nested": [raw]})


@pytest.mark.parametrize("place", ["someone/else", "local/other-project"])
def test_an_artifact_of_another_entity_or_project_is_refused(
    hook: Any, forge: Forge, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = forge({"codec": "text"}, {"value.txt": b"hello"}, artifact=f"{place}/evil:v0")
    with pytest.raises(WandbXComRefusedError, match=f"is in the W&B project {place}"):
        pull(raw)
    monkeypatch.setenv("AIRFLOW__WANDB_XCOM__ALLOWED_PROJECTS", f"x/y, {place[:6]}*")
    assert pull(raw) == "hello"


@pytest.mark.parametrize(
    "path",
    [
        *("../outside", "/etc/passwd", "a/../../b", "a//b", "a\\b", "a\nb", "", INDEX_NAME),
        *("x" * 300, "ä" * 128, f"a/{'x' * 256}/b", "/".join(["abc"] * 251), "\ud800", "a/\udcff"),
    ],
    ids=ascii,
)
def test_a_path_that_leads_out_of_the_value_is_refused(forge: Forge, path: str) -> None:
    raw = forge({"codec": "path", "files": {path: [0, "0" * 64, 0o600]}})
    with pytest.raises(WandbXComRefusedError, match="no path below its own folder"):
        pull(raw)


def test_sizes_that_no_file_has_are_refused(forge: Forge) -> None:
    raw = forge({"codec": "path", "files": {f"{n}": [10**4299, "0" * 64, 0o600] for n in range(20)}})
    with pytest.raises(WandbXComRefusedError, match="its index cannot be understood"):
        pull(raw)


def test_a_folder_that_no_file_system_could_have_is_refused(forge: Forge) -> None:
    raw = forge({"codec": "path", "folders": {"x" * 300: 0o700}})
    with pytest.raises(WandbXComRefusedError, match="no path below its own folder"):
        pull(raw)


def test_a_name_that_leads_out_of_the_value_is_refused(forge: Forge) -> None:
    raw = forge({"codec": "path", "meta": {"name": "../../x", "folder": True}})
    with pytest.raises(WandbXComRefusedError, match="no path below"):
        pull(raw)


def test_permissions_of_another_user_are_refused(forge: Forge) -> None:
    raw = forge({"codec": "path", "files": {"a": [0, hashlib.sha256().hexdigest(), 0o4755]}})
    with pytest.raises(WandbXComRefusedError, match="permissions"):
        pull(raw)


def test_a_symbolic_link_in_the_store_is_not_followed(forge: Forge, store: Path, tmp_path: Path) -> None:
    raw = forge({"codec": "text"}, {"value.txt": b"hello"})
    (tmp_path / "secret").write_bytes(b"hello")
    planted = next(store.rglob("value.txt"))
    planted.unlink()
    planted.symlink_to(tmp_path / "secret")
    with pytest.raises(WandbXComRefusedError, match="symbolic link"):
        pull(raw)
    folder = planted.parent
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    with pytest.raises(WandbXComRefusedError, match="symbolic link"):
        pull(raw)


def test_an_oversized_value_is_refused_before_it_is_read(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__WANDB_XCOM__MAX_VALUE_BYTES", "10")
    raw = forge({"codec": "text"}, {"value.txt": b"eleven bytes"})
    with pytest.raises(WandbXComRefusedError, match="at most 10 are accepted"):
        pull(raw)
    fits = forge({"codec": "text"}, {"value.txt": b"six by"})
    with pytest.raises(WandbXComRefusedError, match="are accepted"):
        pull([fits, fits])


def test_more_files_than_are_accepted_are_refused(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__WANDB_XCOM__MAX_FILES", "2")
    raw = forge({"codec": "path", "folders": {"a": 0o700, "b": 0o700, "c": 0o700}})
    with pytest.raises(WandbXComRefusedError, match="'max_files'"):
        pull(raw)


def test_an_artifact_that_leads_out_of_w_and_b_or_is_no_xcom_is_refused(
    hook: Any, server: Any, tmp_path: Path
) -> None:
    import wandb

    (tmp_path / "f").write_text("secret")
    settings = wandb.Settings(base_url=server.url, api_key=server.api_key, console="off", silent=True)
    with wandb.init(
        entity="local", project=hook.project, dir=tmp_path, settings=settings, reinit="create_new"
    ) as run:
        evil = wandb.Artifact("evil", type="xcom")
        evil.add_reference((tmp_path / "f").as_uri(), name=INDEX_NAME)
        other = wandb.Artifact("other", type="dataset")
        other.add_file(str(tmp_path / "f"), name=INDEX_NAME)
        for artifact in (evil, other):
            run.log_artifact(artifact).wait()
    for name, why in (("evil", "outside of W&B"), ("other", "and no XCom")):
        ref = StoredReference(
            "sha256:" + "0" * 64, "text", name, 1, 1, artifact=f"local/{hook.project}/{name}:v0"
        )
        with pytest.raises(WandbXComRefusedError, match=why):
            pull(ref.to_json())


def test_content_that_is_not_of_the_reference_is_refused_with_both_digests(hook: Any) -> None:
    raw = WandbXComBackend.serialize_value(
        pd.DataFrame({"a": [1]}), key="k", task_id="t", dag_id="d", run_id="r", map_index=-1
    )
    forged: Any = {**raw, "digest": "sha256:" + "0" * 64}  # type: ignore[dict-item]
    with pytest.raises(WandbXComIntegrityError, match=rf"{raw['digest']}.*sha256:0{{64}}"):  # type: ignore[index]
        pull(forged)


def test_a_file_in_the_place_of_a_folder_is_refused() -> None:
    content = (
        Index("path", {}, {}, {}).to_bytes().replace(b'"files":{}', b'"files":{"a":[0,"",0],"a/b":[0,"",0]}')
    )
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    with pytest.raises(WandbXComRefusedError, match="in the place of a folder"):
        Index.from_bytes(content, digest, LIMITS, "x")
