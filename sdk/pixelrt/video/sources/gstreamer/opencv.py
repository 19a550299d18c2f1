"""Plays a pipeline through an OpenCV that was built with GStreamer."""

from __future__ import annotations

from pixelrt.dependency import require
from pixelrt.errors import SourceError
from pixelrt.manifest import ColorOrder
from pixelrt.video.sources.gstreamer.player import Picture
from pixelrt.video.sources.gstreamer.texts import with_sink
from pixelrt.video.sources.hiding import pipeline_without_secrets


class OpenCvPlayer:
    """See `Player`; OpenCV says less.

    It has no times of the pictures, so they count as taken when they were read. It does not tell the end of a
    pipeline from its failure, so both are errors, and the words are on stderr. A `pull` waits until there is
    a picture. Every pipeline counts as live.

    Args:
        pipeline: As `gst-launch-1.0` has it.
        color: Order of the channels that is wanted.

    Raises:
        SourceError: If OpenCV cannot open it.
    """

    live, lost, ended = True, 0, False
    tells_end = False

    def __init__(self, pipeline: str, color: ColorOrder) -> None:
        self._cv2 = require("cv2", "video", "reading a pipeline of GStreamer")
        self._text, self._color = pipeline_without_secrets(pipeline), color
        text = with_sink(pipeline, "bgr", {"max-buffers": "1", "drop": "true"})
        self._capture = self._cv2.VideoCapture(text, self._cv2.CAP_GSTREAMER)
        if not self._capture.isOpened():
            raise SourceError(
                f"OpenCV cannot open the pipeline {self._text!r}; its reason is above, GST_DEBUG=3 shows more"
            )
        self.fps: float | None = self._capture.get(self._cv2.CAP_PROP_FPS) or None

    def pull(self, look_s: float) -> Picture | None:
        """The next picture, as soon as there is one, however long that takes."""
        read, image = self._capture.read()
        if not read:
            raise SourceError(
                f"the pipeline {self._text!r} has ended or failed; OpenCV does not say which (PyGObject does)"
            )
        if self._color == "rgb":
            image = self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB)
        return Picture(image=image, color=self._color, time_s=None, captured_s=None)

    def close(self) -> None:
        """Stop the pipeline."""
        self._capture.release()
