# The dev server alone: no Airflow, no wandb.
#
#   docker build --file docker/devserver.Dockerfile --tag wandb-airflow-provider/devserver:0.1.0 .

FROM python:3.11.14-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY dags dags
COPY wandb_airflow_provider wandb_airflow_provider
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11.14-slim-bookworm
COPY docker/devserver.txt /requirements.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --require-hashes --requirement /requirements.txt \
 && pip install --no-cache-dir --no-deps /wheels/*.whl \
 && useradd --uid 10001 --create-home devserver \
 && install --directory --owner 10001 --group 10001 /data
USER 10001:10001
EXPOSE 8765
CMD ["wandb-airflow", "devserver", "--host", "0.0.0.0", "--port", "8765", "--data", "/data", "--allow-remote"]
