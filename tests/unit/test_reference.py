"""docs/reference is what the code gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reference import PAGES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_what_the_code_gives(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run scripts/docs, and look at what changes"


def test_no_other_page_is_in_its_folder() -> None:
    assert {f"reference/{path.name}" for path in (DOCS / "reference").iterdir()} == set(PAGES)
