"""Who may do what in a registry: members with their roles, and aliases that are protected."""

from __future__ import annotations

from flows import Ground, flow
from wandb.apis.public import User


def _user_of_the_team(ground: Ground) -> tuple[User, str]:
    """Create a user who is a member of the team, and a key for it."""
    user = ground.api().create_user(f"{ground.project}@example.com")
    ground.ask("add_member", team=ground.entity, username=user.username)
    return user, ground.ask("create_key", username=user.username)


@flow
def members_of_a_registry_and_their_roles(ground: Ground) -> None:
    api = ground.api()
    registry = api.create_registry(ground.project, visibility="restricted", organization="local-org")
    target = f"{registry.full_name}/classifier"
    user, key = _user_of_the_team(ground)
    with ground.init(api_key=key) as run:
        artifact = run.log_artifact(ground.artifact("weights", "w", type="model")).wait()
        ground.refused(lambda: run.link_artifact(artifact, target), "has no role in registry")

        registry.add_members(user)
        for role in ("viewer", "member"):
            registry.update_member(user, role=role)
            roles = {member.user.username: member.role for member in registry.user_members()}
            assert roles == {api.viewer.username: "admin", user.username: role}
            if role == "viewer":
                ground.refused(
                    lambda: run.link_artifact(artifact, target), "has the role 'viewer' in registry"
                )
        run.link_artifact(artifact, target, aliases=["staging"])
    assert ground.api(key).artifact(f"{target}:staging").source_name == "weights:v0"
    registry.remove_members(user)
    assert not ground.api(key).artifact_exists(f"{target}:staging")

    team = api.team(ground.entity)
    registry.add_members(team)
    registry.update_member(team, role="admin")
    assert [(member.team.name, member.role) for member in registry.team_members()] == [(team.name, "admin")]
    ground.api(key).registry(ground.project, organization="local-org").delete()


@flow
def protected_alias_is_moved_by_admins_alone(ground: Ground) -> None:
    registry = ground.api().create_registry(
        ground.project, visibility="organization", organization="local-org"
    )
    target = f"{registry.full_name}/classifier"
    user, key = _user_of_the_team(ground)
    registry.add_members(user)
    registry.update_member(user, role="member")
    ground.ask("protect_alias", registry=ground.project, alias="production")

    with ground.init(api_key=key) as run:
        artifact = run.log_artifact(ground.artifact("weights", "w", type="model")).wait()
        ground.refused(
            lambda: run.link_artifact(artifact, target, aliases=["production"]),
            "alias 'production' is protected in registry",
        )
        assert not ground.api().artifact_collection_exists(target, "model"), "nothing of it was done"
        run.link_artifact(artifact, target, aliases=["candidate"])
    linked = ground.api(key).artifact(f"{target}:candidate")
    linked.aliases.append("production")
    ground.refused(linked.save, "only an admin of the registry may give it")
    by_admin = ground.api().artifact(f"{target}:candidate")
    by_admin.aliases.append("production")
    by_admin.save()
    held = ground.api(key).artifact(f"{target}:production")
    held.aliases.remove("production")
    ground.refused(held.save, "only an admin of the registry may take it away")
    assert "production" in ground.api(key).artifact(f"{target}:candidate").aliases
