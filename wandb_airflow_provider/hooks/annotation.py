"""What is added to a run that has ended, or that another task holds open, through W&B's public API."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.identity import RunRef

__all__ = ["annotate_run"]


def annotate_run(
    hook: WandbHook,
    ref: RunRef,
    summary: Mapping[str, Any],
    *,
    table_key: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    table_policy: str,
) -> None:
    """
    Add keys to the summary of a run, and a table, as if the run had logged it.

    W&B replaces a summary as a whole: it is read just before it is written, and of two writers at that moment one
    loses its keys.

    :param table_key: The summary's key of the table.
    :param table_policy: The name under which a redaction policy knows the table.
    :raises WandbNotFoundError: no such run.
    :raises WandbPermissionError: the key may not write to it.
    """
    table = hook.privacy.table(table_policy, columns, rows)
    content = json.dumps({"columns": table.columns, "data": table.rows}, separators=(",", ":")).encode()
    digest = hashlib.sha256(content).hexdigest()
    # The path that the SDK gives a table that a run logs.
    name = f"media/table/{table_key}_{digest[:20]}.table.json"
    entry = {
        "_type": "table-file",
        "path": name,
        "ncols": len(table.columns),
        "nrows": len(table.rows),
        "sha256": digest,
        "size": len(content),
    }
    sent = hook.privacy.mapping("summary", summary)
    with (
        hook.translate_errors(f"add the verdict to the W&B run {ref}"),
        TemporaryDirectory(prefix="wandb-note-") as folder,
    ):
        api = hook.get_conn()
        api.flush()  # type: ignore[no-untyped-call]
        run = api.run(ref.path)
        file = Path(folder, name)
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        run.upload_file(str(file), root=folder)
        run.summary.update({**sent, table_key: entry})  # type: ignore[no-untyped-call]
