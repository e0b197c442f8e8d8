"""README.md and docs/ hold together: links, tables, flags, the map of the pages, manifests. What they say is played in tests/e2e."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import yaml

from asyncup.cli.commands import COMMANDS, program
from asyncup.config import Config
from asyncup.flow import level
from tests.pages import PAGES, ROOT, anchors, blocks, build, flags_of, inline

#: Flags in running text that are other programs', and whose.
FLAGS = {"--help": "of every command", "--cap-add": "of docker", "--stop-timeout": "of docker"}


def broken(page: str) -> Iterator[str]:
    """The links of a page that lead nowhere in this checkout."""
    for token in inline(page, "link_open"):
        path, _, anchor = str(token.attrs["href"]).partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        there = (ROOT / page).parent.joinpath(path).resolve() if path else ROOT / page
        if not there.exists() or (anchor and anchor not in anchors(there.relative_to(ROOT).as_posix())):
            yield f"{page}: {token.attrs['href']}"


def test_links_lead_to_pages_and_headings_that_there_are() -> None:
    assert [link for page in PAGES for link in broken(page)] == []


def test_every_page_is_on_the_map() -> None:
    listed = {str(token.attrs["href"]) for token in inline("docs/index.md", "link_open")}
    assert {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")} - listed == {"index.md"}


def uneven(page: str) -> Iterator[str]:
    """The rows of tables with more or fewer cells than the row before."""
    width = 0
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1):
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        if width and cells and cells != width:
            yield f"{page}:{number}"
        width = cells


def test_the_rows_of_a_table_have_as_many_cells_as_its_head() -> None:
    assert [row for page in PAGES for row in uneven(page)] == []


def test_every_flag_that_is_spoken_of_is_there() -> None:
    known = flags_of(program()).union(*(flags_of(build(name)) for name in COMMANDS), FLAGS)
    unknown = [
        f"{page}: {token.content}"
        for page in PAGES
        for token in inline(page, "code_inline")
        if set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", token.content)) - known
    ]
    assert unknown == []
    spoken = " ".join(token.content for page in PAGES for token in inline(page, "code_inline"))
    assert [flag for flag in FLAGS if flag not in spoken] == []


def test_every_reason_for_a_level_is_explained() -> None:
    reasons = {value for name, value in vars(level).items() if name.isupper() and isinstance(value, str)}
    explained = {token.content for token in inline("docs/explanation/concurrency.md", "code_inline")}
    assert reasons - explained == set()


def test_the_design_has_every_room() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    rooms = {room.strip().removeprefix("asyncup.") for layer in layers for room in layer.split("|")}
    told = {
        token.content.rstrip("/").removesuffix(".py") for token in inline("docs/explanation/design.md", "code_inline")
    }
    assert rooms - told == set()


def pods(value: Any) -> Iterator[dict[str, Any]]:
    """The pods of a manifest."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for inner in value.values():
            yield from pods(inner)


def test_pods_have_time_to_drain_and_are_probed_where_they_answer() -> None:
    manifests = [block.text for block in blocks("docs/howto/kubernetes.md") if block.language == "yaml"]
    found = [pod for text in manifests for document in yaml.safe_load_all(text) for pod in pods(document)]
    assert len(found) == 3
    for pod in found:
        (container,) = pod["containers"]
        assert pod["terminationGracePeriodSeconds"] > Config.__dataclass_fields__["drain_timeout"].default
        assert pod["restartPolicy"] == "Never"
        assert {one["name"] for one in container.get("volumeMounts", ())} == {
            one["name"] for one in pod.get("volumes", ())
        }
        if (probe := container.get("livenessProbe")) is not None:
            (port,) = [one["containerPort"] for one in container["ports"] if one["name"] == probe["httpGet"]["port"]]
            assert f":{port}" in container["args"]
            assert probe["httpGet"]["path"] == "/healthz"
