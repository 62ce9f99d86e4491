"""The account behind a connection, in the words of the connection test."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wandb_airflow_provider.hooks.wandb import WandbHook

__all__ = ["describe_account"]


def describe_account(hook: WandbHook) -> tuple[bool, str]:
    """
    Say whose key or identity token it is and where its runs go; False when it may not write to the connection's entity.

    :raises WandbError: the key or token is not accepted, or W&B cannot be reached.
    """
    with hook.translate_errors("read the account"):
        viewer = hook.get_conn().viewer
        name, teams = viewer.username or viewer.name, list(viewer.teams or [])
    entity = hook.given_entity
    what = "key" if hook.connection.identity_token_file is None else "identity token"
    if entity and entity not in (name, *teams):
        return False, f"The {what} belongs to {name!r}, who is not a member of {entity!r}; only of {teams}."
    where = f"runs go to {entity!r}" if entity else f"runs go to the {what}'s default entity {hook.entity!r}"
    return True, f"The {what} belongs to {name!r} with the teams {teams}; {where}."
