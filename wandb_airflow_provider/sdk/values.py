"""What is logged: tables, pages, artifacts and automations, as wandb's own objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import wandb

__all__ = ["automations", "html", "new_artifact", "table", "table_of"]


def table(rows: Sequence[Mapping[str, Any]]) -> wandb.Table:
    """Return rows of equal keys as a table."""
    return table_of(list(rows[0]), [list(row.values()) for row in rows])


def table_of(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> wandb.Table:
    """Return columns and rows as a table; values of one column may differ in type or be None."""
    import wandb

    return wandb.Table(columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True)


def html(text: str) -> wandb.Html:
    """Return a page of HTML."""
    import wandb

    return wandb.Html(text, inject=False)


def new_artifact(
    name: str, type: str, *, description: str | None, metadata: dict[str, Any]
) -> wandb.Artifact:
    """Return an empty artifact to add content to."""
    import wandb

    return wandb.Artifact(name, type=type, description=description, metadata=metadata)


def automations() -> Any:
    """Return what automations are described with: wandb's own public classes."""
    import wandb.automations

    return wandb.automations
