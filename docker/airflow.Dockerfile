# Airflow with this checkout's provider.
#
#   docker build --file docker/airflow.Dockerfile --tag wandb-airflow-provider/airflow:3.3.2 .

FROM python:3.11.14-slim-bookworm AS wheel
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY dags dags
COPY wandb_airflow_provider wandb_airflow_provider
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && sed -E '/^ +--hash/d; s/ *\\$//' constraints.txt > /wheels/constraints.txt

FROM apache/airflow:3.3.2-python3.11
COPY --from=wheel /wheels /opt/wandb/wheels
COPY docker/create_bucket.py docker/missing_constraints.py /opt/wandb/
# What the image has stays as Airflow tested it; what it lacks comes in the versions of constraints.txt.
RUN pip freeze > /tmp/image.txt \
 && python /opt/wandb/missing_constraints.py /opt/wandb/wheels/constraints.txt /tmp/image.txt > /tmp/constraints.txt \
 && pip install --no-cache-dir --constraint /tmp/constraints.txt \
      "$(ls /opt/wandb/wheels/*.whl)[s3,dataframe,sklearn,statistics,reports]" \
 && pip check
