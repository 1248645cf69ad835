"""What a page holds, as a browser would see it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """Text, what would be loaded, tables as rows of cells; fails where tags do not close or something could run."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.source = path.read_text("utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link", "iframe", "object", "base", "form", "b:b"}
        assert not [name for name, _ in attrs if name.startswith("on")]
        where = self.links if tag == "a" else self.loads
        where += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "xlink:href"}]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += f" {data.strip()}"

    def row(self, name: str) -> list[str]:
        """The cells of the first row that begins with this name."""
        cleaned = ([re.sub(r"\s+", " ", cell).strip() for cell in row] for row in self.rows)
        return next(row for row in cleaned if row and row[0] == name)
