from __future__ import annotations
import time, logging
from airflow.sdk import DAG
import pytest
from wandb_airflow_provider import WandbPythonOperator
from wandb_airflow_provider.devserver import DevServer
def test_down(connect, run_task, tmp_path, caplog):
    own = DevServer(tmp_path/"own").start()
    connect(own, extra={"project":"p"})
    def fn(wandb_run):
        for i in range(5): wandb_run.log({"m":i})
        own.stop()
        return "done"
    with DAG("d", schedule=None):
        op = WandbPythonOperator(task_id="w", python_callable=fn)
    t=time.time()
    caplog.set_level(logging.ERROR)
    fin = run_task(op)
    print("RESULT", fin.state, fin.error, time.time()-t)
    print(caplog.text)
