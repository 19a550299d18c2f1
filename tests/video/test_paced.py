"""Sources around sources: the first frames only, and at the source's own rate."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pixelrt.errors import InputError, SourceError
from pixelrt.video.events import Event
from pixelrt.video.sources import Frame, Source, open_source
from pixelrt.video.sources.base import BaseSource
from pixelrt.video.sources.limited import Limited
from pixelrt.video.sources.paced import Paced


def drive(fps: float = 100.0, frames: int = 5) -> Source:
    return open_source(f"test://drive?frames={frames}&size=64x64&fps={fps}")


def test_frames_come_when_they_are_due() -> None:
    with Paced(drive(fps=20, frames=8)) as source:
        assert (source.live, source.num_frames, source.fps, source.size) == (True, 8, 20, (64, 64))
        came = [(frame, time.monotonic()) for frame in source]
    first_s = came[0][0].captured_s
    assert came[-1][1] - came[0][1] >= 7 / 20 - 0.01
    for index, (frame, at_s) in enumerate(came):
        assert (frame.index, frame.time_s) == (index, index / 20)
        assert at_s >= frame.captured_s >= first_s + index / 20 - 1e-6


def test_a_late_consumer_gets_no_burst() -> None:
    with Paced(drive(fps=50, frames=6)) as source:
        frames = iter(source)
        next(frames)
        time.sleep(0.3)  # fifteen periods
        late = [time.monotonic() for _ in frames]
    steps = [after - before for before, after in itertools.pairwise(late)]
    assert sum(steps) >= 4 / 50 - 0.01


def test_it_begins_again_without_a_seam() -> None:
    with Paced(drive(fps=200, frames=3), lambda: drive(fps=200, frames=3)) as source:
        assert source.num_frames is None
        frames = list(itertools.islice(source, 8))
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 200 for index in range(8)])
    assert len({frame.name for frame in frames}) == 8
    assert [frame.name for frame in frames[2:4]] == ["drive-000002", "drive-000000-2"]
    np.testing.assert_array_equal(frames[1].image, frames[7].image)


def test_a_wait_ends_when_it_is_interrupted() -> None:
    with Paced(drive(fps=0.01, frames=3)) as source:
        frames = iter(source)
        next(frames)
        threading.Timer(0.1, source.interrupt).start()
        began = time.monotonic()
        assert list(frames) == []
        assert time.monotonic() - began < 30  # a frame comes every 100 s
        source.interrupt()


class Nothing(BaseSource):
    """A source without a frame."""

    name, size, fps, num_frames = "nothing", (4, 4), 25.0, 0

    def __enter__(self) -> Nothing:
        return self

    def __iter__(self) -> Iterator[Frame]:
        return iter(())


class Talking(Nothing):
    """One frame, an event and a loss."""

    name = "talking"

    def __iter__(self) -> Iterator[Frame]:
        self.on_event(Event(kind="damaged", source=self.name, detail="one is broken"))
        self.losses = {"damaged": 2}
        yield Frame(image=np.zeros((4, 4, 3), np.uint8), index=0, time_s=0.0, name="one")


def test_nothing_is_not_repeated_for_ever() -> None:
    with Paced(Nothing(), Nothing) as source, pytest.raises(SourceError, match="nothing has no frame"):
        list(source)
    with Paced(Nothing()) as source:
        assert list(source) == []


def test_events_and_losses_of_every_repetition() -> None:
    told: list[Event] = []
    with Paced(Talking(), Talking) as source:
        source.on_event = told.append
        list(itertools.islice(source, 3))
        assert source.losses == {"damaged": 6}
    assert [event.kind for event in told] == ["damaged"] * 3


def test_every_opened_source_is_closed() -> None:
    closed = []

    class Closing(Talking):
        def close(self) -> None:
            closed.append(self)

    with Paced(Closing(), Closing) as source:
        list(itertools.islice(source, 4))
    assert len({id(one) for one in closed}) == 4


@pytest.mark.parametrize(("limit", "count"), [(2, 2), (5, 5), (9, 5), (None, 5)])
def test_limit(limit: int | None, count: int) -> None:
    with Limited(drive(), limit) as source:
        assert source.num_frames == count
        assert [frame.index for frame in source] == list(range(count))


def test_no_frame_is_taken_beyond_the_limit() -> None:
    frames = iter(drive())

    class Counting(Nothing):
        def __iter__(self) -> Iterator[Frame]:
            return frames

    assert len(list(Limited(Counting(), 2))) == 2
    assert next(frames).index == 2


def test_a_limited_source_is_what_it_was(tmp_path: Path) -> None:
    with Limited(Paced(drive()), 3) as source:
        assert (source.name, source.size, source.fps, source.live) == ("drive", (64, 64), 100, True)
        assert source.truth_classes is not None
        frames = iter(source)
        next(frames)
        source.interrupt()
        assert next(frames, None) is None


def test_a_limit_of_nothing() -> None:
    with pytest.raises(InputError, match="limit is 0, expected at least 1 frame"):
        Limited(drive(), 0)
