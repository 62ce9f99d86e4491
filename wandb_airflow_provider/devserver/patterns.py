"""
Regular expressions that clients send, matched in time that grows no faster than the text.

Python's own engine can need centuries for ``(a+)+$`` and cannot be interrupted, which would stop the server. This one,
Rust's, has no such patterns because it has neither lookarounds nor backreferences.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

if TYPE_CHECKING:
    from pydantic_core import SchemaValidator

MOST_IN_A_FILTER = 32
# Together these keep one comparison within a tenth of a second.
_LARGEST_PATTERN = 1000
_COMPARED_CHARACTERS = 2000
_TOKEN = re.compile(r"\\.|(?P<counted>\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\})|.", re.DOTALL)
# Spaces and comments between the parts would make the size of a pattern hard to tell.
_VERBOSE = re.compile(r"\(\?[A-Za-z]*x")


def check(pattern: str) -> str:
    """
    Return a pattern as it is.

    :raises GraphQLError: 400 if it is not one that the server takes; the message says why.
    """
    _compiled(pattern)
    return pattern


def found_in(pattern: str, text: str) -> bool:
    """
    Tell whether a pattern is found within the first 2,000 characters of a text.

    :raises GraphQLError: as :func:`check` does.
    """
    return _compiled(pattern).isinstance_python(text[:_COMPARED_CHARACTERS])


# Compiled, one can take megabytes; one filter has room for all of its own.
@lru_cache(maxsize=2 * MOST_IN_A_FILTER)
def _compiled(pattern: str) -> SchemaValidator:
    # Its import takes a while, and few requests need it.
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    shown = repr(pattern[:200])
    if _VERBOSE.search(pattern):
        raise GraphQLError(
            f"the regular expression {shown} in the filter has the flag 'x', which is not supported."
        )
    size = _size(pattern)
    if size > _LARGEST_PATTERN:
        raise GraphQLError(
            f"the regular expression {shown} in the filter is {size} characters long once its repetitions are written"
            f" out; at most {_LARGEST_PATTERN} are taken."
        )
    try:
        return SchemaValidator(
            core_schema.str_schema(pattern=pattern, regex_engine="rust-regex", strict=True)
        )
    except SchemaError as error:
        reason = str(error).splitlines()[-1].strip().removeprefix("error: ").removeprefix("SchemaError: ")
        raise GraphQLError(
            f"the filter has the invalid regular expression {shown}: {reason.rstrip('.')}."
        ) from error


def _size(pattern: str) -> int:
    """Return how many characters a pattern has, at least, with counted repetitions written out."""
    outer: list[int] = []
    total = last = 0
    for token in _TOKEN.finditer(pattern):
        if token["counted"]:
            repeats = max(int((text or "0")[:9]) for text in token.group(2, 3))
            total += last * max(repeats - 1, 0)
            last *= max(repeats, 1)
        elif token[0] == "(":
            outer.append(total)
            total = last = 0
        elif token[0] == ")":
            # One that nothing opens counts as the end of all before it.
            last = total = max(total, 1)
            total += outer.pop() if outer else 0
        else:
            last = 1
            total += 1
    return total + sum(outer)
