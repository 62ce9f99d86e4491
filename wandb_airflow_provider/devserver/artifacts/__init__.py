"""Artifacts: collections, versions, aliases, manifests, links between collections, and edges to runs."""

from __future__ import annotations
