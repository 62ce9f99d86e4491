"""The privacy gate of one connection and DAG, with the salt that its policy names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.identity import clean_tags
from wandb_airflow_provider.privacy import PrivacyGate

if TYPE_CHECKING:
    from wandb_airflow_provider.redaction import RedactionPolicy
    from wandb_airflow_provider.sdk import RunSpec

__all__ = ["open_gate", "redacted_spec"]


def open_gate(of_connection: RedactionPolicy | None, of_dag: RedactionPolicy | None) -> PrivacyGate:
    """
    Return the gate that is as strict as both policies.

    :raises WandbConfigurationError: the salt that the policy names does not exist or is too short.
    """
    if of_connection is None or of_dag is None:
        policy = of_connection or of_dag
    else:
        policy = of_connection.merged(of_dag)
    if policy is None or not policy.needs_salt:
        return PrivacyGate(policy)
    if policy.salt is None:
        raise WandbConfigurationError("The redaction policy hashes, and names no salt.")
    return PrivacyGate(policy, _read_salt(policy.salt).encode())


def redacted_spec(gate: PrivacyGate, spec: RunSpec) -> RunSpec:
    """
    Return what the run may be opened with.

    :raises WandbConfigurationError: entity or project hold what the policy removes.
    """
    gate.require_clean("The entity", spec.entity)
    gate.require_clean("The project", spec.project)
    return spec._replace(
        name=gate.text(spec.name),
        group=gate.distinct(spec.group),
        job_type=gate.text(spec.job_type, mask=False),
        tags=clean_tags(gate.text(tag) for tag in spec.tags),
        config=gate.mapping("config", spec.config),
        machine=gate.policy is None or gate.policy.machine == "keep",
    )


def _read_salt(reference: str) -> str:
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
    from airflow.sdk import Variable
    from airflow.sdk.exceptions import AirflowRuntimeError
    from airflow.sdk.log import mask_secret

    kind, _, name = reference.partition(":")
    try:
        if kind == "variable":
            salt = Variable.get(name)
        else:
            conn_id, _, field = name.partition(":")
            conn = BaseHook.get_connection(conn_id)
            salt = conn.extra_dejson.get(field) if field else conn.password
    except (AirflowNotFoundException, AirflowRuntimeError, KeyError) as error:
        raise WandbConfigurationError(
            f"The redaction policy's salt {reference!r} does not exist. Create it with a long random text; what is "
            "hashed under another salt cannot be compared."
        ) from error
    if not isinstance(salt, str) or not salt:
        raise WandbConfigurationError(f"The redaction policy's salt {reference!r} is empty.")
    mask_secret(salt)
    return salt
