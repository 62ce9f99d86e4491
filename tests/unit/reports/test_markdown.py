"""A report as Markdown and HTML: what W&B holds is shown as it is, and breaks out of nothing."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from wandb_airflow_provider.reports.document import (
    Bullets,
    Curves,
    Document,
    Line,
    Link,
    Paragraph,
    Section,
    Table,
    cleaned,
)
from wandb_airflow_provider.reports.html import to_html
from wandb_airflow_provider.reports.markdown import escape, part_markdown, to_markdown

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=40)


def shown(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html)).replace("\u2060", "").strip()


@settings(max_examples=300, deadline=None)
@given(TEXTS)
@example("<script>alert(1)</script>")
@example("a | b \\| c \\")
@example("# head")
@example("1. one")
@example("- x")
@example("---")
@example("**b** _i_ `c` ~~s~~ [l](javascript:x) ![i](http://x) &lt; &#60; <http://x.y>")
@example("= =")
def test_any_text_is_shown_as_it_is_in_a_cell_a_line_and_a_bullet(text: str) -> None:
    plain = " ".join(text.split())
    table = PARSER.render(part_markdown(Table(("Key", "Value"), (("k", text), ("last", "row")))))
    cells = re.findall(r"<td>(.*?)</td>", table, re.DOTALL)
    assert [shown(cell) for cell in cells] == ["k", plain, "last", "row"]
    for part in (Paragraph((text,)), Bullets(((text,),))):
        html = PARSER.render(part_markdown(part))
        assert shown(html) == plain
        assert not re.search(r"<(?!/?(p|ul|li)>)", html), html


def test_addresses_in_texts_do_not_become_links_and_links_lead_to_the_web_only() -> None:
    for text in ("http://evil.example", "see www.evil.example", "a@evil.example"):
        assert not re.search(r"(?<!\\)://|www\.|(?<!\\)@", escape(text))
    places = ("javascript:alert(1)", "https://a.b/c d", "https://a.b/c)", "http://a.b/<x>", None)
    for url in places:
        assert part_markdown(Paragraph((Link("x", url),))) == "x"
    assert (
        part_markdown(Paragraph((Link("a]b", "https://a.b/c?d=1&e=2"),))) == "[a\\]b](https://a.b/c?d=1&e=2)"
    )
    assert "href" not in to_html(Document("t", (Section("s", (Paragraph((Link("x", "javascript:y"),)),)),)))


def document(rows: int = 3) -> Document:
    line = Line("train", "e/p/r", ((0.0, 3.0), (1.0, 1.0)))
    table = Table(("Key", "Value"), tuple((f"row {n}", "x" * 50) for n in range(rows)), "A note.")
    return Document(
        "Title",
        (
            Section("Verdict", (Paragraph(("Passed. ", "all"), strong=True),)),
            Section("Curves", (Curves("loss", (line, Line("empty", "e/p/s"))),)),
            Section("Long", (table,)),
            Section("Last", (Paragraph(("end",)),)),
        ),
    )


def test_a_report_too_long_for_its_reader_leaves_out_whole_sections_and_names_them() -> None:
    whole = to_markdown(document())
    assert whole.count("## ") == 4
    assert "| train | 3 | 1 | 1 | 3 |" in whole
    cut = to_markdown(document(rows=500), most_characters=2_000, more="[All](https://a.b)")
    assert len(cut) < 2_200
    assert cut.endswith("*Not shown here: Long, Last.* [All](https://a.b)")
    assert "row 1" not in cut


def test_curves_are_drawn_also_when_they_are_flat_huge_or_a_single_point() -> None:
    for points in (((0.0, 1.0),), ((0.0, 2.0), (5.0, 2.0)), ((0.0, -1e308), (1.0, 1e308))):
        html = to_html(Document("t", (Section("s", (Curves("loss", (Line("a", "e/p/r", points),)),)),)))
        (drawn,) = re.findall(r'<polyline points="([^"]*)"', html)
        assert len(drawn.split()) == len(points)
        assert "nan" not in drawn
        assert "inf" not in drawn


@pytest.mark.parametrize("word", ["secret"])
def test_every_text_of_a_document_is_cleaned_and_a_link_with_a_forbidden_address_is_text(word: str) -> None:
    def clean(text: str) -> str:
        return text.replace(word, "[gone]")

    line = Line(f"run {word}", "e/p/r", ((0.0, 1.0),))
    given: Any = Document(
        f"T {word}",
        (
            Section(
                f"S {word}",
                (
                    Paragraph((Link(word, f"https://a.b/{word}"), Link("kept", "https://a.b"))),
                    Table((word,), ((word,),), word),
                    Bullets(((word,),)),
                    Curves(f"loss {word}", (line,)),
                ),
            ),
        ),
    )
    found = cleaned(given, clean)
    assert word not in repr(found)
    assert found.sections[0].parts[0].pieces == (Link("[gone]", None), Link("kept", "https://a.b"))
    assert found.sections[0].parts[3].lines[0].points == ((0.0, 1.0),)
