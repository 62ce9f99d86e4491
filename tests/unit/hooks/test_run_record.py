from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from wandb_airflow_provider.hooks.run_record import began_by


@pytest.mark.parametrize("microseconds", [0, 1, 999_999])
def test_what_began_in_the_same_second_began_by_then_whatever_of_it_had_passed(microseconds: int) -> None:
    moment = datetime(2026, 12, 31, 23, 59, 59, microseconds, tzinfo=UTC)
    elsewhere = moment.astimezone(timezone(timedelta(hours=-5)))
    assert began_by(moment) == began_by(elsewhere) == {"$lt": "2027-01-01T00:00:00+00:00"}
