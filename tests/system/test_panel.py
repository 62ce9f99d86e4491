"""The tab *W&B* of a DAG run and the button *W&B run*, in a browser on a real Airflow."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

from tests.system.conftest import WANDB_ENTITY, WANDB_PROJECT, WEBHOOK_SECRET
from tests.system.dags.webhooks import TWO_SERVERS_CONN_ID
from wandb_airflow_provider.demo.airflow_api import DagRun
from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.devserver_process import DevServerProcess
from wandb_airflow_provider.demo.polling import wait_for
from wandb_airflow_provider.demo.ports import LOOPBACK, claim_port
from wandb_airflow_provider.demo.processes import ManagedProcess, ProcessGroup
from wandb_airflow_provider.watching.notice import webhook_payload

pytestmark = pytest.mark.slow

Move = Callable[[str, str], None]

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
]
HOSTILE = "<img src=x onerror=alert(1)>"
PASSWORD = "only for this test"
# How much brighter the text is than what is behind it, as WCAG counts: 4.5 is what people can read.
CONTRAST = """() => {
  const luminance = (color) => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => {
      const value = part / 255;
      return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let painted = document.querySelector(".wandb-panel");
  const paint = (element) => getComputedStyle(element).backgroundColor;
  while (painted.parentElement && /^rgba\\(.*, 0\\)$|^transparent$/.test(paint(painted))) {
    painted = painted.parentElement;
  }
  const behind = luminance(paint(painted));
  return [...document.querySelectorAll(".wandb-panel th, .wandb-panel td, .wandb-panel a, .wandb-panel .muted")].map(
    (element) => {
      const text = luminance(getComputedStyle(element).color);
      return (Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05);
    });
}"""


@dataclass
class Tab:
    """A page, what it tried to reach elsewhere, and what went wrong in it."""

    page: Page
    elsewhere: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, page: Page) -> Tab:
        tab = cls(page)

        def decide(route: Route) -> None:
            if urlsplit(route.request.url).hostname in (LOOPBACK, None):
                route.continue_()
            else:
                tab.elsewhere.append(route.request.url)
                route.abort()

        page.context.route("**/*", decide)
        page.on("pageerror", lambda error: tab.problems.append(str(error)))
        page.on("dialog", lambda dialog: tab.problems.append(dialog.message))
        return tab

    def rows(self) -> list[str]:
        """Return where the rows stand that are to be seen."""
        rows = self.page.locator(".wandb-panel tbody tr")
        rows.first.wait_for(timeout=30_000)
        return [str(row.get_attribute("data-path")) for row in rows.all()]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "the browser tests need chromium on the PATH: apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def tree(airflow_cluster: AirflowCluster) -> DagRun:
    """The ended run of a DAG with everything, and of those that it started."""
    for dag_id in ("panel_child", "panel_consumer"):
        airflow_cluster.wait_for_dag(dag_id)
        airflow_cluster.api.unpause(dag_id)
    run = airflow_cluster.run_dag("panel_tree")
    for dag_id in ("panel_child", "panel_consumer"):
        started = airflow_cluster.wait_for_new_run(dag_id)
        airflow_cluster.wait_for_run(dag_id, started.dag_run_id)
    return run


def page_of(run: DagRun, *more: str) -> str:
    return "/".join(["/dags", run.dag_id, "runs", quote(run.dag_run_id, safe=""), *more])


def links(cluster: AirflowCluster, run: DagRun, task_id: str, map_index: int = -1) -> dict[str, Any]:
    path = f"/dags/{run.dag_id}/dagRuns/{quote(run.dag_run_id, safe='')}/taskInstances/{task_id}/links"
    found: dict[str, Any] = cluster.api.request("GET", path, params={"map_index": map_index})["extra_links"]
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_tab_of_a_dag_run_draws_its_tree(
    airflow_cluster: AirflowCluster, tree: DagRun, chromium: Browser, theme: Any
) -> None:
    with chromium.new_page(viewport={"width": 1500, "height": 1000}, color_scheme=theme) as page:
        tab = Tab.of(page)
        page.goto(airflow_cluster.url + page_of(tree))
        page.get_by_role("link", name="W&B", exact=True).click()

        rows = tab.rows()
        fit = "/training/fit"
        everything = {
            *(
                "/prepare",
                "/training",
                "/training/broken",
                fit,
                f"{fit}/fit[0]",
                f"{fit}/fit[1]",
                f"{fit}/fit[2]",
            ),
            *("/never", "/left_out", "/plain_pusher", "/plain_forger", "/trigger"),
        }
        assert set(rows) == everything
        assert len(rows) == len(everything)

        def cells(path: str) -> list[str]:
            return page.locator(f'.wandb-panel tr[data-path="{path}"] td').all_inner_texts()

        assert cells("/training/broken")[0] == "failed"
        assert cells("/left_out")[:2] == ["skipped", ""]
        assert cells(f"{fit}/fit[1]")[3:] == ["loss 0.4", "open"]
        # Text is text, whatever it says.
        assert f"{HOSTILE} 0.5" in cells("/prepare")[3]
        assert page.locator(".wandb-panel img").count() == 0
        assert page.locator(".wandb-panel a[href^='javascript']").count() == 0
        assert cells("/plain_forger")[4] == ""
        started = (
            page.locator(".wandb-panel section", has_text="Started DAG runs").locator("li").all_inner_texts()
        )
        assert sorted(text.split(" ")[0] for text in started) == ["panel_child", "panel_consumer"]
        assert all(text.endswith("W&B run") for text in started)
        assert min(page.evaluate(CONTRAST)) >= 4.5

        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Pipeline run in W&B").click()
        opened.value.get_by_text(f"panel_tree · {tree.dag_run_id}").first.wait_for(timeout=30_000)
        assert (tab.elsewhere, tab.problems) == ([], [])


def test_the_tab_is_worked_with_the_keyboard_alone(
    airflow_cluster: AirflowCluster, tree: DagRun, chromium: Browser
) -> None:
    with chromium.new_page(viewport={"width": 1500, "height": 1000}) as page:
        tab = Tab.of(page)
        page.goto(airflow_cluster.url + page_of(tree, "plugin", "wandb"))
        before = tab.rows()
        page.get_by_role("link", name="Pipeline run in W&B").focus()
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.getAttribute('aria-label')") == "Fold training":
                break
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Unfold training", exact=True).wait_for()
        assert set(before) - set(tab.rows()) == {path for path in before if path.startswith("/training/")}
        page.keyboard.press("Space")
        page.get_by_role("button", name="Fold training", exact=True).wait_for()
        assert tab.rows() == before
        assert tab.problems == []


def test_every_task_that_pushed_an_address_has_one_button(
    airflow_cluster: AirflowCluster, tree: DagRun, chromium: Browser
) -> None:
    pushed = "http://127.0.0.1:1/somebody/elses/runs/1"
    assert links(airflow_cluster, tree, "plain_pusher") == {"W&B run": pushed}
    assert links(airflow_cluster, tree, "plain_forger") == {"W&B run": None}
    assert links(airflow_cluster, tree, "left_out") == {"W&B run": None}
    mapped = [links(airflow_cluster, tree, "training.fit", index)["W&B run"] for index in range(3)]
    assert len(set(mapped)) == 3
    assert all("/runs/training.fit-" in url for url in mapped)

    with chromium.new_page(viewport={"width": 1500, "height": 1000}) as page:
        tab = Tab.of(page)
        for task_id in ("plain_pusher", "prepare"):
            page.goto(airflow_cluster.url + page_of(tree, "tasks", task_id, "details"))
            button = page.get_by_role("link", name="W&B run", exact=True)
            button.first.wait_for(timeout=30_000)
            assert button.count() == 1, task_id
            assert button.get_attribute("target") == "_blank"
        assert tab.problems == []


def test_the_button_is_there_while_the_task_runs(airflow_cluster: AirflowCluster, tmp_path: Path) -> None:
    airflow_cluster.wait_for_dag("panel_live")
    airflow_cluster.api.unpause("panel_live")
    gate = tmp_path / "go on"
    run = airflow_cluster.api.trigger("panel_live", conf={"gate": str(gate)})
    try:
        url = wait_for(
            "the link of the running task",
            lambda: links(airflow_cluster, run, "plain_waiter").get("W&B run"),
            timeout=60,
        )
        (task,) = airflow_cluster.api.task_instances("panel_live", run.dag_run_id)
        assert (url, task.state) == ("http://127.0.0.1:1/e/p/runs/live", "running")
    finally:
        gate.touch()
    assert airflow_cluster.wait_for_run("panel_live", run.dag_run_id).state == "success"


@pytest.fixture(scope="module")
def move(wandb_server: DevServerProcess) -> Iterator[Move]:
    """``move(collection, alias)`` gives an alias of the registry ``model`` to a version."""
    import wandb

    settings = wandb.Settings(
        base_url=wandb_server.url, api_key=wandb_server.api_key, console="off", silent=True
    )

    def move_alias(collection: str, alias: str) -> None:
        with wandb.init(
            entity=WANDB_ENTITY, project=WANDB_PROJECT, settings=settings, reinit="create_new"
        ) as run:
            artifact = wandb.Artifact(collection, type="model")
            with artifact.new_file("weights.txt") as file:
                file.write(collection)
            logged = run.log_artifact(artifact).wait()
            run.link_artifact(logged, f"wandb-registry-model/{collection}", aliases=[alias])

    yield move_alias
    wandb.teardown()


@pytest.fixture(scope="module")
def second_server(airflow_cluster: AirflowCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Another API server of the same Airflow: below a path, and with users who have to log in."""
    folder = tmp_path_factory.mktemp("second")
    (folder / "passwords.json").write_text(json.dumps({"reader": PASSWORD}))
    port = claim_port(0, purpose="Airflow", option="none")
    url = f"http://{LOOPBACK}:{port}/team"
    options = {
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "reader:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
    }
    processes = ProcessGroup()
    command = [sys.executable, "-m", "airflow", "api-server", "--host", LOOPBACK, "--workers", "1"]
    try:
        processes.add(
            ManagedProcess(
                "the second API server",
                command,
                env={**airflow_cluster.environment(), **options},
                log_path=folder / "log",
                cwd=folder,
            )
        )

        def answers() -> bool | None:
            try:
                return httpx.get(f"{url}/api/v2/version", trust_env=False).is_success or None
            except httpx.TransportError:
                return None

        wait_for("the second API server", answers, timeout=120, check=processes.check)
        yield url
    finally:
        processes.stop()


def test_behind_a_path_the_tab_asks_who_is_there(tree: DagRun, second_server: str, chromium: Browser) -> None:
    data = f"{second_server}/wandb-panel/dags/{tree.dag_id}/runs/{quote(tree.dag_run_id, safe='')}"
    with httpx.Client(trust_env=False) as client:
        assert client.get(data).status_code == 401
        login = {"username": "reader", "password": PASSWORD}
        token = (
            client.post(f"{second_server}/auth/token", json=login).raise_for_status().json()["access_token"]
        )
        seen = client.get(data, headers={"Authorization": f"Bearer {token}"})
        assert (seen.status_code, seen.json()["state"]) == (200, "failed")

    with chromium.new_page(viewport={"width": 1500, "height": 1000}) as page:
        tab = Tab.of(page)
        page.context.add_cookies([{"name": "_token", "value": token, "domain": LOOPBACK, "path": "/team"}])
        page.goto(second_server + page_of(tree, "plugin", "wandb"))
        assert "/training/fit/fit[2]" in tab.rows()
        page.locator('.wandb-panel tr[data-path="/prepare"] a').first.click()
        page.wait_for_url("**/team/dags/panel_tree/runs/*/tasks/prepare*")
        assert (tab.elsewhere, tab.problems) == ([], [])


def test_a_webhook_that_two_api_servers_get_at_once_is_one_event(
    airflow_cluster: AirflowCluster, wandb_server: DevServerProcess, second_server: str, move: Move
) -> None:
    api = airflow_cluster.api
    connection = {
        "connection_id": TWO_SERVERS_CONN_ID,
        "conn_type": "wandb",
        "host": wandb_server.url,
        "password": wandb_server.api_key,
        "extra": json.dumps({"entity": WANDB_ENTITY, "project": WANDB_PROJECT}),
    }
    api.request("POST", "/connections", json=connection)
    airflow_cluster.wait_for_dag("webhook_two_servers")
    api.unpause("webhook_two_servers")
    (asset,) = api.request("GET", "/assets", params={"dag_ids": ["webhook_two_servers"]})["assets"]

    def is_watched() -> bool | None:
        return True if api.request("GET", f"/assets/{asset['id']}/state-store")["total_entries"] else None

    # The first read takes what it finds as given; the next one comes in an hour.
    wait_for("the watcher", is_watched, timeout=60)
    move("two-servers", "production")
    fields = {"entity": "local-org", "project": "wandb-registry-model", "collection": "two-servers"}
    about = {"alias": "production", "event": "ADD_ARTIFACT_ALIAS", "actor": "ada"}
    body = json.dumps({**webhook_payload(), **fields, **about}).encode()
    signature = base64.b64encode(hmac.new(WEBHOOK_SECRET.encode(), body, hashlib.sha256).digest()).decode()
    headers = {"Content-Type": "application/json", "X-Wandb-Signature": signature}

    def post(url: str) -> str:
        answer = httpx.post(
            f"{url}/wandb/webhook", content=body, headers=headers, trust_env=False, timeout=60
        )
        assert answer.status_code in (200, 202), answer.text
        return str(answer.json()["status"])

    def is_known(url: str) -> bool | None:
        return post(url) == "already_reported" or None

    servers = (airflow_cluster.url, second_server)
    with ThreadPoolExecutor(2) as senders:
        # Queued where a busy machine takes longer than W&B waits; left where Airflow starts the watcher anew just then.
        told = set(senders.map(post, servers))
    assert told <= {"reported", "already_reported", "queued", "left_to_poller"}
    for url in servers:
        wait_for(f"{url} to have looked into it", lambda url=url: is_known(url), timeout=60)
    run = airflow_cluster.wait_for_new_run("webhook_two_servers")
    # Airflow refuses to tell of an event whose DAG run has not begun.
    airflow_cluster.wait_for_run("webhook_two_servers", run.dag_run_id)
    events = api.request("GET", "/assets/events", params={"asset_id": asset["id"]})["asset_events"]
    assert [event["extra"]["payload"]["change"] for event in events] == ["added"], (told, events)
