"""What W&B posts to Airflow when an alias is added: the template that an automation sends, and its reading. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from wandb_airflow_provider.artifacts import validate_alias, validate_artifact_name
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbInvalidNameError
from wandb_airflow_provider.record import Record

__all__ = ["Key", "Notice", "parse_payload", "webhook_payload"]

Key: TypeAlias = tuple[str, str, str, str | None]

FORMAT = "wandb-alias/1"
_FIELDS = {
    "entity": "${entity_name}",
    "project": "${project_name}",
    "collection": "${artifact_collection_name}",
    "alias": "${alias}",
    "event": "${event_type}",
    "actor": "${event_author}",
}
_MAX_FIELD_LENGTH = 300


class Notice(Record):
    """
    W&B says that something has happened to an alias; what it is now has to be read.

    :param alias: None when the event was not about one alias, such as a version that was linked.
    :param actor: The W&B user who did it.
    """

    entity: str
    project: str
    collection: str
    alias: str | None
    event: str
    actor: str | None

    @property
    def key(self) -> Key:
        """What the notice is about: equal for all that are about the same alias."""
        return (self.entity, self.project, self.collection, self.alias)

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}/{self.collection}:{self.alias or '*'}"


def webhook_payload() -> dict[str, str]:
    """
    Return the payload of an automation's webhook that Airflow's endpoint understands.

    W&B replaces the ``${variables}``. One of them names the version, but none the digest, the time or the delivery: a
    payload that is sent again equals one of another, equal move. So the receiver reads the alias from W&B instead of
    believing what arrives.
    """
    return {"format": FORMAT, **_FIELDS}


def parse_payload(value: Any) -> Notice:
    """
    Read what W&B has posted.

    :raises WandbConfigurationError: not the payload of :func:`webhook_payload`, or a name that W&B would refuse.
    """
    if not isinstance(value, Mapping) or value.get("format") != FORMAT:
        raise WandbConfigurationError(
            f"The payload is not of the format {FORMAT!r}. Give the automation the payload of webhook_payload(), as "
            "WandbCreateAutomationOperator does by itself."
        )
    fields = {name: _field(value, name) for name in _FIELDS}
    if not all(fields[name] for name in ("entity", "project", "collection")):
        raise WandbConfigurationError(
            f"The payload names no collection (event {fields['event']!r}): only events of an artifact or its aliases "
            "can be received."
        )
    try:
        validate_artifact_name(fields["collection"])
        if fields["alias"]:
            validate_alias(fields["alias"])
    except WandbInvalidNameError as error:
        raise WandbConfigurationError(f"The payload names no possible alias: {error}") from error
    return Notice(
        fields["entity"],
        fields["project"],
        fields["collection"],
        fields["alias"] or None,
        fields["event"],
        fields["actor"] or None,
    )


def _field(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name, "")
    if not isinstance(found, str) or len(found) > _MAX_FIELD_LENGTH or not found.isprintable():
        raise WandbConfigurationError(
            f"The payload's field {name!r} is not a line of text of at most {_MAX_FIELD_LENGTH} characters."
        )
    if found == _FIELDS[name]:
        raise WandbConfigurationError(
            f"The payload's field {name!r} still reads {found!r}: this W&B server does not fill it in."
        )
    return found
