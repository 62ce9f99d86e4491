"""Who a change is made by, as the triggers of the database can ask."""

from __future__ import annotations

from contextvars import ContextVar

from wandb_airflow_provider.devserver.store import register_function

ACTING_USER_FUNCTION = "acting_user"
# Set for each request, in the thread that answers it; outside requests nobody acts.
ACTING_USER: ContextVar[str] = ContextVar("acting_user", default="")

register_function(ACTING_USER_FUNCTION, 0, lambda: ACTING_USER.get())
