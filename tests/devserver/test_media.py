"""Media, tables, charts, code and saved files: what the SDK makes of them comes back from the server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as graphs
import pytest
import wandb
from PIL import Image
from wandb.apis.public import Run as PublicRun

from wandb_airflow_provider.devserver import DevServer

OpenRun = Callable[..., wandb.Run]
FindRun = Callable[[str], PublicRun]


@pytest.fixture
def picture() -> wandb.Image:
    return wandb.Image(Image.new("RGB", (4, 3), "red"), caption="all red")


def test_logged_media_are_files_of_the_run_that_history_and_summary_point_to(
    open_run: OpenRun, find: FindRun, picture: wandb.Image, tmp_path: Path
) -> None:
    sound, film = tmp_path / "sound.wav", tmp_path / "film.gif"
    sound.write_bytes(b"RIFF sound")
    film.write_bytes(b"GIF89a film")
    run = open_run()
    run.log(
        {
            "picture": picture,
            "pictures": [picture, picture],
            "sound": wandb.Audio(str(sound)),
            "film": wandb.Video(str(film), format="gif"),
            "text": wandb.Html("<b>bold</b>", inject=False),
            "figure": graphs.Figure(graphs.Scatter(y=[1, 2])),
            "histogram": wandb.Histogram([1, 2, 2, 3], num_bins=2),
        }
    )
    run.finish()

    found = find(run.id)
    (row,) = found.scan_history()
    assert (
        row["picture"] | {"_type": "image-file", "width": 4, "height": 3, "caption": "all red"}
        == row["picture"]
    )
    assert (row["pictures"]["_type"], row["pictures"]["count"]) == ("images/separated", 2)
    assert row["histogram"]["_type"] == "histogram"
    assert sum(row["histogram"]["values"]) == 4
    assert found.summary_metrics["picture"] == row["picture"]
    assert found.historyKeys["keys"]["picture"]["typeCounts"] == [{"type": "map", "count": 1}]

    def stored(key: str) -> bytes:
        return content(found, row[key]["path"], tmp_path)

    assert stored("picture").startswith(b"\x89PNG")
    assert (stored("sound"), stored("film")) == (sound.read_bytes(), film.read_bytes())
    assert stored("text") == b"<b>bold</b>"
    assert json.loads(stored("figure"))["data"][0]["type"] == "scatter"
    for name in row["pictures"]["filenames"]:
        assert found.file(name).size > 0


def test_tables_come_back_whole_with_their_media_and_as_they_grew(
    open_run: OpenRun, find: FindRun, fresh_api: Callable[..., wandb.Api], project: str, picture: wandb.Image
) -> None:
    run = open_run(id="tables")
    run.log({"plain": wandb.Table(columns=["name", "score"], data=[["a", 1], ["b", 2.5]])})
    run.log({"pictures": wandb.Table(columns=["picture"], data=[[picture]])})
    growing = wandb.Table(columns=["step"], log_mode="INCREMENTAL")
    for step in range(3):
        growing.add_data(step)
        run.log({"growing": growing})
    run.finish()

    found = find("tables")
    reference = found.summary_metrics["plain"]
    assert (reference["_type"], reference["nrows"], reference["ncols"]) == ("table-file", 2, 2)
    assert found.file(reference["path"]).size == reference["size"]
    kinds = {artifact.name: artifact.type for artifact in found.logged_artifacts()}
    assert kinds == {
        "run-tables-plain:v0": "run_table",
        "run-tables-pictures:v0": "run_table",
        **{f"run-tables-incr-growing:v{number}": "wandb-run-incremental-table" for number in range(3)},
    }
    api = fresh_api()
    plain: Any = api.artifact(f"local/{project}/run-tables-plain:latest").get("plain")
    assert (plain.columns, plain.data) == (["name", "score"], [["a", 1], ["b", 2.5]])
    pictures: Any = api.artifact(f"local/{project}/run-tables-pictures:latest").get("pictures")
    assert pictures.data[0][0].image.size == (4, 3)
    grown: Any = api.artifact(f"local/{project}/run-tables-incr-growing:latest")
    # Whichever increment is asked for, the SDK puts all of them together.
    assert grown.get(next(iter(grown.manifest.entries))).data == [[0], [1], [2]]


def test_plots_bring_their_tables_and_their_presets(open_run: OpenRun, find: FindRun) -> None:
    run = open_run()
    scores = wandb.Table(columns=["label", "value"], data=[["a", 1], ["b", 2]])
    run.log(
        {
            "bars": wandb.plot.bar(scores, "label", "value", title="Bars"),
            "lines": wandb.plot.line_series([0, 1], [[1, 2]], keys=["loss"]),
            "confusion": wandb.plot.confusion_matrix(y_true=[0, 1], preds=[0, 1], class_names=["a", "b"]),
        }
    )
    run.finish()

    found = find(run.id)
    panels = {
        key: entry["panel_config"]["panelDefId"]
        for key, entry in found.rawconfig["_wandb"]["visualize"].items()
    }
    assert panels == {
        "bars": "wandb/bar/v0",
        "lines": "wandb/lineseries/v0",
        "confusion": "wandb/confusion_matrix/v1",
    }
    for key in panels:
        assert found.summary_metrics[f"{key}_table"]["_type"] == "table-file"


def test_code_and_files_are_saved_as_their_policy_says(
    open_run: OpenRun, find: FindRun, server: DevServer, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text("print('train')")
    (code / "notes.txt").write_text("not code")
    for policy in ("now", "live", "end"):
        (tmp_path / f"{policy}.txt").write_text("first")
    run = open_run(id="files")
    run.log_code(str(code), name="my-code")
    for policy in ("now", "live", "end"):
        run.save(str(tmp_path / f"{policy}.txt"), base_path=str(tmp_path), policy=policy)
    for policy in ("live", "end"):
        (tmp_path / f"{policy}.txt").write_text("second")
    run.finish()

    found = find("files")
    (logged,) = found.logged_artifacts()
    assert (logged.type, list(logged.manifest.entries)) == ("code", ["train.py"])
    names = ("now.txt", "live.txt", "end.txt")
    assert [content(found, name, tmp_path) for name in names] == [b"first", b"second", b"second"]


def content(run: PublicRun, name: str, folder: Path) -> bytes:
    """Return the bytes of a file of a run as the public API downloads them."""
    run.file(name).download(root=str(folder / "read"), replace=True).close()
    return (folder / "read" / name).read_bytes()
