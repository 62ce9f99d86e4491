"""Who the key belongs to and what it sees; teams with their members; keys and what they may do."""

from __future__ import annotations

import wandb
from flows import Ground, flow


@flow
def viewer_and_projects(ground: Ground) -> None:
    api = ground.api()
    viewer = api.viewer
    assert viewer.username
    assert ground.entity in viewer.teams
    assert api.default_entity == ground.entity
    api.create_project(ground.project, ground.entity)
    assert ground.project in {project.name for project in api.projects(ground.entity)}
    assert api.project(ground.project, ground.entity).name == ground.project
    team = api.team(ground.entity)
    assert viewer.username in {member.username for member in team.members}


@flow
def team_of_users_and_service_accounts(ground: Ground) -> None:
    api = ground.api()
    team = api.create_team(f"{ground.project}-crew")
    assert [(member.username, member.admin) for member in team.members] == [(api.viewer.username, True)]
    user = api.create_user(f"{ground.project}@example.com")
    assert [found.username for found in api.users(user.username)] == [user.username]
    assert team.invite(user.username)
    assert not team.invite(user.username), "who is a member cannot be invited"
    assert ground.api(ground.ask("create_key", username=user.username)).viewer.teams == [team.name]

    service = team.create_service_account("nightly job")
    assert (service.name, service.account_type) == ("nightly job", "SERVICE")
    with ground.init(entity=team.name, api_key=service.api_key) as run:
        run.log({"loss": 1.0})
    path = f"{team.name}/{ground.project}/{run.id}"
    assert ground.api(service.api_key).run(path).user.username == service.username

    team.load(force=True)
    for member in team.members:
        if member.username != api.viewer.username:
            assert member.delete()
    assert [member.username for member in ground.api().team(team.name).members] == [api.viewer.username]
    ground.refused(lambda: ground.api(service.api_key).run(path), "invalid API key")


@flow
def api_keys_and_what_they_may_do(ground: Ground) -> None:
    api = ground.api()
    user = api.create_user(f"{ground.project}@example.com")
    other = api.create_team(f"{ground.project}-other").name
    for team in (ground.entity, other):
        ground.ask("add_member", team=team, username=user.username)
    own = ground.ask("create_key", username=user.username)
    ground.login(own)  # A new key is made with the login's host.
    try:
        made = ground.api(own).viewer.generate_api_key("for the night")
    except wandb.errors.AuthenticationError:
        # It took the name of the first key for the key.
        ground.left_out.append("User.generate_api_key")
    else:
        viewer = ground.api(made).viewer
        assert (viewer.username, len(viewer.api_keys)) == (user.username, 2)
        assert viewer.delete_api_key(viewer.api_keys[-1])
        ground.refused(lambda: ground.api(made).create_project("p", other), "invalid API key")
    ground.login()

    with ground.init() as run:
        run.log({"loss": 1.0})
    reader = ground.api(ground.ask("create_key", username=user.username, read_only=True))
    read = reader.run(f"{ground.path}/{run.id}")
    assert read.state == "finished"
    read.notes = "changed"
    ground.refused(read.update, "is read-only")

    limited = ground.api(ground.ask("create_key", username=user.username, teams={other: "write"}))
    assert limited.viewer.teams == [other]
    limited.create_project(ground.project, other)
    ground.refused(
        lambda: limited.create_project(f"{ground.project}-new", ground.entity),
        f"is not for entity '{ground.entity}'",
    )
