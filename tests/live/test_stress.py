"""Everything at random: sources, network, sinks and program each at their own pace, ended in any way."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest
from live import Camera, Notes, check_accounts, check_pairs, network

from pixelrt.errors import ExecutionFailed
from pixelrt.video.delivery import Delivery
from pixelrt.video.live import Stream


def naps(seed: int, longest_s: float) -> Callable[..., None]:
    """Sleeps of which most are none, some short, and few long."""
    dice = random.Random(seed)
    return lambda *_: time.sleep(dice.choice([0, 0, 0, 0.1, 0.3, 1.0]) * longest_s)


def hiccups(seed: int) -> Callable[[], float]:
    """A network that sometimes is slow, and sometimes gives no result."""
    dice = random.Random(seed)

    def compute() -> float:
        if dice.random() < 0.05:
            raise ExecutionFailed("a hiccup")
        return dice.choice([0, 0.001, 0.004])

    return compute


@pytest.mark.parametrize("seed", range(12))
def test_frames_are_never_lost_uncounted_never_doubled_never_out_of_order(seed: int) -> None:
    dice = random.Random(seed)
    policy = dice.choice(["latest", "all"])
    sources = [
        Camera(
            dice.choice([0, 1, 60, 120]),
            live=dice.random() < 0.5,
            name=f"source {number}",
            before=naps(number, 0.01),
        )
        for number in range(dice.choice([1, 2, 5]))
    ]
    sinks = [
        Notes(naps(100 + number, 0.01), name=f"sink {number}") for number in range(dice.choice([0, 1, 3]))
    ]
    deadline = dice.choice([None, None, 0.03])
    stream = network(hiccups(seed)).stream(sources, policy=policy, sinks=sinks, deadline=deadline)  # type: ignore[arg-type]
    taken, whole = end_somehow(stream, dice)
    statistics = stream.statistics()
    check_accounts(statistics, taken, cameras=sources, ended=True, whole=whole)
    check_pairs(taken)
    for sink in sinks:
        check_pairs(sink.got)
        assert sink.ends == ["closed"]
    stopped = any("stopped" in source.dropped for source in statistics.sources)
    if policy == "all":
        for source in statistics.sources:
            assert set(source.dropped) <= {"failed", "deadline", "stopped"}
    for figures, sink in zip(statistics.sinks, sinks, strict=True):
        assert figures.written == len(sink.got)
        assert stopped or not (policy == "all" and figures.dropped)


def end_somehow(stream: Stream, dice: random.Random) -> tuple[list[Delivery], bool]:
    """Take results to the end, or leave the loop, or have another thread close it.

    Returns:
        The results, and whether they are all.
    """
    nap, taken = naps(dice.randrange(1000), 0.01), []
    way = dice.choice(["to the end", "to the end", "break", "close"])
    closing = threading.Timer(0.1, stream.close)
    if way == "close":
        closing.start()
    for delivery in stream:
        taken.append(delivery)
        check_accounts(stream.statistics())
        nap()
        if way == "break" and len(taken) == 20:
            break
    if way == "close":
        closing.join()
    return taken, way == "to the end"


def test_starting_and_stopping_a_hundred_times() -> None:
    segmenter = network()
    for number in range(100):
        stream = segmenter.stream([Camera(None, 0.001), Camera(3)], sinks=[Notes()])
        for _ in stream:
            if number % 2:
                break
            threading.Thread(target=stream.close).start()
        segmenter.stream(Camera(1)).close()
        assert threading.active_count() < 20
