"""The pages in a real browser: charts are drawn, the keyboard reaches everything, nothing leaves the machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser as BrowserProcess
from playwright.sync_api import Page, Route, sync_playwright

from tests.devserver.pages.ledger import HOSTILE
from tests.devserver.pages.showcase import Site

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
]
LOOPBACK = ("127.0.0.1", "localhost", "::1", None)
TRAINING = "/local/retrieval/runs/train-2026-11-22-try2"
MODEL = "/local/retrieval/artifacts/model/retriever"
GROUP = quote("weekly_retraining__scheduled__2026-11-22T00:00:00+00:00", safe="")


@dataclass
class Browser:
    """A tab, what it tried to reach elsewhere, and what went wrong in it."""

    tab: Page
    elsewhere: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "the browser tests need chromium on the PATH: apt-get install chromium"
    return found


@pytest.fixture(scope="module")
def process(chromium: str) -> Iterator[BrowserProcess]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def browser(process: BrowserProcess) -> Iterator[Browser]:
    with process.new_page(viewport={"width": 1280, "height": 900}) as tab:
        opened = Browser(tab)

        def decide(route: Route) -> None:
            if urlsplit(route.request.url).hostname in LOOPBACK:
                route.continue_()
            else:
                opened.elsewhere.append(route.request.url)
                route.abort()

        tab.route("**/*", decide)
        tab.on(
            "console",
            lambda message: opened.problems.append(message.text) if message.type == "error" else None,
        )
        tab.on("pageerror", lambda error: opened.problems.append(str(error)))
        yield opened
    assert opened.elsewhere == []


@pytest.mark.slow
def test_the_loss_curve_is_drawn_without_errors(site: Site, browser: Browser):
    browser.tab.goto(f"{site.server.url}{TRAINING}")
    figure = browser.tab.locator("figure", has=browser.tab.get_by_text("loss", exact=True))
    line = figure.locator("svg .scatterlayer path.js-line")
    line.wait_for(timeout=20_000)
    assert len(line.get_attribute("d") or "") > 200
    assert browser.tab.locator("svg .scatterlayer path.js-line").count() == 2
    assert browser.problems == []


def test_the_keyboard_goes_from_the_skip_link_to_the_runs_links(site: Site, browser: Browser):
    browser.tab.goto(f"{site.server.url}/local/retrieval/groups/{GROUP}")
    reached = []
    for _ in range(8):
        browser.tab.keyboard.press("Tab")
        reached.append(browser.tab.evaluate("document.activeElement.textContent.trim()"))
    assert reached[:3] == ["Skip to content", "W&B dev server", "local/retrieval"]
    assert "prepare_data" in reached
    browser.tab.keyboard.press("Enter")
    browser.tab.wait_for_url("**/runs/**")
    assert browser.problems == []


@pytest.mark.slow
def test_runs_are_searched_and_sorted_with_the_keyboard_alone(site: Site, browser: Browser):
    tab = browser.tab
    tab.goto(f"{site.server.url}/local/retrieval")
    tab.get_by_role("link", name="Runs 19").focus()
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/local/retrieval/runs")
    for _ in range(4):
        tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.labels[0].textContent") == "Find"
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.keyboard.type("job=train summary.loss<1")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/runs?q=job%3Dtrain+summary.loss%3C1&**")
    assert tab.get_by_role("status").inner_text() == "2 runs found"

    heading = tab.get_by_role("columnheader", name="loss")
    assert heading.get_attribute("aria-sort") is None
    for order, first in (("descending", "train"), ("ascending", "train · try 2")):
        heading.get_by_role("link").focus()
        tab.keyboard.press("Enter")
        tab.locator(f"th[aria-sort={order}]").wait_for()
        assert heading.get_attribute("aria-sort") == order
        assert tab.locator("td.name").first.inner_text() == first
    tab.locator("td.name a").first.focus()
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"**{TRAINING}")
    assert browser.problems == []


@pytest.mark.slow
def test_charts_of_system_metrics_are_drawn_when_they_are_opened(site: Site, browser: Browser):
    browser.tab.goto(f"{site.server.url}/local/lab/runs/instrumented")
    chart = browser.tab.locator("#system-chart-0 svg .scatterlayer path")
    assert chart.count() == 0
    browser.tab.get_by_text("metrics of the machine").focus()
    browser.tab.keyboard.press("Enter")
    chart.first.wait_for(timeout=20_000)
    box = browser.tab.locator("#system-chart-0 svg").first.bounding_box()
    assert box is not None
    assert box["width"] > 200
    assert browser.problems == []


@pytest.mark.slow
def test_a_reader_walks_from_home_to_the_promoted_version_and_its_training(site: Site, browser: Browser):
    browser.tab.goto(site.server.url)
    browser.tab.get_by_role("link", name="model", exact=True).click()
    browser.tab.get_by_role("link", name="v1", exact=True).click()
    assert browser.tab.title().startswith("retriever:v1")
    browser.tab.locator("svg.lineage a", has_text="train · try 2").click()
    browser.tab.wait_for_url(f"**{TRAINING}")
    assert browser.tab.locator("h1").inner_text().startswith("train · try 2")


def test_names_in_the_lineage_stay_within_their_boxes(site: Site, browser: Browser):
    for path, count in ((f"{MODEL}/v1", 9), ("/local/odd/artifacts/dataset/odd/v0", 2)):
        browser.tab.goto(f"{site.server.url}{path}")
        room = browser.tab.locator("svg.lineage a").evaluate_all(
            """boxes => boxes.map(box => {
                const right = item => item.getBoundingClientRect().right;
                return right(box.querySelector("rect")) - Math.max(...[...box.querySelectorAll("text")].map(right));
            })"""
        )
        assert len(room) == count
        assert min(room) > 2


def test_numbers_in_a_wide_table_are_not_broken(site: Site, browser: Browser):
    browser.tab.goto(f"{site.server.url}/local/retrieval/runs/evaluate-2026-11-22-0")
    browser.tab.evaluate(
        """document.querySelectorAll("table.data tr").forEach(row => {
            const cells = [...row.children];
            for (let times = 0; times < 7; times++) row.append(...cells.map(cell => cell.cloneNode(true)));
        });
        document.querySelectorAll("table.data th").forEach(heading => { heading.textContent = "v"; })"""
    )
    numbers = browser.tab.locator("table.data tr:nth-child(3) td.right")
    assert numbers.count() == 16
    lines = numbers.evaluate_all(
        """cells => cells.map(cell => {
            const text = document.createRange();
            text.selectNodeContents(cell);
            return text.getClientRects().length;
        })"""
    )
    assert set(lines) == {1}


def test_logged_html_is_seen_and_cannot_run_scripts(site: Site, browser: Browser):
    browser.tab.on(
        "dialog", lambda dialog: browser.problems.append(f"dialog {dialog.message}") or dialog.dismiss()
    )
    browser.tab.goto(f"{site.server.url}/local/retrieval/runs/report-2026-11-22")
    frame = browser.tab.frame_locator("iframe[title=report]")
    browser.tab.locator("iframe").scroll_into_view_if_needed()
    assert frame.locator("h1").inner_text() == "Weekly retraining"
    # The browser says so itself, and this is the only thing that it has to say.
    assert [problem.startswith("Blocked script execution") for problem in browser.problems] == [True]


@pytest.mark.slow
def test_every_kind_of_page_fits_the_window_and_runs_no_markup_from_names(site: Site, browser: Browser):
    tab = browser.tab
    hostile = [
        "/local/odd",
        "/local/odd/runs",
        "/local/odd/runs/hostile",
        f"/local/odd/groups/{quote(f'{HOSTILE} group', safe='')}",
        "/local/odd/artifacts/dataset/odd/v0",
        "/orgs/local-org/registry/dataset",
        "/local/lab",
        "/local/lab/runs/instrumented",
        "/local/lab/automations",
        site.urls["sweep"].removeprefix(site.server.url),
        site.urls["report"].removeprefix(site.server.url),
    ]
    others = ["/", "/local/retrieval", "/local/retrieval/runs", TRAINING, f"/local/retrieval/groups/{GROUP}"]
    others += ["/orgs/local-org/registry/model", site.urls["registry"].removeprefix(site.server.url)]
    for path in others + hostile:
        tab.set_viewport_size({"width": 1280, "height": 800})
        tab.goto(f"{site.server.url}{path}")
        for width in (1280, 390):
            tab.set_viewport_size({"width": width, "height": 800})
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, path
        assert tab.title() != "owned", path
        assert tab.locator("main b, main u").count() == 0, path
        if path in hostile:
            assert tab.get_by_text("<script>").count() + tab.get_by_text("<u>").count() > 0, path
        assert tab.locator("h1").count() == 1, path
        assert tab.locator("nav[aria-label=Breadcrumbs] a").first.get_attribute("href") == "/", path
        assert tab.locator("th:not([scope])").count() == 0, path
        for entry in tab.locator("input:not([type=hidden])").all():
            assert entry.evaluate("entry => entry.labels.length") == 1, path
    assert browser.problems == []
