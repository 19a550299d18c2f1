"""What a camera can do, and which of it is taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pixelrt.errors import UnusableSource
from pixelrt.strict import suggestion
from pixelrt.video.sources.v4l2 import kernel
from pixelrt.video.sources.v4l2.pixels import BY_CODE, BY_NAME, FORMATS

USUAL_FPS = 30.0
"""Taken, or the nearest to it, where nobody asks for another rate."""
_SAME_RATE = 0.01
_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked of a camera. None: whatever is best."""

    size: tuple[int, int] | None = None
    """Height and width; else what the camera is set to."""
    fps: float | None = None
    format: str | None = None
    """One of `pixels.FORMATS`."""

    def __str__(self) -> str:
        size = f"{self.size[0]}x{self.size[1]}" if self.size else ""
        rate = f"{self.fps:g} fps" if self.fps else ""
        return " ".join(part for part in (self.format, size, rate) if part) or "any format"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A pixel format with the sizes and rates that go with it."""

    code: str
    """The kernel's four letters."""
    heights: range
    widths: range
    """Both empty where the driver does not say: any size may do."""
    rates: tuple[tuple[float, float], ...] = ()
    """From and to, in frames a second; empty where the driver does not say."""

    def has_size(self, size: tuple[int, int]) -> bool:
        """Whether a picture can be so high and wide."""
        return not self.heights or (size[0] in self.heights and size[1] in self.widths)

    def nearest_rate(self, fps: float) -> float:
        """The rate that comes nearest to one; 0 where the driver does not say."""
        nearest = (min(max(fps, least), most) for least, most in self.rates)
        return min(nearest, key=lambda rate: abs(rate - fps), default=0.0)

    def has_rate(self, fps: float) -> bool:
        """Whether so many frames a second can be asked for."""
        return not self.rates or same_rate(self.nearest_rate(fps), fps)

    def __str__(self) -> str:
        if not self.heights:
            return "any size"
        sides = [_span(side[0], side[-1]) for side in (self.heights, self.widths)]
        rates = [_span(least, most) for least, most in self.rates]
        return "x".join(sides) + (f" at {', '.join(rates)} fps" if rates else "")


def same_rate(first: float, second: float) -> bool:
    """Whether two rates are one: a camera's 30 may be 29.97."""
    return abs(first - second) <= _SAME_RATE * second


def choose(modes: Sequence[Mode], wish: Wish, present: tuple[int, int], place: str) -> Mode:
    """The mode that fits the wish; of several, the rate nearest to 30, then what is converted fastest.

    Args:
        modes: What the camera can do.
        wish: What is asked of it.
        present: Height and width that it is set to.
        place: The camera, for messages.

    Raises:
        UnusableSource: If there is none; the message lists what there is.
    """
    size = wish.size or present
    names = [pixels.code for pixels in FORMATS]
    fitting = [
        mode
        for mode in modes
        if mode.code in BY_CODE
        and wish.format in (None, BY_CODE[mode.code].name)
        and mode.has_size(size)
        and (wish.fps is None or mode.has_rate(wish.fps))
    ]
    if not fitting:
        raise UnusableSource(f"{place} cannot give {wish}; it can give {described(modes)}{_hint(modes)}")
    fps = wish.fps or USUAL_FPS
    return min(fitting, key=lambda mode: (abs(mode.nearest_rate(fps) - fps), names.index(mode.code)))


def described(modes: Sequence[Mode]) -> str:
    """What a camera can do, in words."""
    found: dict[str, list[str]] = {}
    for mode in modes:
        found.setdefault(mode.code, []).append(str(mode))
    return "; ".join(f"{_name(code)} {_some(texts)}" for code, texts in found.items()) or "nothing"


def check_format(name: str) -> str:
    """Read the option `format`.

    Raises:
        ValueError: Saying which are known.
    """
    if name not in BY_NAME:
        raise ValueError(f"expected one of {', '.join(BY_NAME)}{suggestion(name, list(BY_NAME))}")
    return name


def _span(least: float, most: float) -> str:
    return f"{least:g}" if least == most else f"{least:g}..{most:g}"


def _name(code: str) -> str:
    return BY_CODE[code].name if code in BY_CODE else f"{code} (which PixelRT does not read)"


def _some(texts: list[str]) -> str:
    rest = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _hint(modes: Sequence[Mode]) -> str:
    if modes and not any(mode.code in BY_CODE for mode in modes):
        return "; on a Jetson, csi://0 reads a camera that gives the sensor's own pixels"
    return ""


def list_modes(fd: int, size: tuple[int, int] | None) -> list[Mode]:
    """Ask a camera for all that it can do.

    Args:
        fd: The open device.
        size: For which rates are asked, where sizes have no list.
    """
    modes = []
    for code in _formats(fd):
        sizes = list(_sizes(fd, code)) or [(range(0), range(0))]
        modes += [
            Mode(
                code=kernel.name_of(code),
                heights=heights,
                widths=widths,
                rates=_rates(fd, code, _asked(heights, widths, size)),
            )
            for heights, widths in sizes
        ]
    return modes


def _asked(heights: range, widths: range, size: tuple[int, int] | None) -> tuple[int, int]:
    if size is not None and (not heights or (size[0] in heights and size[1] in widths)):
        return size
    return (heights[-1], widths[-1]) if heights else (0, 0)


def _formats(fd: int) -> Iterator[int]:
    index = 0
    while kernel.answers(
        fd, kernel.ENUM_FMT, found := kernel.FormatDescription(index=index, type=kernel.CAPTURE)
    ):
        yield found.pixelformat
        index += 1


def _sizes(fd: int, code: int) -> Iterator[tuple[range, range]]:
    index = 0
    while kernel.answers(
        fd, kernel.ENUM_FRAMESIZES, found := kernel.FrameSize(index=index, pixel_format=code)
    ):
        index += 1
        if found.type == kernel.DISCRETE:
            height, width = found.size.discrete.height, found.size.discrete.width
            yield range(height, height + 1), range(width, width + 1)
            continue
        steps = found.size.stepwise
        yield (
            range(steps.min_height, steps.max_height + 1, max(steps.step_height, 1)),
            range(steps.min_width, steps.max_width + 1, max(steps.step_width, 1)),
        )
        return  # the only answer


def _rates(fd: int, code: int, size: tuple[int, int]) -> tuple[tuple[float, float], ...]:
    rates: list[tuple[float, float]] = []
    while kernel.answers(fd, kernel.ENUM_FRAMEINTERVALS, found := _interval(len(rates), code, size)):
        if found.type != kernel.DISCRETE:
            steps = found.interval.stepwise
            return ((per_second(steps.max), per_second(steps.min)),)
        rates.append((per_second(found.interval.discrete),) * 2)
    return tuple(rates)


def _interval(index: int, code: int, size: tuple[int, int]) -> kernel.FrameInterval:
    return kernel.FrameInterval(index=index, pixel_format=code, width=size[1], height=size[0])


def per_second(interval: kernel.Fraction) -> float:
    """The rate of an interval; 0 where it is none."""
    return interval.denominator / interval.numerator if interval.numerator else 0.0
