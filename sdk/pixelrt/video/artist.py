"""Draws the classes of a result over its frame, once for all who want to see it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pixelrt.frames import swapped
from pixelrt.manifest import ClassInfo
from pixelrt.segmentation import Segmentation, check_alpha
from pixelrt.video.frame import Bytes, Frame
from pixelrt.video.legend import Legend


class Artist:
    """Draws overlays of one head; the legend is laid out anew where frames change their size.

    Args:
        classes: Of the head.
        alpha: Weight of the classes' colours, 0..1.
        legend: Whether the classes are named at the foot of the picture.

    Raises:
        InputError: If alpha lies outside 0..1.
    """

    def __init__(self, classes: Sequence[ClassInfo], *, alpha: float = 0.5, legend: bool = True) -> None:
        check_alpha(alpha)
        self._classes = tuple(classes)
        self._alpha, self._wants_legend = alpha, legend
        self._legends: dict[tuple[int, int], Legend] = {}

    def draw(self, frame: Frame, result: Segmentation) -> Bytes:
        """The overlay, uint8[H, W, 3] RGB."""
        overlay = result.overlay(frame.on_host(), self._alpha)
        if frame.color == "bgr":
            overlay = swapped(overlay)
        if self._wants_legend:
            self._legend(frame.size).draw(overlay, result.coverage())
        return overlay

    def _legend(self, size: tuple[int, int]) -> Legend:
        if size not in self._legends:
            self._legends = {**dict(list(self._legends.items())[-15:]), size: Legend(self._classes, size)}
        return self._legends[size]


class Picture:
    """The overlay of one result, drawn when it is first asked for, in the thread that asks.

    Args:
        artist: Draws it.
        frame: Is drawn over.
        result: What is drawn.
    """

    def __init__(self, artist: Artist, frame: Frame, result: Segmentation) -> None:
        self._artist, self.frame, self._result = artist, frame, result
        self._lock = threading.Lock()
        self._drawn: Bytes | None = None

    def drawn(self) -> Bytes:
        """The overlay, uint8[H, W, 3] RGB; read-only, since recordings and the page show the same one."""
        with self._lock:
            if self._drawn is None:
                drawn = self._artist.draw(self.frame, self._result)
                drawn.setflags(write=False)
                self._drawn = drawn
            return self._drawn
