"""A camera by its number or device file: `v4l2:///dev/video0?size=720x1280&fps=30&format=mjpeg`."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pixelrt.errors import MisspeltSource, SourceError, SourceStalled
from pixelrt.manifest import ColorOrder
from pixelrt.video.events import Event
from pixelrt.video.frame import Bytes, Frame
from pixelrt.video.sources.address import number, parse_address, switch
from pixelrt.video.sources.base import BaseSource, SourceOptions, parse_size
from pixelrt.video.sources.hiding import without_secrets
from pixelrt.video.sources.lazy import LATE_S, Lazy
from pixelrt.video.sources.reconnecting import Backoff, Persistence, Reconnecting
from pixelrt.video.sources.seldom import Seldom
from pixelrt.video.sources.stamps import Stamps
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
    "stall": number(0.1, 600, "seconds"),
    "reconnect": switch,
    "wait": switch,
}
_STALL_S = 5.0
_BACKOFF = Backoff(first_s=0.25, most_s=2.0)
"""A look at a device file costs nothing, and nobody else is waiting at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraOptions:
    """How a camera is used."""

    wish: Wish = field(default_factory=Wish)
    """What is asked of it."""
    fps: float = 25.0
    """Nominal frames a second of a camera that does not say."""
    color: ColorOrder = "rgb"
    """Order of the channels."""
    stall_s: float = _STALL_S
    """Without a whole picture for so long, it has failed."""


class Camera(BaseSource):
    """Pictures of a camera as they come, without end, timed by the kernel.

    Pictures come from the beginning of the iteration on. `losses` has `driver` (the reader was too slow, or
    the USB), `damaged` (data that are no whole picture) and `early` (came while the reader was busy with the
    first picture for long: what it does with it may be to get ready).

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
        self._wake = Wake()
        try:
            self._device = Device(path, self._options.wish)
        except BaseException:
            self._wake.close()
            raise
        self.size, self.fps = self._device.layout.size, self._device.fps or self._options.fps
        self._losses: dict[str, int] = {}
        self._sequence: int | None = None
        self._reason = "driver"
        self._damage, self._damages = "", Seldom()
        self._came_s = 0.0
        self._failure: SourceError | None = None
        self._stamps, self._start_s = Stamps(), 0.0

    def __enter__(self) -> Camera:
        return self

    @property
    def losses(self) -> Mapping[str, int]:  # type: ignore[override]
        """By reason, so far."""
        return dict(self._losses)

    def __iter__(self) -> Iterator[Frame]:
        unpacker = Unpacker(self._device.layout, self._options.color)
        self._device.start()
        index = 0
        while (frame := self._next(unpacker, index)) is not None:
            given_s = time.monotonic()
            yield frame
            index += 1
            if index == 1 and not self.interrupted and time.monotonic() - given_s > LATE_S:
                self._leave_out_old()

    def interrupt(self) -> None:
        """End the iteration at once."""
        self.interrupted = True
        self._wake.set()

    def close(self) -> None:
        """Give the camera back."""
        self.interrupted = True
        self._device.close()
        self._wake.close()

    def _next(self, unpacker: Unpacker, index: int) -> Frame | None:
        """The next whole picture; None at the end.

        Its time begins now, when it is asked for: a reader that was busy with the one before is no stall.
        """
        until_s, damaged = time.monotonic() + self._options.stall_s, self._losses.get("damaged", 0)
        try:
            while (taken := self._take(until_s)) is not None:
                captured_s, clock_s = self._stamps.times(taken.taken_s)
                image = self._unpacked(unpacker, taken)
                self._give_back(taken)
                if image is not None:
                    return self._frame(image, index, captured_s, clock_s)
        except TimeoutError:
            raise SourceStalled(self._silence(index, self._losses.get("damaged", 0) - damaged)) from None
        except SourceError as problem:
            raise SourceError(f"{problem} (after {index} pictures)") from problem
        return None

    def _take(self, until_s: float) -> Taken | None:
        """The next buffer; None at the end.

        Raises:
            TimeoutError: If none came in time.
            SourceError: If the camera has gone or failed.
        """
        if self.interrupted:
            return None
        if self._failure is not None:
            raise self._failure
        self._stamps.asked()
        taken = self._device.take(until_s - time.monotonic(), self._wake)
        if taken is not None:
            self._count_gap(taken.sequence)
            self._reason = "driver"
            self._came_s = time.monotonic()
        return taken

    def _give_back(self, taken: Taken) -> None:
        """Let a buffer be filled again. What was in it is whole: a failure is told when the next is taken."""
        try:
            self._device.give_back(taken)
        except SourceError as problem:
            self._failure = problem

    def _silence(self, index: int, damaged: int) -> str:
        """What is known of a camera that gave no picture for too long."""
        place, stall_s = self._device.path, self._options.stall_s
        if not damaged or time.monotonic() - self._came_s > stall_s / 2:
            return (
                f"{place} gave no picture for {stall_s:g} s, after {index} pictures; "
                "look at its cable and its power"
            )
        return (
            f"{place}: data come, and no whole picture for {stall_s:g} s, after {index} pictures: "
            f"{damaged} damaged, the last one because {self._damage}; look at its cable, or ask for another "
            f"format or size, such as {_EXAMPLE}"
        )

    def _leave_out_old(self) -> None:
        """Give those that wait back unread; the driver goes on with new ones."""
        now_s = time.monotonic()
        self._reason = "early"  # also of what the driver lost when no buffer was left
        while (waiting := self._device.take_waiting()) is not None:
            self._count_gap(waiting.sequence)
            self._lose("early", 1)
            self._device.give_back(waiting)
            if waiting.taken_s is None or waiting.taken_s >= now_s:
                return

    def _count_gap(self, sequence: int) -> None:
        """Count what the driver lost before a picture."""
        if self._sequence is not None and sequence > self._sequence + 1:
            self._lose(self._reason, sequence - self._sequence - 1)
        self._sequence = sequence

    def _unpacked(self, unpacker: Unpacker, taken: Taken) -> Bytes | None:
        """A picture; None if it is damaged."""
        try:
            return unpacker.unpack(taken)
        except DamagedError as damage:
            self._lose("damaged", 1)
            self._damage = str(damage)
            if new := self._damages.due(self._losses["damaged"]):
                before = f" and {new - 1} before it were" if new > 1 else " was"
                detail = f"picture {taken.sequence}{before} left out: {damage}"
                self.on_event(Event(kind="damaged", source=self.name, detail=detail))
            return None

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


def open_camera(text: str, options: SourceOptions) -> Reconnecting:
    """Open `0`, `/dev/video0`, `/dev/v4l/by-id/...` or any of them as `v4l2://...`, up to its first picture.

    | option | default | meaning |
    |---|---|---|
    | `size=720x1280` | what the camera is set to | height and width |
    | `fps=30` | the nearest to 30 | frames a second |
    | `format=mjpeg` | the best that fits | bgr24, rgb24, yuyv, uyvy, nv12, i420, mjpeg, jpeg or grey |
    | `stall=5` | 5 | seconds without a picture after which the camera is opened again |
    | `reconnect=no` | yes | whether a camera that was unplugged or failed is opened again when it is back |
    | `wait=yes` | no | whether a camera that is not there yet, or in use, is waited for |

    Raises:
        SourceError: If there is no such camera, or it cannot do what is asked.
    """
    address = parse_address(text if "://" in text else f"v4l2://{text}")
    path = f"/dev/video{address.rest}" if re.fullmatch(r"\d+", address.rest) else address.rest
    if not path.startswith("/"):
        raise MisspeltSource(
            f"{without_secrets(text)} names no camera, expected 0, /dev/video0 or {_EXAMPLE}"
        )
    values = address.options(_READERS)
    camera = CameraOptions(
        wish=Wish(size=values.get("size"), fps=values.get("fps"), format=values.get("format")),
        fps=options.fps,
        color=options.color,
        stall_s=values.get("stall", _STALL_S),
    )
    persistence = Persistence(
        reconnect=values.get("reconnect", True), wait=values.get("wait", options.wait), backoff=_BACKOFF
    )
    name = _name(path)
    source = Reconnecting(
        lambda: Lazy(lambda _: Camera(path, camera), name),
        name=name,
        persistence=persistence,
        fps=options.fps,
        late_s=LATE_S,
    )
    source.paths = (path,)
    return source


def _name(path: str) -> str:
    numbered = re.fullmatch(r"/dev/video(\d+)", path)
    return f"camera{numbered[1]}" if numbered else path.rstrip("/").rsplit("/", 1)[-1]
