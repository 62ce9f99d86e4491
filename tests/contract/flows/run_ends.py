"""How a run ends when its machine goes away: without a word, or announced."""

from __future__ import annotations

from flows import Ground, flow, wait_until


@flow
def silent_run_has_crashed(ground: Ground) -> None:
    run = ground.init(id="silent", settings={"x_file_stream_transmit_interval": 1})
    run.log({"loss": 1.0})
    path = f"{ground.path}/silent"
    # What is still on its way would be a sign of life.
    wait_until(lambda: ground.api().run(path).summary.get("loss") == 1.0, "the summary arrives")
    assert ground.api().run(path).state == "running"

    def crashed() -> bool:
        ground.ask("advance", seconds=301)
        found = ground.api().runs(ground.path, filters={"state": "crashed"})
        return [entry.id for entry in found] == ["silent"] and ground.api().run(path).state == "crashed"

    wait_until(crashed, "the run has crashed")
    run.finish()
    assert ground.api().run(path).state == "finished"


@flow
def preempted_run_is_resumed(ground: Ground) -> None:
    run = ground.init(id="moved")
    run.log({"loss": 2.0})
    run.mark_preempting()
    run.finish(exit_code=1)
    assert ground.api().run(f"{ground.path}/moved").state == "preempted"
    with ground.init(id="moved", resume="must") as run:
        run.log({"loss": 1.0})
        run.mark_preempting()
    read = ground.api().run(f"{ground.path}/moved")
    assert (read.state, read.summary["loss"]) == ("finished", 1.0)
