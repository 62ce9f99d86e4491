"""Conditions on metrics, over windows of values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from wandb.automations import RunEvent

from wandb_airflow_provider.devserver.automations import metrics
from wandb_airflow_provider.devserver.automations.conditions import metric
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

LOSS = RunEvent.metric("loss")


def first_firing(condition: Any, values: list[float]) -> int | None:
    """Return the position of the first value for which a condition that the SDK has made fires."""
    kind = {
        "MetricThresholdFilter": "threshold",
        "MetricChangeFilter": "change",
        "MetricZScoreFilter": "zscore",
    }
    parsed = metrics.parse({f"{kind[type(condition).__name__]}_filter": condition.model_dump()})
    assert parsed.name == "loss"
    recent: list[float] = []
    return next((n for n, value in enumerate(values) if metrics.fires(parsed, recent, value)), None)


@pytest.mark.parametrize(
    ("condition", "values", "expected"),
    [
        (LOSS > 1, [0.5, 1, 1.5], 2),
        (LOSS >= 1, [0.5, 1, 1.5], 1),
        (LOSS < 1, [1.5, 1, 0.5], 2),
        (LOSS <= 1, [1.5, 1, 0.5], 1),
        (LOSS > 2, [0.5, 1, 1.5], None),
        (LOSS.avg(3) > 2, [9, 0, 0, 2, 5], 2),
        (LOSS.avg(3) > 2, [1, 2, 3, 4], 3),
        (LOSS.max(2) > 2, [3], None),
        (LOSS.max(2) > 2, [3, 0, 0], 1),
        (LOSS.min(2) >= 2, [3, 1, 2, 2], 3),
        (LOSS.increases_by(diff=2), [1, 2, 4], 2),
        (LOSS.increases_by(diff=2), [4, 2, 1], None),
        (LOSS.decreases_by(diff=2), [4, 3, 1], 2),
        (LOSS.changes_by(diff=2), [4, 3, 1], 2),
        (LOSS.changes_by(frac=0.5), [4, 3, 1], 2),
        (LOSS.increases_by(frac=0.5), [-4, -3, -1], 2),
        (LOSS.increases_by(frac=0.5), [0, 3, 4], None),
        (LOSS.avg(2).increases_by(diff=2), [1, 1, 2, 2, 5], 4),
        (LOSS.zscore(3) > 2, [1, 2, 3, 2.5, 9], 4),
        (LOSS.zscore(3) < -2, [1, 2, 3, -9], 3),
        (LOSS.zscore(3).abs() > 2, [1, 2, 3, -9], 3),
        (LOSS.zscore(3) > 2, [1, 1, 1, 9], None),
    ],
)
def test_condition_fires_at_the_first_value_that_fulfils_it(
    condition: Any, values: list[float], expected: int | None
) -> None:
    assert first_firing(condition, values) == expected


def test_threshold_of_older_clients_is_understood() -> None:
    old = {"name": "loss", "cmp_op": "$gt", "threshold": 1, "window_size": 1}
    text = json.dumps({"metric_filter": json.dumps(old)})
    assert metrics.fires(metric(text), [], 2)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"threshold_filter": {"name": "x", "cmp_op": "$like", "threshold": 1}},
        {"threshold_filter": {"name": "x", "cmp_op": "$gt", "threshold": "much"}},
        {
            "threshold_filter": {
                "name": "x",
                "cmp_op": "$gt",
                "threshold": 1,
                "agg_op": "MAX",
                "window_size": -1,
            }
        },
        {"change_filter": {"name": "x", "change_type": "ABSOLUTE", "change_dir": "UP", "change_amount": 1}},
    ],
)
def test_incomplete_condition_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(GraphQLError):
        metrics.parse(spec)
