"""The one gate through which goes all that this package sends to W&B."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import translate
from typing import Any, NamedTuple, TypeVar

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.redacted_text import TextCleaner, masked_text
from wandb_airflow_provider.redaction import RedactionPolicy

__all__ = ["DROPPED", "PrivacyGate", "RedactedTable"]

_T = TypeVar("_T")

DROPPED: Any = object()
"""Stands for a value that is left out."""

_CACHED_PATHS = 10_000

# What the package reads back from W&B. Without it the tree of runs falls apart, and a weak password of some
# connection that happens to be part of a task's name must not take it away.
_READ_BACK = re.compile(
    r"config\.(?:.*\.)?airflow\.(?:dag_id|dag_run_id|task_id|map_index|try_number|parent_run|upstream_runs|retry_of"
    r"|metrics(?:\..*)?)"
    r"|summary\.(?:.*\.)?airflow\.state|table\.(?:timeline|gate\.outcomes)"
    r"|metadata\.airflow_(?:promotion|rollback|audit)(?:\.(?!.*(?:approval|note|params|people|why)(?:\.|\Z)).*)?"
)
# What the package adds by itself; a list of what the user's own keys may be does not have to name it.
_OWN = re.compile(
    r"config\.(?:(?:.*\.)?airflow(?!\.params)|gate|promotion)(?:\..*)?"
    r"|summary\.(?:(?:.*\.)?airflow|gate|promotion|rollback|sampling)\..*"
    r"|metrics\.(?:timeline|gate\.outcomes|sample_weight|_step|_timestamp|_runtime|.*\.rows_(?:total|sent))(?:\..*)?"
    r"|(?:metrics|summary)\.(?:.*\.)?step|table\.(?:timeline|gate\.outcomes)\..*|metadata\.airflow_.*"
)


class _Path(NamedTuple):
    """Where a value stands, by the keys that were given and by those that are sent; a policy is about both."""

    given: str
    sent: str

    @property
    def both(self) -> tuple[str, ...]:
        return (self.given,) if self.given == self.sent else self


class RedactedTable(NamedTuple):
    """
    What may be sent of a table.

    :param total: How many rows it had.
    :param reduced: Whether these are a sample of the rows, or statistics of the columns.
    """

    columns: list[str]
    rows: list[list[Any]]
    total: int
    reduced: bool = False


class PrivacyGate:
    """
    Apply a redaction policy, and Airflow's own masking of secrets with or without one.

    Applying it twice changes nothing more, so that a value may pass it wherever it is about to leave.

    :param policy: None only masks the secrets that Airflow knows.
    :param salt: Key of the hashes; at least 16 bytes.
    :raises WandbConfigurationError: the policy hashes, and there is no salt or a short one.
    """

    def __init__(self, policy: RedactionPolicy | None = None, salt: bytes | None = None) -> None:
        self.policy = policy
        self._texts = TextCleaner(policy, salt)
        self._deny = _matcher(policy.deny if policy else ())
        self._hash = _matcher(policy.hash if policy else ())
        self._allow = [_matcher(group) for group in policy.allow] if policy else []
        self._statistics = _matcher(policy.statistics if policy else ())
        self._samples = [
            (pattern, _matcher([pattern]), rate) for pattern, rate in (policy.sample if policy else ())
        ]
        self._kept: dict[str, bool] = {}
        self._hashed_paths: dict[str, bool] = {}
        self._keys: dict[str, str] = {}

    def text(self, text: str, *, name: str | None = None, mask: bool = True) -> str:
        """
        Return the text without secrets and without what the policy's patterns match.

        :param name: The key it stands under; with a policy, one that Airflow deems sensitive hides all of it.
        :param mask: False leaves in what is one of Airflow's secrets.
        """
        return self._texts.clean(text, name, mask, hashing=False)

    def key(self, key: object) -> str:
        """Return a key without what must not stand in any text; with a salt, different keys stay different."""
        text = str(key)
        if self._texts.has_patterns:
            text = _remembered(
                self._keys, text, lambda: self._texts.clean(text, None, False, hashing=self._texts.has_salt)
            )
        # Airflow may learn of a secret at any time.
        masked = masked_text(text)
        return text if masked == text else self._texts.clean(text, None, True, hashing=self._texts.has_salt)

    def distinct(self, text: str) -> str:
        """Return an identifier of Airflow's cleaned by the policy, different ones staying different."""
        cleaned = self.text(text, mask=False)
        return cleaned if cleaned == text else f"{cleaned}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def require_clean(self, what: str, text: str | None) -> None:
        """
        Refuse a name that the policy forbids, where a changed one would not be found again.

        :raises WandbConfigurationError: the text holds what the policy removes. Nothing has been sent.
        """
        if self.policy is None or not text:
            return
        cleaned = self.text(text, mask=False)
        if cleaned != text:
            raise WandbConfigurationError(
                f"{what} {cleaned!r} holds what the redaction policy keeps from W&B, and others find it by that name, "
                "so that it is not changed but refused. Choose another one."
            )

    def keeps(self, path: str) -> bool:
        """Say whether the policy lets a key be sent, given as ``area.key``."""
        return _remembered(self._kept, path, lambda: self._decide(_normal(path)))

    def mapping(
        self, area: str, values: Mapping[Any, Any], leaf: Callable[[str, Any], Any] | None = None
    ) -> dict[str, Any]:
        """
        Return what may be sent of keys and values, at any depth; the argument stays as it is.

        :param area: The first part of the paths: ``config``, ``metrics``, ``summary`` or ``metadata``.
        :param leaf: What to make of an object that is neither text, number nor collection, given its path; it may
            return :data:`DROPPED`. Default: with a policy its text, without one itself.
        """
        return self._mapping(_Path(area, area), values, leaf or self.object, False)

    def sampled_keys(self, key: str) -> str | None:
        """Return the pattern under which a metric is sampled, the one of the lowest rate, or None."""
        path = _normal(f"metrics.{key}")
        found = [(rate, pattern) for pattern, matches, rate in self._samples if matches and matches(path)]
        return min(found)[1] if found else None

    def reduces(self, table: str) -> bool:
        """Say whether only statistics of a table may be sent."""
        return bool(self._statistics and self._statistics(_normal(f"table.{table}")))

    def table(
        self,
        name: str,
        columns: Sequence[Any],
        rows: Sequence[Sequence[Any]],
        leaf: Callable[[str, Any], Any] | None = None,
    ) -> RedactedTable:
        """Return what may be sent of a table: columns and cells cleaned, then statistics, or at most so many rows."""
        from wandb_airflow_provider.column_statistics import STATISTICS, column_statistics
        from wandb_airflow_provider.sampling import sample_indices

        total, statistics = len(rows), self.reduces(name) and tuple(columns) != STATISTICS
        limit = self.policy.max_table_rows if self.policy else None
        reduced = limit is not None and total > limit and not statistics
        if reduced and limit is not None:
            rows = [rows[index] for index in sample_indices(total, limit, f"{name}\0{total}")]
        kept = [
            (index, path)
            for index, path in enumerate(f"table.{name}.{column}" for column in columns)
            if self.keeps(path)
        ]
        hashed = {path: self.hashes(path) for _, path in kept}
        titles = [self.key(columns[index]) for index, _ in kept]
        cells = [
            [self._cell(path, row[index], leaf or self.object, hashed[path]) for index, path in kept]
            for row in rows
        ]
        if statistics:
            return RedactedTable(list(STATISTICS), column_statistics(titles, cells), total, True)
        return RedactedTable(titles, cells, total, reduced)

    def _decide(self, path: str) -> bool:
        if _READ_BACK.fullmatch(path):
            return True
        if self._deny and self._deny(path):
            return False
        if not self._allow or _OWN.fullmatch(path):
            return True
        return all(group is not None and group(path) for group in self._allow)

    def hashes(self, path: str) -> bool:
        """Say whether the values under a key, given as ``area.key``, are hashed."""
        if self._hash is None:
            return False
        matches, normal = self._hash, _normal(path)
        return _remembered(
            self._hashed_paths, path, lambda: matches(normal) and not _READ_BACK.fullmatch(normal)
        )

    def _mapping(
        self, path: _Path, values: Mapping[Any, Any], leaf: Callable[[str, Any], Any], hashing: bool
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in values.items():
            name = self._name(path, key)
            below = _Path(f"{path.given}.{key}", f"{path.sent}.{name}")
            kept = all(map(self.keeps, below.both))
            # A container is let through for what is allowed in it; what is denied is so with all below.
            nested = isinstance(value, Mapping)
            if not (all(map(self._may_hold, below.both)) if nested else kept):
                continue
            cleaned = self._value(below, value, leaf, hashing or any(map(self.hashes, below.both)))
            if cleaned is DROPPED or (nested and not cleaned and (value or not kept)):
                continue
            found[_unused(name, found)] = cleaned
        return found

    def _name(self, path: _Path, key: Any) -> str:
        name = self.key(key)
        return str(key) if name != key and _READ_BACK.fullmatch(_normal(f"{path.given}.{key}")) else name

    def _may_hold(self, path: str) -> bool:
        normal = _normal(path)
        return bool(_READ_BACK.fullmatch(normal)) or not (self._deny and self._deny(normal))

    def _value(self, path: _Path, value: Any, leaf: Callable[[str, Any], Any], hashing: bool) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(path, value, leaf, hashing)
        if isinstance(value, list | tuple | set | frozenset):
            items = (self._value(path, item, leaf, hashing) for item in value)
            return [item for item in items if item is not DROPPED]
        if value is None:
            return None
        if hashing:
            if hasattr(value, "tolist"):
                return self._value(path, value.tolist(), leaf, hashing)
            return self._texts.hashed(
                value.decode(errors="replace") if isinstance(value, bytes) else str(value)
            )
        if isinstance(value, int | float):
            return value
        if isinstance(value, str):
            return self._named_text(path, value)
        return leaf(path.given, value)

    def _named_text(self, path: _Path, text: str) -> str:
        mask = not _READ_BACK.fullmatch(_normal(path.given))
        if self.policy is None:
            return self.text(text, mask=mask)
        for name in path.both:
            text = self.text(text, name=name.rpartition(".")[2], mask=mask)
        return text

    def _cell(self, path: str, value: Any, leaf: Callable[[str, Any], Any], hashing: bool) -> Any:
        cleaned = self._value(_Path(path, path), value, leaf, hashing)
        return None if cleaned is DROPPED else cleaned

    def object(self, path: str, value: Any) -> Any:
        """Return what may be sent of an object of a type that this package does not know."""
        if self.policy is None:
            return value
        kind = getattr(getattr(value, "dtype", None), "kind", None)
        if kind is not None and hasattr(value, "tolist"):
            return (
                value
                if kind in "biufc"
                else self._value(_Path(path, path), value.tolist(), self.object, False)
            )
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        return self._texts.clean(str(value), path.rpartition(".")[2], True, hashing=False)


def _remembered(memory: dict[str, _T], key: str, compute: Callable[[], _T]) -> _T:
    """Return what was computed for a key; the same few keys are logged thousands of times."""
    if key not in memory:
        if len(memory) >= _CACHED_PATHS:
            memory.clear()
        memory[key] = compute()
    return memory[key]


def _normal(path: str) -> str:
    return path.replace("/", ".").lower()


def _matcher(globs: Iterable[str]) -> Callable[[str], bool] | None:
    """Return whether a path, or one above it, ends like one of the globs."""
    patterns = [translate(_normal(glob).strip(".")).removesuffix(r"\Z") for glob in globs]
    if not patterns:
        return None
    # Where a glob ends with `*` it may end inside a key; else the key ends, or what is below it follows.
    regex = re.compile(rf"(?:.*\.)?(?:{'|'.join(patterns)})(?:\..*)?", re.DOTALL)
    return lambda path: regex.fullmatch(path) is not None


def _unused(key: str, found: Mapping[str, Any]) -> str:
    if key not in found:
        return key
    number = 2
    while f"{key} ({number})" in found:
        number += 1
    return f"{key} ({number})"
