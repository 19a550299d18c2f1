"""Recordings for viewers: what `.mcap` and `.rrd` have in common."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

from pixelrt.errors import MisspeltSink
from pixelrt.video.sinks.content import CONTENT_READERS, Content, FrameClock
from pixelrt.video.sinks.kinds import SinkOptions
from pixelrt.video.sinks.parts import PART_READERS, PartedSink, PartOptions
from pixelrt.video.sources.address import parse_path


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingOptions(PartOptions):
    """What is recorded, and how; the options of a URI."""

    content: Content = field(default_factory=Content)
    film: bool = False
    """Whether no frame is of a camera: those without a clock have the times of the film then."""


class Recording(PartedSink):
    """Parts with the times at which frames were taken.

    Args:
        path: Of the file, or of its first part.
        options: What is recorded, and how.
        taken: Places of others, where no part goes.

    Raises:
        SinkError: If the file cannot be made.
    """

    content: ClassVar[Content] = Content()
    """What is recorded where nobody says."""

    def __init__(
        self, path: Path, *, options: RecordingOptions | None = None, taken: Collection[Path] = ()
    ) -> None:
        self._options = options or RecordingOptions(content=self.content)
        super().__init__(path, options=self._options, taken=taken)
        self.wants_overlay = self._options.content.overlay
        self._film_start_ns = time.time_ns() if self._options.film else None

    def _new_clock(self) -> FrameClock:
        """What tells the times of a part."""
        return FrameClock(self._film_start_ns)


Kind = TypeVar("Kind", bound=Recording)


def open_recording(kind: type[Kind], uri: str, options: SinkOptions) -> Kind:
    """Open a recording: `out.mcap?camera=no&quality=90&overlay=yes&segment=600`. That of a camera is kept.

    Raises:
        SinkError: If an option is unknown, or the file cannot be made.
    """
    address = parse_path(uri, error=MisspeltSink)
    given = address.options({**CONTENT_READERS, **PART_READERS}, MisspeltSink)
    seen = {key: given.pop(key) for key in CONTENT_READERS if key in given}
    content = dataclasses.replace(kind.content, **seen)
    chosen = RecordingOptions(content=content, film=not options.live, **{"keep": options.live, **given})
    return kind(Path(address.rest), options=chosen, taken=options.taken)
