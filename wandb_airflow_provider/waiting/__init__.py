"""Decide from what was read whether waiting is over. Pure: observation and clock are arguments."""

from __future__ import annotations
