"""A camera by its number or device file, through OpenCV."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pixelrt.dependency import require
from pixelrt.errors import SourceError
from pixelrt.video.frame import Frame
from pixelrt.video.sources.base import BaseSource, SourceOptions


class Camera(BaseSource):
    """Frames of a camera as they come, timed when they arrive, without end.

    Args:
        number: 0 is /dev/video0.
        fps: Nominal frames a second, for a camera that does not say.

    Raises:
        SourceError: If there is no such camera, it is in use, or gives no picture.
    """

    def __init__(self, number: int, *, fps: float) -> None:
        self._cv2 = require("cv2", "video", "reading a camera")
        self.name = f"camera{number}"
        device = Path(f"/dev/video{number}")
        self.paths = (str(device),)
        if not device.exists():
            raise SourceError(f"no camera {number}: {device} does not exist; {_present()}")
        self._capture = self._cv2.VideoCapture(number, self._cv2.CAP_V4L2)
        read, first = self._capture.read()
        if not read:
            self._capture.release()
            raise SourceError(
                f"{device} gives no picture: another program may be using it, it may be no camera, "
                "or this user may not read it (group `video`)"
            )
        self.size: tuple[int, int] = first.shape[:2]
        self.fps = float(self._capture.get(self._cv2.CAP_PROP_FPS)) or fps
        self.num_frames = None

    def __enter__(self) -> Camera:
        return self

    def __iter__(self) -> Iterator[Frame]:
        start_s, index = time.monotonic(), 0
        while True:
            read, image = self._capture.read()
            if not read:
                raise SourceError(
                    f"{self.name} stopped giving pictures after {index} frames; check its cable"
                )
            yield Frame(
                image=np.asarray(self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB), np.uint8),
                index=index,
                time_s=time.monotonic() - start_s,
                name=f"{self.name}-{index:06d}",
            )
            index += 1

    def close(self) -> None:
        """Give the camera back."""
        self._capture.release()


def open_camera(text: str, options: SourceOptions) -> Camera:
    """Open `0`, `/dev/video0` or `v4l2:///dev/video0`.

    Raises:
        SourceError: If there is no such camera.
    """
    number = re.fullmatch(r"(?:(?:v4l2://)?/dev/video)?(\d+)", text)
    if number is None:
        raise SourceError(f"{text} names no camera, expected 0, /dev/video0 or v4l2:///dev/video0")
    return Camera(int(number[1]), fps=options.fps)


def _present() -> str:
    devices = sorted(str(file) for file in Path("/dev").glob("video*"))
    return f"present: {', '.join(devices)}" if devices else "this machine has no /dev/video*"
