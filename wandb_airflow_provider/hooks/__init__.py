"""Hooks: what the package knows about W&B."""

from __future__ import annotations
