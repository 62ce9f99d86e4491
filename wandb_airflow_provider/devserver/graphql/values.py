"""Variables, arguments and directives of a GraphQL document as Python values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql.language import (
    BooleanValueNode,
    EnumValueNode,
    FieldNode,
    FloatValueNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    ListTypeNode,
    ListValueNode,
    NonNullTypeNode,
    NullValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionNode,
    StringValueNode,
    TypeNode,
    ValueNode,
    VariableNode,
)

from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

_ABSENT = object()


def coerce_variables(operation: OperationDefinitionNode, given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the variables that an operation declares, with defaults filled in and single values made lists.

    A variable that is neither given nor has a default stays absent, so that a resolver can tell it from null.

    :raises GraphQLError: a required variable is missing or null.
    """
    values: dict[str, Any] = {}
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        if name in given:
            value = given[name]
        elif definition.default_value is not None:
            value = _literal(definition.default_value, {})
        else:
            value = _ABSENT
        if isinstance(definition.type, NonNullTypeNode) and (value is _ABSENT or value is None):
            raise GraphQLError(f"the variable ${name} is required but was not given.")
        if value is not _ABSENT:
            values[name] = _as_type(value, definition.type)
    return values


def arguments(node: FieldNode, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a field; an argument whose variable is absent is absent too."""
    args: dict[str, Any] = {}
    for argument in node.arguments or ():
        value = _literal(argument.value, variables)
        if value is not _ABSENT:
            args[argument.name.value] = value
    return args


def included(node: SelectionNode, variables: Mapping[str, Any]) -> bool:
    """Tell whether ``@include`` and ``@skip`` let a selection through."""
    if not isinstance(node, FieldNode | FragmentSpreadNode | InlineFragmentNode):
        return True
    for directive in node.directives or ():
        condition = next(
            (
                _literal(item.value, variables)
                for item in directive.arguments or ()
                if item.name.value == "if"
            ),
            True,
        )
        if directive.name.value == "include" and condition in (False, None, _ABSENT):
            return False
        if directive.name.value == "skip" and condition is True:
            return False
    return True


def _as_type(value: Any, kind: TypeNode) -> Any:
    if isinstance(kind, NonNullTypeNode):
        return _as_type(value, kind.type)
    if isinstance(kind, ListTypeNode) and value is not None:
        items = value if isinstance(value, list) else [value]
        return [_as_type(item, kind.type) for item in items]
    return value


def _literal(node: ValueNode, variables: Mapping[str, Any]) -> Any:
    if isinstance(node, VariableNode):
        return variables.get(node.name.value, _ABSENT)
    if isinstance(node, NullValueNode):
        return None
    if isinstance(node, IntValueNode):
        return int(node.value)
    if isinstance(node, FloatValueNode):
        return float(node.value)
    if isinstance(node, StringValueNode | EnumValueNode | BooleanValueNode):
        return node.value
    if isinstance(node, ListValueNode):
        items = [_literal(item, variables) for item in node.values]
        return [None if item is _ABSENT else item for item in items]
    if isinstance(node, ObjectValueNode):
        pairs = {item.name.value: _literal(item.value, variables) for item in node.fields}
        return {key: value for key, value in pairs.items() if value is not _ABSENT}
    raise GraphQLError(f"unsupported value in the document: {node.kind}.")
