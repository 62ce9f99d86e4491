"""Alias moves as readers see them, and lists that change while they are paged through."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import wandb
from wandb.apis.public.artifacts import Artifacts

from wandb_airflow_provider.devserver import DevServer

OpenRun = Callable[..., wandb.Run]
FreshApi = Callable[..., wandb.Api]
Draft = Callable[..., wandb.Artifact]

MOVE = """
mutation AddAliases($input: AddAliasesInput!) { addAliases(input: $input) { success } }
"""
BY_ALIAS = """
query ByAlias($project: String!, $name: String!) {
  project(name: $project, entityName: "local") {
    artifactCollectionMembership(name: $name) { versionIndex aliases { alias } artifact { aliases { alias } } }
  }
}
"""
ALL = """
query All($project: String!, $name: String!) {
  project(name: $project, entityName: "local") {
    artifactCollection(name: $name) {
      aliases { edges { node { alias } } }
      artifacts { edges { node { id versionIndex aliases { alias } } } }
    }
  }
}
"""


@pytest.fixture
def client(server: DevServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, auth=("api", server.api_key)) as opened:
        yield opened


@pytest.fixture
def series(open_run: OpenRun, draft: Draft, project: str) -> list[wandb.Artifact]:
    """Six versions of one artifact; the first is ``prod``."""
    with open_run() as run:
        return [
            run.log_artifact(
                draft("series", {"n": str(number)}), aliases=["prod"] if number == 0 else []
            ).wait()
            for number in range(6)
        ]


def ask(client: httpx.Client, document: str, variables: dict[str, Any]) -> Any:
    answer = client.post("/graphql", json={"query": document, "variables": variables})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


@pytest.mark.slow
def test_reader_never_sees_a_moving_alias_absent_or_on_two_versions(
    client: httpx.Client, series: list[wandb.Artifact], project: str, server: DevServer
) -> None:
    moved = threading.Event()
    target = {"entityName": "local", "projectName": project, "artifactCollectionName": "series"}

    def move() -> None:
        try:
            for number in range(150):
                wanted = {"artifactID": series[number % 2].id, "aliases": [{**target, "alias": "prod"}]}
                ask(client, MOVE, {"input": wanted})
        finally:
            moved.set()

    def held(nodes: list[dict[str, Any]]) -> list[int]:
        return [
            node["versionIndex"] for node in nodes if "prod" in {item["alias"] for item in node["aliases"]}
        ]

    def poll(_: int) -> set[int]:
        seen: set[int] = set()
        with httpx.Client(base_url=server.url, auth=("api", server.api_key)) as own:
            while not moved.is_set():
                found = ask(own, BY_ALIAS, {"project": project, "name": "series:prod"})["project"]
                membership = found["artifactCollectionMembership"]
                assert "prod" in {item["alias"] for item in membership["aliases"]}
                assert "prod" in {item["alias"] for item in membership["artifact"]["aliases"]}
                listed = ask(own, ALL, {"project": project, "name": "series"})["project"][
                    "artifactCollection"
                ]
                holders = held([edge["node"] for edge in listed["artifacts"]["edges"]])
                assert len(holders) == 1, f"prod is on the versions {holders}"
                seen |= {membership["versionIndex"], *holders}
        return seen

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(poll, number) for number in range(2)]
        pool.submit(move).result()
        assert [reader.result() for reader in readers] == [{0, 1}, {0, 1}]


def test_versions_deleted_while_they_are_listed_leave_none_out(
    series: list[wandb.Artifact], fresh_api: FreshApi, project: str
) -> None:
    path = f"local/{project}/series"
    for version in fresh_api().artifacts("dataset", path, per_page=2):
        if not version.aliases:
            version.delete()
    assert [item.version for item in fresh_api().artifacts("dataset", path)] == ["v5", "v0"]


def test_version_logged_while_they_are_listed_repeats_none(
    series: list[wandb.Artifact], fresh_api: FreshApi, open_run: OpenRun, draft: Draft, project: str
) -> None:
    expected = {
        None: ["v5", "v4", "v3", "v2", "v1", "v0"],
        "-created_at": ["v6", "v5", "v4", "v3", "v2", "v1", "v0"],
        "version_index": ["v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8"],
    }
    with open_run() as run:
        for order, versions in expected.items():
            seen = []
            for item in fresh_api().artifacts("dataset", f"local/{project}/series", per_page=2, order=order):
                seen.append(item.version)
                if len(seen) == 2:
                    run.log_artifact(draft("series", {"n": f"new {order}"})).wait()
            assert seen == versions


def test_filtered_versions_and_collections_fill_their_pages(
    series: list[wandb.Artifact], open_run: OpenRun, draft: Draft, fresh_api: FreshApi, project: str
) -> None:
    for number, version in enumerate(series):
        version.metadata = {"even": number % 2 == 0}
        version.save()
    with open_run() as run:
        for name in ("apple", "banana", "avocado", "apricot"):
            run.log_artifact(draft(name, {"f": name}))
    api = fresh_api()
    even = Artifacts(
        api._service_api, "local", project, "series", "dataset", filters={"metadata.even": True}, per_page=2
    )
    assert [item.version for item in even] == ["v4", "v2", "v0"]
    assert len(even) == 3
    found = api.artifact_type("dataset", f"local/{project}").collections(
        filters={"name": {"$regex": "^a"}}, order="-name", per_page=2
    )
    assert [item.name for item in found] == ["avocado", "apricot", "apple"]
    assert len(found) == 3


@pytest.mark.parametrize("cursor", ["nonsense", "WzEsMl0=", "W1t0cnVlLCJ4Il0sW3RydWUsIngiXV0="])
def test_cursor_of_another_list_is_refused(
    client: httpx.Client, series: list[wandb.Artifact], project: str, cursor: str
) -> None:
    document = ALL.replace("artifacts {", f'artifacts(after: "{cursor}") {{')
    answer = client.post(
        "/graphql", json={"query": document, "variables": {"project": project, "name": "series"}}
    )
    assert answer.status_code == 400
    assert "Invalid paging cursor" in answer.json()["errors"][0]["message"]
