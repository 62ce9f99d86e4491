"""The page that Airflow's UI shows of a DAG run: its tree of W&B runs."""

from __future__ import annotations
