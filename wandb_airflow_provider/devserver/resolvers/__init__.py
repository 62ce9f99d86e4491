"""Resolvers: what each GraphQL field answers. Importing a module registers its resolvers."""

from __future__ import annotations

import importlib

MODULES = (
    "accounts",
    "alerts",
    "artifact_files",
    "artifacts",
    "collections",
    "organizations",
    "projects",
    "registry",
    "run_changes",
    "run_files",
    "run_history",
    "runs",
    "server_info",
)


def load_resolvers() -> None:
    """Import every module of resolvers, once."""
    for name in MODULES:
        importlib.import_module(f"{__name__}.{name}")
