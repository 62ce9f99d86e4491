"""Values that Python or the database cannot take, which only what a client has sent can have brought there."""

from __future__ import annotations

from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

UNFIT = (OverflowError, RecursionError, UnicodeEncodeError)


def unfit(where: str, error: OverflowError | RecursionError | UnicodeEncodeError) -> GraphQLError:
    """
    Return the 400 that says which kind of value was refused.

    :param where: The field or the address that it was sent to.
    """
    if isinstance(error, OverflowError):
        return GraphQLError(f"{where} was given a number that is too large.")
    if isinstance(error, RecursionError):
        return GraphQLError(f"{where} was given a value that is nested too deeply.")
    return GraphQLError(f"{where} was given text that is not valid Unicode.")
