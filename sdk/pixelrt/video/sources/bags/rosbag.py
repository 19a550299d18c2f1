"""ROS 1 bags and ROS 2 databases, by the library `rosbags`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixelrt.dependency import require
from pixelrt.video.sources.bags.messages import MessageType
from pixelrt.video.sources.bags.recording import BrokenRecordingError, Message, Topic

_PURPOSE = "reading ROS bags"


class Rosbag:
    """A `.bag` of ROS 1, a `.db3` of ROS 2, or the folder of one with its `metadata.yaml`.

    Args:
        path: The file or folder. A database ends in `.db3`.
        ros1: Whether it is a bag of ROS 1.

    Raises:
        BrokenRecordingError: If it is none, damaged, or was not finished by its recorder.
    """

    problem = ""

    def __init__(self, path: Path, *, ros1: bool = False) -> None:
        self._failures = _failures()
        self._serialization = "ros1" if ros1 else "cdr"
        module = "rosbags.rosbag1" if ros1 else "rosbags.rosbag2"
        with self._explained("it"), contextlib.ExitStack() as opened:
            self._reader = opened.enter_context(require(module, "bags", _PURPOSE).Reader(path))
            self._opened = opened.pop_all()
        self.files = (path, *sorted(path.iterdir())) if path.is_dir() else (path,)
        self.topics = tuple(self._topics())

    def messages(self, topic: Topic) -> Iterator[Message]:
        """See `Recording.messages`."""
        wanted = [connection for connection in self._reader.connections if connection.topic == topic.name]
        with self._explained("what follows"):
            for _, log_ns, content in self._reader.messages(wanted) if wanted else ():
                yield Message(log_ns, content)

    def close(self) -> None:
        """Close the files."""
        self._opened.close()

    def _topics(self) -> Iterator[Topic]:
        for name, info in sorted(self._reader.topics.items()):
            definition = info.msgdef.data
            kind = MessageType(
                name=info.msgtype or "several types",
                serialization=self._serialization,
                definition=definition if isinstance(definition, bytes) else definition.encode(),
            )
            yield Topic(name=name, kind=kind, count=info.msgcount)

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._failures as problem:
            reason = str(problem.args[0] if problem.args else type(problem).__name__).rstrip(".")
            raise BrokenRecordingError(f"{what} is damaged or was never finished ({reason})") from problem


def _failures() -> tuple[type[Exception], ...]:
    first: Any = require("rosbags.rosbag1", "bags", _PURPOSE)
    second: Any = require("rosbags.rosbag2", "bags", _PURPOSE)
    return (
        first.ReaderError,
        second.ReaderError,
        require("apsw", "bags", _PURPOSE).Error,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        AssertionError,  # its way to say that a record is not what it should be
        RuntimeError,  # LZ4
        EOFError,
    )
