"""A camera by its number or device file: `v4l2:///dev/video0?size=720x1280&fps=30&format=mjpeg`."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from pixelrt.errors import SourceError
from pixelrt.manifest import ColorOrder
from pixelrt.video.events import Event
from pixelrt.video.frame import Bytes, Frame
from pixelrt.video.sources.address import number, parse_address
from pixelrt.video.sources.base import BaseSource, SourceOptions, parse_size
from pixelrt.video.sources.v4l2.device import Device
from pixelrt.video.sources.v4l2.modes import Wish, check_format
from pixelrt.video.sources.v4l2.pixels import DamagedError, Taken, Unpacker
from pixelrt.video.sources.waking import Wake

PLACES = r"(\d+|/dev/video\d+|/dev/v4l/[^?]+)(\?.*)?"
"""What names a camera without a scheme."""
_EXAMPLE = "v4l2:///dev/video0?size=720x1280&fps=30&format=mjpeg"
_READERS = {
    "size": parse_size,
    "fps": number(0.01, 1000, "frames a second"),
    "format": check_format,
    "timeout": number(0.1, 3600, "seconds"),
}
_OLDEST_S = 10.0
"""A picture that waited longer than this has the time of another clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraOptions:
    """How a camera is used."""

    wish: Wish = field(default_factory=Wish)
    """What is asked of it."""
    fps: float = 25.0
    """Nominal frames a second of a camera that does not say."""
    color: ColorOrder = "rgb"
    """Order of the channels."""
    timeout_s: float = 5.0
    """Without a picture for so long, it has failed."""


class Camera(BaseSource):
    """Pictures of a camera as they come, without end, timed by the kernel.

    Pictures come from the beginning of the iteration on. `losses` has `driver` (the reader was too slow, or
    the USB) and `damaged` (data that are no whole picture).

    Args:
        path: Its device file, or a link to it.
        options: How it is used.

    Raises:
        SourceError: If there is none, it may not be used, is in use, or cannot give what is asked.
    """

    live = True
    num_frames = None

    def __init__(self, path: str, options: CameraOptions | None = None) -> None:
        self._options = options or CameraOptions()
        self.name, self.paths = _name(path), (path,)
        self._device = Device(path, self._options.wish)
        self._wake = Wake()
        self.size, self.fps = self._device.layout.size, self._device.fps or self._options.fps
        self._losses: dict[str, int] = {}
        self.losses = self._losses
        self._sequence: int | None = None
        self._start_s = self._last_s = -float("inf")

    def __enter__(self) -> Camera:
        return self

    def __iter__(self) -> Iterator[Frame]:
        unpacker = Unpacker(self._device.layout, self._options.color)
        self._device.start()
        index = 0
        while (taken := self._take(index)) is not None:
            captured_s, clock_s = self._times(taken)
            image = self._unpacked(unpacker, taken)
            if image is not None:
                yield self._frame(image, index, captured_s, clock_s)
                index += 1
            if self.interrupted:
                return
            self._device.give_back(taken)

    def interrupt(self) -> None:
        """End the iteration at once."""
        self.interrupted = True
        self._wake.set()

    def close(self) -> None:
        """Give the camera back."""
        self.interrupted = True
        self._device.close()
        self._wake.close()

    def _take(self, index: int) -> Taken | None:
        """The next buffer; None at the end."""
        if self.interrupted:
            return None
        try:
            taken = self._device.take(self._options.timeout_s, self._wake)
        except TimeoutError:
            raise SourceError(
                f"{self._device.path} gave no picture for {self._options.timeout_s:g} s, after {index} "
                "pictures; look at its cable and its power"
            ) from None
        except SourceError as problem:
            raise SourceError(f"{problem} (after {index} pictures)") from problem
        if taken is not None:
            self._count_gap(taken.sequence)
        return taken

    def _count_gap(self, sequence: int) -> None:
        """Count what the driver lost before a picture."""
        if self._sequence is not None and sequence > self._sequence + 1:
            self._lose("driver", sequence - self._sequence - 1)
        self._sequence = sequence

    def _unpacked(self, unpacker: Unpacker, taken: Taken) -> Bytes | None:
        """A picture; None if it is damaged."""
        try:
            return unpacker.unpack(taken)
        except DamagedError as damage:
            self._lose("damaged", 1)
            detail = f"picture {taken.sequence} was left out: {damage}"
            self.on_event(Event(kind="damaged", source=self.name, detail=detail))
            return None

    def _times(self, taken: Taken) -> tuple[float, float | None]:
        """When a picture was taken, by the monotonic clock, and by the camera's own if that is another.

        The kernel's time is taken where it is of its monotonic clock; uvcvideo can be set to another
        (`clock=CLOCK_REALTIME`) and does not say so.
        """
        now_s, clock_s = time.monotonic(), None
        captured_s = now_s if taken.taken_s is None else taken.taken_s
        if not now_s - _OLDEST_S <= captured_s <= now_s:
            unix_s = time.time()
            clock_s = captured_s if unix_s - _OLDEST_S <= captured_s <= unix_s else None
            captured_s = now_s
        self._last_s = max(captured_s, self._last_s)
        return self._last_s, clock_s

    def _frame(self, image: Bytes, index: int, captured_s: float, clock_s: float | None) -> Frame:
        if not index:
            self._start_s = captured_s
        return Frame(
            image=image,
            color=self._options.color,
            source=self.name,
            index=index,
            time_s=captured_s - self._start_s,
            name=f"{self.name}-{index:06d}",
            captured_s=captured_s,
            clock_s=clock_s,
        )

    def _lose(self, reason: str, count: int) -> None:
        self._losses[reason] = self._losses.get(reason, 0) + count


def open_camera(text: str, options: SourceOptions) -> Camera:
    """Open `0`, `/dev/video0`, `/dev/v4l/by-id/...` or any of them as `v4l2://...?size=720x1280`.

    Raises:
        SourceError: If there is no such camera, or it cannot do what is asked.
    """
    address = parse_address(text if "://" in text else f"v4l2://{text}")
    path = f"/dev/video{address.rest}" if re.fullmatch(r"\d+", address.rest) else address.rest
    if not path.startswith("/"):
        raise SourceError(f"{text} names no camera, expected 0, /dev/video0 or {_EXAMPLE}")
    values = address.options(_READERS)
    wish = Wish(size=values.get("size"), fps=values.get("fps"), format=values.get("format"))
    timeout = {"timeout_s": values["timeout"]} if "timeout" in values else {}
    return Camera(path, CameraOptions(wish=wish, fps=options.fps, color=options.color, **timeout))


def _name(path: str) -> str:
    numbered = re.fullmatch(r"/dev/video(\d+)", path)
    return f"camera{numbered[1]}" if numbered else path.rstrip("/").rsplit("/", 1)[-1]
