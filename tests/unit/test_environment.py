"""What the environment of a process says, and what it never holds."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, get_current_context

from wandb_airflow_provider import wandb_environment, wandb_environment_templates, wandb_pipeline
from wandb_airflow_provider.environment import ProcessRun, RunArguments
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.hierarchy import starts_run
from wandb_airflow_provider.identity import TaskIdentity


@pytest.fixture
def in_task(hook: Any, run_task: Callable[..., Any]) -> Callable[..., Any]:
    """``in_task(function)`` calls it with the context of a running task, and returns what it returned."""

    def call(function: Callable[[Any], Any], *, pipeline: dict[str, Any] | None = None) -> Any:
        found: list[Any] = []
        with DAG("environments", schedule=None):

            def work() -> None:
                found.append(function(get_current_context()))

            if pipeline is None:
                task = PythonOperator(task_id="work", python_callable=work)
            else:
                with wandb_pipeline(**pipeline):
                    task = PythonOperator(task_id="work", python_callable=work)
        finished = run_task(task)
        if finished.error is not None:
            raise finished.error
        return found[0]

    return call


def test_it_names_the_place_of_the_task_attempt(in_task: Any, server: Any, unique: str) -> None:
    found = in_task(
        lambda context: wandb_environment(context, tags=["a,b"], wandb_config={"lr": 0.1}),
        pipeline={"tags": ["weekly"], "config": {"seed": 1}},
    )
    identity = TaskIdentity("environments", "manual__1", "work")
    config = json.loads(found.pop("WANDB_CONFIG"))
    assert found == {
        "WANDB_ENTITY": "local",
        "WANDB_PROJECT": unique,
        "WANDB_RUN_ID": identity.wandb_run_id(),
        "WANDB_RUN_GROUP": identity.group,
        "WANDB_JOB_TYPE": "work",
        "WANDB_NAME": "work",
        "WANDB_TAGS": "environments,weekly,a b",
        "WANDB_RESUME": "allow",
        "WANDB_BASE_URL": server.url,
        "WANDB_CONSOLE": "off",
        "WANDB_LAUNCH": "true",
    }
    assert (config["lr"], config["seed"]) == (0.1, 1)
    assert config["airflow"]["parent_run"] == f"local/{unique}/{identity.root_wandb_run_id()}"


def test_the_key_is_in_it_only_when_asked_for(in_task: Any, server: Any) -> None:
    without, with_key = in_task(
        lambda context: (wandb_environment(context), wandb_environment(context, secrets="value"))
    )
    assert server.api_key not in repr(without)
    assert with_key == {**without, "WANDB_API_KEY": server.api_key}


def test_runs_of_their_own_get_no_id_and_a_given_id_is_kept(in_task: Any) -> None:
    free, given = in_task(
        lambda context: (
            wandb_environment(context, run_id=None),
            wandb_environment(context, run_id="mine"),
        )
    )
    assert not {"WANDB_RUN_ID", "WANDB_NAME", "WANDB_RESUME"} & free.keys()
    assert given["WANDB_RUN_ID"] == "mine"


def test_a_config_too_long_for_one_variable_is_split(in_task: Any) -> None:
    def split(context: Any) -> tuple[Any, ...]:
        source = ProcessRun(context, RunArguments(wandb_config={"long": "x" * 250_000}))
        return source.variables(source.spec()), source.spec().config

    found, config = in_task(split)
    parts = [found[f"WANDB_CONFIG_{number}"] for number in range(3)]
    assert "WANDB_CONFIG" not in found
    assert max(map(len, found.values())) < 128 * 1024
    assert json.loads("".join(parts))["long"] == config["long"]


def test_a_template_is_never_rendered_to_a_part_of_the_config(in_task: Any) -> None:
    def render(context: Any) -> Any:
        return context["task"].render_template(wandb_environment_templates(), context)

    with pytest.raises(WandbConfigurationError, match="too large for one variable"):
        in_task(render, pipeline={"config": {"long": "x" * 250_000}})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"secrets": "file"}, "secrets is 'file'; expected 'none' or 'value'"),
        ({"wandb_retries": "again"}, "wandb_retries is 'again'; expected 'new' or 'resume'"),
    ],
)
def test_wrong_arguments_are_refused(in_task: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(WandbConfigurationError, match=message):
        in_task(lambda context: wandb_environment(context, **arguments))


def test_macros_give_the_same_and_refuse_secrets(
    in_task: Any, server: Any, supervisor: Any, run_task: Callable[..., Any]
) -> None:
    def render(context: Any) -> tuple[Any, ...]:
        task = context["task"]
        templates = wandb_environment_templates(job_type="from a shell")
        exports = task.render_template("{{ macros.wandb.exports(job_type='from a shell') }}", context)
        secret = "{{ macros.wandb.environment(secrets='value') }}"
        with pytest.raises(WandbConfigurationError, match="A template cannot hold a secret"):
            task.render_template(secret, context)
        expected = wandb_environment(context, job_type="from a shell")
        return task.render_template(templates, context), exports, expected

    rendered, exports, expected = in_task(render)
    started = ("started_at",)
    for found in (rendered, expected):
        found["WANDB_CONFIG"] = json.loads(found["WANDB_CONFIG"])
        for name in started:
            found["WANDB_CONFIG"]["airflow"].pop(name, None)
    assert rendered == expected
    assert server.api_key not in exports
    # One shell reads back what another would be given.
    told = subprocess.run(
        ["bash", "-c", f"{exports}\necho $WANDB_JOB_TYPE"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "from a shell\n"
    assert shlex.split(exports)[0] == "export"


def test_templates_without_an_id_leave_out_what_belongs_to_it() -> None:
    names = wandb_environment_templates(run_id=None)
    assert "WANDB_RUN_GROUP" in names
    assert not {"WANDB_RUN_ID", "WANDB_NAME", "WANDB_RESUME"} & names.keys()


def test_tasks_that_start_a_run_are_known_mapped_or_not() -> None:
    from wandb_airflow_provider import WandbChildRun

    with DAG("shapes", schedule=None):
        plain = BashOperator(task_id="plain", bash_command="true")
        child = BashOperator(task_id="child", bash_command="true", pre_execute=WandbChildRun())
        mapped = BashOperator.partial(task_id="mapped", pre_execute=WandbChildRun()).expand(
            bash_command=["true"]
        )
        mapped_plain = BashOperator.partial(task_id="mapped_plain").expand(bash_command=["true"])
    assert [starts_run(task) for task in (plain, child, mapped, mapped_plain)] == [False, True, True, False]
