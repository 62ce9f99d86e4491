"""
The types of arguments and of fields of inputs, by name: what a schema would say of those that resolvers read.

A name means the same everywhere in W&B's API. One that is not here is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

Check = Callable[[str, Any], Any]


def checked(name: str, value: Any) -> Any:
    """
    Return the value of an argument as resolvers take it: ids as text, one item as a list where a list is meant.

    :raises GraphQLError: 400 if it is of another type; the message names the argument.
    """
    check = _CHECKS.get(name)
    return value if value is None or check is None else check(name, value)


def _text(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        raise _wrong(name, "text", value)
    return value


def _id(name: str, value: Any) -> Any:
    return _text(name, str(value) if isinstance(value, int) and not isinstance(value, bool) else value)


def _whole(name: str, value: Any) -> Any:
    if isinstance(value, bool) or not (
        isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    ):
        raise _wrong(name, "a whole number", value)
    return int(value)


def _number(name: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, "a number", value)
    return value


def _object(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        raise _wrong(name, "an object", value)
    return type(value)((key, checked(key, item)) for key, item in value.items())


def _document(name: str, value: Any) -> Any:
    if not isinstance(value, str | Mapping):
        raise _wrong(name, "JSON text or an object", value)
    return value


def _text_or_object(name: str, value: Any) -> Any:
    return _object(name, value) if isinstance(value, dict) else _text(name, value)


def _list_of(check: Check) -> Check:
    def check_list(name: str, value: Any) -> Any:
        return [check(name, item) for item in (value if isinstance(value, list) else [value])]

    return check_list


def _wrong(name: str, wanted: str, value: Any) -> GraphQLError:
    return GraphQLError(
        f"the argument {name!r} must be {wanted}, not {str(value)[:80]!r} ({type(value).__name__})."
    )


_NAMES: dict[Check, str] = {
    _text: """
        access accessTokenRef after agentName alias aliasName artifactCollectionName artifactEntityName
        artifactPortfolioName artifactProjectName artifactTypeName before commit config description
        destinationArtifactTypeName digest digestAlgorithm displayName email entity entityName eventFilter groupName
        host jobProgram jobRepo jobType md5 message metadata metricName modelName name newProjectName notes
        oldProjectName order pattern projectName query requestPayload role runName runState scopeType secretRef
        severity spec state summaryMetrics sweep sweepName tagCategoryName tagName teamAdminUserName teamName
        teamProjectRole text title token triggeredActionType triggeringEventType type urlEndpoint userName
        userProjectRole username viewName viewType
    """,
    _id: """
        artifactID artifactManifestID artifactPortfolioID artifactSequenceID baseArtifactID clientID distributedID id
        integrationID projectId scopeID teamId triggerID userId viewId
    """,
    _whole: "first historyStep last maxStep minStep samples ttlDurationSeconds waitDuration",
    _number: "metricValue",
    _object: """
        genericWebhookActionInput input noOpActionInput notificationActionInput queueJobActionInput
        triggeredActionConfig
    """,
    _document: "collectionFilters filters priorRunsFilters projectFilters",
    _list_of(_text): "artifactCollectionNames collectionTypes files keys names specs",
    _list_of(_id): "teamIds userIds",
    # Runs have tags of text, artifacts objects that hold them.
    _list_of(_text_or_object): "tags",
    _list_of(_object): "aliases artifactFiles artifactTypes entries projects tagsToAdd tagsToDelete",
}
_CHECKS: dict[str, Check] = {name: check for check, names in _NAMES.items() for name in names.split()}
