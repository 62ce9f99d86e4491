"""The pages in a real browser: charts are drawn, the keyboard reaches everything, nothing leaves the machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Page, Route, sync_playwright

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


@pytest.fixture
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        process = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        tab = process.new_page(viewport={"width": 1280, "height": 900})
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
        process.close()
    assert opened.elsewhere == []


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


def test_a_reader_walks_from_home_to_the_promoted_version_and_its_training(site: Site, browser: Browser):
    browser.tab.goto(site.server.url)
    browser.tab.get_by_role("link", name="model", exact=True).click()
    browser.tab.get_by_role("link", name="v1", exact=True).click()
    assert browser.tab.title().startswith("retriever:v1")
    browser.tab.locator("svg.lineage a", has_text="train · try 2").click()
    browser.tab.wait_for_url(f"**{TRAINING}")
    assert browser.tab.locator("h1").inner_text().startswith("train · try 2")


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


def test_markup_in_names_runs_nothing(site: Site, browser: Browser):
    for path in ("/", "/local/odd", "/local/odd/runs/hostile", "/local/odd/artifacts/dataset/odd/v0"):
        browser.tab.goto(f"{site.server.url}{path}")
        browser.tab.wait_for_load_state("load")
        assert browser.tab.title() != "owned"
        assert browser.tab.locator("main b").count() == 0
    assert browser.problems == []


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_the_window(site: Site, browser: Browser, width: int):
    browser.tab.set_viewport_size({"width": width, "height": 800})
    for path in (
        "/",
        "/local/retrieval",
        TRAINING,
        f"/local/retrieval/groups/{GROUP}",
        site.urls["registry"],
    ):
        browser.tab.goto(path if path.startswith("http") else f"{site.server.url}{path}")
        wanted = browser.tab.evaluate("document.documentElement.scrollWidth")
        assert wanted <= width, path
