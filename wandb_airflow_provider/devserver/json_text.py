"""
JSON text from clients, in the form in which it is stored: valid for SQLite, and writable into any answer.

SQLite refuses a whole document for one NaN or for nesting that it finds too deep, and then every query that meets it;
text with half of a surrogate pair cannot be sent.
"""

from __future__ import annotations

import json
from typing import Any

from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.store import dumps

# Far from what SQLite and Python refuse, which depends on how deep the caller is.
_DEEPEST = 100


def parse(what: str, text: str) -> Any:
    """
    Return the value of JSON text.

    :param what: What the text is, for messages.
    :raises GraphQLError: 400 if it is not JSON, or is nested too deeply.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise GraphQLError(f"{what} is not JSON: {error}") from error
    except RecursionError as error:
        raise _too_deep(what) from error
    if len(text) > 2 * _DEEPEST and text.count("{") + text.count("[") > _DEEPEST and _is_deep(value):
        raise _too_deep(what)
    return value


def parse_object(what: str, text: str) -> dict[str, Any]:
    """Return the object that JSON text holds; raises a 400 as :func:`parse` does, also if it holds something else."""
    value = parse(what, text)
    if not isinstance(value, dict):
        raise GraphQLError(f"{what} must be a JSON object, not {type(value).__name__}.")
    return value


def stored_text(value: Any) -> str:
    """Return a JSON value as text to store."""
    return encodable(dumps(portable(value)))


def portable(value: Any) -> Any:
    """Return a JSON value with NaN and the infinities as the text that W&B gives for them."""
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    if isinstance(value, float):
        if value != value:
            return "NaN"
        if value in (float("inf"), float("-inf")):
            return "Infinity" if value > 0 else "-Infinity"
    return value


def encodable(text: str) -> str:
    """Return text with U+FFFD, as wandb itself puts it, for each half of a surrogate pair that stands alone."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def has_surrogates(text: str) -> bool:
    """Tell whether JSON text may hold halves of surrogate pairs, by their escapes."""
    return "\\u" in text and ("\\ud" in text or "\\uD" in text)


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST + 1):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def _too_deep(what: str) -> GraphQLError:
    return GraphQLError(f"{what} is nested deeper than {_DEEPEST} levels.")
