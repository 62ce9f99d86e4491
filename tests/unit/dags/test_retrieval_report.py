"""The report: what it says, and that no value can become markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

_NASTY = '<script>alert(1)</script> | [x](javascript:alert(1)) `y` *z*\n# h & "q"'


def _render(**changes: Any) -> Any:
    from retrieval.report import render_report

    values: dict[str, Any] = {
        "title": "Weekly retraining",
        "candidate": {"mrr": 0.42, "hit_rate_at_1": 0.3, "n_queries": 414.0},
        "references": {"Untrained": {"mrr": 0.4, "hit_rate_at_1": 0.3}, "Production": None},
        "verdict": {
            "passed": False,
            "outcomes": [
                {"metric": "mrr", "passed": False, "value": 0.42, "threshold": 0.5, "reason": "too low"},
                {"metric": "hit_rate_at_1", "passed": True, "value": 0.3},
            ],
        },
        "loss": [(1, 4.0), (2, 3.0), (3, 1.0)],
        "regressions": [{"query": "where is it", "rank": 9, "reference_rank": 1}],
        "dataset": {"splits": {"train": {"examples": 1647}}, "python_version": "3.11.7"},
        "hyperparameters": {"dim": 1536, "max_features": None},
        "git_commit": "0123abc",
        "links": {"Run": "https://example.org/run?a=1&b=2", "Bad": "javascript:alert(1)"},
    }
    return render_report(**{**values, **changes})


class _Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_markdown_shows_metrics_with_their_change_and_each_rule() -> None:
    text = _render().markdown

    assert "| mrr | 0.42 | 0.4 | \\+0.0200 \\(\\+5.0%\\) |" in text
    assert "Nothing to compare with yet: Production." in text
    assert "**The gate stopped the candidate: it will not be promoted.**" in text
    assert "| fail | mrr | 0.42 | 0.5 | too low |" in text
    assert "| pass | hit\\_rate\\_at\\_1 | 0.3 |" in text
    assert "3 steps, first 4, last 1, lowest 1." in text
    assert "| splits.train.examples | 1647 |" in text
    assert "| max\\_features | none |" in text
    assert "[Run](<https://example.org/run?a=1&b=2>)" in text
    assert "0123abc" in text


def test_html_is_one_well_formed_page_that_loads_nothing() -> None:
    html = _render().html
    page = _Page(html)

    assert page.open == []
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert [value for name, value in page.attributes if name in {"src", "href"}] == [
        "https://example.org/run?a=1&b=2"
    ]
    assert "@import" not in html
    assert "url(" not in html
    assert re.search(r'<polyline points="44\.0,44\.0 [^"]+"', html)
    assert '<td class="fail">fail</td>' in html


@pytest.mark.parametrize(
    "place", ["title", "candidate", "references", "verdict", "regressions", "dataset", "links"]
)
def test_no_value_becomes_markup(place: str) -> None:
    nasty: dict[str, Any] = {
        "title": _NASTY,
        "candidate": {_NASTY: 0.5},
        "references": {_NASTY: {"mrr": 0.1}},
        "verdict": {"passed": True, "outcomes": [{"metric": _NASTY, "passed": _NASTY, "reason": _NASTY}]},
        "regressions": [{"query": _NASTY, _NASTY: 1}],
        "dataset": {_NASTY: {_NASTY: _NASTY}},
        "links": {_NASTY: f"https://example.org/{_NASTY}"},
    }
    report = _render(**{place: nasty[place]})

    assert "script" not in _Page(report.html).tags
    assert all(
        name != "href" or str(value).startswith("https://") for name, value in _Page(report.html).attributes
    )
    assert "<script" not in report.markdown
    assert "](javascript:" not in report.markdown
    tables = [line for line in report.markdown.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) in {3, 4, 5, 6} for line in tables)


@pytest.mark.parametrize(
    ("verdict", "headline"),
    [
        (None, "has not been judged yet"),
        ({}, "has not been judged yet"),
        ({"passed": "yes"}, "has not been judged yet"),
        ({"passed": True}, "The gate passed"),
        ({"passed": False, "outcomes": None}, "The gate stopped"),
    ],
)
def test_an_odd_verdict_is_never_shown_as_passed(verdict: dict[str, Any] | None, headline: str) -> None:
    report = _render(verdict=verdict)

    assert headline in report.markdown
    assert headline in report.html


def test_a_report_of_almost_nothing_still_renders() -> None:
    from retrieval.report import render_report

    report = render_report(title="Empty", candidate={}, references={}, loss=[(1, 2.0)])

    assert "1 steps, first 2, last 2, lowest 2." in report.markdown
    assert _Page(report.html).open == []
