"""Write the generated pages of docs/: `scripts/docs`; with `--check` only say which are not what the code gives."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.reference import PAGES

DOCS = Path(__file__).parents[2] / "docs"


def main(arguments: list[str]) -> int:
    stale = []
    for name, text in PAGES.items():
        path, wanted = DOCS / name, text()
        if not path.exists() or path.read_text(encoding="utf-8") != wanted:
            stale.append(name)
            if "--check" not in arguments:
                path.parent.mkdir(exist_ok=True)
                path.write_text(wanted, encoding="utf-8")
    for name in stale:
        print(f"docs/{name}: {'is not what the code gives; run scripts/docs' if '--check' in arguments else 'written'}")
    return int("--check" in arguments and bool(stale))


sys.exit(main(sys.argv[1:]))
