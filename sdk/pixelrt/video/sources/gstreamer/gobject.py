"""Plays a pipeline through PyGObject."""

from __future__ import annotations

import ctypes
import importlib
import threading
from collections import deque
from typing import Any

import numpy as np

from pixelrt.errors import SourceError, UnusableSource
from pixelrt.manifest import ColorOrder
from pixelrt.video.frame import Bytes
from pixelrt.video.sources.gstreamer.player import Picture
from pixelrt.video.sources.gstreamer.texts import explained, with_sink
from pixelrt.video.sources.hiding import pipeline_without_secrets, words_without_secrets

_START_S = 10.0
_WORDS_S = 2.0
"""A failure's words may come after it."""
_AHEAD = 4
"""Pictures that a pipeline which is not live may be ahead."""
_REMEMBERED = 256
"""Arrivals that are known, to tell how many were lost before one."""


class GObjectPlayer:
    """See `Player`.

    Args:
        pipeline: As `gst-launch-1.0` has it.
        color: Order of the channels that is wanted.

    Raises:
        SourceError: If it is no pipeline, or it does not start.
    """

    tells_end = True

    def __init__(self, pipeline: str, color: ColorOrder) -> None:
        self._gst = load_gstreamer()
        self.fps: float | None = None
        self.lost = 0
        self._failure: SourceError | None = None
        self._given, self._color = pipeline, color
        self._text = pipeline_without_secrets(pipeline)
        self._pipeline = self._parsed(with_sink(pipeline, color))
        self._bus = self._pipeline.get_bus()
        try:
            self._sink = self._found_sink()
            self._arrivals = _Arrivals(self._sink, self._gst)
            self.live = self._start()
        except BaseException:
            self.close()
            raise

    def pull(self, look_s: float) -> Picture | None:
        """The next picture, if it comes in that time."""
        sample = self._sink.emit("try-pull-sample", int(look_s * self._gst.SECOND))
        self._note_failure()
        if sample is None and self._failure is not None:
            raise self._failure
        if sample is None:
            return None
        buffer = sample.get_buffer()
        if self._sink.get_property("drop"):
            self.lost = self._arrivals.lost_up_to(buffer.pts)
        image, color = self._pixels(buffer, sample.get_caps())
        time_s = self._running_s(sample)
        known = time_s is not None and self.live
        base_s = self._pipeline.get_base_time() / self._gst.SECOND
        return Picture(
            image=image,
            color=color,
            time_s=time_s,
            captured_s=base_s + time_s if known and time_s is not None else None,
        )

    @property
    def ended(self) -> bool:
        """Whether there are no more."""
        return bool(self._sink.get_property("eos"))

    def close(self) -> None:
        """Stop the pipeline's threads."""
        self._pipeline.set_state(self._gst.State.NULL)
        self._bus.set_flushing(True)

    def _parsed(self, text: str) -> Any:
        gst = self._gst
        glib = importlib.import_module("gi.repository.GLib")
        parsed, said = None, ""
        try:
            parsed = gst.parse_launch_full(text, None, gst.ParseFlags.FATAL_ERRORS)
        except glib.Error as problem:  # it may hold a password, and is not to be another error's context
            said = explained(words_without_secrets(problem.message, self._given))
        if said:
            raise UnusableSource(f"{self._text!r} is no pipeline: {said}")
        if not isinstance(parsed, gst.Pipeline):
            raise UnusableSource(f"{self._text!r} is one element, expected element ! element ! ...")
        # the kernel's monotonic clock, which is time.monotonic's
        parsed.use_clock(gst.SystemClock.obtain())
        return parsed

    def _found_sink(self) -> Any:
        sinks = [element for element in _elements(self._pipeline, self._gst) if _kind(element) == "appsink"]
        if len(sinks) != 1:
            raise SourceError(
                f"{self._text!r} has {len(sinks)} appsinks, expected one: a pipeline for each source"
            )
        return sinks[0]

    def _start(self) -> bool:
        """Begin; whether pictures come at their own time."""
        state, change = self._gst.State, self._gst.StateChangeReturn
        self._limit_caps()
        result = self._pipeline.set_state(state.PAUSED)
        if result == change.ASYNC:
            result, _, _ = self._pipeline.get_state(int(_START_S * self._gst.SECOND))
        if result == change.FAILURE:
            self._note_failure(_WORDS_S)
            raise self._failure or SourceError(
                f"{self._text!r} does not start, and GStreamer does not say why"
            )
        live = result == change.NO_PREROLL
        if self._sink.get_property("max-buffers") == 0:
            self._sink.set_property("max-buffers", 1 if live else _AHEAD)
            self._sink.set_property("drop", live)
        self._pipeline.set_state(state.PLAYING)
        return bool(live)

    def _limit_caps(self) -> None:
        """Let an appsink of the user's take only what is read here, in the wanted order if it can choose."""
        other = "BGR" if self._color == "rgb" else "RGB"
        texts = [f"video/x-raw,format={order}" for order in (self._color.upper(), other)]
        self._sink.set_property("caps", self._gst.Caps.from_string(";".join(texts)))

    def _note_failure(self, wait_s: float = 0.0) -> None:
        """Keep the first failure that the pipeline reports; all else that it reports is let go."""
        wait, error = int(wait_s * self._gst.SECOND), self._gst.MessageType.ERROR
        message = self._bus.timed_pop_filtered(wait, error)
        if message is None or self._failure is not None:
            return
        problem, debug = message.parse_error()
        detail = (debug or "").strip().rsplit("\n", 1)[-1]
        said = explained(words_without_secrets(f"{problem.message} {detail}", self._given))
        kind = UnusableSource if self._is_of_film(message.src) else SourceError
        self._failure = kind(f"{self._text!r} failed at {message.src.get_name()}: {said}")

    def _is_of_film(self, failed: Any) -> bool:
        """Whether a file failed, and nothing is set to play it as a camera does: waiting brings no camera."""
        elements = _elements(self._pipeline, self._gst)
        live = any(getattr(element.props, "is_live", False) for element in elements)
        return _kind(failed) == "filesrc" and not live

    def _running_s(self, sample: Any) -> float | None:
        pts, none = sample.get_buffer().pts, self._gst.CLOCK_TIME_NONE
        if pts == none:
            return None
        running = sample.get_segment().to_running_time(self._gst.Format.TIME, pts)
        return None if running == none else float(running / self._gst.SECOND)

    def _pixels(self, buffer: Any, caps: Any) -> tuple[Bytes, ColorOrder]:
        form = caps.get_structure(0)
        height, width = form.get_int("height")[1], form.get_int("width")[1]
        found, over, under = form.get_fraction("framerate")
        self.fps = over / under if found and over and under else None
        color: ColorOrder = "rgb" if form.get_string("format") == "RGB" else "bgr"
        mapped, content = buffer.map(self._gst.MapFlags.READ)
        if not mapped:
            raise SourceError(f"{self._text!r} gave a picture that cannot be read")
        try:
            image = _image(content.data, height, width)
        finally:
            buffer.unmap(content)
        if image is None:
            raise SourceError(
                f"{self._text!r} gave {content.size} bytes, expected a picture of {height}x{width}"
            )
        return image, color


class _Arrivals:
    """Counts the pictures that reach an appsink, so that those which it drops are known.

    They are told apart by their times. Where they have none, the one that was taken counts as the last one
    that came: those that wait in the sink beside it are then counted as lost, once.
    """

    def __init__(self, sink: Any, gst: Any) -> None:
        self._lock = threading.Lock()
        self._seen: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)
        self._count = self._taken = self._first = self._lost = 0
        self._ok = gst.PadProbeReturn.OK
        sink.get_static_pad("sink").add_probe(gst.PadProbeType.BUFFER, self._arrived)

    def lost_up_to(self, time: int) -> int:
        """How many were dropped since the first picture was taken, up to this one, which is taken now."""
        with self._lock:
            found = (number for number, seen in reversed(self._seen) if seen == time)
            number = next(found, self._first + self._taken + self._lost)
            self._first = self._first or number
            self._lost = max(self._lost, number - self._first - self._taken)
            self._taken += 1
            return self._lost

    def _arrived(self, pad: Any, probe: Any) -> Any:
        with self._lock:
            self._count += 1
            self._seen.append((self._count, probe.get_buffer().pts))
        return self._ok


def load_gstreamer() -> Any:
    """Load GStreamer, and begin it where nobody has.

    GStreamer may bring libunwind, and PyGObject loads it for all libraries to come. They would end exceptions
    of C++ that the compiler's own library began, and the process would abort (seen with OpenVINO): its own
    library must be there first.
    """
    ctypes.CDLL("libgcc_s.so.1", mode=ctypes.RTLD_GLOBAL)
    importlib.import_module("gi").require_version("Gst", "1.0")
    gst = importlib.import_module("gi.repository.Gst")
    gst.init(None)
    return gst


def _elements(pipeline: Any, gst: Any) -> list[Any]:
    iterator = pipeline.iterate_recurse()
    found: list[Any] = []
    while True:
        result, element = iterator.next()
        if result != gst.IteratorResult.OK:
            return found
        found.append(element)


def _kind(element: Any) -> str:
    factory = element.get_factory()
    return str(factory.get_name()) if factory else ""


def _image(content: Any, height: int, width: int) -> Bytes | None:
    """A copy of pixels in rows of a multiple of four bytes, as GStreamer lays them out by default."""
    stride = (3 * width + 3) // 4 * 4
    if len(content) < stride * (height - 1) + 3 * width:
        return None
    view = np.ndarray((height, width, 3), np.uint8, content, strides=(stride, 3, 1))
    return np.array(view, order="C")
