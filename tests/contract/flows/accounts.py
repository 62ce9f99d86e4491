"""Who the key belongs to, and which projects it sees."""

from __future__ import annotations

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
