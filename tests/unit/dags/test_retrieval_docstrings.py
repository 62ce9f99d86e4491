"""Reading, cleaning and splitting documentation strings."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("text", "kept", "gone"),
    [
        ("Send a mail to jane.doe+x@mail.example.org now.", "Send a mail to", "example.org"),
        ("First line.\nAuthor: Jane Doe\nLast line.", "Last line.", "Jane"),
        ("First line.\n:author: Jane Doe\nLast line.", "Last line.", "Jane"),
        ("Written by Jane Doe <jane@example.org>\nText.", "Text.", "Jane"),
        ("Copyright (C) 1999 Jane Doe.\nText.", "Text.", "Jane"),
        ("A parser (contributed by Jane van Doe) for text.", "for text", "Jane"),
        ("Rewritten by Jane Doe.\nText.", "Text.", "Jane"),
        ("Created by Jane Doe, for tests.\nText.", "Text.", "Jane"),
    ],
)
def test_scrub_removes_people_and_addresses(text: str, kept: str, gone: str) -> None:
    from retrieval.docstrings import scrub

    cleaned = scrub(text)

    assert kept in cleaned
    assert gone not in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "Objects created by calling open() are closed by the caller.",
        "The header is written by the server.",
        "Return the authority part.",
        "@decorator\ndef f(a): return a @ b",
        "Authorization is needed.",
    ],
)
def test_scrub_leaves_ordinary_prose_alone(text: str) -> None:
    from retrieval.docstrings import scrub

    assert scrub(text) == text


@pytest.mark.parametrize(
    ("summary", "name", "query"),
    [
        ("S.strip(chars) -> str, without blanks", "strip", "without blanks"),
        ("Strip blanks. STRIP is fast.", "strip", "blanks. is fast."),
        ("Use :meth:`Text.strip` to remove blanks.", "strip", "Use to remove blanks."),
        ("_walk the tree, then walk again", "_walk", "the tree, then again"),
        ("Initialise with __init__ or init().", "__init__", "Initialise with or ."),
        ("Restrip the stripped strips", "strip", "Restrip the stripped strips"),
        ("Copy x.y.copy(a, b) of it", "copy", "of it"),
    ],
)
def test_the_objects_own_name_is_removed_from_its_summary(summary: str, name: str, query: str) -> None:
    from retrieval.docstrings import without_name

    assert without_name(summary, name) == query


@pytest.mark.parametrize(
    ("text", "summary", "body"),
    [
        ("One line.\n\nThe body.", "One line.", "The body."),
        ("First sentence. Second one\ngoes on.", "First sentence.", "Second one\ngoes on."),
        ("A line that\nwraps here.\n\nBody.", "A line that\nwraps here.", "Body."),
        ("No stop at all\n\nBody.", "No stop at all", "Body."),
        ("f(a, b) -> c\n\nDo the thing.\n\nBody.", "Do the thing.", "Body."),
        ("Use e.g. This one. Then more.", "Use e.g. This one.", "Then more."),
        ("Version 3.11 is old. New.", "Version 3.11 is old.", "New."),
    ],
)
def test_the_summary_is_the_first_sentence(text: str, summary: str, body: str) -> None:
    from retrieval.docstrings import split_summary

    assert split_summary(text) == (summary, body)


def test_sources_are_parsed_and_never_run(sources: Path) -> None:
    from retrieval.docstrings import module_files, read_docstrings

    files = module_files(sources)
    found = list(read_docstrings("module00", files["module00"][0][1]))

    assert [(docstring.qualname, docstring.kind) for docstring in found] == [
        ("Picker0", "class"),
        ("Picker0.pick", "method"),
    ]


def test_definitions_inside_other_statements_are_found(tmp_path: Path) -> None:
    from retrieval.docstrings import read_docstrings

    define = 'def {0}():\n        "Document {0}."'
    parts = {
        "body": "if x:\n    {}",
        "orelse": "if x:\n    pass\nelse:\n    {}",
        "handler": "try:\n    pass\nexcept E:\n    {}",
        "final": "try:\n    pass\nfinally:\n    {}",
        "case": "match x:\n  case 1:\n    {}",
        "loop": "for x in y:\n  with z:\n    {}",
        "nested": "def outer():\n    {}",
    }
    file = tmp_path / "odd.py"
    file.write_text("\n".join(text.format(define.format(name)) for name, text in parts.items()))

    found = {docstring.qualname: docstring.text for docstring in read_docstrings("odd", file)}

    names = {name: f"outer.{name}" if name == "nested" else name for name in parts}
    assert found == {names[name]: f"Document {name}." for name in parts}


def test_a_file_of_another_python_yields_nothing(tmp_path: Path) -> None:
    from retrieval.docstrings import read_docstrings

    file = tmp_path / "old.py"
    file.write_text('print "hello"\n')

    assert list(read_docstrings("old", file)) == []


def test_tests_and_tools_are_skipped_and_twins_share_a_group(tmp_path: Path) -> None:
    from retrieval.docstrings import module_files

    for name in (
        "decimal.py",
        "_pydecimal.py",
        "json/__init__.py",
        "json/tool.py",
        "test/a.py",
        "idlelib/b.py",
    ):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("")

    groups = {group: [module for module, _ in files] for group, files in module_files(tmp_path).items()}

    assert groups == {"decimal": ["_pydecimal", "decimal"], "json": ["json"], "json.tool": ["json.tool"]}
