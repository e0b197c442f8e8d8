"""The checkpoint as a JSON file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from asyncup.checkpoints.codec import from_json, to_json, unreadable
from asyncup.checkpoints.files import replace_file, sync_folder
from asyncup.errors import StateLost, StateRefused
from asyncup.model import Checkpoint


class FileCheckpoints:
    """One job's checkpoint in one file; replaced as a whole, so a crash leaves the old one or the new one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def location(self) -> str:
        return str(self._path)

    async def load(self) -> Checkpoint | None:
        """The checkpoint, or None when there is none.

        Raises:
            StateRefused: the file is not a checkpoint that this version can read.
        """
        return await asyncio.to_thread(self._load)

    async def save(self, checkpoint: Checkpoint) -> None:
        """See `CheckpointStore.save`."""
        await asyncio.to_thread(self._save, checkpoint)

    async def forget(self) -> None:
        """Remove the checkpoint, durably.

        Raises:
            StateRefused: it cannot be removed.
        """
        await asyncio.to_thread(self._forget)

    def _forget(self) -> None:
        try:
            self._path.unlink(missing_ok=True)
            sync_folder(self._path.parent)
        except OSError as exc:
            raise StateRefused("forget checkpoint", self.location, exc.strerror or str(exc)) from exc

    def _load(self) -> Checkpoint | None:
        try:
            sync_folder(self._path.parent)  # what this run builds on must not be undone by a power failure
            value = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise StateRefused("load checkpoint", self.location, exc.strerror or str(exc)) from exc
        except ValueError as exc:
            raise unreadable(self.location) from exc
        return from_json(value, self.location)

    def _save(self, checkpoint: Checkpoint) -> None:
        content = json.dumps(to_json(checkpoint), ensure_ascii=False, indent=1)
        try:
            replace_file(self._path, content.encode() + b"\n")
        except OSError as exc:
            raise StateLost(
                "save checkpoint",
                self.location,
                f"it cannot be written: {exc.strerror or exc}",
                "make room or rights there, then run the same command again",
            ) from exc
