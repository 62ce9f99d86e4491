"""Resolvers: what each GraphQL field answers. Importing a module registers its resolvers."""

from __future__ import annotations

import importlib
import pkgutil


def load_resolvers() -> None:
    """Import every module of this package, once."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
