"""The images of one topic of a recording, as frames."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

from pixelrt.encoding import FASTEST_FPS, SLOWEST_FPS
from pixelrt.errors import SourceError
from pixelrt.manifest import ColorOrder
from pixelrt.strict import suggestion
from pixelrt.video.events import Event
from pixelrt.video.frame import Bytes, Frame
from pixelrt.video.sources.bags.messages import ImageMessage, decoder
from pixelrt.video.sources.bags.pixels import PictureError, to_frame
from pixelrt.video.sources.bags.recording import BrokenRecordingError, Recording, Topic
from pixelrt.video.sources.bags.timing import Timing
from pixelrt.video.sources.base import BaseSource
from pixelrt.video.sources.resizing import SizeWatch

_STAMPS_FOR_RATE = 16


class _Shot(NamedTuple):
    """An image, when it was taken, and when the recorder got it, in nanoseconds since 1970."""

    taken_ns: int
    log_ns: int
    message: ImageMessage


class Bag(BaseSource):
    """Every image of one topic, in the order of the recorder, timed by the camera's own stamps.

    Where a stamp goes back or jumps, see `Timing`: `time_s` goes on by the recorder's time, an event says so
    once, and `clock_s` is the stamp all the same.

    Where the recording is damaged or cut short, or an image cannot be understood, the run ends with an error
    after every frame before it was delivered.

    Args:
        path: The file or folder, for names and messages.
        recording: What it holds; it is closed with this.
        topic: Its name; None where there is only one that holds images, masks and overlays of PixelRT aside.
        fps: Frames a second, for a topic whose times do not say.
        color: Order of the channels.

    Raises:
        SourceError: If there is no such topic, several are possible, or the first image cannot be read.
    """

    def __init__(
        self, path: Path, recording: Recording, *, topic: str | None, fps: float, color: ColorOrder
    ) -> None:
        self._path, self._recording, self._color = path, recording, color
        self.name = path.name or str(path)
        self.paths = tuple(str(file) for file in dict.fromkeys((path, *recording.files)))
        self.topic = _chosen(path, recording, topic)
        try:
            self._decode = decoder(self.topic.kind)
            self.size: tuple[int, int] = to_frame(self._first().picture, color).shape[:2]
            self.fps = self._rate() or fps
        except PictureError as problem:
            raise SourceError(f"{path}: {self.topic.name} cannot be read: {problem}") from problem
        except BrokenRecordingError as problem:
            raise SourceError(
                f"{path} holds no whole image of {self.topic.name}: {problem}; copy or record it again"
            ) from problem
        self.num_frames: int | None = self.topic.count

    def __enter__(self) -> Bag:
        return self

    def __iter__(self) -> Iterator[Frame]:
        sizes, index, timing = SizeWatch(self, self.size), 0, Timing()
        shots = self._shots()
        while not self.interrupted:
            try:
                shot = next(shots, None)
                if shot is None:
                    return
                image = to_frame(shot.message.picture, self._color)
            except PictureError as problem:
                raise self._stopped(f"message {index} cannot be read: {problem}", index) from problem
            except BrokenRecordingError as problem:
                raise self._stopped(str(problem), index) from problem
            sizes.see(image.shape[:2])
            yield self._frame(image, index, shot, self._time_s(shot, timing, index))
            index += 1

    def close(self) -> None:
        """Close the recording."""
        self._recording.close()

    def _time_s(self, shot: _Shot, timing: Timing, index: int) -> float:
        """The time of a frame; the first stamp that cannot be true is told of."""
        told = timing.strayed
        time_s = timing.time_s(shot.taken_ns, shot.log_ns)
        if timing.strayed and not told:
            detail = (
                f"the stamp of frame {index} does not go on from the one before it; here, and wherever that "
                "happens again, the recorder's time is taken for time_s; clock_s is what the stamp says"
            )
            self.on_event(Event(kind="mistimed", source=self.name, detail=detail))
        return time_s

    def _frame(self, image: Bytes, index: int, shot: _Shot, time_s: float) -> Frame:
        return Frame(
            image=image,
            color=self._color,
            source=self.name,
            index=index,
            time_s=time_s,
            clock_s=shot.taken_ns / 10**9,
            name=f"{self._path.stem}-{index:06d}",
        )

    def _shots(self) -> Iterator[_Shot]:
        for message in self._recording.messages(self.topic):
            image = self._decode(message.content)
            yield _Shot(image.stamp_ns or message.log_ns, message.log_ns, image)

    def _first(self) -> ImageMessage:
        first = next(self._shots(), None)
        if first is None:
            raise BrokenRecordingError("it has none")
        return first.message

    def _rate(self) -> float | None:
        """Frames a second, by the median of the first intervals; None where they do not say."""
        try:
            stamps = [shot.taken_ns for shot in islice(self._shots(), _STAMPS_FOR_RATE)]
        except (PictureError, BrokenRecordingError):
            return None  # said when the run comes to it
        steps = [later - earlier for earlier, later in pairwise(stamps)]
        step_ns = statistics.median(steps) if steps else 0
        rate = 1e9 / step_ns if step_ns > 0 else 0.0
        return rate if SLOWEST_FPS <= rate <= FASTEST_FPS else None

    def _stopped(self, reason: str, count: int) -> SourceError:
        total = f" of {self.topic.count}" if self.topic.count > count else ""
        return SourceError(
            f"{self._path}: {self.topic.name} ends after {count}{total} frames: {reason}; "
            f"copy or record it again, or use what is whole with --limit {count}"
            if count
            else f"{self._path}: {self.topic.name} has no frame that can be read: {reason}"
        )


def _chosen(path: Path, recording: Recording, asked: str | None) -> Topic:
    """The topic to read.

    Raises:
        SourceError: Saying which there are.
    """
    topics = recording.topics
    pictures = [topic for topic in topics if topic.kind.holds_image]
    cut = f" ({recording.problem})" if recording.problem else ""
    if asked is not None:
        return _named(f"{path}{cut}", topics, pictures, asked)
    filled = [topic for topic in pictures if topic.count]
    cameras = [topic for topic in filled if not topic.is_result] or filled
    if len(cameras) == 1:
        return cameras[0]
    if not filled:
        held = ", ".join(map(str, topics)) or "no topic at all"
        raise SourceError(
            f"{path}{cut} holds no image, expected sensor_msgs/Image or the like; it holds {held}"
        )
    held = ", ".join(map(str, filled))
    raise SourceError(
        f"{path}{cut} holds {len(filled)} topics with images: {held}; choose one, "
        f"such as {path}?topic={cameras[0].name}"
    )


def _named(what: str, topics: tuple[Topic, ...], pictures: list[Topic], asked: str) -> Topic:
    found = next((topic for topic in topics if topic.name == asked), None)
    images = f"images are in {', '.join(map(str, pictures))}" if pictures else "it holds no images at all"
    if found is None:
        hint = suggestion(asked, [topic.name for topic in topics])
        raise SourceError(f"{what} has no topic {asked!r}{hint}; {images}")
    if not found.kind.holds_image:
        written = f"{found.kind.name or 'no named type'} in {found.kind.serialization or 'no named encoding'}"
        raise SourceError(f"{what}: {asked} holds {written}, which is no image that can be read; {images}")
    if not found.count:
        raise SourceError(f"{what}: {asked} is empty: not one message was recorded; {images}")
    return found
