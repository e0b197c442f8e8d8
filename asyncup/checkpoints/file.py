"""The checkpoint as a JSON file."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asyncup.checkpoints.files import replace_file, sync_folder
from asyncup.errors import StateLost, StateRefused
from asyncup.model import Checkpoint, Counts

VERSION = 1


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
            value = json.loads(self._path.read_bytes())
            return _decoded(value)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise StateRefused("load checkpoint", self.location, exc.strerror or str(exc)) from exc
        except (ValueError, KeyError, TypeError) as exc:
            raise StateRefused(
                "load checkpoint",
                self.location,
                "it is not a checkpoint of this version of asyncup",
                "start over with --restart, or keep other state with --state or --name",
            ) from exc

    def _save(self, checkpoint: Checkpoint) -> None:
        content = json.dumps({"version": VERSION, **asdict(checkpoint)}, ensure_ascii=False, indent=1)
        try:
            replace_file(self._path, content.encode() + b"\n")
        except OSError as exc:
            raise StateLost(
                "save checkpoint",
                self.location,
                f"it cannot be written: {exc.strerror or exc}",
                "make room or rights there, then run the same command again",
            ) from exc


def _decoded(value: Any) -> Checkpoint:
    if value.pop("version") != VERSION:
        raise ValueError("unknown version")
    value["counts"] = Counts(**value["counts"])
    if value["watermark"] is not None:
        value["watermark"] = tuple(value["watermark"])
    return Checkpoint(**value)
