"""Hidden files: who holds them, and how far they are."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from pixelrt.encoding import Draft, drafts, writing_progress


def is_locked(path: Path) -> bool:
    file = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def test_a_new_file_is_locked_though_another_process_looks_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who starts beside us locks each hidden file for a moment, to know whether a killed run left it."""
    opened = os.open

    def looked_at(path: Path, flags: int, mode: int = 0o777) -> int:
        file = opened(path, flags, mode)
        theirs = opened(path, os.O_RDWR)
        fcntl.flock(theirs, fcntl.LOCK_EX)
        looking = threading.Timer(0.1, os.close, [theirs])
        looking.start()
        lookers.append(looking)
        return file

    lookers: list[threading.Timer] = []
    monkeypatch.setattr(os, "open", looked_at)
    draft = Draft(tmp_path / "out.mp4")
    monkeypatch.undo()
    for looking in lookers:
        looking.join()
    assert len(lookers) == 1
    assert is_locked(draft.hidden)
    draft.give_up()


def test_a_disk_that_knows_no_locks_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(file: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)
    monkeypatch.setattr(drafts, "_LOOKED_AT_S", 1e9)
    Draft(tmp_path / "out.mp4").finish()
    assert (tmp_path / "out.mp4").exists()


def test_how_far_a_file_is(tmp_path: Path) -> None:
    path = tmp_path / "out [1].mp4"
    assert writing_progress(path) == writing_progress(path)
    nothing, draft = writing_progress(path), Draft(path)
    empty = writing_progress(path)
    with draft.open() as stream:
        stream.write(b"more")
    longer = writing_progress(path)
    os.utime(draft.hidden, ns=(0, 0))  # FFmpeg moves what is in a file, too
    moved = writing_progress(path)
    assert writing_progress(path) == moved
    states = [nothing, empty, longer, moved]
    assert all(one != other for place, one in enumerate(states) for other in states[:place])
    draft.finish()
    assert writing_progress(path) == nothing
