"""Where a job's state lies among its own objects: which keys of the destination are the state's and no row's."""

from __future__ import annotations

import re
from pathlib import Path

from asyncup.checkpoints.deadletters import TRIAL
from asyncup.checkpoints.files import file_name
from asyncup.stateplace import parse_state

_DOCUMENTS = r"(?:\.json|\.dead-letters/\d+\.jsonl)"
_FILES = r"(?:\.json|\.json\.new|\.lock|\.dead-letters(?:\.retry-\d+)?\.jsonl)"


def state_keys(state: str, name: str, kind: str, place: str, leading: str) -> re.Pattern[str] | None:
    """What the keys of the state look like at a destination whose keys begin with `leading`; None when it lies elsewhere.

    In a folder of its own below the destination's all state counts, whatever job it is of. In the same folder as objects
    only this job's does: `5.json` may be the object of a row that has gone.

    It looks at the file system: call it in a thread.
    """
    found = parse_state(state)
    if kind == "s3" and found.kind == "s3" and found.place == place:
        prefix = found.name + "/" if found.name else ""
    elif kind == "file" and found.kind == "folder":
        root, folder = Path(place).resolve(), Path(found.place).resolve()
        if not folder.is_relative_to(root):
            return None
        prefix = "".join(f"{part}/" for part in folder.relative_to(root).parts)
    else:
        return None
    if not (prefix + file_name(name, ".json")).startswith(leading):
        return None
    own = "|".join(re.escape(file_name(one, "")) for one in (name, name + TRIAL))
    stem = "[^/]+" if len(prefix) > len(leading) else rf"(?:{own})(?:\.retry-[^/]+)?"
    kept = f"{stem}{_DOCUMENTS}" if kind == "s3" else rf"(?:{stem}{_FILES}|\.gitignore)"
    return re.compile(re.escape(prefix) + kept)
