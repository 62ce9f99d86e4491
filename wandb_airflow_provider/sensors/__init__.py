"""Sensors: tasks that wait for something in W&B."""

from __future__ import annotations
