"""What stands in a page: the cells of its tables, and its words."""

from __future__ import annotations

from html.parser import HTMLParser


class PageText(HTMLParser):
    """Collects the words of a page, and its tables cell by cell.

    Attributes:
        tables: of each table its rows, of each row its cells.
        words: all text outside of tables and styles, by single spaces.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.words = ""
        self._inside: list[str] = []
        self.feed(page)
        self.close()
        self.words = " ".join(self.words.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("a", "code"):  # which stand inside a sentence
            self.words += " "
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag in ("td", "th", "style"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside[-1:] == [tag]:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if self._inside[-1:] in (["td"], ["th"]):
            self.tables[-1][-1][-1] += data.strip()
        elif not self._inside:
            self.words += data
