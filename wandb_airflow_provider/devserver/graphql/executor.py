"""
Executes a GraphQL document over the registry, without a schema.

Types come from the ``__typename`` of the objects. A root field without a resolver is an error; a nested field
that nothing knows is null and counted, because new SDK versions ask for fields that they can do without.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from graphql.error import GraphQLSyntaxError
from graphql.language import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    parse,
)

from wandb_airflow_provider.devserver.graphql import introspection, registry, values
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext
from wandb_airflow_provider.devserver.graphql.unfit import UNFIT, unfit
from wandb_airflow_provider.devserver.graphql.unknown import UnknownNames

_log = logging.getLogger(__name__)

Selection = list[SelectionSetNode]

_MOST_TOKENS = 20_000
_DEEPEST = 60
_MOST_OBJECTS = 2_000_000
_PLAIN = {str, int, float, bool, type(None)}


def execute(
    ctx: RequestContext,
    source: str,
    variables: Mapping[str, Any],
    operation_name: str | None,
    unknown: UnknownNames,
) -> dict[str, Any]:
    """
    Run one operation and return its ``data``.

    :param operation_name: None or empty means the only operation of the document.
    :raises GraphQLError: with the status to answer with; any failure fails the whole operation.
    """
    document = _parse(source)
    operation = document.operation(operation_name)
    run = _Execution(ctx, document, values.coerce_variables(operation, variables), unknown)
    if operation.operation is OperationType.QUERY:
        with ctx.store.snapshot():
            return run.root(operation)
    return run.root(operation)


def operation_name(source: str) -> str | None:
    """Return the name of the only operation of a document, if it has one."""
    operations = _parse(source).operations
    name = operations[0].name if len(operations) == 1 else None
    return name.value if name else None


class _Document:
    """A parsed document: its operations and its fragments."""

    def __init__(self, node: DocumentNode) -> None:
        self.operations = [item for item in node.definitions if isinstance(item, OperationDefinitionNode)]
        self.fragments = {
            item.name.value: item for item in node.definitions if isinstance(item, FragmentDefinitionNode)
        }

    def operation(self, name: str | None) -> OperationDefinitionNode:
        """Return the operation to run."""
        names = [item.name.value if item.name else "" for item in self.operations]
        if name:
            if name not in names:
                raise GraphQLError(f"the document has no operation {name!r}; it has {names}.")
            return self.operations[names.index(name)]
        if len(self.operations) != 1:
            raise GraphQLError(
                f"the document has the operations {names}: operationName must name one of them."
            )
        return self.operations[0]

    def fragment(self, name: str) -> FragmentDefinitionNode:
        """Return a named fragment."""
        if name not in self.fragments:
            raise GraphQLError(f"the document spreads the fragment {name!r}, which it does not define.")
        return self.fragments[name]


@lru_cache(maxsize=512)
def _parse(source: str) -> _Document:
    try:
        return _Document(parse(source, no_location=True, max_tokens=_MOST_TOKENS))
    except GraphQLSyntaxError as error:
        raise GraphQLError(f"the GraphQL document cannot be parsed: {error.message}") from error
    except RecursionError as error:
        raise GraphQLError("the GraphQL document cannot be parsed: it is nested too deeply.") from error


class _Execution:
    """The state of one operation under way."""

    def __init__(
        self, ctx: RequestContext, document: _Document, variables: Mapping[str, Any], unknown: UnknownNames
    ) -> None:
        self.ctx = ctx
        self.document = document
        self.variables = variables
        self.unknown = unknown
        self.depth = self.objects = 0

    def root(self, operation: OperationDefinitionNode) -> dict[str, Any]:
        """Answer the root fields, in order."""
        is_mutation = operation.operation is OperationType.MUTATION
        if operation.operation is OperationType.SUBSCRIPTION:
            raise GraphQLError("subscriptions are not supported.")
        typename = "Mutation" if is_mutation else "Query"
        name = operation.name.value if operation.name else "(unnamed)"
        data: dict[str, Any] = {}
        for key, nodes in self.collect(typename, [operation.selection_set]).items():
            data[key] = self._root_field(name, typename, is_mutation, nodes)
        return data

    def _root_field(self, operation: str, typename: str, is_mutation: bool, nodes: list[FieldNode]) -> Any:
        field = nodes[0].name.value
        if field == "__typename":
            return typename
        table = registry.MUTATIONS if is_mutation else registry.QUERIES
        resolver = introspection.QUERIES.get(field) or table.get(field)
        if resolver is None:
            message = _unknown_root(operation, typename, field, table)
            self.unknown.count_operation(f"{operation}.{field}", message)
            raise GraphQLError(message)
        args = self._args(nodes[0])
        if is_mutation and isinstance(args.get("input"), Mapping):
            args |= args.pop("input")
        value = self._call(resolver, {}, args, f"{typename}.{field}")
        if is_mutation and value is None:
            raise GraphQLError(f"internal error: the mutation {field!r} answered with nothing.")
        return self.complete(value, nodes, f"{typename}.{field}")

    def complete(self, value: Any, nodes: list[FieldNode], where: str) -> Any:
        """Turn what a resolver returned into response data for the selected fields."""
        if value is None:
            return None
        selection = [node.selection_set for node in nodes if node.selection_set is not None]
        if isinstance(value, list | tuple):
            if not selection and set(map(type, value)) <= _PLAIN:
                # A page of history is a thousand texts.
                return list(value)
            return [self.complete(item, nodes, where) for item in value]
        if not selection:
            if isinstance(value, Mapping) and "__typename" in value:
                raise GraphQLError(
                    f"{where} is an object of type {value['__typename']!r}: select fields of it."
                )
            return value.isoformat() if isinstance(value, datetime) else value
        if not isinstance(value, Mapping):
            raise GraphQLError(f"{where} is a {type(value).__name__}: it has no fields to select.")
        return self._object(value, selection)

    def _object(self, parent: Mapping[str, Any], selection: Selection) -> dict[str, Any]:
        self.objects += 1
        self.depth += 1
        if self.depth > _DEEPEST or self.objects > _MOST_OBJECTS:
            raise GraphQLError(
                f"the answer would be nested deeper than {_DEEPEST} objects, or hold more than {_MOST_OBJECTS} of them."
            )
        try:
            return self._fields(parent, selection)
        finally:
            self.depth -= 1

    def _fields(self, parent: Mapping[str, Any], selection: Selection) -> dict[str, Any]:
        typename = parent.get("__typename", "")
        data: dict[str, Any] = {}
        for key, nodes in self.collect(typename, selection).items():
            name = nodes[0].name.value
            where = f"{typename}.{name}"
            resolver = registry.find_field(typename, name)
            if resolver is not None:
                value = self._call(resolver, parent, self._args(nodes[0]), where)
            elif name in parent and (name == "__typename" or not name.startswith("_")):
                value = parent[name]
            else:
                value = None
                if name != "clientMutationId":
                    self.unknown.count_field(where)
            data[key] = self.complete(value, nodes, where)
        return data

    def collect(self, typename: str, selection: Iterable[SelectionSetNode]) -> dict[str, list[FieldNode]]:
        """Gather the selected fields of an object by response key, through fragments and directives."""
        found: dict[str, list[FieldNode]] = {}
        self._collect(typename, selection, found, set())
        return found

    def _collect(
        self,
        typename: str,
        selection: Iterable[SelectionSetNode],
        found: dict[str, list[FieldNode]],
        spread: set[str],
    ) -> None:
        for selection_set in selection:
            for node in selection_set.selections:
                if node.directives and not values.included(node, self.variables):
                    continue
                if isinstance(node, FieldNode):
                    found.setdefault((node.alias or node.name).value, []).append(node)
                elif isinstance(node, InlineFragmentNode):
                    condition = node.type_condition
                    if condition is None or _matches(typename, condition.name.value):
                        self._collect(typename, [node.selection_set], found, spread)
                elif isinstance(node, FragmentSpreadNode) and node.name.value not in spread:
                    spread.add(node.name.value)
                    fragment = self.document.fragment(node.name.value)
                    if _matches(typename, fragment.type_condition.name.value):
                        self._collect(typename, [fragment.selection_set], found, spread)

    def _args(self, node: FieldNode) -> dict[str, Any]:
        return values.arguments(node, self.variables)

    def _call(
        self, resolver: registry.Resolver, parent: Mapping[str, Any], args: dict[str, Any], where: str
    ) -> Any:
        try:
            return resolver(self.ctx, parent, args)
        except GraphQLError:
            raise
        except UNFIT as error:
            raise unfit(where, error) from error
        except Exception as error:
            # A 5xx would be retried for minutes by every client, which hides the bug.
            _log.exception("resolver of %s failed", where)
            raise GraphQLError(f"internal error in {where}: {type(error).__name__}: {error}") from error


def _matches(typename: str, condition: str) -> bool:
    # Connections, edges and payloads need no name of their own: whatever the document calls them is right.
    if typename in ("", "Query", "Mutation", "Connection", "Edge", condition):
        return True
    return condition in registry.INTERFACES.get(typename, ())


def _unknown_root(operation: str, typename: str, field: str, table: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(field, table, n=5, cutoff=0.5) or sorted(table)
    return (
        f"the dev server does not know {typename.lower()} {field!r} (operation {operation!r}). "
        f"Nearest that it knows: {', '.join(near)}."
    )
