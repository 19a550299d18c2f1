"""The choice of the input size: by itself, on simulated time, and in a stream on a machine that is busy."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from live import Camera, check_accounts
from numpy.typing import NDArray

import pixelrt
from pixelrt.bundle import Bundle
from pixelrt.errors import InputError
from pixelrt.isolation import isolate
from pixelrt.segmentation import Segmenter
from pixelrt.testing import fake_segmenter
from pixelrt.video.delivery import Delivery
from pixelrt.video.events import Event
from pixelrt.video.frame import Frame
from pixelrt.video.live import sizing
from pixelrt.video.live.adapting import AdaptingOptions, Change, Computed, Size, SizeChooser

SIZES: tuple[Size, ...] = ((352, 480), (256, 352), (176, 240))
OPTIONS = AdaptingOptions()
REACTION_S = (OPTIONS.down_after + 1) * OPTIONS.window_s
"""A window that began before the load, and those that must be above the limit."""


@dataclass
class Simulation:
    """A camera and a network, where the newest frame is computed as soon as the network is free."""

    chooser: SizeChooser
    fps: Callable[[float], float]
    service_s: Callable[[float, int], float]
    """From the time and the level."""
    now_s: float = 0.0
    captured: float = 0.0
    changes: list[tuple[float, int, int]] = field(default_factory=list)
    """Time, level before, level after."""
    last_taken: int = -1

    def run(self, until_s: float) -> Simulation:
        while self.now_s < until_s:
            self._one()
        return self

    def _one(self) -> None:
        fps, level = self.fps(self.now_s), self.chooser.level
        newest = int(self.captured)
        if newest == self.last_taken:  # wait for the next
            self._pass((newest + 1 - self.captured) / fps + 1e-9, fps)
            newest += 1
        self.last_taken = newest
        captured_s = self.now_s - (self.captured - newest) / fps
        submitted_s, service_s = self.now_s, self.service_s(self.now_s, level)
        self._pass(service_s, fps)
        change = self.chooser.computed(
            Computed(
                level=level,
                submitted_s=submitted_s,
                done_s=self.now_s,
                captured=int(self.captured),
                captured_s=captured_s,
            )
        )
        if change is not None:
            self.changes.append((self.now_s, level, self.chooser.level))

    def _pass(self, seconds: float, fps: float) -> None:
        self.now_s += seconds
        self.captured += seconds * fps

    @property
    def ups(self) -> list[float]:
        return [at for at, before, after in self.changes if after < before]

    @property
    def downs(self) -> list[float]:
        return [at for at, before, after in self.changes if after > before]


def simulated(
    service_s: Callable[[float, int], float] | Sequence[float],
    fps: Callable[[float], float] | float = 30.0,
    *,
    costs: Sequence[float] | None = None,
    options: AdaptingOptions = OPTIONS,
    sizes: Sequence[Size] = SIZES,
) -> Simulation:
    chooser = SizeChooser(sizes, options)
    if costs is not None:
        chooser.warmed_up(costs)
    rate = fps if callable(fps) else lambda _: fps
    service = service_s if callable(service_s) else lambda _, level: service_s[level]
    return Simulation(chooser, rate, service)


def descending(low: float, high: float) -> st.SearchStrategy[list[float]]:
    """What a frame takes at three sizes, the largest first; each clearly less than the one before."""
    shares = st.tuples(st.floats(0.2, 0.85), st.floats(0.2, 0.85))
    return st.builds(
        lambda most, share: [most, most * share[0], most * share[0] * share[1]], st.floats(low, high), shares
    )


# --- a constant load ------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(times=descending(0.005, 0.4), fps=st.floats(2, 60))
@example(times=[0.162109375, 0.0709228515625, 0.03546142578125], fps=10.75)  # a window with a frame more
def test_settles_on_a_constant_load(times: list[float], fps: float) -> None:
    simulation = simulated(times, fps, costs=times).run(until_s=300)
    windows_s = max(OPTIONS.window_s, OPTIONS.window_frames / fps) + max(times)
    loads = [fps * time_s for time_s in times]
    # a window counts whole frames, one of ten more or less: a size at the limit may be passed over at first
    at_the_limit = any(0.85 < load / OPTIONS.up_below < 1.15 for load in loads)
    assert len(simulation.ups) <= at_the_limit
    assert all(at < 2 * (OPTIONS.down_after + 1) * windows_s for at in simulation.downs)
    level = simulation.chooser.level
    if loads[0] < 0.95:
        assert level == 0
    elif min(loads) < 0.75:
        assert loads[level] < 1.05
    else:
        assert level == 2


@settings(max_examples=15, deadline=None)
@given(
    times=descending(0.01, 0.2),
    believed=descending(0.01, 0.2),
    fps=st.floats(5, 60),
    noise=st.floats(0, 0.2),
    seed=st.integers(0, 99),
)
def test_wrong_estimates_are_tried_ever_more_rarely(
    times: list[float], believed: list[float], fps: float, noise: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    simulation = simulated(
        lambda _, level: times[level] * rng.uniform(1 - noise, 1 + noise), fps, costs=believed
    ).run(until_s=600)
    # 10 s, 20 s, 40 s, ... for each of the two larger sizes
    most = 2 * math.ceil(math.log2(600 / OPTIONS.up_after_s))
    assert len(simulation.ups) <= most
    gaps = np.diff([at for at, _, _ in simulation.changes])
    assert np.all(gaps >= OPTIONS.down_after * OPTIONS.window_s)


def test_waiting_doubles_for_each_try_that_fails() -> None:
    simulation = simulated([0.040, 0.010, 0.005], costs=[0.02, 0.01, 0.005]).run(until_s=2000)
    waited = [up - down for down, up in zip(simulation.downs, simulation.ups, strict=False)]
    assert waited == pytest.approx([10, 20, 40, 80, 160, 320, 640], rel=0.15)


def test_a_try_waits_no_longer_than_the_longest_wait() -> None:
    options = AdaptingOptions(longest_wait_s=40)
    simulation = simulated([0.040, 0.010, 0.005], costs=[0.02, 0.01, 0.005], options=options).run(600)
    waited = [up - down for down, up in zip(simulation.downs, simulation.ups, strict=False)]
    assert waited[-1] == pytest.approx(40, rel=0.15) and len(waited) > 8


# --- a load that changes --------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(factor=st.floats(1.5, 20), at_s=st.floats(3, 60), share=st.floats(0.3, 0.9))
def test_steps_down_soon_after_other_work_begins(factor: float, at_s: float, share: float) -> None:
    base = [share / 30, share / 60, share / 120]
    simulation = simulated(
        lambda now_s, level: base[level] * (factor if now_s >= at_s else 1), costs=base
    ).run(until_s=at_s)
    assert simulation.changes == []
    simulation.run(until_s=at_s + 60)
    if share * factor > 1.05:
        assert simulation.downs[0] <= at_s + REACTION_S + 2 * factor * base[0]
        taken_again = [after for _, before, after in simulation.changes if after < before]
        assert all(share * factor / 2**level < 1.05 * OPTIONS.up_below for level in taken_again)
    elif share * factor < 0.95:
        assert simulation.changes == []


@settings(max_examples=30, deadline=None)
@given(factor=st.floats(3, 10), busy_s=st.floats(5, 120))
def test_comes_back_to_the_largest_size_when_other_work_ends(factor: float, busy_s: float) -> None:
    base = [0.020, 0.010, 0.005]
    simulation = simulated(lambda now_s, level: base[level] * (factor if now_s < busy_s else 1), costs=base)
    simulation.run(until_s=busy_s)
    assert simulation.chooser.level > 0
    steps = 2 * (OPTIONS.up_after_s + 2 * OPTIONS.window_s)
    simulation.run(until_s=busy_s + steps + REACTION_S)
    assert simulation.chooser.level == 0
    assert [after - before for _, before, after in simulation.changes if after < before] == [-1] * len(
        simulation.ups
    )


def test_a_faster_camera_is_a_load() -> None:
    base = [0.020, 0.010, 0.005]
    simulation = simulated(base, lambda now_s: 30.0 if now_s < 20 else 90.0, costs=base).run(until_s=60)
    assert [(before, after) for _, before, after in simulation.changes] == [(0, 2)]
    assert 20 < simulation.changes[0][0] <= 20 + REACTION_S + 0.1


def test_tries_again_soon_when_the_load_has_eased() -> None:
    """After failed tries the next one would be minutes away."""
    believed = [0.020, 0.010, 0.005]
    busy = [0.040, 0.010, 0.005]
    simulation = simulated(lambda now_s, level: (busy if now_s < 100 else [0.01, 0.005, 0.003])[level])
    simulation.chooser.warmed_up(believed)
    simulation.run(until_s=100)
    assert len(simulation.ups) == 3 and simulation.chooser.level == 1
    simulation.run(until_s=100 + 2 * OPTIONS.up_after_s + REACTION_S)
    assert simulation.chooser.level == 0


def test_a_source_that_stalls_proves_nothing() -> None:
    chooser = SizeChooser(SIZES)
    simulation = Simulation(chooser, lambda _: 30.0, lambda _, level: [0.060, 0.030, 0.015][level])
    simulation.run(until_s=5)
    level = chooser.level
    assert level > 0
    simulation.now_s += 600  # no frame for ten minutes
    simulation.run(until_s=605 + OPTIONS.up_after_s / 2)
    assert chooser.level == level


def test_jumps_to_the_size_that_fits() -> None:
    assert simulated([0.3, 0.1, 0.02], costs=[0.3, 0.1, 0.02]).run(10).changes[0][1:] == (0, 2)
    assert simulated([0.04, 0.02, 0.01], costs=[0.04, 0.02, 0.01]).run(10).changes[0][1:] == (0, 1)


def test_a_smaller_size_that_costs_as_much_is_not_taken() -> None:
    assert simulated([0.06, 0.058, 0.057], costs=[0.06, 0.058, 0.057]).run(60).changes == []


def test_one_size_never_changes() -> None:
    assert simulated([0.3], sizes=SIZES[:1]).run(60).changes == []


@pytest.mark.parametrize("seed", range(3))
def test_frames_that_come_irregularly_are_no_load(seed: int) -> None:
    """Two a second on average, each computed in 0.3 s: some seconds have more than fit."""
    arrivals_s = np.cumsum(np.random.default_rng(seed).gamma(3, 0.5 / 3, 1200))
    chooser, now_s, taken = SizeChooser(SIZES), 0.0, -1
    while taken < len(arrivals_s) - 1:
        newest = int(np.searchsorted(arrivals_s, now_s, side="right")) - 1
        taken = max(newest, taken + 1)
        now_s = max(now_s, arrivals_s[taken]) + 0.3
        assert told(chooser, now_s, took_s=0.3, captured=int(np.searchsorted(arrivals_s, now_s))) is None


# --- a deadline -----------------------------------------------------------------------------------


def test_results_that_are_late_are_a_load_however_slow_the_camera() -> None:
    times = [0.150, 0.060, 0.030]
    late = simulated(times, 2.0, costs=times, options=AdaptingOptions(deadline_s=0.1)).run(until_s=60)
    assert [(before, after) for _, before, after in late.changes] == [(0, 1)]
    assert simulated(times, 2.0, costs=times).run(until_s=60).changes == []


def test_comes_back_when_results_would_be_in_time() -> None:
    slow, quick = [0.150, 0.060, 0.030], [0.050, 0.020, 0.010]
    simulation = simulated(
        lambda now_s, level: (slow if now_s < 30 else quick)[level],
        10.0,
        costs=quick,
        options=AdaptingOptions(deadline_s=0.1),
    )
    assert simulation.run(until_s=30).chooser.level == 1
    assert simulation.run(until_s=30 + OPTIONS.up_after_s + REACTION_S).chooser.level == 0


# --- what it is told ------------------------------------------------------------------------------


def told(chooser: SizeChooser, at_s: float, *, took_s: float, **others: Any) -> Change | None:
    values = {"level": chooser.level, "captured": int(30 * at_s), **others}
    return chooser.computed(Computed(submitted_s=at_s - took_s, done_s=at_s, **values))


def test_a_change_says_why() -> None:
    chooser = SizeChooser([(352, 480), (176, 240)])
    changes = [told(chooser, index * 0.06, took_s=0.06) for index in range(1, 60)]
    (change,) = filter(None, changes)
    assert (change.before, change.after, chooser.size) == ((352, 480), (176, 240), (176, 240))
    assert change.load == pytest.approx(1.8, rel=0.05) and change.expected == pytest.approx(0.45, rel=0.05)
    assert str(change).startswith("network size 176x240 after 352x480, whose load was 1.")


def test_frames_that_overlap_are_counted_once() -> None:
    """Two on their way on a GPU: each takes 50 ms from its submission, and one comes every 25 ms."""
    chooser = SizeChooser(SIZES)
    assert not any(told(chooser, index * 0.025, took_s=0.05) for index in range(1, 2000))


def test_a_batch_is_shared_among_its_frames() -> None:
    chooser = SizeChooser(SIZES)
    assert not any(told(chooser, index * 0.1, took_s=0.09, frames=4) for index in range(1, 500))
    assert any(told(chooser, 50 + index * 0.1, took_s=0.1, frames=1) for index in range(1, 100))


def test_results_of_the_size_before_do_not_count() -> None:
    chooser = SizeChooser([(352, 480), (176, 240)])
    at_s = 0.0
    while chooser.level == 0:
        told(chooser, at_s := at_s + 0.06, took_s=0.06)
    assert not any(told(chooser, at_s + index * 0.06, took_s=0.001, level=0) for index in range(1, 1000))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([], "expected"),
        ([(176, 240), (352, 480)], "from large to small"),
        ([(352, 480), (0, 240)], "from large to small"),
    ],
)
def test_sizes_that_make_no_sense(sizes: list[Size], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SizeChooser(sizes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"up_below": 1.0}, "up_below is 1.0 and down_above is 1.0"),
        ({"up_below": 0}, "up_below is 0"),
        ({"down_above": math.inf}, "down_above is inf"),
        ({"window_s": 0}, "window_s is 0, expected seconds above 0"),
        ({"up_after_s": -1}, "up_after_s is -1"),
        ({"longest_wait_s": math.nan}, "longest_wait_s is nan"),
        ({"deadline_s": 0}, "deadline_s is 0"),
        ({"window_frames": 0}, "window_frames is 0, expected 1 or more"),
        ({"down_after": 0}, "down_after is 0"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AdaptingOptions(**options)


@pytest.mark.parametrize("seconds", [[], [0.1, 0.05], [0.1, 0.05, 0], [0.1, 0.05, math.inf]])
def test_costs_that_make_no_sense(seconds: list[float]) -> None:
    with pytest.raises(InputError, match="expected 3 numbers above 0"):
        SizeChooser(SIZES).warmed_up(seconds)


# --- in a stream ----------------------------------------------------------------------------------

LARGE, SMALL = (96, 128), (48, 64)
BURNERS = 12
"""Each takes as much of the one processor as the network."""


class Street(Camera):
    """Red on one side, blue on the other, in turns."""

    def frame(self, index: int) -> Frame:
        image = np.zeros((120, 160, 3), np.uint8)
        image[:, :80, 2 * (index % 2)] = image[:, 80:, 2 - 2 * (index % 2)] = 200
        changed: Frame = dataclasses.replace(super().frame(index), image=image)
        return changed


def check_masks(deliveries: Sequence[Delivery]) -> None:
    for delivery in deliveries:
        mask, side = delivery.result.mask, 2 * (delivery.frame.index % 2)
        assert mask is not None and mask.shape == delivery.size and delivery.size in (LARGE, SMALL)
        middle = mask.shape[1] // 2
        assert set(mask[:, : middle - 1].flat) == {side} and set(mask[:, middle + 1 :].flat) == {2 - side}
        assert delivery.result.frame_size == (120, 160)


@pytest.fixture(scope="module")
def two_sizes(make_bundle: Any) -> Bundle:
    """A bundle that was opened once: OpenVINO keeps a thread of its own from then on."""
    bundle: Bundle = make_bundle(size=LARGE, layers=6, smaller=(SMALL,))
    pixelrt.load(bundle, device="cpu").close()
    return bundle


@pytest.fixture
def one_processor() -> Iterator[int]:
    """Everything that the test starts shares one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield max(before)
    os.sched_setaffinity(0, before)


@contextlib.contextmanager
def other_work() -> Iterator[None]:
    """Processes that compute all the time, on this thread's processors."""
    program = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(program) for _ in range(BURNERS)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def fastest_s(segmenter: Segmenter) -> float:
    frame = np.zeros((120, 160, 3), np.uint8)
    times = []
    for _ in range(20):
        began_s = time.monotonic()
        segmenter(frame)
        times.append(time.monotonic() - began_s)
    return min(times)


def until_sized(stream: Iterator[Delivery], events: list[Event], size: Size) -> list[Delivery]:
    """Take results until there is one of a size that was not there before."""
    limit_s, taken = time.monotonic() + 90, []
    while not taken or taken[-1].size != size:
        assert time.monotonic() < limit_s, f"no step to {size}; {events}"
        taken.append(next(stream))
    return taken


def test_a_stream_steps_down_under_load_and_up_again(
    two_sizes: Bundle, one_processor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = functools.partial(AdaptingOptions, window_s=0.5, window_frames=5, up_after_s=1.0)
    monkeypatch.setattr(sizing, "AdaptingOptions", quick)
    events: list[Event] = []
    with pixelrt.load(two_sizes, task="segmentation", device="cpu", threads=1) as segmenter:
        period_s = fastest_s(segmenter) / 0.25
        street = Street(None, period_s)
        with segmenter.stream(street, adaptive=True, on_event=events.append) as stream:
            results = iter(stream)
            taken = [next(results) for _ in range(3)]
            with other_work():
                taken += until_sized(results, events, SMALL)
            taken += until_sized(results, events, LARGE)
    check_masks(taken)
    check_accounts(stream.statistics(), taken, cameras=[street], ended=True)
    changes = [event for event in events if event.kind == "sized"]
    sizes = [delivery.size for delivery in taken]
    stepped = sum(before != after for before, after in itertools.pairwise(sizes))
    assert sizes[0] == LARGE
    assert stepped <= len(changes) <= stepped + 1  # one may have come after the last result
    assert {event.source for event in changes} == {"colors"}
    assert changes[0].detail.startswith("network size 48x64 after 96x128, whose load was ")


def test_a_camera_that_is_too_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = functools.partial(AdaptingOptions, window_s=0.3)
    monkeypatch.setattr(sizing, "AdaptingOptions", quick)

    def see(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        time.sleep(0.04 if image.shape[:2] == LARGE else 0.002)
        return np.full(image.shape[:2], image[0, 0, 0] // 200 * 2, np.uint8)

    segmenter = fake_segmenter(see, ["a", "b", "c"], LARGE, smaller=[SMALL])
    taken: list[Delivery] = []
    with segmenter, segmenter.stream(Street(None, 0.01), adaptive=True) as stream:
        for delivery in stream:
            taken.append(delivery)
            if len([each for each in taken if each.size == SMALL]) == 20:
                break
    sizes = [delivery.size for delivery in taken]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == LARGE
    assert all(each.result.mask is not None and each.result.mask.shape == each.size for each in taken)
    indices = [delivery.frame.index for delivery in taken]
    assert indices == sorted(set(indices))


def test_child_processes_of_two_sizes_in_a_stream(two_sizes: Bundle) -> None:
    with isolate(two_sizes, device="cpu", threads=1) as segmenter:
        taken = list(segmenter.stream(Street(20, 0.01), adaptive=True))
        assert len({each.pid for each in segmenter.at_sizes()}) == 2
    assert taken
    check_masks(taken)


def test_one_size_cannot_adapt(make_bundle: Any) -> None:
    with (
        pixelrt.load(make_bundle(), task="segmentation", device="cpu") as segmenter,
        pytest.raises(InputError, match=r"adaptive=True, and .* has one input size only \(32x48\)"),
    ):
        segmenter.stream(Street(1), adaptive=True)


def test_a_source_that_waits_is_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is said before the other sizes are loaded."""
    segmenter = fake_segmenter(lambda image: image[..., 0] * 0, ["a"], LARGE, smaller=[SMALL])
    monkeypatch.setattr(segmenter, "at_sizes", None)
    with segmenter, pytest.raises(InputError, match="adaptive=True, and the policy of a source is 'all'"):
        segmenter.stream(Street(1, live=False), adaptive=True)
