"""Names for runs that were given none."""

from __future__ import annotations

from wandb_airflow_provider.devserver.ids import IdSource

_ADJECTIVES = (
    "amber", "bold", "brisk", "calm", "clear", "crisp", "deep", "dry", "eager", "fair", "fresh", "gentle", "golden",
    "keen", "light", "lively", "mild", "neat", "noble", "proud", "quiet", "rapid", "silver", "steady", "warm", "wise",
)  # fmt: skip
_NOUNS = (
    "bay", "bird", "brook", "cloud", "dawn", "dune", "field", "forest", "frost", "glade", "grove", "harbor", "hill",
    "lake", "leaf", "meadow", "moon", "oak", "pine", "rain", "ridge", "river", "sky", "star", "valley", "wind",
)  # fmt: skip


def display_name(ids: IdSource) -> str:
    """Return a name like ``quiet-river-417``."""
    return f"{ids.choice(_ADJECTIVES)}-{ids.choice(_NOUNS)}-{ids.number(1000)}"


def sweep_run_name(ids: IdSource, number: int) -> str:
    """Return a name like ``quiet-sweep-3`` for a sweep's run."""
    return f"{ids.choice(_ADJECTIVES)}-sweep-{number}"
