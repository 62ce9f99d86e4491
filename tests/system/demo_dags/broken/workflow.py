"""A DAG file that cannot be imported."""

from __future__ import annotations

import a_module_that_nobody_has  # noqa: F401
from airflow.sdk import dag


@dag(schedule=None)
def weekly_retraining():
    pass


weekly_retraining()
