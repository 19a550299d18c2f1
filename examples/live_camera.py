"""A car that looks whether the lane beside it is free: a camera, a decision for each frame, a recording.

    python examples/live_camera.py engines/road-unet/bundle
    python examples/live_camera.py engines/road-unet/bundle rtsp://camera/live --record run.mp4
    python examples/live_camera.py engines/road-unet/bundle 0 --deadline 0.2

It may change lanes while enough of that lane is road. It may not when no result came for a while (the
watchdog), and while the camera gives nothing. At the end it says what became of every frame, and, of the
drawn drive that it watches where no camera is given, how often it decided as the truth would have it.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import pixelrt
from pixelrt.errors import PixelRTError
from pixelrt.terminal import complain, say
from pixelrt.video.delivery import Delivery
from pixelrt.video.events import Event
from pixelrt.video.health import Health
from pixelrt.video.live import StreamStatistics
from pixelrt.video.sources import Source, open_source
from pixelrt.video.sources.paced import Paced

DRIVE = "test://drive?frames=90&size=360x640&fps=30&seed=7"
ROWS, COLUMNS = (0.55, 0.8), (0.6, 0.8)
"""Where the lane is, in parts of the height and the width."""
NEEDED = 0.9
"""Share of it that must be road."""
AGREEMENT = 0.9
"""Share of the decisions that must be those of the truth."""


@dataclasses.dataclass
class Car:
    """Knows whether it may change lanes."""

    road: int
    """Id of the class on which it drives."""
    may_change: bool = False
    frames_seen: int = 0
    frames_free: int = 0
    right: int = 0
    judged: int = 0
    """Decisions of frames whose truth is known."""

    def see(self, delivery: Delivery, health: Health) -> None:
        """Decide. What it knows is as old as `delivery.age_ms`."""
        frame, result = delivery
        self.frames_seen += 1
        free = self.is_free(result.mask_at(frame.size))
        if free and health.state in ("ok", "overloaded"):  # overloaded: fewer frames, each as new as before
            self.may_change = True
            self.frames_free += 1
        else:
            self.stay(health.why if free else "the lane is not free")
        if frame.truth is not None:
            self.judged += 1
            self.right += free == self.is_free(frame.truth)

    def is_free(self, mask: NDArray[np.uint8]) -> bool:
        """Whether the lane is road."""
        height, width = mask.shape
        (top, bottom), (left, right) = ROWS, COLUMNS
        lane = mask[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
        return bool((lane == self.road).mean() >= NEEDED)

    def stay(self, why: str) -> None:
        """Stay in this lane. From any thread."""
        if self.may_change:
            complain(f"stay: {why}")
        self.may_change = False


def main() -> None:
    """Watch the camera to its end, or until Ctrl-C, or SIGTERM, which systemd sends."""
    options = parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            pixelrt.load(
                options.bundle, task="segmentation", device=options.device, color="rgb"
            ) as segmenter,
            opened(options.source) as source,
        ):
            car = Car(road=[info.name for info in segmenter.classes].index("road"))
            figures = watch(segmenter, source, car, options)
    except PixelRTError as problem:
        raise SystemExit(str(problem)) from problem
    report(figures, car)


def parse_arguments() -> argparse.Namespace:
    """Command line of the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="a segmentation bundle with a class 'road'")
    parser.add_argument("source", nargs="?", default=DRIVE, help="a camera (a drawn drive at its own rate)")
    parser.add_argument("--record", action="append", default=[], help="where results go, such as run.mp4")
    parser.add_argument(
        "--deadline",
        type=float,
        help="seconds after which the car has no use for a result, and does not get it (no limit); a "
        "recording has all that was computed in time, also what the car was then too busy to take",
    )
    parser.add_argument(
        "--watchdog",
        type=float,
        default=1.0,
        help="halt after so many seconds without a result (%(default)s)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (%(default)s)")
    return parser.parse_args()


def opened(uri: str) -> Source:
    """A source that is live: what is not is played at its own rate."""
    source = open_source(uri)
    return source if source.live else Paced(source)


def watch(
    segmenter: pixelrt.Segmenter, source: Source, car: Car, options: argparse.Namespace
) -> StreamStatistics:
    """Let the car see the newest frame, again and again."""
    stream = segmenter.stream(
        source,
        sinks=options.record,
        deadline=options.deadline,
        on_event=tell,
        watchdog=options.watchdog,
        on_watchdog=lambda seconds: car.stay(f"no result for {seconds:.1f} s"),
    )
    try:
        return stream.run(lambda delivery: car.see(delivery, stream.health))
    except KeyboardInterrupt:
        return stream.statistics()
    finally:
        car.stay("the end")


def tell(event: Event) -> None:
    """Say what happens to the camera."""
    say(f"{event.kind}: {event.source}: {event.detail}")


def report(figures: StreamStatistics, car: Car) -> None:
    """What became of every frame, and how good the decisions were.

    Raises:
        SystemExit: If too many were others than those of the truth.
    """
    missed = figures.delivered - car.frames_seen
    assert missed in (0, 1), "Ctrl-C may have come between a result and the car, once"
    for source in figures.sources:
        fates = [f"{source.delivered} seen", *(f"{count} {why}" for why, count in source.dropped.items())]
        say(f"{source.name}: {source.captured} frames: {', '.join(fates)}")
    if (age := figures.stages.get("capture to delivery")) is not None:
        say(f"results were {age.p50_ms:.0f} ms old, {age.p99_ms:.0f} ms at most in 99 of 100")
    for sink in figures.sinks:
        say(f"{sink.name}: {sink.written} results, {sink.failed or 'all is well'}")
    say(f"the lane was free in {car.frames_free}")
    if car.judged:
        say(f"{car.right} of {car.judged} decisions were those of the truth")
        if car.right < AGREEMENT * car.judged:
            raise SystemExit(f"expected {AGREEMENT:.0%} at least; is the bundle for such scenes?")


if __name__ == "__main__":
    main()
