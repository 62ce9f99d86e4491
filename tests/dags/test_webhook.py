"""The receiver of webhooks, with Airflow's database, the real reader process and the dev server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.dags.test_examples import DAGS, load, pushed
from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.exceptions import WandbPermanentError, WandbUnavailableError
from wandb_airflow_provider.watching.change import Claim, Seen, claim_key, observe_change, seen_key
from wandb_airflow_provider.watching.notice import webhook_payload
from wandb_airflow_provider.webhook import app as webhook_app
from wandb_airflow_provider.webhook import inbox
from wandb_airflow_provider.webhook.assets import WatchedAsset, find_assets, report
from wandb_airflow_provider.webhook.reader import AliasReader

SECRET = "the-secret-that-signs"
PREVIOUS = "the-secret-before"
TOKEN = "the-bearer-token"
PATH = "/airflow/wandb/webhook"


def sign(body: bytes, secret: str = SECRET) -> str:
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


@dataclass
class Endpoint:
    """The receiver as Airflow mounts it, behind the path prefix ``/airflow``."""

    client: TestClient

    def post(self, body: bytes, **headers: str) -> Any:
        given = {
            "Content-Type": "application/json",
            "X-Wandb-Signature": sign(body),
            "Authorization": f"Bearer {TOKEN}",
        }
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(
            PATH, content=body, headers=[(k, v.encode("utf-8")) for k, v in given.items() if v]
        )


@pytest.fixture(scope="module")
def endpoint(airflow_db: None, server: DevServer) -> Iterator[Endpoint]:
    with pytest.MonkeyPatch.context() as patch:
        secrets = {"previous_secret": PREVIOUS, "access_token": TOKEN}
        connection = {"conn_type": "generic", "password": SECRET, "extra": secrets}
        patch.setenv("AIRFLOW__WANDB__WEBHOOK_CONN_ID", "wandb_webhook")
        patch.setenv("AIRFLOW__WANDB__WEBHOOK_MAX_BYTES", "2000")
        # A busy machine may take longer than W&B would wait.
        patch.setattr(webhook_app, "_ANSWER_SECONDS", 120.0)
        # Tests switch DAGs off and on within a second.
        patch.setattr(webhook_app, "SPACING_SECONDS", 0.0)
        patch.setenv("AIRFLOW_CONN_WANDB_WEBHOOK", json.dumps(connection))
        airflow = FastAPI(root_path="/airflow")
        app = webhook_app.create_app()
        airflow.mount("/wandb", app)
        # Airflow enters the lifespans of what it has mounted.
        with TestClient(app), TestClient(airflow) as client:
            yield Endpoint(client)


@dataclass
class Alias:
    """A collection of its own, watched by a DAG, and what W&B would post about it."""

    server: DevServer
    collection: str
    conn_id: str

    def move(self, content: str) -> None:
        """Log a version with this content, or find the one that has it, and give it the alias."""
        import wandb

        settings = wandb.Settings(
            base_url=self.server.url, api_key=self.server.api_key, console="off", silent=True
        )
        with wandb.init(entity="local", project="webhooks", settings=settings, reinit="create_new") as run:
            artifact = wandb.Artifact(self.collection, type="model")
            with artifact.new_file("weights.txt") as file:
                file.write(content)
            logged = run.log_artifact(artifact).wait()
            run.link_artifact(logged, f"wandb-registry-model/{self.collection}", aliases=["production"])

    def body(self, **fields: str) -> bytes:
        given = {
            "entity": "org",
            "project": "wandb-registry-model",
            "collection": self.collection,
            "alias": "production",
            "event": "ADD_ARTIFACT_ALIAS",
            "actor": "ada",
        }
        return json.dumps({**webhook_payload(), **given, **fields}).encode()

    @property
    def asset(self) -> WatchedAsset:
        from wandb_airflow_provider.watching.notice import parse_payload

        assets = find_assets(parse_payload(json.loads(self.body())))
        (found,) = [asset for asset in assets if asset.wandb_conn_id == self.conn_id]
        return found

    def events(self) -> list[dict[str, Any]]:
        """Return what the events of the asset carry, in order."""
        from airflow.models.asset import AssetEvent
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            query = select(AssetEvent).where(AssetEvent.asset_id == self.asset.id).order_by(AssetEvent.id)
            return [event.extra for event in session.scalars(query)]

    def store(self, key: str, value: Any) -> None:
        """Store what a poller in a triggerer would store."""
        from airflow.state import AssetScope, get_state_backend

        get_state_backend().set(AssetScope(asset_id=self.asset.id), key, json.dumps(value))

    def stored(self, key: str) -> Any:
        from airflow.state import AssetScope, get_state_backend

        text = get_state_backend().get(AssetScope(asset_id=self.asset.id), key)
        return None if text is None else json.loads(text)


def watch(server: DevServer, collection: str, conn_id: str = "wandb_default") -> Alias:
    """Have a DAG be scheduled by the alias of a collection."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.sdk import DAG

    from wandb_airflow_provider import wandb_alias_asset

    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(collect_dags=False)
    asset = wandb_alias_asset("model", collection, "production", wandb_conn_id=conn_id)
    name = f"webhook_{collection}" if conn_id == "wandb_default" else f"webhook_{collection}_{conn_id}"
    bag.bag_dag(DAG(name, schedule=[asset], is_paused_upon_creation=False))
    sync_bag_to_db(bag, "dags-folder", None)
    return Alias(server, collection, conn_id)


@pytest.fixture
def alias(endpoint: Endpoint, ledger: Any, server: DevServer, request: pytest.FixtureRequest) -> Alias:
    """An alias of the test's own."""
    return watch(server, hashlib.sha256(request.node.name.encode()).hexdigest()[:12])


@pytest.fixture(scope="module")
def shared_alias(airflow_db: None, server: DevServer) -> Alias:
    return watch(server, "shared-by-tests")


@pytest.fixture
def watched(shared_alias: Alias, ledger: Any) -> Alias:
    """An alias that nothing holds in W&B; what is stored of it is what the test stores."""
    from airflow.state import AssetScope, get_state_backend

    get_state_backend().clear(AssetScope(asset_id=shared_alias.asset.id))
    return shared_alias


def pause(alias: Alias, paused: bool) -> None:
    """Switch the DAG that the alias schedules off or on."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        named = DagModel.dag_id == f"webhook_{alias.collection}"
        session.execute(update(DagModel).where(named).values(is_paused=paused))


def version(number: int) -> ArtifactRef:
    return ArtifactRef("org", "wandb-registry-model", "c", f"v{number}", f"digest{number}", "model")


@pytest.mark.slow
def test_signed_webhook_becomes_the_asset_event_of_a_poller_and_a_replay_never_does(
    endpoint: Endpoint, alias: Alias
) -> None:
    alias.move("first")
    captured = alias.body()
    answers = [endpoint.post(captured), endpoint.post(captured)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.json()["status"] for answer in answers] == ["reported", "already_reported"]
    (event,) = alias.events()
    assert event["from_trigger"] is True
    first = event["payload"]
    assert (first["change"], first["version"], first["previous_version"]) == ("added", "v0", None)
    assert (first["actor"], first["alias"], first["registry"]) == ("ada", "production", "model")
    assert first["path"].endswith(f"wandb-registry-model/{alias.collection}:v0")
    assert first["source_run"].startswith("local/webhooks/")

    alias.move("second")
    assert endpoint.post(alias.body()).json()["status"] == "reported"
    moved = alias.events()[-1]["payload"]
    assert (moved["change"], moved["version"], moved["previous_version"]) == ("moved", "v1", "v0")
    assert moved["previous_digest"] == first["digest"]
    assert moved["idempotency_key"] != first["idempotency_key"]
    # What was captured before the move is as well signed as ever, and tells nothing new.
    assert endpoint.post(captured).json()["status"] == "already_reported"
    assert len(alias.events()) == 2

    # A poller that reads now finds what the webhook has left in the store.
    seen = Seen.from_json(alias.stored(seen_key(alias.asset.target)))
    holder = version(1)._replace(digest=moved["digest"])
    assert observe_change(alias.asset.target, seen, holder) == (seen, None)


def test_asset_that_cannot_be_followed_up_hides_no_other_of_the_same_alias(
    endpoint: Endpoint,
    ledger: Any,
    server: DevServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection = {"conn_type": "wandb", "host": server.url, "extra": {"entity": "local"}}
    # Assets are looked into in the order in which they became known.
    aliases = []
    for conn_id, key in (("wandb_revoked", "0" * 40), ("wandb_other", server.api_key)):
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({**connection, "password": key}))
        aliases.append(watch(server, "watched-twice", conn_id))
    revoked, other = aliases
    other.move("first")
    with caplog.at_level(logging.ERROR, logger=inbox.log.name):
        answer = endpoint.post(other.body())
    assert (answer.status_code, answer.json()["status"]) == (200, "failed")
    assert "wandb_revoked" in caplog.text
    assert revoked.events() == []
    assert [event["payload"]["version"] for event in other.events()] == ["v0"]


def test_what_another_attempt_may_help_is_tried_again_whatever_else_is_refused(
    endpoint: Endpoint, watched: Alias, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = watched.asset
    assets = {name: asset._replace(uri=f"{asset.uri}&conn={name}") for name in ("refused", "away", "well")}
    asked: list[str] = []

    def report_one(given: WatchedAsset, read: object, *, actor: object) -> str:
        name = given.uri.rpartition("=")[2]
        asked.append(name)
        if name == "refused":
            raise WandbPermanentError("this key is refused")
        if name == "away" and asked.count("away") < 2:
            raise WandbUnavailableError("W&B is away")
        return "reported"

    monkeypatch.setattr(inbox, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(webhook_app, "find_assets", lambda notice: list(assets.values()))
    monkeypatch.setattr(webhook_app, "report", report_one)
    assert endpoint.post(watched.body()).json()["status"] == "failed"
    assert asked == ["refused", "away", "well"] * 2


def test_webhook_that_is_sent_again_and_again_asks_the_database_once_a_second(
    endpoint: Endpoint, watched: Alias, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_app, "SPACING_SECONDS", 3600.0)
    asked: list[str] = []

    def find(notice: Any) -> list[WatchedAsset]:
        asked.append(notice.collection)
        return []

    monkeypatch.setattr(webhook_app, "find_assets", find)
    bodies = [watched.body(collection=name) for name in ("sent-again", "another", "sent-again", "sent-again")]
    assert [endpoint.post(body).status_code for body in bodies] == [404] * 4
    assert asked == ["sent-again", "another"]


def test_only_one_request_for_an_alias_waits_for_what_comes_of_it(
    endpoint: Endpoint, alias: Alias, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def report_late(*_: object, **__: object) -> str:
        begun.set()
        assert go_on.wait(60)
        return "already_reported"

    monkeypatch.setattr(webhook_app, "report", report_late)
    with ThreadPoolExecutor(3) as senders:
        try:
            first = senders.submit(endpoint.post, alias.body())
            assert begun.wait(60)
            # The second is looked into after the first. The third joins it, and is answered at once.
            others = [senders.submit(endpoint.post, alias.body()) for _ in range(2)]
            answered = next(as_completed([first, *others], timeout=60)).result()
        finally:
            go_on.set()
        assert (answered.status_code, answered.json()["status"]) == (202, "queued")
        answers = [future.result(60).status_code for future in (first, *others)]
    assert sorted(answers) == [200, 200, 202]


def test_forged_webhook_is_refused_and_logged_without_a_secret(
    endpoint: Endpoint, alias: Alias, caplog: pytest.LogCaptureFixture
) -> None:
    body = alias.body()
    forged = {
        "": "no signature",
        "%%%": "no base64",
        "ä": "no ASCII",
        sign(body, "another secret"): "another secret",
        sign(alias.body(alias="staging")): "another body",
        base64.b64encode(b"").decode(): "an empty signature",
        sign(body)[:-4]: "a part of the signature",
        SECRET: "the secret itself",
    }
    with caplog.at_level(logging.WARNING, logger=webhook_app.log.name):
        for signature, why in forged.items():
            answer = endpoint.post(body, X_Wandb_Signature=signature)
            assert answer.status_code == 401, why
            assert SECRET not in answer.text
        for token in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN):
            assert endpoint.post(body, Authorization=token).status_code == 401, token
    lines = [record.getMessage() for record in caplog.records if record.name == webhook_app.log.name]
    assert len(lines) == len(forged) + 5
    assert all("refused with 401" in line for line in lines)
    assert not any(secret in line for line in lines for secret in (SECRET, PREVIOUS, TOKEN))
    assert alias.events() == []


def test_oversized_webhook_is_refused_before_it_is_read(endpoint: Endpoint, alias: Alias) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while taken < 1000:
            taken += 1
            yield b" " * 1000

    body = alias.body(actor="a" * 3000)
    assert endpoint.post(body).status_code == 413
    headers = {"Content-Type": "application/json", "X-Wandb-Signature": "irrelevant"}
    answer = endpoint.client.post(PATH, content=endless(), headers=headers)
    assert (answer.status_code, "2000 bytes" in answer.json()["detail"]) == (413, True)
    assert endpoint.post(body, Content_Length="9" * 5000).status_code == 413


def test_change_while_the_dag_is_paused_is_left_to_the_poller_that_starts_with_it(
    endpoint: Endpoint, watched: Alias
) -> None:
    target, body = watched.asset.target, watched.body()
    seen = Seen("v4", "digest4", 7).to_json()
    watched.store(seen_key(target), seen)
    asset, before = watched.asset, len(watched.events())
    pause(watched, True)
    try:
        answer = endpoint.post(body)
        assert (answer.status_code, "no DAG that is on" in answer.json()["detail"]) == (404, True)
    finally:
        pause(watched, False)
    assert watched.asset == asset
    assert watched.stored(seen_key(target)) == seen
    assert len(watched.events()) == before


def test_airflow_that_keeps_no_state_of_assets_refuses_webhooks_with_the_reason(
    watched: Alias, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webhook_app, "keeps_asset_state", lambda: False)
    warm_up = mock.create_autospec(AliasReader.warm_up)
    monkeypatch.setattr(AliasReader, "warm_up", warm_up)
    with TestClient(webhook_app.create_app()) as client:
        answer = client.post(webhook_app.PATH, content=watched.body())
    assert (answer.status_code, "Airflow 3.3" in answer.json()["detail"]) == (501, True)
    assert "Webhooks are refused: webhooks need Airflow 3.3" in caplog.text
    warm_up.assert_not_called()


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (400, b"{", "not JSON"),
        (400, b"[" * 1500, "not JSON"),
        (422, b"[]", "wandb-alias/1"),
        (422, b"{}", "wandb-alias/1"),
        (422, b'{"format": "wandb-alias/2"}', "wandb-alias/1"),
        (422, {"collection": ""}, "names no collection"),
        (422, {"alias": "a/b"}, "no possible alias"),
        (422, {"alias": "v3"}, "no possible alias"),
        (422, {"collection": "x\ny"}, "not a line of text"),
        (422, {"actor": "a" * 301}, "not a line of text"),
        (422, {"alias": "${alias}"}, "does not fill it in"),
        (404, {"collection": "nobody-watches-this"}, "wandb_alias_asset"),
        (404, {"project": "wandb-registry-other"}, "wandb_alias_asset"),
        (404, {"alias": "staging"}, "wandb_alias_asset"),
    ],
)
def test_webhook_that_is_malformed_or_about_nothing_watched_is_explained(
    endpoint: Endpoint, watched: Alias, status: int, body: bytes | dict[str, str], why: str
) -> None:
    answer = endpoint.post(body if isinstance(body, bytes) else watched.body(**body))
    assert (answer.status_code, why in answer.json()["detail"]) == (status, True), answer.text


def test_other_methods_and_content_types_are_refused(endpoint: Endpoint, watched: Alias) -> None:
    assert endpoint.post(watched.body(), Content_Type="text/plain").status_code == 415
    assert endpoint.post(watched.body(), Content_Type="application/json; charset=utf-8").status_code == 200
    assert endpoint.client.get(PATH).status_code == 405
    assert endpoint.client.get("/airflow/wandb/openapi.json").status_code == 404


def test_failure_of_the_receiver_is_one_line_and_worth_another_attempt(
    endpoint: Endpoint, watched: Alias, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(notice: object) -> None:
        raise RuntimeError("the database is away")

    monkeypatch.setattr(webhook_app, "find_assets", fail)
    answer = endpoint.post(watched.body())
    assert (answer.status_code, "Traceback" in answer.text, "database" in answer.text) == (500, False, False)
    assert "RuntimeError: the database is away" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("AIRFLOW__WANDB__WEBHOOK_QUEUE_SIZE", "0", "as many webhooks wait"),
        ("AIRFLOW__WANDB__WEBHOOK_CONN_ID", "wandb_missing", "not configured"),
        ("AIRFLOW_CONN_WANDB_WEBHOOK", '{"conn_type": "generic", "extra": {}}', "not configured"),
    ],
)
def test_receiver_that_can_take_nothing_now_says_when_to_come_again(
    watched: Alias, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, why: str
) -> None:
    monkeypatch.setenv(variable, value)
    client = TestClient(webhook_app.create_app())
    headers = {
        "Content-Type": "application/json",
        "X-Wandb-Signature": sign(watched.body()),
        "Authorization": f"Bearer {TOKEN}",
    }
    answer = client.post(webhook_app.PATH, content=watched.body(), headers=headers)
    assert (answer.status_code, why in answer.json()["detail"]) == (503, True), answer.text
    assert int(answer.headers["Retry-After"]) > 0


def test_what_takes_longer_than_w_and_b_waits_goes_on_behind_its_answer(
    endpoint: Endpoint, alias: Alias, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_app, "_ANSWER_SECONDS", 0.0)
    # An alias of its own: what goes on must not meet what later tests store.
    answer = endpoint.post(alias.body())
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


def test_change_that_a_poller_is_reporting_is_left_to_it_until_its_claim_is_old(watched: Alias) -> None:
    target = watched.asset.target
    watched.store(seen_key(target), Seen("v0", "digest0", 4).to_json())
    _, change = observe_change(target, Seen("v0", "digest0", 4), version(1))
    assert change is not None
    watched.store(claim_key(target, "poll"), Claim.of(change, time.time()).to_json())
    before = len(watched.events())

    assert report(watched.asset, lambda: version(1), actor=None) == "left_to_poller"
    # The poller must not wait for a webhook that has given way.
    assert watched.stored(claim_key(target, "push")) is None
    assert len(watched.events()) == before

    watched.store(claim_key(target, "poll"), Claim.of(change, time.time() - 60).to_json())
    assert report(watched.asset, lambda: version(1), actor=None) == "reported"
    assert watched.events()[-1]["payload"]["idempotency_key"] == change.idempotency_key
    claim = Claim.from_json(watched.stored(claim_key(target, "push")))
    assert claim is not None
    assert claim.holds(change, time.time())


def test_change_after_one_that_a_poller_is_reporting_waits_for_it(watched: Alias) -> None:
    target, before = watched.asset.target, Seen("v5", "digest5", 30)
    watched.store(seen_key(target), before.to_json())
    _, polled = observe_change(target, before, version(6))
    assert polled is not None
    watched.store(claim_key(target, "poll"), Claim.of(polled, time.time()).to_json())
    count = len(watched.events())
    with pytest.raises(WandbUnavailableError, match="just now"):
        report(watched.asset, lambda: version(7), actor=None)
    assert watched.stored(claim_key(target, "push")) is None

    watched.store(seen_key(target), polled.after.to_json())
    assert report(watched.asset, lambda: version(7), actor=None) == "reported"
    (event,) = watched.events()[count:]
    assert (event["payload"]["previous_version"], event["payload"]["version"]) == ("v6", "v7")


def test_change_that_a_poller_reported_while_the_webhook_read_is_not_reported_again(watched: Alias) -> None:
    target = watched.asset.target
    watched.store(seen_key(target), Seen("v1", "digest1", 10).to_json())
    before = len(watched.events())
    reads = iter([version(2), version(3)])

    def read() -> ArtifactRef:
        found = next(reads)
        if found.version == "v2":
            # Meanwhile the alias moved on, and the poller was faster.
            watched.store(seen_key(target), Seen("v3", "digest3", 12).to_json())
        return found

    assert report(watched.asset, read, actor=None) == "already_reported"
    assert len(watched.events()) == before


def test_state_that_a_backend_of_the_workers_has_taken_away_is_left_to_the_poller(watched: Alias) -> None:
    watched.store(seen_key(watched.asset.target), {"__airflow_ref__": "s3://bucket/key"})
    before = len(watched.events())
    assert report(watched.asset, lambda: version(9), actor=None) == "left_to_poller"
    assert len(watched.events()) == before


def test_one_change_that_many_api_servers_hear_of_is_one_event(watched: Alias) -> None:
    watched.store(seen_key(watched.asset.target), Seen("v4", "digest4", 20).to_json())
    before = len(watched.events())
    together = threading.Barrier(4)
    outcomes: list[str] = []

    def read() -> ArtifactRef:
        # All have read the store before any of them writes.
        if not together.broken and not done.is_set():
            together.wait(30)
            done.set()
        return version(5)

    done = threading.Event()
    asset = watched.asset
    servers = [
        threading.Thread(target=lambda: outcomes.append(report(asset, read, actor=None))) for _ in range(4)
    ]
    for server in servers:
        server.start()
    for server in servers:
        server.join(60)
    assert sorted(outcomes) == ["already_reported"] * 3 + ["reported"]
    assert len(watched.events()) == before + 1


@pytest.mark.slow
def test_automation_example_creates_its_automations_once(
    ledger: Any, run_dag: Callable[..., Any], server: DevServer
) -> None:
    server.add_webhook_integration("airflow", "http://127.0.0.1:9/wandb/webhook", secret=SECRET)
    ledger.api().create_project(ledger.project, "local")
    found = []
    for _ in range(2):
        dag_run = run_dag(load(DAGS / "example_automation.py"))
        assert dag_run.state == "success"
        found.append([pushed(dag_run, task) for task in ("tell_airflow", "record_divergence")])
    assert [[saved["outcome"] for saved in each] for each in found] == [
        ["created", "created"],
        ["unchanged", "unchanged"],
    ]
    assert [saved["id"] for saved in found[0]] == [saved["id"] for saved in found[1]]
    (automation,) = ledger.api().automations("local-org", name="airflow: production moves")
    assert automation.action.request_payload == webhook_payload()
