"""Formats of stored values, each safe to read."""

from __future__ import annotations
