"""What sweep agents and their runs send over HTTP, for tests that need more of them than the SDK can start quickly."""

from __future__ import annotations

import json
from typing import Any

import httpx

from wandb_airflow_provider.devserver import DevServer

UPSERT = """mutation UpsertSweep($id: ID, $config: String, $project: String, $state: String, $prior: JSONString) {
  upsertSweep(input: {id: $id, config: $config, projectName: $project, state: $state, priorRunsFilters: $prior}) {
    sweep { id name state } configValidationWarnings } }"""
AGENT = """mutation CreateAgent($sweep: String!, $project: String) {
  createAgent(input: {sweep: $sweep, projectName: $project, host: "here"}) { agent { id } } }"""
BEAT = """mutation Heartbeat($id: ID!, $state: JSONString) {
  agentHeartbeat(input: {id: $id, runState: $state}) { agent { id } commands } }"""
READ = """query Sweep($project: String, $name: String!, $filters: JSONString) { project(name: $project) {
  sweep(sweepName: $name) { id state bestLoss runCount runCountExpected agents { edges { node { state totalRuns } } }
    runs { edges { node { name state config running failed exitcode displayName } } } }
  sweeps(filters: $filters) { edges { node { name } } totalCount } totalSweeps } }"""
OPEN = """mutation UpsertBucket($name: String, $project: String, $config: JSONString) {
  upsertBucket(input: {name: $name, modelName: $project, config: $config}) { bucket { name sweepName } inserted } }"""


class SweepClient:
    """What agents and runs send, as one user."""

    def __init__(self, server: DevServer, project: str, api_key: str | None = None) -> None:
        self.project = project
        self.http = httpx.Client(
            base_url=server.url, auth=("api", api_key or server.api_key), timeout=60, verify=False
        )

    def refused(self, document: str, **variables: Any) -> tuple[int, str]:
        """Send what must not succeed; return the status and the message."""
        answer = self.http.post(
            "/graphql", json={"query": document, "variables": {"project": self.project, **variables}}
        )
        return answer.status_code, answer.json()["errors"][0]["message"]

    def send(self, document: str, **variables: Any) -> dict[str, Any]:
        answer = self.http.post(
            "/graphql", json={"query": document, "variables": {"project": self.project, **variables}}
        )
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def create(self, config: dict[str, Any], **more: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.send(UPSERT, config=json.dumps(config), **more)["upsertSweep"]
        return made["sweep"] | {"warnings": made["configValidationWarnings"]}

    def set(self, sweep: dict[str, Any], state: str) -> None:
        self.send(UPSERT, id=sweep["id"], state=state)

    def agent(self, sweep: dict[str, Any]) -> str:
        agent: str = self.send(AGENT, sweep=sweep["name"])["createAgent"]["agent"]["id"]
        return agent

    def beat(self, agent: str, *runs: str) -> list[dict[str, Any]]:
        answer = self.send(BEAT, id=agent, state=json.dumps(dict.fromkeys(runs, True)))
        commands: list[dict[str, Any]] = json.loads(answer["agentHeartbeat"]["commands"])
        return commands

    def stream(self, run: str, **body: Any) -> dict[str, Any]:
        answer = self.http.post(f"/files/local/{self.project}/{run}/file_stream", json=body)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def log(self, run: str, values: list[float], **body: Any) -> dict[str, Any]:
        """Open a run and send its losses."""
        assert self.send(OPEN, name=run)["upsertBucket"]["inserted"] is False
        rows = [json.dumps({"_step": step, "loss": value}) for step, value in enumerate(values)]
        files = {
            "wandb-history.jsonl": {"offset": 0, "content": rows},
            "wandb-summary.json": {"offset": 0, "content": [json.dumps({"loss": values[-1]})]},
        }
        return self.stream(run, files=files, **body)

    def run(self, agent: str, loss: float = 1.0) -> str | None:
        """Take one run and finish it; None if there is none left."""
        (command,) = self.beat(agent)
        if command["type"] == "exit":
            return None
        assert command["type"] == "run"
        self.log(command["run_id"], [loss], complete=True, exitcode=0)
        name: str = command["run_id"]
        return name

    def read(self, sweep: dict[str, Any], **variables: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.send(READ, name=sweep["name"], **variables)["project"]
        return found

    def state(self, sweep: dict[str, Any]) -> str:
        state: str = self.read(sweep)["sweep"]["state"]
        return state

    def runs(self, sweep: dict[str, Any]) -> list[dict[str, Any]]:
        return [edge["node"] for edge in self.read(sweep)["sweep"]["runs"]["edges"]]


def grid(*values: int, **more: Any) -> dict[str, Any]:
    return {"method": "grid", "parameters": {"lr": {"values": list(values)}}, **more}
