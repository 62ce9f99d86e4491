"""What the tests of rules judge with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.rules import RunEvidence, TableData, Verdict, evaluate

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def judge() -> Callable[..., Verdict]:
    """``judge(rules, evidence)`` returns the verdict at noon of a day in March."""
    candidate = ArtifactRef("acme", "search", "encoder", "v4", "d" * 32, "model")

    def judge(rules: Any, evidence: Any, **options: Any) -> Verdict:
        return evaluate(
            rules,
            evidence,
            candidate=candidate,
            run=RunRef("acme", "search", "eval1"),
            evaluated_at=NOW,
            **options,
        )

    return judge


@pytest.fixture(scope="session")
def seen() -> Callable[..., RunEvidence]:
    """``seen(summary, history={"loss": [3, 2]}, tables={"t": (columns, rows)})``: what was read of a run."""

    def seen(
        summary: Mapping[str, Any] | None = None,
        *,
        history: Mapping[str, Sequence[Any]] | None = None,
        tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[Any]]]] | None = None,
        ended_at: datetime | None = None,
    ) -> RunEvidence:
        return RunEvidence(
            summary or {},
            {key: list(enumerate(values)) for key, values in (history or {}).items()},
            {key: TableData(tuple(columns), rows) for key, (columns, rows) in (tables or {}).items()},
            ended_at,
        )

    return seen
