"""Variables, arguments and directives of a GraphQL document as Python values."""

from __future__ import annotations

import math
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
    NamedTypeNode,
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

from wandb_airflow_provider.devserver.graphql.argument_types import checked
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

_ABSENT = object()
_LARGEST_INTEGER = 2**63 - 1
_SCALARS: dict[str, tuple[type, ...]] = {
    "String": (str,),
    "JSONString": (str,),
    "ID": (str, int),
    "Int": (int,),
    "Float": (int, float),
    "Boolean": (bool,),
}


class Arguments(dict[str, Any]):
    """The arguments of a field, or an object among them: one that is read by its name must be there, and not null."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if value is None:
            raise GraphQLError(f"the argument {name!r} is required but null was given.")
        return value

    def __missing__(self, name: str) -> Any:
        raise GraphQLError(f"the argument {name!r} is required but was not given.")


def coerce_variables(operation: OperationDefinitionNode, given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the variables that an operation declares, with defaults filled in and single values made lists.

    A variable that is neither given nor has a default stays absent, so that a resolver can tell it from null.

    :raises GraphQLError: a required variable is missing or null, or a value is not of the declared type.
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
            values[name] = _checked(_as_type(value, definition.type, name), name)
    return values


def arguments(node: FieldNode, variables: Mapping[str, Any]) -> Arguments:
    """
    Return the arguments of a field; an argument whose variable is absent is absent too.

    :raises GraphQLError: one is not of its type.
    """
    args = Arguments()
    for argument in node.arguments or ():
        value = _literal(argument.value, variables)
        if value is not _ABSENT:
            name = argument.name.value
            args[name] = checked(name, value)
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


def _as_type(value: Any, kind: TypeNode, name: str) -> Any:
    if isinstance(kind, NonNullTypeNode):
        if value is None:
            raise GraphQLError(f"the variable ${name} holds a null where none is allowed.")
        return _as_type(value, kind.type, name)
    if value is None:
        return None
    if isinstance(kind, ListTypeNode):
        items = value if isinstance(value, list) else [value]
        return [_as_type(item, kind.type, name) for item in items]
    allowed = _SCALARS.get(kind.name.value) if isinstance(kind, NamedTypeNode) else None
    # JSON's true is an int to Python.
    wrong = allowed is not None and (
        not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed)
    )
    if wrong and isinstance(kind, NamedTypeNode):
        raise GraphQLError(
            f"the variable ${name} must be of type {kind.name.value}, but holds a {type(value).__name__}."
        )
    return value


def _checked(value: Any, name: str) -> Any:
    """Return a value from JSON with its objects as :class:`Arguments`, or refuse what no database could hold."""
    if isinstance(value, Mapping):
        return Arguments({_checked(key, name): _checked(item, name) for key, item in value.items()})
    if isinstance(value, list):
        return [_checked(item, name) for item in value]
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise GraphQLError(f"${name} holds text that is not valid Unicode: {error.reason}.") from error
    elif isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        raise GraphQLError(f"${name} holds an integer of more than 64 bits.")
    elif isinstance(value, float) and not math.isfinite(value):
        raise GraphQLError(f"${name} holds {value}, which is not a JSON number.")
    return value


def _literal(node: ValueNode, variables: Mapping[str, Any]) -> Any:
    if isinstance(node, VariableNode):
        return variables.get(node.name.value, _ABSENT)
    if isinstance(node, NullValueNode):
        return None
    if isinstance(node, IntValueNode):
        # Python refuses to parse thousands of digits.
        return _checked(int(node.value[:20]) if len(node.value) > 20 else int(node.value), "literal")
    if isinstance(node, FloatValueNode):
        return _checked(float(node.value), "literal")
    if isinstance(node, StringValueNode | EnumValueNode | BooleanValueNode):
        return _checked(node.value, "literal")
    if isinstance(node, ListValueNode):
        items = [_literal(item, variables) for item in node.values]
        return [None if item is _ABSENT else item for item in items]
    if isinstance(node, ObjectValueNode):
        pairs = {item.name.value: _literal(item.value, variables) for item in node.fields}
        return Arguments({key: value for key, value in pairs.items() if value is not _ABSENT})
    raise GraphQLError(f"unsupported value in the document: {node.kind}.")
