"""One source over many connections; here the connections are scripts."""

from __future__ import annotations

import ast
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pixelrt.errors import SourceError, SourceStalled, UnusableSource
from pixelrt.video.events import Event
from pixelrt.video.frame import Frame
from pixelrt.video.sources import network, reconnecting
from pixelrt.video.sources.base import BaseSource
from pixelrt.video.sources.lazy import Lazy
from pixelrt.video.sources.reconnecting import Backoff, Persistence, Reconnecting

AT_ONCE = Backoff(first_s=1e-4, most_s=1e-4)


class Life(BaseSource):
    """Gives so many frames; then ends, fails, or waits for ever."""

    def __init__(
        self,
        frames: int,
        end: SourceError | None = None,
        *,
        live: bool = True,
        waits: bool = False,
        size: tuple[int, int] = (2, 3),
        losses: dict[str, int] | None = None,
    ) -> None:
        self.name, self.fps, self.num_frames, self.size = "life", 20.0, None, size
        self.live, self.losses = live, losses or {}
        self.closed = 0
        self._frames, self._end, self._waits = frames, end, waits
        self._wake = threading.Event()

    def __enter__(self) -> Life:
        return self

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._frames):
            if self.interrupted:
                return
            image = np.zeros((*self.size, 3), np.uint8)
            yield Frame(image=image, index=index, time_s=index / self.fps, name="")
        if self._waits:
            self._wake.wait(20)
        if self._end is not None and not self.interrupted:
            raise self._end

    def interrupt(self) -> None:
        super().interrupt()
        self._wake.set()

    def close(self) -> None:
        self.closed += 1


def over(
    *lives: Life, reconnect: bool = True, wait: bool = False, backoff: Backoff = AT_ONCE
) -> Reconnecting:
    rest = iter(lives)
    persistence = Persistence(reconnect=reconnect, wait=wait, backoff=backoff)
    return Reconnecting(lambda: next(rest), name="cam", persistence=persistence)


class Begun(Life):
    """Ctrl-C comes when its thread runs, before anybody has it."""

    def __init__(self) -> None:
        super().__init__(1)
        self.over = threading.Event()
        signal.raise_signal(signal.SIGINT)

    def close(self) -> None:
        super().close()
        self.over.set()


LOST = SourceError("the cable is out")


def told(source: Reconnecting) -> list[Event]:
    events: list[Event] = []
    source.on_event = events.append
    return events


def test_frames_of_all_lives_are_numbered_without_gaps_and_times_never_go_back() -> None:
    lives = [Life(3, LOST), Life(0, LOST), Life(4, SourceStalled("nothing came")), Life(2)]
    with over(*lives) as source:
        events = told(source)
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(9))
    assert [frame.name for frame in frames[-2:]] == ["cam-000007", "cam-000008"]
    assert all(frame.source == "cam" for frame in frames)
    times = [frame.time_s for frame in frames]
    assert times[0] == 0
    assert all(before < after for before, after in pairwise(times))
    kinds = [event.kind for event in events]
    assert kinds[:4] == ["connected", "lost", "reconnecting", "reconnecting"]
    assert kinds[4:] == ["connected", "stalled", "reconnecting", "connected", "ended"]
    assert [event.attempt for event in events if event.kind == "reconnecting"] == [1, 2, 1]
    assert [life.closed for life in lives] == [1, 1, 1, 1]


def test_ctrl_c_does_not_lose_a_connection_that_has_begun() -> None:
    lives: list[Begun] = []

    def connect() -> Begun:
        life = Begun.__new__(Begun)
        lives.append(life)
        life.__init__()  # type: ignore[misc]
        return life

    with pytest.raises(KeyboardInterrupt):
        Reconnecting(connect, name="cam")
    assert lives[0].over.wait(10), "it is closed"


def test_losses_of_all_lives_are_added() -> None:
    with over(Life(1, LOST, losses={"damaged": 2}), Life(1, losses={"damaged": 1, "replaced": 4})) as source:
        list(source)
        assert source.losses == {"damaged": 3, "replaced": 4}


def test_a_new_size_is_told() -> None:
    with over(Life(1, LOST), Life(1, size=(4, 6))) as source:
        events = told(source)
        assert [frame.size for frame in source] == [(2, 3), (4, 6)]
        assert source.size == (2, 3)
    assert [event.detail for event in events if event.kind == "resized"] == [
        "frames are 4x6 now, they were 2x3"
    ]


def test_the_first_failure_is_an_error_at_once() -> None:
    life = Life(0, LOST)
    with pytest.raises(SourceError, match="the cable is out"):
        over(life)
    assert life.closed == 1


def test_the_first_connection_is_waited_for_if_asked() -> None:
    with over(Life(0, LOST), Life(0, LOST), Life(1), wait=True) as source:
        events = told(source)
        assert len(list(source)) == 1
    assert [event.kind for event in events] == ["reconnecting", "reconnecting", "connected", "ended"]


def test_what_is_waited_for_is_live_and_has_no_size_until_it_is_there() -> None:
    with over(Life(0, LOST), Life(2), wait=True) as source:
        assert (source.live, source.size, source.fps) == (True, (0, 0), 25.0)
        next(iter(source))
        assert (source.live, source.size, source.fps) == (True, (2, 3), 20.0)


def test_what_waiting_does_not_change_is_not_waited_for() -> None:
    with over(Life(0, UnusableSource("401")), Life(1), wait=True) as source:
        events = told(source)
        with pytest.raises(UnusableSource, match="401"):
            next(iter(source))
    assert [event.kind for event in events] == ["failed"]


def test_a_film_is_not_waited_for() -> None:
    with (
        over(Life(0, LOST), Life(3, live=False), wait=True) as source,
        pytest.raises(UnusableSource, match=r"cam is a film.*without wait=yes"),
    ):
        next(iter(source))


def test_a_film_that_is_opened_late_is_one() -> None:
    """`Lazy` passes on what its source is."""
    persistence = Persistence(wait=True, backoff=AT_ONCE)
    lives = iter([Life(0, LOST), Life(3, live=False)])
    with (
        Reconnecting(
            lambda: Lazy(lambda _: next(lives), "cam"), name="cam", persistence=persistence
        ) as source,
        pytest.raises(UnusableSource, match=r"cam is a film.*without wait=yes"),
    ):
        next(iter(source))


def test_what_happened_before_the_iteration_is_bounded() -> None:
    class Noisy(Life):
        def __iter__(self) -> Iterator[Frame]:
            for number in range(1000):
                self.on_event(Event(kind="damaged", source="life", detail=f"{number}"))
            yield from super().__iter__()

    with over(Noisy(1)) as source:
        events = told(source)
        list(source)
    assert 10 < len(events) < 100
    assert [(event.kind, event.detail) for event in events[-3:-1]] == [
        ("damaged", "999"),
        ("connected", "frames come"),
    ]


def test_what_is_waited_for_and_ends_without_a_frame_is_refused() -> None:
    with (
        over(Life(0, LOST), Life(0), wait=True) as source,
        pytest.raises(SourceError, match="cam ended without a single frame"),
    ):
        next(iter(source))


def test_a_camera_that_came_once_is_tried_again_whatever_it_says() -> None:
    with over(Life(1, LOST), Life(0, UnusableSource("404")), Life(1)) as source:
        assert len(list(source)) == 2


def test_without_reconnect_the_loss_is_raised() -> None:
    with over(Life(2, LOST), reconnect=False) as source:
        events, frames = told(source), []
        with pytest.raises(SourceError, match="the cable is out"):
            frames.extend(source)
    assert [event.kind for event in events] == ["connected", "failed"]


def test_a_file_that_breaks_is_not_begun_again() -> None:
    with over(Life(2, LOST, live=False), Life(2, live=False)) as source:
        iterator = iter(source)
        next(iterator), next(iterator)
        with pytest.raises(SourceError, match="the cable is out"):
            next(iterator)


def test_a_source_without_a_frame_is_refused() -> None:
    with pytest.raises(SourceError, match="cam ended without a single frame"):
        over(Life(0))


def test_a_first_frame_that_waited_too_long_is_left_out() -> None:
    with over(Life(3)) as source:
        time.sleep(0.3)
        assert [frame.index for frame in source] == [0, 1]
        assert source.losses == {"replaced": 1}


@pytest.mark.parametrize("where", ["in a life", "waited for", "in the back-off", "before", "between"])
def test_interrupt_ends_the_iteration_from_another_thread(where: str) -> None:
    slow = Backoff(first_s=60, most_s=60)
    scripts: dict[str, Callable[[], Reconnecting]] = {
        "in a life": lambda: over(Life(1, waits=True)),
        "waited for": lambda: over(Life(0, LOST), Life(1), wait=True, backoff=slow),
        "in the back-off": lambda: over(Life(1, LOST), Life(1), backoff=slow),
        "before": lambda: over(Life(5)),
        "between": lambda: over(Life(5)),
    }
    with scripts[where]() as source:
        iterator = iter(source)
        if where not in ("before", "waited for"):
            next(iterator)
        timer = threading.Timer(0.0 if where in ("before", "between") else 0.1, source.interrupt)
        timer.start()
        if where in ("before", "between"):
            timer.join()
        began_s = time.monotonic()
        rest = list(iterator)
        assert time.monotonic() - began_s < 5
        assert len(rest) <= (1 if where == "before" else 0)
        timer.join()
        source.interrupt()


def test_no_wall_clock_is_read() -> None:
    """It jumps; `captured_s` and every wait are by the monotonic clock."""
    modules = [Path(reconnecting.__file__), *Path(network.__file__).parent.glob("*.py")]
    assert len(modules) > 8
    for module in modules:
        nodes = ast.walk(ast.parse(module.read_text()))
        names = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
        assert not {"time.time", "time.time_ns", "datetime.now", "time.localtime"} & names, module.name


def test_waits_double_up_to_the_limit_and_are_drawn_evenly_below_it() -> None:
    backoff = Backoff(first_s=0.5, most_s=10)
    assert [backoff.wait_s(n, lambda: 1.0) for n in range(1, 8)] == [0.5, 1, 2, 4, 8, 10, 10]
    assert backoff.wait_s(4, lambda: 0.25) == 1.0
    assert backoff.wait_s(100_000, lambda: 1.0) == 10
    drawn = [backoff.wait_s(3) for _ in range(2000)]
    assert 0 <= min(drawn) < 0.05
    assert 1.95 < max(drawn) <= 2
    assert abs(sum(drawn) / len(drawn) - 1) < 0.08


def test_the_bound_begins_again_after_a_stable_life(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[int] = []

    def wait_s(self: Backoff, failures: int, draw: object = None) -> float:
        bounds.append(failures)
        return 0.0

    monkeypatch.setattr(Backoff, "wait_s", wait_s)

    class Long(Life):
        def __iter__(self) -> Iterator[Frame]:
            frames = super().__iter__()
            yield next(frames)
            time.sleep(0.15)
            yield from frames

    lives = [Life(1, LOST), Life(1, LOST), Life(0, LOST), Long(1, LOST), Life(1)]
    with over(*lives, backoff=Backoff(stable_s=0.1)) as source:
        list(source)
    assert bounds == [1, 2, 3, 1]


@pytest.mark.parametrize(("first", "most"), [(0, 1), (2, 1), (-1, 1)])
def test_limits_that_make_no_sense(first: float, most: float) -> None:
    with pytest.raises(SourceError, match="make no sense"):
        Backoff(first_s=first, most_s=most)
