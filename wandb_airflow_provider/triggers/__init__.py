"""Triggers: what waits for W&B in the triggerer."""

from __future__ import annotations
