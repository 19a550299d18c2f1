"""Checks of a backend that runs a network: on the tiny bundle, whose masks are known, and on the user's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.backends.gpu_session import GpuSession
from pixelrt.bundle import Bundle
from pixelrt.cuda.protocol import Driver
from pixelrt.frames import Latency
from pixelrt.machine import resident_memory_bytes
from pixelrt.segmentation import Segmentation, Segmenter
from pixelrt.self_test.checks import MIB, Check, CheckFailedError, ImpossibleError, expect, expect_equal
from pixelrt.self_test.cuda_checks import expect_no_leak, slack_bytes
from pixelrt.self_test.protocol import Figures
from pixelrt.self_test.tiny import block_frames, golden, smooth_frames
from pixelrt.session import GpuOptions, SessionInfo

Bytes = NDArray[np.uint8]
OpenSegmenter = Callable[[GpuOptions], Segmenter]

_REPEATS = 10
_FRAMES = 300
_WARM_UP = 30
_TIMED = 200
_AGREEMENT_FRAMES = 8
_BUNDLE_FRAMES = 50
_RESIDENT_SLACK_BYTES = 48 * MIB
NOTHING_TO_COMPARE = "no other backend of the CPU is installed to compare with; pip install 'pixelrt[cpu]'"
_DECIDED = 153
"""Confidence from which a class is no close call: 0.6 of 255."""


class SessionGround:
    """A bundle, and a way to open it. Segmenters are kept, since loading takes longer than the checks."""

    def __init__(
        self,
        bundle: Bundle,
        open_segmenter: OpenSegmenter,
        references: Sequence[tuple[str, Callable[[], Segmenter]]] = (),
    ) -> None:
        """Nothing is opened yet.

        Args:
            bundle: What is run.
            open_segmenter: Opens it.
            references: Backends of the CPU that can run it too, by name.
        """
        self.bundle = bundle
        self.open_segmenter = open_segmenter
        self.references = references
        self._kept: dict[GpuOptions, Segmenter] = {}

    def segmenter(self, **options: Any) -> Segmenter:
        """A segmenter with these `GpuOptions`, the same one each time."""
        wanted = GpuOptions(**options)
        if wanted not in self._kept:
            self._kept[wanted] = self.open_segmenter(wanted)
        return self._kept[wanted]

    def close(self) -> None:
        """Close all segmenters."""
        for segmenter in self._kept.values():
            segmenter.close()
        self._kept.clear()


def driver_of(segmenter: Segmenter) -> Driver | None:
    """What its session talks to the GPU with; None on the CPU."""
    session = segmenter.session
    return session.driver if isinstance(session, GpuSession) else None


def mask_of(result: Segmentation) -> Bytes:
    """The mask.

    Raises:
        ImpossibleError: If the bundle emits none.
    """
    if result.mask is None:
        raise ImpossibleError(f"the head {result.name!r} of this bundle emits no mask")
    return result.mask


def loads(ground: SessionGround) -> Figures:
    """It opens, runs a frame, and says what runs."""
    segmenter = ground.segmenter()
    segmenter(_any_frame(segmenter))
    return session_figures(segmenter.session.info)


def session_figures(info: SessionInfo) -> Figures:
    """What runs."""
    told = {
        "backend": f"{info.backend} {info.version}",
        "device": info.device,
        "GPU": info.gpu,
        "precision": info.precision,
        "CUDA through": info.driver,
        "engine": info.engine,
    }
    return {name: value for name, value in told.items() if value}


def _any_frame(segmenter: Segmenter) -> Bytes:
    form = segmenter.bundle.segmentation.preprocess
    frame: Bytes = smooth_frames(1, 0, form.size, form.channels)[0]
    return frame


def masks(ground: SessionGround) -> Figures:
    """Every golden frame has the mask that PyTorch gives it; so have several frames in one batch."""
    segmenter = ground.segmenter()
    frames, expected = golden()
    for index, (frame, mask) in enumerate(zip(frames, expected, strict=True)):
        expect_equal(mask_of(segmenter(frame)), mask, f"the mask of golden frame {index}")
    for index, result in enumerate(segmenter.batch(frames)):
        expect_equal(mask_of(result), expected[index], f"the mask of golden frame {index} in a batch")
    return {"frames": len(frames), "pixels": int(expected.size)}


def repeats(ground: SessionGround) -> Figures:
    """The same frame has the same mask each time, and another frame another one."""
    segmenter = ground.segmenter()
    _expect_golden(segmenter, [0] * _REPEATS, "the same frame again")
    _expect_golden(segmenter, [0, 1, 2] * _REPEATS, "frames in turns")
    return {"frames": 4 * _REPEATS}


def _expect_golden(segmenter: Segmenter, order: Sequence[int], what: str) -> None:
    frames, expected = golden()
    for turn, index in enumerate(order):
        found = mask_of(segmenter(frames[index]))
        expect_equal(found, expected[index], f"{what}: the mask at turn {turn} (golden frame {index})")


def graphs(ground: SessionGround) -> Figures:
    """Runs from CUDA graphs and runs without are the same."""
    with_graphs = ground.segmenter(graphs=True)
    if driver_of(with_graphs) is None:
        raise ImpossibleError("there are no CUDA graphs on the CPU")
    _expect_golden(with_graphs, [0, 1, 2] * _REPEATS, "with CUDA graphs")
    _expect_golden(ground.segmenter(graphs=False), [0, 1, 2] * _REPEATS, "without CUDA graphs")
    state = with_graphs.session.graphs
    expect("refused" not in state, f"CUDA graphs: {state}")
    if state.startswith("none") and "by itself" not in state:
        raise ImpossibleError(f"CUDA graphs: {state}")
    expect(not state.startswith("0 "), f"no CUDA graph was captured in {3 * _REPEATS} frames")
    return {"graphs": state}


def slots(ground: SessionGround) -> Figures:
    """Frames on their way through one, two and three slots come out right, and in any order."""
    frames, expected = golden()
    order = [0, 1, 2, 2, 1, 0, 0, 2, 1] * 3
    for number in (1, 2, 3):
        segmenter = ground.segmenter(slots=number)
        tickets = [segmenter.submit(frames[index]) for index in order]
        for turn, (ticket, index) in reversed(list(enumerate(zip(tickets, order, strict=True)))):
            what = f"{number} slots: the mask at turn {turn} (golden frame {index})"
            expect_equal(mask_of(ticket.result()), expected[index], what)
    return {"frames": 3 * len(order)}


def sizes(ground: SessionGround) -> Figures:
    """Frames of changing size are segmented as before."""
    segmenter = ground.segmenter()
    frames, expected = golden()
    for turn, factor in enumerate([1, 2, 1, 3, 2]):
        index = turn % len(frames)
        frame = frames[index].repeat(factor, axis=0).repeat(factor, axis=1)
        what = f"the mask of golden frame {index}, {factor} times as large"
        expect_equal(mask_of(segmenter(frame)), expected[index], what)
    return {"sizes": 3}


def leaks(ground: SessionGround) -> Figures:
    """Hundreds of frames leave no memory behind, and closing leaves nothing at all."""
    segmenter = ground.open_segmenter(GpuOptions())
    driver = driver_of(segmenter)
    with segmenter:
        _run_frames(segmenter, _WARM_UP)
        before = _Memory(driver)
        _run_frames(segmenter, _FRAMES)
        after = _Memory(driver)
    before.compare(after, driver)
    if driver is not None:
        left = {kind: number for kind, number in driver.live.items() if number}
        expect(not left, f"the session was closed, and is not freed: {left}")
    return {"frames": _FRAMES, **after.figures(before)}


class _Memory:
    """What is in use at a moment."""

    def __init__(self, driver: Driver | None) -> None:
        self.resident_bytes = resident_memory_bytes() or 0
        self.free_bytes = driver.memory()[0] if driver else 0
        self.live = driver.live if driver else {}

    def compare(self, after: _Memory, driver: Driver | None) -> None:
        """Refuse what is more than before."""
        what = f"{_FRAMES} frames"
        expect(after.live == self.live, f"after {what} there is {after.live}, before them {self.live}")
        grown = after.resident_bytes - self.resident_bytes
        expect(
            grown <= _RESIDENT_SLACK_BYTES,
            f"this process grew by {grown / MIB:.1f} MiB in {what}, at most "
            f"{_RESIDENT_SLACK_BYTES // MIB} were expected",
        )
        if driver is not None:
            expect_no_leak(self.free_bytes, after.free_bytes, slack_bytes(driver), what)

    def figures(self, before: _Memory) -> Figures:
        """The changes."""
        told: Figures = {"grown, MiB": round((self.resident_bytes - before.resident_bytes) / MIB, 1)}
        if self.live:
            told["GPU memory gone, MiB"] = round((before.free_bytes - self.free_bytes) / MIB, 1)
        return told


def _run_frames(segmenter: Segmenter, count: int) -> None:
    frames, _ = golden()
    for index in range(count):
        segmenter(frames[index % len(frames)])


def agreement(ground: SessionGround) -> Figures:
    """On frames that nobody has seen, the masks are those of the backends of the CPU."""
    frames = block_frames(_AGREEMENT_FRAMES, seed=1)
    return _agreement(ground, frames, ground.bundle.segmentation.gate.agreement)


def bundle_agreement(ground: SessionGround) -> Figures:
    """The masks of the user's bundle are those of the backends of the CPU, as its gate demands."""
    form = ground.bundle.segmentation.preprocess
    frames = smooth_frames(_AGREEMENT_FRAMES, 1, form.size, form.channels)
    return _agreement(ground, frames, ground.bundle.segmentation.gate.agreement)


def _agreement(ground: SessionGround, frames: Bytes, least: float) -> Figures:
    if not ground.references:
        raise ImpossibleError(NOTHING_TO_COMPARE)
    segmenter = ground.segmenter()
    found = [segmenter(frame) for frame in frames]
    figures: Figures = {}
    for name, open_reference in ground.references:
        with open_reference() as reference:
            expected = [reference(frame) for frame in frames]
        everywhere, decided = shares_agreeing(found, expected)
        figures[f"as {name}"] = round(everywhere, 6)
        if decided is not None:
            figures[f"as {name} where that is sure"] = round(decided, 6)
        judged = everywhere if decided is None else decided
        expect(
            judged >= least,
            f"{judged:.4%} of the pixels have the class that {name} gives them on the CPU, at least "
            f"{least:.4%} were expected",
        )
    return figures


def shares_agreeing(
    found: Sequence[Segmentation], expected: Sequence[Segmentation]
) -> tuple[float, float | None]:
    """Share of pixels with the expected class: of all, and of those of which the expectation is sure.

    The frames are invented, and a network may find many a pixel in them a close call, which half precision
    decides another way. Without confidence in the bundle there is no second share.
    """
    same = np.stack([mask_of(a) == mask_of(b) for a, b in zip(found, expected, strict=True)])
    if expected[0].confidence is None:
        return float(same.mean()), None
    sure = np.stack([result.confidence for result in expected if result.confidence is not None]) >= _DECIDED
    return float(same.mean()), float(same[sure].mean()) if sure.any() else None


def speed(ground: SessionGround) -> Figures:
    """How long a frame takes: figures, no verdict."""
    frames, _ = golden()
    return _speed(ground.segmenter(), frames, _TIMED)


def bundle_speed(ground: SessionGround) -> Figures:
    """The same for the user's bundle, at the size of frames that it is tuned for."""
    manifest = ground.bundle.segmentation
    size = manifest.axes["height"].opt, manifest.axes["width"].opt
    frames = smooth_frames(4, 2, size, manifest.preprocess.channels)
    figures = _speed(ground.segmenter(), frames, _BUNDLE_FRAMES)
    return {"frame": f"{size[0]}x{size[1]}", **figures}


def _speed(segmenter: Segmenter, frames: Bytes, count: int) -> Figures:
    source = itertools.cycle(frames)
    for _ in range(5):
        segmenter(next(source))
    latencies = [segmenter(next(source)).latency for _ in range(count)]
    return latency_figures(latencies, segmenter.session.graphs, "frame")


def latency_figures(latencies: Sequence[Latency], graphs: str, what: str) -> Figures:
    """How long frames or images took.

    Raises:
        CheckFailedError: If that cannot be.
    """
    total = [latency.total_ms for latency in latencies]
    figures: Figures = {
        f"{what}s": len(total),
        "p50, ms": _percentile(total, 50),
        "p95, ms": _percentile(total, 95),
    }
    times = [latency.gpu for latency in latencies if latency.gpu is not None]
    for name in ("enqueue", "upload", "compute", "download") if times else ():
        figures[f"{name}, ms"] = _percentile([getattr(time, f"{name}_ms") for time in times], 50)
    if times:
        figures["graphs"] = graphs
    if not all(np.isfinite(total)) or min(total) <= 0:
        raise CheckFailedError(f"a {what} took {min(total)} ms, which cannot be")
    return figures


def _percentile(values: Sequence[float], share: int) -> float:
    return round(float(np.percentile(values, share)), 3)


LOADS = Check(name="loads", run=loads, limit_s=180, needed=True)

CPU_CHECKS = (
    LOADS,
    Check(name="masks", run=masks),
    Check(name="repeats", run=repeats),
    Check(name="sizes", run=sizes),
    Check(name="leaks", run=leaks),
    Check(name="agreement", run=agreement),
    Check(name="speed", run=speed),
)

GPU_CHECKS = (
    LOADS,
    Check(name="masks", run=masks, limit_s=60),
    Check(name="repeats", run=repeats),
    Check(name="graphs", run=graphs, limit_s=120),
    Check(name="slots", run=slots, limit_s=120),
    Check(name="sizes", run=sizes, limit_s=120),
    Check(name="leaks", run=leaks, limit_s=120),
    Check(name="agreement", run=agreement, limit_s=60),
    Check(name="speed", run=speed),
)

BUNDLE_CHECKS = (
    Check(name="loads", run=loads, limit_s=1800, needed=True),
    Check(name="speed", run=bundle_speed, limit_s=120),
    Check(name="agreement", run=bundle_agreement, limit_s=180),
)
