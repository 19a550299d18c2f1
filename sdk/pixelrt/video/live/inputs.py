"""The sources of a stream."""

from __future__ import annotations

from dataclasses import dataclass

from pixelrt.video.live.options import Policy
from pixelrt.video.sources.base import Source


@dataclass(frozen=True, slots=True)
class Input:
    """A source of a stream."""

    place: int
    """Among the sources of the stream."""
    name: str
    """Unlike that of every other source of the stream."""
    source: Source
    owned: bool
    """Whether the stream opened it, and so closes it."""
    policy: Policy
    """Which of its frames are computed."""

    @property
    def newest(self) -> bool:
        """Whether only the newest frame counts; else every one does, and the source waits."""
        return self.policy == "latest"
