"""Flows of other tools that an Airflow task starts, as runs below that task; imported by the flows' own code."""

from __future__ import annotations
