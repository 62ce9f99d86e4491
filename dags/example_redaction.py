"""Log the answers of a model to customers without sending who they are, and a tenth of the calls with exact totals."""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.sdk import DAG, task

from wandb_airflow_provider import wandb_pipeline

# [START policy]
POLICY = {
    "deny": ["prompt", "*.phone"],
    "hash": ["customer"],
    "salt": "variable:wandb_redaction_salt",
    "values": ["url_password", "api_key", "token", "email", {"name": "order", "regex": r"ORD-\d{6}"}],
    "statistics": ["calls"],
    "max_table_rows": 50,
    "sample": {"inference/*": 0.1},
}
# [END policy]

# [START dag]
with (
    DAG(
        "example_redaction",
        schedule=None,
        start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
        catchup=False,
        params={"customer": "C-1042", "contact": "jane.doe@example.com"},
    ),
    wandb_pipeline(project="redaction", redaction=POLICY),
):

    @task.wandb
    def answer(wandb_run: Any) -> float:
        import wandb

        calls = [
            {"customer": f"C-{n % 7}", "seconds": 0.1 + n % 5 / 10, "answer": f"ORD-{n:06d} is on its way"}
            for n in range(500)
        ]
        for call in calls:
            wandb_run.log(
                {"inference/seconds": call["seconds"], "inference/prompt": f"Where is {call['answer'][:10]}?"}
            )
        rows = [list(call.values()) for call in calls]
        wandb_run.log(
            {
                "calls": wandb.Table(columns=["customer", "seconds", "answer"], data=rows),
                "answers": wandb.Table(columns=["customer", "seconds", "answer"], data=rows),
            }
        )
        return sum(call["seconds"] for call in calls)

    answer()
# [END dag]
