"""Which of a bundle's input sizes fits what the cameras send: decided from times, by nothing that runs.

A load of 1 is what the network just keeps up with: the frames that are captured in a second, times the
seconds that the network takes for each. Above it frames must be dropped, whatever the queue.

A loop tells a `SizeChooser` of every result, and takes the size that it says for the next frame:

    segmenters = segmenter.at_sizes()                             # from large to small, all opened
    options = AdaptingOptions(deadline_s=deadline_s)
    chooser = SizeChooser([each.network_size for each in segmenters], options)
    chooser.warmed_up([seconds_of(each) for each in segmenters])  # before the source is opened
    ...
    level, submitted_s = chooser.level, time.monotonic()          # of the next frame
    ticket = segmenters[level].submit(frame)
    ...                                                           # and when its result is there
    result = Computed(level=level, submitted_s=submitted_s, done_s=time.monotonic(), captured=captured)
    change = chooser.computed(result)
    if change is not None:
        on_event(Event(kind="sized", source=name, detail=str(change)))

Frames that are on their way at a change are finished at the size at which they were submitted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from pixelrt.errors import InputError
from pixelrt.manifest import size_name

Size = tuple[int, int]
"""Height and width."""

_SOON = 4
"""A size that is given up within so many times its waiting time did not fit when it was taken."""
_EASED = 0.7
"""Share of the load at which a larger size did not fit; below it that counts no more."""
_WORTH = 0.9
"""A smaller size that costs more than this share of the current one is not worth what it loses."""
_LONGEST_WINDOWS = 3
"""So many windows a long one counts as: a source that stalls has no load, and proves nothing."""
_NEARLY_ALL = 0.9
"""Share of the results that must be younger than the deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptingOptions:
    """When the size changes.

    Raises:
        InputError: If a value makes no sense.
    """

    down_above: float = 1.0
    """Load above which a smaller size is taken."""
    up_below: float = 0.8
    """Load that a larger size may be expected to make. Between the two there is room for wrong estimates."""
    window_s: float = 1.0
    """The load is measured over so many seconds, or longer, until `window_frames` were captured."""
    window_frames: int = 10
    down_after: int = 2
    """Windows above the limit, one after another, before a smaller size is taken."""
    up_after_s: float = 10.0
    """How long a larger size must be expected to fit before it is taken. Doubled each time that it then did
    not fit, up to `longest_wait_s`."""
    longest_wait_s: float = 3600.0
    deadline_s: float | None = None
    """Age at which a result is useless: ages near it are a load, too. None where there is no deadline."""

    def __post_init__(self) -> None:
        if not 0 < self.up_below < self.down_above < math.inf:
            raise InputError(
                f"up_below is {self.up_below} and down_above is {self.down_above}, expected 0 < up_below < "
                "down_above"
            )
        for name in ("window_s", "up_after_s", "longest_wait_s", "deadline_s"):
            seconds = getattr(self, name)
            if not (name == "deadline_s" and seconds is None) and not 0 < seconds < math.inf:
                raise InputError(f"{name} is {seconds}, expected seconds above 0")
        for name in ("window_frames", "down_after"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, expected 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """A result, or those of a batch. All times are seconds of one clock."""

    level: int
    """Size that it was computed at: its position in the chooser's sizes."""
    submitted_s: float
    """When the network was called, before that."""
    done_s: float
    """When the result was there."""
    captured: int
    """Frames that all sources together have captured until then, the dropped ones included."""
    captured_s: float | None = None
    """When the frame was taken by the camera (the oldest of a batch); needed where there is a deadline."""
    frames: int = 1
    """In the batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Another size, from the next frame on. Its text is for people."""

    before: Size
    after: Size
    load: float
    """At the size before."""
    expected: float
    """Load at the size after."""

    def __str__(self) -> str:
        return (
            f"network size {size_name(self.after)} after {size_name(self.before)}, whose load was "
            f"{self.load:.2f} (1 is what it keeps up with); {self.expected:.2f} is expected"
        )


@dataclass(frozen=True, slots=True)
class _Measured:
    """What a window says."""

    at_s: float
    length_s: float
    rate: float
    """Captured frames a second."""
    service_s: float
    """Of the network for a frame, at the current size."""
    age_s: float
    """Nearly all results were younger."""


@dataclass(slots=True)
class _Window:
    """A span of time, and what was computed in it."""

    began_s: float
    captured_before: int
    busy_s: float = 0.0
    computed: int = 0
    ages_s: list[float] = field(default_factory=list)

    def add(self, result: Computed, busy_s: float) -> None:
        """Take a result that the network had `busy_s` of its own time for."""
        self.busy_s += busy_s
        self.computed += result.frames
        if result.captured_s is not None:
            self.ages_s.append(result.done_s - result.captured_s)

    def measured(self, last: Computed, options: AdaptingOptions) -> _Measured | None:
        """What it says if it ends with its last result; None if it is too short for that."""
        length_s, captured = last.done_s - self.began_s, last.captured - self.captured_before
        if length_s < options.window_s or captured < options.window_frames:
            return None
        ages = sorted(self.ages_s) or [0.0]
        return _Measured(
            at_s=last.done_s,
            length_s=min(length_s, _LONGEST_WINDOWS * options.window_s),
            rate=captured / length_s,
            service_s=self.busy_s / self.computed,
            age_s=ages[int(_NEARLY_ALL * (len(ages) - 1))],
        )


@dataclass(slots=True)
class _Trial:
    """What is known of trying a size that is larger than the one in use."""

    wait_s: float
    """How long it must be expected to fit first."""
    taken_s: float = -math.inf
    """When it was last stepped up to."""
    refused: bool = False
    refused_at: float = math.inf
    """Load at the next smaller size, the first time that this was seen after it had been refused."""
    eased_s: float = 0.0
    """How long the load has been clearly below that."""


class SizeChooser:
    """Steps down to a smaller size under load, and up again.

    Down after `down_after` windows above the limit, in one step to the largest size that is expected to fit.
    Up by one size, after that one has been expected to fit, with room to spare, for `up_after_s`. What a size
    costs in relation to another is what they took when they were warmed up, or else their pixels. What a size
    would cost now is that, times what the current one costs now: other work on the machine slows all of them.
    A larger size that soon turns out not to fit is tried again after twice the time, and so on, until the
    load falls. So a constant load does not make the size swing. Between two changes lie `down_after`
    windows or more.

    It has no clock and no thread, and belongs to one thread.

    Attributes:
        sizes: From large to small.
        options: When the size changes.
        level: Size for the next frame: its position in `sizes`.
    """

    def __init__(self, sizes: Sequence[Size], options: AdaptingOptions | None = None) -> None:
        """Begin with the largest size.

        Args:
            sizes: Heights and widths of the network's input, from large to small.
            options: When the size changes.

        Raises:
            InputError: If there is no size, or they are in another order.
        """
        pixels = [height * width for height, width in sizes]
        if not pixels or min(pixels) < 1 or pixels != sorted(pixels, reverse=True):
            raise InputError(f"the sizes are {list(sizes)}, expected (height, width) from large to small")
        self.sizes = tuple(sizes)
        self.options = options or AdaptingOptions()
        self.level = 0
        self._costs: Sequence[float] = pixels
        self._trials = [_Trial(self.options.up_after_s) for _ in sizes]
        self._window: _Window | None = None
        self._last_done_s = -math.inf
        self._windows_above = 0
        self._fitting_s = 0.0

    @property
    def size(self) -> Size:
        """Height and width of the network for the next frame."""
        return self.sizes[self.level]

    def warmed_up(self, seconds: Sequence[float]) -> None:
        """Tell what a frame takes at each size on this machine; without it, pixels are compared.

        Raises:
            InputError: If there are not as many as sizes, or one is not above 0.
        """
        if len(seconds) != len(self.sizes) or not all(0 < each < math.inf for each in seconds):
            raise InputError(f"seconds is {list(seconds)}, expected {len(self.sizes)} numbers above 0")
        self._costs = tuple(seconds)

    def computed(self, result: Computed) -> Change | None:
        """Tell of a result, in the order in which they came.

        Returns:
            The change, where the next frame shall have another size.
        """
        busy_s = result.done_s - max(result.submitted_s, self._last_done_s)  # the network had this one alone
        self._last_done_s = result.done_s
        if result.level != self.level:  # on its way when the size changed
            return None
        if self._window is None:
            self._window = _Window(result.done_s, result.captured)
            return None
        self._window.add(result, busy_s)
        measured = self._window.measured(result, self.options)
        if measured is None:
            return None
        self._window = _Window(result.done_s, result.captured)
        return self._judged(measured)

    def _judged(self, measured: _Measured) -> Change | None:
        above = self._load(self.level, measured) > self.options.down_above
        self._windows_above = self._windows_above + 1 if above else 0
        if self._windows_above >= self.options.down_after:
            return self._down(measured)
        return self._up(measured) if self.level > 0 else None

    def _load(self, level: int, measured: _Measured) -> float:
        """What the load is at the current size, or would be at another."""
        service_s = measured.service_s * self._costs[level] / self._costs[self.level]
        load = measured.rate * service_s
        if self.options.deadline_s is None:
            return load
        age_s = measured.age_s + service_s - measured.service_s
        return max(load, age_s / self.options.deadline_s)

    def _down(self, measured: _Measured) -> Change | None:
        worth = _WORTH * self._costs[self.level]
        smaller = [i for i in range(self.level + 1, len(self.sizes)) if self._costs[i] <= worth]
        if not smaller:
            return None
        fitting = [i for i in smaller if self._load(i, measured) <= self.options.up_below]
        level = fitting[0] if fitting else min(smaller, key=lambda i: self._costs[i])
        trial = self._trials[self.level]
        trial.refused = measured.at_s - trial.taken_s <= _SOON * trial.wait_s
        trial.refused_at, trial.eased_s = math.inf, 0.0
        longer_s = min(2 * trial.wait_s, self.options.longest_wait_s)
        trial.wait_s = longer_s if trial.refused else self.options.up_after_s
        return self._changed(level, measured)

    def _up(self, measured: _Measured) -> Change | None:
        larger = self.level - 1
        trial = self._trials[larger]
        if trial.refused:
            self._forgive(trial, measured)
        fits = self._load(larger, measured) <= self.options.up_below
        self._fitting_s = self._fitting_s + measured.length_s if fits else 0.0
        if self._fitting_s < trial.wait_s:
            return None
        trial.taken_s = measured.at_s
        return self._changed(larger, measured)

    def _forgive(self, trial: _Trial, measured: _Measured) -> None:
        """Forget that a size did not fit, where the load has been clearly lower for a while."""
        load = self._load(self.level, measured)
        if trial.refused_at == math.inf:
            trial.refused_at = load
        trial.eased_s = trial.eased_s + measured.length_s if load < _EASED * trial.refused_at else 0.0
        if trial.eased_s >= self.options.up_after_s:
            trial.refused, trial.wait_s = False, self.options.up_after_s

    def _changed(self, level: int, measured: _Measured) -> Change:
        change = Change(
            before=self.size,
            after=self.sizes[level],
            load=self._load(self.level, measured),
            expected=self._load(level, measured),
        )
        self.level = level
        self._windows_above, self._fitting_s = 0, 0.0
        return change
