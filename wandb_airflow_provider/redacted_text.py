"""Texts without secrets and without what a policy's patterns match."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.redaction import RedactionPolicy, ValuePattern

__all__ = ["TextCleaner", "masked_text"]

_HASH = r"\[hmac:[0-9a-f]{32}\]"
_LEAST_SALT_BYTES = 16


class TextCleaner:
    """
    Replace what must not be sent by ``***``, ``[redacted:<pattern>]`` or ``[hmac:<hash>]``.

    :param salt: Key of the hashes; at least 16 bytes.
    :raises WandbConfigurationError: the policy hashes, and there is no salt or a short one.
    """

    def __init__(self, policy: RedactionPolicy | None, salt: bytes | None) -> None:
        if policy is not None and policy.needs_salt and len(salt or b"") < _LEAST_SALT_BYTES:
            raise WandbConfigurationError(
                f"The redaction policy hashes, and its salt {policy.salt!r} has fewer than {_LEAST_SALT_BYTES} bytes. "
                "Put a long random text there."
            )
        self._salt = salt
        values = policy.values if policy else ()
        names = "|".join(sorted({re.escape(pattern.name) for pattern in values})) or "(?!)"
        self._replaced = re.compile(rf"(\[redacted:(?:{names})\]|{_HASH})")
        self._patterns = [(pattern, re.compile(pattern.regex)) for pattern in values]

    @property
    def has_salt(self) -> bool:
        """Whether it can hash."""
        return self._salt is not None

    @property
    def has_patterns(self) -> bool:
        """Whether it looks for more than secrets."""
        return bool(self._patterns)

    def clean(self, text: str, name: str | None, mask: bool, *, hashing: bool) -> str:
        """
        Replace until nothing is left to replace; what stands for something removed is never looked at again.

        :param name: The key of the text; one that Airflow deems sensitive hides all of it.
        :param mask: Also replace the secrets that Airflow knows.
        :param hashing: Hash what any pattern matches.
        """
        while True:
            before = text
            if mask:
                text = self._outside(text, lambda part: masked_text(part, name))
            for pattern, regex in self._patterns:
                if regex.search(text):
                    text = self._outside(text, self._substitution(pattern, regex, hashing))
            if text == before:
                return text

    def _outside(self, text: str, change: Callable[[str], str]) -> str:
        if not text:
            return text
        parts = self._replaced.split(text)
        return "".join(part if index % 2 or not part else change(part) for index, part in enumerate(parts))

    def _substitution(
        self, pattern: ValuePattern, regex: re.Pattern[str], hashing: bool
    ) -> Callable[[str], str]:
        def replaced(match: re.Match[str]) -> str:
            if not match[0]:
                return ""
            return self.hashed(match[0]) if hashing or pattern.hashed else f"[redacted:{pattern.name}]"

        return lambda part: regex.sub(replaced, part)

    def hashed(self, text: str) -> str:
        """Return the hash that stands for a text; the text itself if it is one."""
        if re.fullmatch(_HASH, text):
            return text
        if self._salt is None:
            raise WandbConfigurationError("A redaction policy hashes, and there is no salt.")
        return f"[hmac:{hmac.new(self._salt, text.encode(errors='surrogatepass'), hashlib.sha256).hexdigest()[:32]}]"


def masked_text(text: str, name: str | None = None) -> str:
    """Return the text without the secrets that Airflow knows; all of it if its name says that it is one."""
    return str(_masker()(text, name))


@cache
def _masker() -> Callable[[str, str | None], Any]:
    # Looked up once: it is asked for each key of each row.
    from airflow.providers.common.compat.sdk import redact

    return redact
