"""What a recording is to its readers: topics, and the messages of one of them in order of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from pixelrt.video.sources.bags.messages import MessageType

CLASSES_KEY = "pixelrt.classes"
"""In the metadata of a topic that PixelRT wrote: the classes of its masks, or of what is drawn."""


class BrokenRecordingError(Exception):
    """A recording that cannot be read, or no further; the message says why, without the file's name."""


class Message(NamedTuple):
    """What was recorded."""

    log_ns: int
    """Nanoseconds since 1970 when the recorder got it."""
    content: bytes | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic of a recording."""

    name: str
    kind: MessageType
    count: int
    """How many messages it has."""
    is_result: bool = False
    """Whether PixelRT computed its images, which are masks or overlays, from those of another topic."""

    def __str__(self) -> str:
        return f"{self.name} ({self.kind.name}, {self.count} message{'s' if self.count != 1 else ''})"


class Recording(Protocol):
    """A file or folder of messages."""

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Those that hold images and the others, by name."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read."""

    @property
    def problem(self) -> str:
        """Why it is not whole; empty where it is, as far as its index says."""

    def messages(self, topic: Topic) -> Iterator[Message]:
        """The messages of a topic, a bounded number of them in memory.

        Raises:
            BrokenRecordingError: Where it is damaged or cut short, after every whole message before it.
        """

    def close(self) -> None:
        """Close the files. Safe to call twice."""
