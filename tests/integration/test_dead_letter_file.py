"""The dead-letter file after a crash: what was cut short is dropped, what is somebody else's is never touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncup.checkpoints.deadletters import LONGEST_HEADER, DeadLetterFile
from asyncup.checkpoints.letters import LetterFile
from asyncup.errors import StateRefused

JOB = {"name": "public.docs"}


def header(folder: Path) -> bytes:
    file = DeadLetterFile(folder / "whole", JOB)
    file.open(keep=0)
    content = (folder / "whole").read_bytes()
    file.close()
    return content


@pytest.mark.parametrize("length", [0, 1, 5, 9, 10, 20, 40])
def test_a_first_line_that_a_crash_cut_short_is_written_again(tmp_path: Path, length: int) -> None:
    whole = header(tmp_path)
    path = tmp_path / "torn"
    path.write_bytes(whole[:length])
    file = DeadLetterFile(path, JOB)
    file.open(keep=0)
    assert path.read_bytes() == whole
    file.close()
    assert not path.exists(), "no row failed"


@pytest.mark.parametrize("content", [b"{", b'{"kind": "other', b"no line end", b"[]\n"])
def test_what_only_looks_a_little_like_ours_is_refused_or_ours(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    file = DeadLetterFile(path, JOB)
    if content == b"{":  # the first byte of a line of ours, and nothing that anybody would miss
        file.open(keep=0)
        file.close()
    else:
        with pytest.raises(StateRefused):
            file.open(keep=0)
        assert path.read_bytes() == content


def test_whoever_gives_a_folder_or_a_checkpoint_is_told_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(StateRefused, match="it cannot be read: it is a folder"):
        LetterFile.open(tmp_path)
    (tmp_path / "docs.json").write_text("{}")
    (tmp_path / "docs.dead-letters.jsonl").touch()
    with pytest.raises(StateRefused) as caught:
        LetterFile.open(tmp_path / "docs.json")
    assert "the rows that failed are in" in (caught.value.hint or "")


@pytest.mark.parametrize("path", ["/dev/full", "/dev/zero", "/dev/null", "pipe"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, path: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StateRefused, match="no file that could be read again") as caught:
        DeadLetterFile(tmp_path / path, JOB).open(keep=0)
    assert "--dead-letters" in str(caught.value.hint)


def test_a_first_line_without_an_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.write(header(tmp_path)[:-1])
        file.truncate(LONGEST_HEADER + 1)
    with pytest.raises(StateRefused):
        DeadLetterFile(path, JOB).open(keep=0)
    assert path.stat().st_size == LONGEST_HEADER + 1


def test_only_the_letters_that_a_checkpoint_counts_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    whole = header(tmp_path)
    path.write_bytes(whole + b'{"key": ["1"]}\n{"key": ["2"]}\n{"key": ["3')
    file = DeadLetterFile(path, JOB)
    file.open(keep=1)
    assert path.read_bytes() == whole + b'{"key": ["1"]}\n'
    assert file.letters == 1
    file.close()
