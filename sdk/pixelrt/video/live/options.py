"""What may be chosen about a stream."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, TypedDict, get_args

from pixelrt.errors import InputError
from pixelrt.segmentation import check_alpha
from pixelrt.strict import suggestion
from pixelrt.video.events import Event, ignore
from pixelrt.video.sinks.base import Sink

Policy: TypeAlias = Literal["latest", "all"]
OnError: TypeAlias = Literal["stop", "detach"]
OnEvent: TypeAlias = Callable[[Event], None]
OnWatchdog: TypeAlias = Callable[[float], None]
_LONGEST_S = 366 * 24 * 3600.0
AnySink: TypeAlias = "Sink | str | os.PathLike[str]"


class StreamArguments(TypedDict, total=False):
    """The keyword arguments of `Segmenter.stream`; `StreamOptions` describes them."""

    policy: Policy | None
    deadline: float | None
    sinks: Sequence[AnySink]
    head: str | None
    alpha: float
    legend: bool
    adaptive: bool
    on_event: OnEvent
    watchdog: float | None
    on_watchdog: OnWatchdog | None
    on_sink_error: OnError | None
    on_source_error: OnError
    stall: float
    log: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How a stream runs.

    Raises:
        InputError: If a value cannot be used.
    """

    policy: Policy | None = None
    """`latest` computes the newest frame and drops those that it replaced (how old results may be then:
    `pixelrt.video.live`); `all` computes every frame, in order, and lets the source wait. None decides for
    each source: `latest` where it is live, else `all`; then a file beside a camera takes its turns at the
    network, and waits wherever it must, never the camera."""
    deadline: float | None = None
    """Seconds: a frame that is older is not computed, and a result that is older not delivered; None for
    no limit."""
    sinks: Sequence[AnySink] = ()
    """Get every result; sinks, or their URIs (see `pixelrt.video.sinks`). The stream closes them."""
    head: str | None = None
    """The head whose results are delivered; None for the first, which knows the others."""
    alpha: float = 0.5
    """Weight of the classes' colours in overlays, 0..1."""
    legend: bool = True
    """Whether overlays name the classes."""
    adaptive: bool = False
    """Whether a bundle with several input sizes takes a smaller one under load, and a larger one later."""
    on_event: OnEvent = ignore
    """Told of every change of state, in a thread of the stream; those of a source come in their order, one
    after another. What it raises ends the stream."""
    watchdog: float | None = None
    """Seconds without a result after which `on_watchdog` is called, once per silence; None for never."""
    on_watchdog: OnWatchdog | None = None
    """Called with the seconds since the last result (or the start), in a thread of its own. What it raises
    ends the stream."""
    on_sink_error: OnError | None = None
    """A sink that raises ends the stream (`stop`), or gets no more results (`detach`). None for `stop` where
    the policy of every source is `all`, else `detach`."""
    on_source_error: OnError = "stop"
    """A source that fails ends the stream (`stop`), or the others go on (`detach`); the error is raised when
    the last one has ended. With `detach` a camera that is not there at the start is waited for."""
    stall: float = 2.0
    """Seconds without a frame after which a live source counts as stalled."""
    log: float | None = None
    """Seconds after which the statistics are logged, again and again and at the end: one line, INFO, by the
    logger `pixelrt.video.statistics`; None for never."""

    def __post_init__(self) -> None:
        _check_choice("policy", self.policy, (None, *get_args(Policy)))
        _check_choice("on_sink_error", self.on_sink_error, (None, *get_args(OnError)))
        _check_choice("on_source_error", self.on_source_error, get_args(OnError))
        if not isinstance(self.sinks, (list, tuple)):
            raise InputError(
                f"sinks is {self.sinks!r}, expected a list of sinks or URIs, such as ['out.mp4']"
            )
        if self.head is not None and not isinstance(self.head, str):
            raise InputError(f"head is {self.head!r}, expected the name of a head, or None for the first")
        for name in ("legend", "adaptive"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} is {getattr(self, name)!r}, expected True or False")
        self._check_numbers()
        self._check_functions()

    def _check_numbers(self) -> None:
        if not _is_number(self.alpha):
            raise InputError(f"alpha is {self.alpha!r}, expected a number, 0 to 1")
        check_alpha(self.alpha)
        _check_seconds("stall", self.stall, "")
        for name in ("deadline", "watchdog", "log"):
            if getattr(self, name) is not None:
                _check_seconds(name, getattr(self, name), ", or None")

    def _check_functions(self) -> None:
        if (self.watchdog is None) != (self.on_watchdog is None):
            raise InputError(
                "watchdog (seconds) and on_watchdog (what is called then) go together; "
                "only one of them was given"
            )
        if not callable(self.on_event):
            raise InputError(f"on_event is {self.on_event!r}, expected a function; leave it away for none")
        if self.on_watchdog is not None and not callable(self.on_watchdog):
            raise InputError(f"on_watchdog is {self.on_watchdog!r}, expected a function")

    @classmethod
    def of(cls, arguments: StreamArguments) -> StreamOptions:
        """Options from keyword arguments.

        Raises:
            TypeError: If one is unknown.
            InputError: If a value cannot be used.
        """
        known = [option.name for option in fields(cls)]
        for name in arguments:
            if name not in known:
                raise TypeError(
                    f"stream() got an unexpected keyword argument {name!r}{suggestion(name, known)}; "
                    f"it takes {', '.join(known)}"
                )
        return cls(**arguments)


def _check_choice(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        names = [str(one) for one in known if one is not None]
        hint = suggestion(str(value), names)
        raise InputError(f"{name} is {value!r}, expected one of {', '.join(names)}{hint}")


def _check_seconds(name: str, value: Any, otherwise: str) -> None:
    if not _is_number(value) or not 0 < value <= _LONGEST_S:
        raise InputError(f"{name} is {value!r}, expected seconds above 0 (up to a year){otherwise}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
