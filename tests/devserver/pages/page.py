"""A page as a browser would take it apart."""

from __future__ import annotations

from html.parser import HTMLParser

import httpx


class Page(HTMLParser):
    """What a browser would find in a page: its title, text, links and whatever it loads."""

    _NO_TEXT = ("script", "style", "title")

    def __init__(self, response: httpx.Response) -> None:
        super().__init__()
        self.html = response.text
        self.headers = response.headers
        self.title = ""
        self.links: dict[str, str] = {}
        self.loads: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.rows: list[str] = []
        self._open: list[str] = []
        self._href: str | None = None
        self._text: list[str] = []
        self.feed(self.html)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._text).split())

    def row(self, start: str) -> str:
        """Return the text of the table row that begins with a text."""
        return next(row for row in self.rows if row.startswith(start))

    def link_to(self, text: str) -> str:
        """Return the address whose first link has a text."""
        return next(address for address, found in self.links.items() if found == text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        if tag not in ("link", "meta", "img"):
            self._open.append(tag)
        if tag == "a":
            address = str(values["href"])
            self._href = None if address in self.links else address
            self.links.setdefault(address, "")
        if tag in ("script", "img", "iframe") and values.get("src"):
            self.loads.append(str(values["src"]))
        if tag == "link":
            self.loads.append(str(values["href"]))
        if tag == "tr":
            self.rows.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass
        if tag == "a":
            self._href = None

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "script":
            self.scripts.append(data)
        elif inside == "title" and "svg" not in self._open:
            self.title += data
        elif inside not in self._NO_TEXT:
            self._text.append(data)
            if self._href is not None:
                self.links[self._href] += data.strip()
            if "tr" in self._open:
                self.rows[-1] = f"{self.rows[-1]} {' '.join(data.split())}".strip()
