"""Airflow listeners."""

from __future__ import annotations
