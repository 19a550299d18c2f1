"""Frames on their way to the child and back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from pixelrt.errors import PixelRTError
from pixelrt.segmentation import Segmentation


@dataclass(slots=True, eq=False)
class Flight:
    """The frames of one request, until they have their results or an error."""

    first: int
    """Number of the first frame, which is that of the request too."""
    count: int
    """How many frames there are."""
    began_s: float = field(default_factory=time.monotonic)
    """When the caller handed them over."""
    sent_s: float = 0.0
    slot: int = 0
    """The place in the shared memory that they take until they have landed."""
    _results: list[Segmentation] | None = None
    _error: tuple[type[PixelRTError], str] | None = None

    @property
    def landed(self) -> bool:
        """Whether there is a result or an error."""
        return self._results is not None or self._error is not None

    @property
    def which(self) -> str:
        """The frames, for messages."""
        return f"frame {self.first}" if self.count == 1 else f"frames {self.first} to {self.last}"

    @property
    def last(self) -> int:
        """Number of the last frame."""
        return self.first + self.count - 1

    def succeed(self, results: list[Segmentation]) -> None:
        """Keep results."""
        self._results = results

    def fail(self, kind: type[PixelRTError], text: str) -> None:
        """Keep an error, unless there is a result or an error already."""
        if not self.landed:
            self._error = (kind, text)

    def take(self) -> list[Segmentation]:
        """The results of frames that have landed, any number of times.

        Raises:
            PixelRTError: What became of them instead.
        """
        if self._error is not None:
            kind, text = self._error
            raise kind(text)
        return self._results or []
