"""`csi://0?size=1080x1920&fps=30` and `gst://PIPELINE`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from pixelrt.errors import MisspeltSource, SourceError, SourceStalled, UnusableSource
from pixelrt.manifest import ColorOrder
from pixelrt.video.frame import Frame
from pixelrt.video.sources.address import number, one_of, parse_address, switch, whole
from pixelrt.video.sources.base import BaseSource, Source, SourceOptions, parse_size
from pixelrt.video.sources.gstreamer.player import Picture, Player, open_player, tells_end
from pixelrt.video.sources.gstreamer.texts import FLIPS, CsiOptions, csi_pipeline
from pixelrt.video.sources.hiding import without_secrets
from pixelrt.video.sources.lazy import LATE_S, Lazy
from pixelrt.video.sources.reconnecting import Backoff, Persistence, Reconnecting
from pixelrt.video.sources.resizing import SizeWatch
from pixelrt.video.sources.stamps import Stamps

_LOOK_S = 0.05
"""An interrupt is seen after this."""
_BACKOFF = Backoff(first_s=0.5, most_s=5.0)
"""The camera service of a Jetson needs seconds to come back."""
_CSI_READERS = {
    "size": parse_size,
    "fps": number(0.01, 1000, "frames a second"),
    "mode": whole(0, 99),
    "flip": one_of(*FLIPS),
    "stall": number(0.1, 600, "seconds"),
    "reconnect": switch,
    "wait": switch,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayOptions:
    """How a pipeline is played."""

    name: str
    color: ColorOrder = "rgb"
    fps: float = 25.0
    """Frames a second of a pipeline that does not say."""
    stall_s: float = 10.0
    """Without a picture for so long, a live pipeline has failed; so has any that does not begin."""
    endless: bool = False
    """Whether its end is a failure, as of a camera."""
    stopped: Callable[[], bool] = lambda: False
    """Looked at while the first picture is waited for, when nobody can interrupt the source yet."""


class PipelineSource(BaseSource):
    """Pictures of a pipeline of GStreamer, as they come.

    Whether it is live, GStreamer says. A live one plays from the beginning on, and what nobody takes is
    replaced by newer pictures and counted in `losses["replaced"]`.

    Args:
        pipeline: As `gst-launch-1.0` has it; where it has no appsink, one is put at its end.
        options: How it is played.

    Raises:
        SourceError: If it is no pipeline, fails, or gives no picture.
        MissingDependency: If there is no GStreamer that Python can reach.
    """

    num_frames = None

    def __init__(self, pipeline: str, options: PlayOptions) -> None:
        self.name, self._options = options.name, options
        self._stamps, self._start_s = Stamps(), 0.0
        self._player: Player = open_player(pipeline, options.color)
        self.live = self._player.live
        self.can_be_played_again = self._player.live and self._player.tells_end
        """Whether a failure, which is no end, may be answered by playing it again."""
        self.tells_sizes = True
        """Whether it tells when pictures have another size; else who plays it does."""
        self._lost_before = self._early = 0
        try:
            first = self._begin()
        except BaseException:
            self._player.close()
            raise
        self._first: Picture | None = first
        self.size: tuple[int, int] = first.image.shape[:2]
        self.fps = self._player.fps or options.fps

    def __enter__(self) -> PipelineSource:
        return self

    @property
    def losses(self) -> Mapping[str, int]:  # type: ignore[override]
        """Pictures that nobody took in time, since the iteration began.

        `early`: the reader was busy with the first picture for long; `replaced`: later.
        """
        lost = self._player.lost - self._lost_before - self._early
        return {reason: count for reason, count in (("replaced", lost), ("early", self._early)) if count}

    def __iter__(self) -> Iterator[Frame]:
        picture, self._first = self._first, None
        if self.live and picture is not None:
            # it is as old as the source
            picture = self._next(0)
            self._lost_before = self._player.lost
        index, sizes = 0, SizeWatch(self, self.size)
        while picture is not None and not self.interrupted:
            given_s = time.monotonic()
            if self.tells_sizes:
                sizes.see(picture.image.shape[:2])
            yield self._frame(picture, index)
            index += 1
            picture = self._next(index)
            if index == 1 and time.monotonic() - given_s > LATE_S:
                self._early = self._player.lost - self._lost_before

    def close(self) -> None:
        """Stop the pipeline."""
        self.interrupted = True
        self._first = None
        self._player.close()

    def _begin(self) -> Picture:
        first = self._next(0)
        if first is None:
            raise SourceError(f"{self.name} ended without a single picture")
        return first

    def _next(self, index: int) -> Picture | None:
        """The next picture; None at the end."""
        self._stamps.asked()
        until_s = time.monotonic() + self._options.stall_s
        while not (self.interrupted or self._options.stopped()):
            picture = self._player.pull(_LOOK_S)
            if picture is not None:
                return picture
            if self._player.ended:
                self._check_end(index)
                return None
            if time.monotonic() > until_s and (self.live or not index):
                raise SourceStalled(
                    f"{self.name} gave no picture for {self._options.stall_s:g} s, after {index} of them"
                )
        return None

    def _check_end(self, index: int) -> None:
        if self._options.endless:
            raise SourceError(
                f"{self.name} stopped after {index} pictures, and a camera has no end; look at its cable, "
                "and at the log of the camera's service: journalctl -u nvargus-daemon"
            )

    def _frame(self, picture: Picture, index: int) -> Frame:
        captured_s, _ = self._stamps.times(picture.captured_s)
        own_s = captured_s if self.live or picture.time_s is None else picture.time_s
        if not index:
            self._start_s = own_s
        return Frame(
            image=picture.image,
            color=picture.color,
            source=self.name,
            index=index,
            time_s=own_s - self._start_s,
            name=f"{self.name}-{index:06d}",
            captured_s=captured_s,
        )


def open_csi(text: str, options: SourceOptions) -> Reconnecting:
    """Open `csi://0?size=1080x1920&fps=30`, up to its first picture.

    | option | default | meaning |
    |---|---|---|
    | `size=1080x1920` | the sensor's first mode | height and width before it is turned |
    | `fps=30` | the mode's | frames a second |
    | `mode=2` | what fits size and rate | the sensor's mode by its number |
    | `flip=rotate-180` | none | how the picture is turned, see `FLIPS` |
    | `stall=10` | 10 | seconds without a picture after which the camera is opened again |
    | `reconnect=no` | yes | whether a camera that failed is opened again |
    | `wait=yes` | no | whether a camera that does not start is waited for |

    Raises:
        SourceError: If an option cannot be used, or the camera does not start.
        MissingDependency: If there is no GStreamer that Python can reach.
    """
    address = parse_address(text)
    if not re.fullmatch(r"\d{1,2}", address.rest):
        raise MisspeltSource(
            f"{without_secrets(text)} names no camera, expected its number, such as csi://0?size=1080x1920&fps=30"
        )
    values = address.options(_CSI_READERS)
    persistence = Persistence(
        reconnect=values.pop("reconnect", True), wait=values.pop("wait", options.wait), backoff=_BACKOFF
    )
    stall_s = values.pop("stall", 10.0)
    camera = CsiOptions(number=int(address.rest), **values)
    play = PlayOptions(
        name=f"csi{camera.number}",
        color=options.color,
        fps=camera.fps or options.fps,
        stall_s=stall_s,
        endless=True,
    )
    return keep_open(csi_pipeline(camera), play, persistence)


def keep_open(
    pipeline: str, options: PlayOptions, persistence: Persistence, first: PipelineSource | None = None
) -> Reconnecting:
    """Play the pipeline of a camera, and play it again when it has failed.

    Args:
        pipeline: See `PipelineSource`.
        options: How it is played.
        persistence: When it is played again.
        first: Its first life, where that has begun already.

    Raises:
        SourceError: If it does not start.
        MissingDependency: If there is no GStreamer that Python can reach.
    """

    def play(stopped: Callable[[], bool]) -> PipelineSource:
        source = PipelineSource(pipeline, replace(options, stopped=stopped))
        source.tells_sizes = False
        if persistence.wait and not source.live:
            source.close()
            raise UnusableSource(
                f"{options.name}: GStreamer calls it a film, and only cameras are waited for; if it is a "
                "camera, set is-live=true (and do-timestamp=true) on its source element; else do not wait"
            )
        return source

    begun = [] if first is None else [first]
    for source in begun:
        source.tells_sizes = False

    def connect() -> Source:
        return begun.pop() if begun else Lazy(play, options.name)

    return Reconnecting(connect, name=options.name, persistence=persistence, fps=options.fps)


def open_pipeline(text: str, options: SourceOptions) -> Source:
    """Open `gst://videotestsrc is-live=true ! video/x-raw,width=640`: all behind `gst://` is the pipeline.

    A live one that fails, or gives no picture for ten seconds, is played again for as long as it takes; its
    end is the end. (Through OpenCV, which does not tell the one from the other, neither is.) Of those that
    are waited for, what turns out to be a film is refused.

    Raises:
        SourceError: If it is no pipeline, fails, or gives no picture.
        MissingDependency: If there is no GStreamer that Python can reach.
    """
    pipeline = text.partition("://")[2].strip()
    if not pipeline:
        raise MisspeltSource(f"{text} has no pipeline, expected one such as gst://v4l2src device=/dev/video0")
    play = PlayOptions(name="gst", color=options.color, fps=options.fps)
    if options.wait:
        return keep_open(pipeline, play, Persistence(reconnect=tells_end(), wait=True, backoff=_BACKOFF))
    source = PipelineSource(pipeline, play)
    if not source.can_be_played_again:
        return source
    return keep_open(pipeline, play, Persistence(backoff=_BACKOFF), source)
