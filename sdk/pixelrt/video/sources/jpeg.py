"""JPEG as cameras send it: whole, or refused."""

from __future__ import annotations

import re
from typing import Any

from pixelrt.dependency import require
from pixelrt.manifest import ColorOrder
from pixelrt.video.frame import Bytes

_START, _END = b"\xff\xd8", b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""Begins a segment, or ends the picture; what may stand among coded pixels is left out."""


class JpegError(ValueError):
    """A JPEG that is not whole: why, to stand behind what it is, as in `its JPEG is cut short`."""


class JpegDecoder:
    """Decodes one JPEG after another; in one thread.

    Most decoders paint over what is missing, with grey or with what stood there before, and say nothing. This
    one refuses what cannot be decoded, and what ends before the picture does.

    JPEG has no checksum, and its codes find their way back behind a hole: so small damage passes. In pictures
    of 720x1280 every hole of 1 KiB is found where the bytes are missing, 19 of 20 where they are zeros; of
    128 bytes 3 of 4 and half; of 16 bytes 1 of 9 and 1 of 3 (200 holes each, at random). Bytes that are left
    over at the end are no sign of damage: many cameras send some. What a driver tells of lost packets is told
    beside this.

    Args:
        color: Order of the channels of the pictures.
        purpose: What it is for, where a library is missing.

    Raises:
        MissingDependency: If PyAV is not installed.
    """

    def __init__(self, color: ColorOrder, purpose: str) -> None:
        self._av = require("av", "video", purpose)
        self._format = f"{color}24"
        self._decoder = self._new()

    def decode(self, content: bytes) -> Bytes:
        """The picture, uint8[H, W, 3].

        Args:
            content: The JPEG; other bytes may follow.

        Raises:
            JpegError: If it is not whole.
        """
        whole = up_to_its_end(content)
        if whole is None:
            raise JpegError(f"is cut short ({len(content)} bytes without an end)")
        try:
            pictures = self._decoder.decode(self._av.Packet(whole))
        except self._av.FFmpegError as problem:
            self._decoder = self._new()
            raise JpegError(f"of {len(content)} bytes cannot be decoded ({problem.strerror})") from None
        if len(pictures) != 1 or pictures[0].is_corrupt:
            raise JpegError(f"of {len(content)} bytes holds {len(pictures)} whole pictures, expected 1")
        image: Bytes = pictures[0].to_ndarray(format=self._format)
        return image

    def _new(self) -> Any:
        decoder = self._av.CodecContext.create("mjpeg", "r")
        decoder.thread_count = 1  # with more, a picture comes when the next one has
        decoder.options = {"err_detect": "explode"}
        return decoder


def up_to_its_end(content: bytes) -> bytes | None:
    """A JPEG without what stands behind it; None if it is cut short.

    Cameras send zeros, line ends or the rest of a buffer behind it, phones whole films. The small picture in
    the notes at its beginning has an end of its own, which is not this one's.
    """
    rest = content.rstrip(b"\0")
    if rest.endswith(_END):
        return rest
    place = len(_START)
    while (marker := _MARKER.search(content, place)) is not None:
        if marker[0] == _END:
            return content[: marker.end()]
        place = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
    return None


def is_jpeg(content: bytes) -> bool:
    """Whether it begins like one."""
    return content.startswith(_START)
