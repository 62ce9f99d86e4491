"""What a minor of the SDK does not offer, by the flow that goes on without it: nothing else may be left out."""

from __future__ import annotations

_REASON = "the reason of a refusal"  # Instead, the error has advice of the SDK's own for each status.

LEFT_OUT: dict[str, dict[str, list[str]]] = {
    "0.25": {
        "api_keys_and_what_they_may_do": ["User.generate_api_key", _REASON],
        "members_of_a_registry_and_their_roles": [_REASON],
        "protected_alias_is_moved_by_admins_alone": [_REASON],
        "random_sweep_that_is_stopped": ["Sweep.agents"],
        "team_of_users_and_service_accounts": [_REASON],
    },
}
