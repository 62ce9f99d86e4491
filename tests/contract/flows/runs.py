"""Runs: what is logged comes back, resumes, is found, is changed and deleted."""

from __future__ import annotations

import wandb
from flows import Ground, flow, wait_until


@flow
def log_and_read_a_run(ground: Ground) -> None:
    with ground.init(
        name="train", group="nightly", job_type="fit", tags=["a", "b"], notes="first", config={"lr": 0.1}
    ) as run:
        for step in range(20):
            run.log({"loss": 1 / (step + 1), "nested": {"x": step}})
        run.summary["best"] = 0.05
        run.config.update({"late": [1, 2]})
    read = ground.api().run(f"{ground.path}/{run.id}")
    assert (read.state, read.name, read.group, read.job_type) == ("finished", "train", "nightly", "fit")
    assert sorted(read.tags) == ["a", "b"]
    assert read.notes == "first"
    assert read.config == {"lr": 0.1, "late": [1, 2]}
    assert read.summary["best"] == 0.05
    assert read.summary["loss"] == 0.05
    rows = list(read.scan_history(keys=["loss", "_step"]))
    assert [row["_step"] for row in rows] == list(range(20))
    assert len(read.history(samples=10, pandas=False)) == 10
    assert sum(1 for _ in read.scan_history(min_step=5, max_step=15)) == 10


@flow
def a_failed_run_is_failed(ground: Ground) -> None:
    run = ground.init()
    run.log({"loss": 1.0})
    run.finish(exit_code=1)
    assert ground.api().run(f"{ground.path}/{run.id}").state == "failed"


@flow
def resume_a_run(ground: Ground) -> None:
    with ground.init(id="resumed", config={"a": 1}) as run:
        run.log({"x": 1})
        run.log({"x": 2})
    with ground.init(id="resumed", resume="must", config={"b": 2}) as run:
        assert run.resumed
        run.log({"x": 3})
    with ground.init(id="fresh", resume="allow") as run:
        assert not run.resumed
    read = ground.api().run(f"{ground.path}/resumed")
    assert read.config == {"a": 1, "b": 2}
    assert [row["x"] for row in read.scan_history(keys=["x"])] == [1, 2, 3]
    try:
        ground.init(id="absent", resume="must")
    except wandb.Error:
        pass
    else:
        raise AssertionError("a run that does not exist was resumed")


@flow
def find_runs(ground: Ground) -> None:
    for index in range(5):
        with ground.init(id=f"r{index}", config={"depth": index}, tags=[f"t{index % 2}"], group="g") as run:
            run.log({"score": index * 10})
    api = ground.api()

    def ids(filters: dict[str, object], order: str = "+created_at") -> list[str]:
        api.flush()
        return [run.id for run in api.runs(ground.path, filters=filters, order=order, per_page=2)]

    assert ids({}) == ["r0", "r1", "r2", "r3", "r4"]
    assert ids({"config.depth": {"$gte": 3}}) == ["r3", "r4"]
    assert ids({"summary_metrics.score": {"$lt": 20}}, "-summary_metrics.score") == ["r1", "r0"]
    assert ids({"$or": [{"tags": "t1"}, {"config.depth": 4}]}) == ["r1", "r3", "r4"]
    assert ids({"group": "g", "state": "failed"}) == []
    assert len(api.runs(ground.path)) == 5


@flow
def change_and_delete_a_run(ground: Ground) -> None:
    with ground.init(id="changed", config={"a": 1}) as run:
        run.log({"x": 1})
    read = ground.api().run(f"{ground.path}/changed")
    read.config["a"] = 2
    read.summary["y"] = 5
    read.tags = ["kept"]
    read.name = "renamed"
    read.notes = "why"
    read.update()
    again = ground.api().run(f"{ground.path}/changed")
    assert (again.config["a"], again.summary["y"], again.name, again.notes) == (2, 5, "renamed", "why")
    assert list(again.tags) == ["kept"]
    again.delete()
    assert [run.id for run in ground.api().runs(ground.path)] == []


@flow
def files_of_a_run(ground: Ground) -> None:
    path = ground.file("notes/plan.txt", "a plan")
    with ground.init() as run:
        run.save(str(path), base_path=str(ground.folder))
    read = ground.api().run(f"{ground.path}/{run.id}")
    assert "notes/plan.txt" in {file.name for file in read.files()}
    target = ground.folder / "down"
    read.file("notes/plan.txt").download(root=str(target))
    assert (target / "notes/plan.txt").read_text() == "a plan"
    # This call alone takes its key from a login, not from the client.
    ground.login()
    read.upload_file(str(ground.file("later.txt", "later")), root=str(ground.folder))
    assert read.file("later.txt").size == 5
    read.file("later.txt").delete()
    names = {file.name for file in ground.api().run(f"{ground.path}/{run.id}").files()}
    assert "later.txt" not in names


@flow
def media_and_tables(ground: Ground) -> None:
    table = wandb.Table(columns=["query", "rank"], data=[["a", 1], ["b", 3]])
    with ground.init() as run:
        run.log(
            {
                "table": table,
                "histogram": wandb.Histogram(np_histogram=([1, 2], [0, 1, 2])),
                "page": wandb.Html("<b>x</b>"),
            }
        )
    api = ground.api()
    read = api.run(f"{ground.path}/{run.id}")
    assert read.summary["table"]["nrows"] == 2
    assert read.summary["histogram"]["_type"] == "histogram"
    logged = api.artifact(f"{ground.path}/run-{run.id}-table:v0")
    assert logged.get("table").data == [["a", 1], ["b", 3]]


@flow
def define_metric_with_its_own_axis(ground: Ground) -> None:
    with ground.init() as run:
        run.define_metric("epoch")
        run.define_metric("loss", step_metric="epoch", summary="min")
        for epoch, loss in enumerate([3.0, 1.0, 2.0]):
            run.log({"epoch": epoch, "loss": loss})
    read = ground.api().run(f"{ground.path}/{run.id}")
    assert read.summary["loss"]["min"] == 1.0, dict(read.summary)


@flow
def alert(ground: Ground) -> None:
    with ground.init() as run:
        run.alert(title="Loss rose", text="look", level=wandb.AlertLevel.WARN)


@flow
def system_metrics(ground: Ground) -> None:
    often = {
        "x_disable_machine_info": False,
        "x_disable_stats": False,
        "x_stats_sampling_interval": 0.1,
        "x_file_stream_transmit_interval": 1,
    }
    with ground.init(settings=often) as run:
        path = f"{ground.path}/{run.id}"
        wait_until(
            lambda: ground.api().run(path).history(stream="system", pandas=False), "system metrics arrive"
        )
    read = ground.api().run(path)
    events = read.history(stream="system", pandas=False)
    assert any("system.memory_percent" in event for event in events)
    assert read.system_metrics == events[-1]
