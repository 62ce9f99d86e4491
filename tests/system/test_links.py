"""The button to a task's W&B run, as Airflow's API hands it to the UI."""

from __future__ import annotations

from urllib.parse import quote

from wandb_airflow_provider.demo.airflow_process import AirflowCluster


def test_a_task_offers_the_link_to_its_run_while_it_works_and_afterwards(
    airflow_cluster: AirflowCluster,
) -> None:
    api = airflow_cluster.api
    airflow_cluster.wait_for_dag("ending_marked_failed")
    api.unpause("ending_marked_failed")
    run = api.trigger("ending_marked_failed")
    airflow_cluster.wait_for_task(run.dag_id, run.dag_run_id, "work_for_long", frozenset({"running"}))
    base = f"/dags/{run.dag_id}/dagRuns/{quote(run.dag_run_id, safe='')}/taskInstances/work_for_long"

    from wandb_airflow_provider.demo.polling import wait_for

    def link() -> str | None:
        found: str | None = api.request("GET", f"{base}/links")["extra_links"].get("W&B run")
        return found

    url = wait_for("the link of the running task", link, timeout=30)
    assert url == api.xcom(run.dag_id, run.dag_run_id, "work_for_long", key="wandb_run_url")
    api.set_task_state(run.dag_id, run.dag_run_id, "work_for_long", "failed")
    airflow_cluster.wait_for_run(run.dag_id, run.dag_run_id)
    assert link() == url
