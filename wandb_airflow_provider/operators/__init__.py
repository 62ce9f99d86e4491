"""Operators: tasks that open W&B runs."""

from __future__ import annotations
