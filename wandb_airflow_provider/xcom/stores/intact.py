"""Whether what a place has is what is about to be stored, so that it need not be sent again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wandb_airflow_provider.exceptions import WandbXComIntegrityError, WandbXComRefusedError
from wandb_airflow_provider.object_storage import Place
from wandb_airflow_provider.xcom.index import FileFacts, check_file
from wandb_airflow_provider.xcom.stores import s3
from wandb_airflow_provider.xcom.stores.transfer import Arrival, check_link, part_of, receive, speaks
from wandb_airflow_provider.xcom.workspace import passing_folder

__all__ = ["Counterpart", "are_intact"]


class Counterpart:
    """
    A file of this machine and what a place has under its name.

    :param listed: What a listing says of it.
    """

    def __init__(self, source: Path, facts: FileFacts, target: str, listed: Mapping[str, Any]) -> None:
        self.source = source
        self.facts = facts
        self.target = target
        self.listed = listed

    def has_equal_etag(self, place: Place) -> bool:
        """Say whether the store's own word is enough to know that the content is the same."""
        etag = self.listed.get("ETag")
        return (
            isinstance(etag, str)
            and speaks(place, "s3")
            and s3.has_etag(etag, self.source, part_of(self.facts.size))
        )


def are_intact(place: Place, files: list[Counterpart], what: str) -> bool:
    """
    Say whether a place has these files as they are here.

    In S3 the ETag of a listing tells without a request. What it does not tell, as where the bucket encrypts with keys
    of its own, and everything in other stores is read back.
    """
    try:
        if place.local:
            for file in files:
                check_link(place, file.target, what)
                check_file(Path(file.target), file.facts, what)
            return True
        doubtful = [file for file in files if not file.has_equal_etag(place)]
        with passing_folder() as folder:
            receive(
                place,
                (
                    Arrival(file.target, folder / str(number), file.facts)
                    for number, file in enumerate(doubtful)
                ),
                what,
            )
    except (WandbXComIntegrityError, WandbXComRefusedError, FileNotFoundError):
        return False
    return True
