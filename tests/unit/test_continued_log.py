"""Files of an offline run whose steps are moved behind those that W&B has."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import wandb

from wandb_airflow_provider.spool import continued_log
from wandb_airflow_provider.spool.continued_log import continued_folder
from wandb_airflow_provider.spool.transaction_log import (
    HISTORY,
    TransactionLogError,
    fields,
    messages,
    read_transaction_log,
)

BLOCK_BYTES = 32768
ROWS = 40


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an offline run with rows that cross the blocks of its file."""
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_machine_info=True)
    folder = tmp_path_factory.mktemp("offline")
    with wandb.init(
        mode="offline", entity="e", project="p", id="one", dir=str(folder), settings=settings
    ) as run:
        for row in range(ROWS):
            run.log({"metric": row, "text": str(row) * 4000, "nested": {"_step": 1}})
    # Its file is complete once the service has ended.
    wandb.teardown()
    (found,) = folder.glob("wandb/offline-run-*")
    return found


@pytest.fixture(autouse=True)
def _an_older_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continued_log, "COUNTS_ON", (99, 0))


def log_file(folder: Path) -> Path:
    (file,) = folder.glob("*.wandb")
    return file


def rows(folder: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return step and values of each row of history."""
    found = []
    for message in messages(log_file(folder).read_bytes(), folder):
        for number, record in fields(message):
            if number == HISTORY and isinstance(record, bytes):
                parts = [(key, value) for key, value in fields(record) if isinstance(value, bytes)]
                values = {
                    b".".join(part for key, part in fields(item) if key in (1, 2) and isinstance(part, bytes))
                    .strip(b".")
                    .decode(): json.loads(dict(fields(item))[16])
                    for key, item in parts
                    if key == 1
                }
                (step,) = [dict(fields(value)).get(1, 0) for key, value in parts if key == 2]
                found.append((int(step), values))
    return found


def test_steps_come_after_the_last_one_and_nothing_else_changes(offline: Path, tmp_path: Path) -> None:
    copy = continued_folder(offline, 6, tmp_path)
    before, after = rows(offline), rows(copy)
    assert [step for step, _ in after] == list(range(7, 7 + ROWS))
    assert [values.pop("_step") for _, values in after] == list(range(7, 7 + ROWS))
    assert [values.pop("_step") for _, values in before] == list(range(ROWS))
    assert [values for _, values in after] == [values for _, values in before]
    assert after[0][1]["metric"] == 0
    assert read_transaction_log(log_file(copy)) == read_transaction_log(log_file(offline))
    names = {path.name for path in offline.iterdir()}
    assert {path.name for path in copy.iterdir()} == names
    assert (copy / "files").resolve() == offline / "files"


def test_every_chunk_has_its_checksum_and_stays_within_its_block(offline: Path, tmp_path: Path) -> None:
    data = log_file(continued_folder(offline, 10**6, tmp_path)).read_bytes()
    position, kinds = 7, set()
    while position < len(data):
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < 7:
            assert data[position : position + left] == bytes(left)
            position += left
            continue
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        assert 7 + length <= left
        checked = data[position + 6 : position + 7 + length]
        assert zlib.crc32(checked) == int.from_bytes(data[position : position + 4], "little")
        kinds.add(checked[0])
        position += 7 + length
    assert {1, 2, 4} <= kinds


@pytest.mark.parametrize("last_step", [-1, -5])
def test_steps_that_already_come_after_are_left_alone(offline: Path, tmp_path: Path, last_step: int) -> None:
    assert continued_folder(offline, last_step, tmp_path) == offline


def test_a_wandb_that_counts_on_by_itself_gets_the_folder_as_it_is(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continued_log, "COUNTS_ON", (0, 1))
    assert continued_folder(offline, 6, tmp_path) == offline


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TransactionLogError, match="holds 0"):
        continued_folder(tmp_path, 6, tmp_path)
    (tmp_path / "run-one.wandb").write_bytes(b"nothing")
    with pytest.raises(TransactionLogError, match="does not begin like"):
        continued_folder(tmp_path, 6, tmp_path)
