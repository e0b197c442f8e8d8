"""A report as a reader of HTML sees it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any


@dataclass
class Page:
    """What stands in a page. `figures` are those of the whole of a run, `jobs` those of each job's section."""

    elements: set[str] = field(default_factory=set)
    addresses: list[str] = field(default_factory=list)
    figures: dict[str, set[float]] = field(default_factory=lambda: defaultdict(set))
    jobs: dict[str, dict[str, set[float]]] = field(default_factory=dict)
    text: str = ""
    title: str = ""

    @classmethod
    def of(cls, text: str) -> Page:
        reader = _Reader()
        reader.feed(text)
        reader.close()
        assert reader.open == [], "every element is closed"
        return reader.page


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self.open: list[str] = []
        self._job: str | None = None
        self._is_overview = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.page.elements.add(tag)
        self.page.addresses += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag not in ("meta", "link", "br", "hr"):
            self.open.append(tag)
        if tag == "section":
            name = given.get("id") or ""
            self._job = name if name.startswith("job-") else None
            self._is_overview = name == "jobs"
        if tag == "data":
            figures = self.page.figures if self._job is None else self.page.jobs.setdefault(self._job, defaultdict(set))
            if not self._is_overview:
                figures[given["data-field"] or ""].add(float(given["value"] or "nan"))

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.page.elements.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.page.text += data
        if self.open[-1:] == ["title"] and "svg" not in self.open:
            self.page.title += data


def same_as_summary(page: Page, summary: dict[str, Any]) -> None:
    """See that every figure of a page is that of a JSON summary, and that those which matter are there."""
    _same(page.figures, summary)
    for number, job in enumerate(summary["jobs"], 1):
        if f"job-{number}" in page.jobs:
            _same(page.jobs[f"job-{number}"], job)


def _same(figures: dict[str, set[float]], summary: dict[str, Any]) -> None:
    assert {"rows", "put", "skipped", "failed", "bytes", "seconds", "objects_per_second"} <= figures.keys()
    for name, values in figures.items():
        if name != "exit_code":
            wanted: Any = summary
            for part in name.split("."):
                wanted = wanted[part]
            assert values == {wanted}, name
