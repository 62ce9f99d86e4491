"""Personal data planted in a DAG, and all bytes that a server received, to look for it there."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

from wandb_airflow_provider.devserver import DevServer

__all__ = ["Planted", "bytes_below", "received"]


class Planted:
    """Makes a value of its own for each place, and remembers it."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def email(self, place: str) -> str:
        return self.found.setdefault(f"email in {place}", f"{place.replace(' ', '.')}@planted.example.com")

    def plate(self, place: str) -> str:
        number = 1000 + len(self.found)
        return self.found.setdefault(f"plate in {place}", f"XY-{number}-PLANTED")

    def denied(self, place: str) -> str:
        return self.found.setdefault(f"denied in {place}", f"Denied Doe {place}")

    def hashed(self, place: str) -> str:
        return self.found.setdefault(f"hashed in {place}", f"hashed-{place.replace(' ', '-')}-4711")

    def places_in(self, content: bytes) -> list[str]:
        """Return the places whose value is in these bytes, as it is or as JSON, a URL or a query would hold it."""
        return [
            place
            for place, value in self.found.items()
            if any(
                form.encode() in content
                for form in (value, value.replace("@", "%40"), quote(value), json.dumps(value)[1:-1])
            )
        ]


def bytes_below(folder: Path) -> bytes:
    """Return the content of all files below a folder, and their names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return b"\n".join([*(path.read_bytes() for path in files), *(str(path).encode() for path in files)])


def received(server: DevServer, folder: Path) -> bytes:
    """
    Return all that a server received: its database, its files, and its record of requests.

    :param folder: Where it keeps its data.
    """
    asked = repr([request.as_json() for request in server.requests()]).encode()
    assert len(asked) > 1_000
    return bytes_below(folder) + asked
