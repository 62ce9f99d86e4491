"""What may leave Airflow: a redaction policy as a value. Pure; reads no secret and sends nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.record import Record

__all__ = ["RedactionPolicy", "ValuePattern"]

_T = TypeVar("_T")


class ValuePattern(Record):
    """
    What must not stand in any text.

    :param name: Shown in its place: ``[redacted:email]``.
    :param regex: Matches the part of a text that is replaced.
    :param hashed: Replace a match by its keyed hash, so that equal ones stay equal; needs a salt.
    """

    name: str
    regex: str
    hashed: bool = False


KNOWN_VALUES: Mapping[str, str] = {
    # Before the addresses: `user:password@host.example.com` holds what looks like one.
    "url_password": r"(?<=://)[^/\s:@]*:[^/\s]+(?=@)",
    # By their prefixes only: digests and commits are as long and as random as keys.
    "api_key": (
        r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{30,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
        r"|\bglpat-[\w-]{16,}|\bsk-(?=[\w-]*\d)(?=[\w-]*[A-Z])[\w-]{20,}|\b[sr]k_(?:live|test)_\w{16,}|\bxox[abeprs]-[\w-]{10,}"
        r"|\bhf_[A-Za-z0-9]{20,}|\bwandb_v\d+_\w{16,}"
        r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*-----|\Z)"
    ),
    "token": (
        r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*|(?<=[Bb]earer )(?=\S*[0-9])[\w.~+/-]{8,}=*"
        r"|(?<=[Bb]asic )(?=\S*[0-9=])[A-Za-z0-9+/]{8,}=*"
    ),
    # The sign may be escaped, as in the log URL of a DAG run whose id holds an address.
    "email": r"(?<![\w.%+!#$'*^`{|}~-])[\w.%+!#$'*^`{|}~-]+(?:@|%40)[\w-]+(?:\.[\w-]+)+",
}
"""Patterns that a policy may name instead of writing them."""

_DEFAULT_VALUES = tuple(ValuePattern(name, regex) for name, regex in KNOWN_VALUES.items())
_FIELDS = (
    "allow",
    "deny",
    "hash",
    "salt",
    "values",
    "statistics",
    "max_table_rows",
    "sample",
    "media",
    "machine",
)
_NAME = r"[a-z][a-z0-9_]{0,30}\Z"
_KEEP_OR_DROP = ("keep", "drop")


class RedactionPolicy(Record):
    """
    What is removed, hashed, summarised or sampled before anything is sent to W&B.

    Key patterns are globs over dotted paths, without regard to case; ``/`` counts as a dot. One matches a key at any
    depth, and all below it: ``email`` matches ``config.airflow.params.customer.email`` and the table column
    ``table.predictions.email``. The first part of a path is its area: ``config``, ``metrics``, ``summary``,
    ``table`` or ``metadata``.

    :param allow: Groups of patterns; a key must be allowed by each group. No group allows all.
    :param deny: Keys that are left out. Wins over ``allow``.
    :param hash: Keys whose values are replaced by HMAC-SHA256 under the salt.
    :param salt: Where the salt is kept: ``variable:<key>``, ``connection:<id>`` for its password, or
        ``connection:<id>:<field>`` for a field of its extra. Never the salt itself.
    :param values: What is replaced in every text.
    :param statistics: Names of tables of which only statistics per column are sent.
    :param max_table_rows: Longest table; of a longer one a sample that is the same on every try.
    :param sample: Pattern of metric keys to the rate at which they are kept, in (0, 1].
    :param media: Whether images, HTML, audio and the like are sent; their content is not looked into.
    :param machine: Whether W&B's own record of host, user, command line and checkout is sent.
    """

    allow: tuple[tuple[str, ...], ...] = ()
    deny: tuple[str, ...] = ()
    hash: tuple[str, ...] = ()
    salt: str | None = None
    values: tuple[ValuePattern, ...] = _DEFAULT_VALUES
    statistics: tuple[str, ...] = ()
    max_table_rows: int | None = None
    sample: tuple[tuple[str, float], ...] = ()
    media: str = "drop"
    machine: str = "drop"

    @classmethod
    def parse(cls, value: RedactionPolicy | Mapping[str, Any] | str) -> RedactionPolicy:
        """
        Read a policy from its JSON value, or from JSON or YAML text.

        :raises WandbConfigurationError: an unknown field, a pattern that is no regular expression, or a value of a
            wrong type. Nothing is sent without the policy that was asked for.
        """
        if isinstance(value, cls):
            return value
        given = _decoded(value) if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            raise WandbConfigurationError(f"The redaction policy is {value!r}; expected an object.")
        unknown = sorted(set(given) - set(_FIELDS))
        if unknown:
            raise WandbConfigurationError(
                f"The redaction policy has unknown fields {unknown}; known are {sorted(_FIELDS)}."
            )
        policy = cls(
            allow=_groups(given.get("allow", ())),
            deny=_texts("deny", given.get("deny", ())),
            hash=_texts("hash", given.get("hash", ())),
            salt=_salt(given.get("salt")),
            values=_values(given["values"]) if "values" in given else _DEFAULT_VALUES,
            statistics=_texts("statistics", given.get("statistics", ())),
            max_table_rows=_rows(given.get("max_table_rows")),
            sample=_rates(given.get("sample", {})),
            media=_choice("media", given.get("media", "drop")),
            machine=_choice("machine", given.get("machine", "drop")),
        )
        if policy.needs_salt and policy.salt is None:
            raise WandbConfigurationError(
                "The redaction policy hashes, and names no salt: add salt='variable:<key>' or 'connection:<id>'."
            )
        return policy

    @property
    def needs_salt(self) -> bool:
        """Whether something is hashed."""
        return bool(self.hash) or any(pattern.hashed for pattern in self.values)

    def merged(self, other: RedactionPolicy) -> RedactionPolicy:
        """Return the policy that is as strict as both; where only one can hold, as with the salt, ``other``'s."""
        rates = dict(self.sample)
        for key, rate in other.sample:
            rates[key] = min(rate, rates.get(key, 1.0))
        limits = [n for n in (self.max_table_rows, other.max_table_rows) if n is not None]
        return RedactionPolicy(
            allow=_distinct(self.allow + other.allow),
            deny=_distinct(self.deny + other.deny),
            hash=_distinct(self.hash + other.hash),
            salt=other.salt or self.salt,
            values=_distinct(self.values + other.values),
            statistics=_distinct(self.statistics + other.statistics),
            max_table_rows=min(limits, default=None),
            sample=tuple(rates.items()),
            media="drop" if "drop" in (self.media, other.media) else "keep",
            machine="drop" if "drop" in (self.machine, other.machine) else "keep",
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that :meth:`parse` reads."""
        return {
            "allow": [list(group) for group in self.allow],
            "deny": list(self.deny),
            "hash": list(self.hash),
            "salt": self.salt,
            "values": [{"name": p.name, "regex": p.regex, "hash": p.hashed} for p in self.values],
            "statistics": list(self.statistics),
            "max_table_rows": self.max_table_rows,
            "sample": dict(self.sample),
            "media": self.media,
            "machine": self.machine,
        }


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        import yaml  # type: ignore[import-untyped]

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise WandbConfigurationError(
                f"The redaction policy is neither JSON nor YAML: {error}."
            ) from error


def _texts(field: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise WandbConfigurationError(f"The redaction policy has {field} = {value!r}; expected a list.")
    if not all(isinstance(item, str) and item.strip("./ ") for item in value):
        raise WandbConfigurationError(
            f"The redaction policy has {field} = {value!r}; expected a list of non-empty texts."
        )
    return tuple(value)


def _groups(value: Any) -> tuple[tuple[str, ...], ...]:
    if isinstance(value, Sequence) and value and all(isinstance(item, list | tuple) for item in value):
        return tuple(_texts("allow", group) for group in value)
    group = _texts("allow", value)
    return (group,) if group else ()


def _salt(value: Any) -> str | None:
    if value is None:
        return None
    kind, _, name = str(value).partition(":")
    if kind not in ("variable", "connection") or not name:
        # The value itself is not repeated: it may be the salt.
        raise WandbConfigurationError(
            "The redaction policy must name where the salt is kept, 'variable:<key>' or 'connection:<id>[:<field>]', "
            "and not hold the salt."
        )
    return str(value)


def _values(value: Any) -> tuple[ValuePattern, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise WandbConfigurationError(f"The redaction policy has values = {value!r}; expected a list.")
    return tuple(_value_pattern(item) for item in value)


def _value_pattern(item: Any) -> ValuePattern:
    if isinstance(item, str) and item in KNOWN_VALUES:
        return ValuePattern(item, KNOWN_VALUES[item])
    if isinstance(item, Mapping) and set(item) <= {"name", "regex", "hash"}:
        name, hashed = item.get("name"), item.get("hash", False)
        regex = item.get("regex", KNOWN_VALUES.get(str(name)))
        if isinstance(regex, str) and isinstance(hashed, bool) and re.match(_NAME, str(name)):
            try:
                empty = re.compile(regex).match("")
            except re.error as error:
                raise WandbConfigurationError(
                    f"The redaction policy's value pattern {name!r} is no regular expression: {error}."
                ) from error
            if empty is None:
                return ValuePattern(str(name), regex, hashed)
            raise WandbConfigurationError(
                f"The redaction policy's value pattern {name!r} matches an empty text; make it match something."
            )
    raise WandbConfigurationError(
        f"The redaction policy has the value pattern {item!r}; expected one of {sorted(KNOWN_VALUES)}, or an object "
        "with 'name' (lower case letters, digits, '_'), 'regex' and perhaps 'hash'."
    )


def _rows(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise WandbConfigurationError(
            f"The redaction policy has max_table_rows = {value!r}; expected a number of rows."
        )
    return value


def _rates(value: Any) -> tuple[tuple[str, float], ...]:
    if not isinstance(value, Mapping):
        raise WandbConfigurationError(
            f"The redaction policy has sample = {value!r}; expected an object of pattern to rate."
        )
    for key, rate in value.items():
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 < rate <= 1:
            raise WandbConfigurationError(
                f"The redaction policy samples {key!r} at {rate!r}; expected a rate above 0 and at most 1. "
                "To send nothing, deny the key."
            )
    return tuple(zip(_texts("sample", list(value)), map(float, value.values()), strict=True))


def _choice(field: str, value: Any) -> str:
    if value not in _KEEP_OR_DROP:
        raise WandbConfigurationError(
            f"The redaction policy has {field} = {value!r}; expected 'keep' or 'drop'."
        )
    return str(value)


def _distinct(items: tuple[_T, ...]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(items))
