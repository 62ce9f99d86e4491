"""Run the weekly retraining workflow on a local Airflow and a local W&B, from one command."""

from __future__ import annotations
