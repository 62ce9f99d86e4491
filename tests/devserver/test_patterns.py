"""Regular expressions of clients: matched as Python would, in time that no pattern can stretch."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import wandb
from hypothesis import given, settings
from hypothesis import strategies as st

from wandb_airflow_provider.devserver import patterns
from wandb_airflow_provider.devserver.artifacts import search
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.sweeps import filters

# With Python's engine, each of these takes longer than the universe is old.
ENDLESS = ["(a+)+$", "^(a|a)*$", "(a|aa)+$", "(.*a){30}$", "(a*)*b", "a?" * 200 + "a" * 200 + "$", "(x+x+)+y"]
TEXTS = [
    "",
    "a",
    "abc",
    "run 12",
    "RUN-7",
    "2026-11-23",
    "über",
    "a\nb",
    "x" * 50,
    "a.b",
    "(a)",
    "train_v2/best",
]


@pytest.mark.parametrize("pattern", ENDLESS)
def test_pattern_that_backtracks_forever_elsewhere_is_answered(pattern: str) -> None:
    assert not patterns.found_in(pattern, "a" * 1999 + "!")
    assert not search.matches({"name": "a" * 1999 + "!"}, {"name": {"$regex": pattern}})
    sweep = {"name": "a" * 1999 + "!"}
    assert not filters.passes(sweep, {}, {"name": {"$regex": pattern}})


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "",
            "a",
            "^a",
            "c$",
            "(?i)run",
            r"^\w+ \d{1,2}$",
            r"^\d{4}-\d{2}-\d{2}$",
            "[^a-z]",
            "a|b|x{50}",
            ".",
            r"a\.b",
        ),
        *(
            r"\(a\)",
            r"(?P<stem>\w+)_v\d+/(best|last)",
            "a.b",
            "(?s)a.b",
            r"\bv2",
            "x{51}",
            r"\W",
            "ü",
            r"[\[]",
        ),
    ],
)
def test_pattern_finds_what_python_finds(pattern: str) -> None:
    for text in TEXTS:
        assert patterns.found_in(pattern, text) is (re.search(pattern, text) is not None), text


@pytest.mark.slow
@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(st.text(max_size=100))
def test_escaped_text_finds_itself(text: str) -> None:
    assert patterns.found_in(re.escape(text), f"<{text}>")
    assert patterns.found_in(f"(?i){re.escape(text)}", text)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", r"invalid regular expression '\(': unclosed group"),
        ("a(?=b)", "look-around, including look-ahead and look-behind, is not supported"),
        (r"(a)\1", "backreferences are not supported"),
        ("(?x) a b", "has the flag 'x', which is not supported"),
        ("(?ix:a)", "has the flag 'x', which is not supported"),
        ("a" * 1001, "is 1001 characters long once its repetitions are written out; at most 1000"),
        ("a{1001}", "is 1001 characters long"),
        ("((ab){20}c){30}", "is 1230 characters long"),
        ("((){99}){99}", "characters long once"),
        ("(a){,2000}", "is 2000 characters long"),
        (r"\w{250}\w{250}", "exceeds size limit"),
    ],
)
def test_pattern_that_is_not_taken_is_refused_with_the_reason(pattern: str, reason: str) -> None:
    for refuses in (patterns.check, lambda text: search.matches({"alias": []}, {"alias": {"$regex": text}})):
        with pytest.raises(GraphQLError, match=reason) as refused:
            refuses(pattern)
        assert refused.value.status == 400


def test_runs_are_listed_by_a_pattern_that_would_stop_python(
    api: wandb.Api, open_run: Callable[..., wandb.Run], project: str
) -> None:
    open_run(id="slow", name="a" * 60 + "!").finish()
    open_run(id="quick", name="aaa").finish()
    found = api.runs(f"local/{project}", filters={"display_name": {"$regex": "^(a+)+$"}})
    assert [run.id for run in found] == ["quick"]
    many = [{"display_name": {"$regex": f"a{number}"}} for number in range(33)]
    with pytest.raises(Exception, match="at most 32 regular expressions"):
        list(api.runs(f"local/{project}", filters={"$or": many}))
    with pytest.raises(Exception, match="backreferences are not supported"):
        list(api.runs(f"local/{project}", filters={"display_name": {"$regex": r"(a)\1"}}))
