"""Arguments by name: what resolvers are given for what clients send."""

from __future__ import annotations

from typing import Any

import pytest

from wandb_airflow_provider.devserver.graphql.argument_types import checked
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.graphql.values import Arguments


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("name", "x", "x"),
        ("name", None, None),
        ("id", 7, "7"),
        ("first", 5.0, 5),
        ("metricValue", 0.5, 0.5),
        ("names", "one", ["one"]),
        ("userIds", [1, "b"], ["1", "b"]),
        ("filters", {"a": 1}, {"a": 1}),
        ("tags", ["a", {"tagName": "b"}], ["a", {"tagName": "b"}]),
        ("input", {"id": 7, "unheard": [1]}, {"id": "7", "unheard": [1]}),
        ("unheard", [{}], [{}]),
    ],
)
def test_argument_is_given_as_resolvers_take_it(name: str, given: Any, taken: Any) -> None:
    assert checked(name, given) == taken


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("name", 5, r"the argument 'name' must be text, not '5' \(int\)"),
        ("id", True, "the argument 'id' must be text"),
        ("first", "1", "the argument 'first' must be a whole number"),
        ("first", 1.5, "must be a whole number"),
        ("metricValue", False, "must be a number"),
        ("files", [5], "the argument 'files' must be text"),
        ("filters", 5, "must be JSON text or an object"),
        ("input", [1], "the argument 'input' must be an object"),
        ("artifactFiles", [{"name": 5}], "the argument 'name' must be text"),
    ],
)
def test_argument_of_another_type_is_refused(name: str, given: Any, message: str) -> None:
    with pytest.raises(GraphQLError, match=message):
        checked(name, given)


def test_objects_among_arguments_still_say_what_they_lack() -> None:
    taken = checked("input", Arguments({"name": None}))
    with pytest.raises(GraphQLError, match="'name' is required but null was given"):
        taken["name"]
    with pytest.raises(GraphQLError, match="'id' is required but was not given"):
        taken["id"]
