"""Whether more frames come than are computed: told with its rates, and its end."""

from __future__ import annotations

import threading
import time

import pytest
from live import SIZE, Camera, account, consumed, image_of, network, until

from pixelrt import PushSource
from pixelrt.video.events import Event, EventKind
from pixelrt.video.health import Health
from pixelrt.video.live.ledger import Account
from pixelrt.video.live.watching import SourceWatch, worst


@pytest.mark.parametrize("kind", ["stalled", "reconnecting"])
def test_the_load_is_looked_at_only_while_frames_come(kind: EventKind) -> None:
    told: list[Event] = []
    watch = SourceWatch("camera", Camera(), stall_s=60.0, tell=told.append)
    watch.came(SIZE, 30.0)
    for at_s in (0.0, 2.0):
        watch.look(at_s, account(int(30 * at_s), int(15 * at_s)), 0.06)
    watch.on_event(Event(kind=kind, source="camera", detail="as told"))
    for at_s in (3.0, 6.0, 9.0):
        watch.look(at_s, account(60, 31), 0.06)
    assert [event.kind for event in told] == ["connected", "overloaded", kind]
    watch.on_event(Event(kind="recovered", source="camera", detail="as told"))
    assert watch.health.is_ok, "its load is measured anew"
    for at_s in (10.0, 12.0):
        watch.look(at_s, account(60 + int(30 * (at_s - 10)), 31 + int(15 * (at_s - 10))), 0.06)
    assert [event.kind for event in told][3:] == ["recovered", "overloaded"]
    assert told[-1].detail == "30.0 frames/s come, 15.0 are computed (60 ms each)"


def test_ok_is_since_it_last_became_so() -> None:
    began_s = time.monotonic()
    watch = SourceWatch("camera", Camera(), stall_s=60.0, tell=lambda _: None)
    other = SourceWatch("other", Camera(), stall_s=60.0, tell=lambda _: None)
    watch.came(SIZE, 30.0)
    other.came(SIZE, 30.0)
    since_s = watch.health.since_s
    for cause in ("lost", "overloaded"):
        if cause == "lost":
            watch.on_event(Event(kind="lost", source="camera", detail="as told"))
        else:
            overload(watch, began_s)
        time.sleep(0.002)
        left_s = time.monotonic()
        if cause == "lost":
            watch.on_event(Event(kind="connected", source="camera", detail="as told"))
        else:
            watch.look(began_s + 4, account(120, 30), 0.06)
        assert watch.health.is_ok
        assert watch.health.since_s >= left_s > since_s, cause
        since_s = watch.health.since_s
        assert worst([watch.health, other.health]).since_s == since_s, "the stream became ok then, too"
    watch.came(SIZE, 30.0)
    watch.ended()
    assert watch.health.since_s == since_s, "it was ok before"


def overload(watch: SourceWatch, began_s: float) -> None:
    """30 frames a second come for two seconds, and every second one is computed."""
    for seconds in (0, 2):
        watch.look(began_s + seconds, account(30 * seconds, 15 * seconds), 0.06)
    assert watch.health.state == "overloaded"


def test_why_is_that_of_now() -> None:
    began_s = time.monotonic()
    watch = SourceWatch("camera", Camera(), stall_s=1.0, tell=lambda _: None)
    watch.came(SIZE, 30.0)
    overload(watch, began_s)
    before = watch.health
    assert before.why == "30.0 frames/s come, 15.0 are computed (60 ms each)"
    watch.look(began_s + 4, account(120, 80), 0.2)
    assert watch.health == Health(
        state="overloaded",
        since_s=before.since_s,
        why="30.0 frames/s come, 5.0 are computed (200 ms each)",
    )
    watch.asked()
    for seconds in (1.5, 14.0):
        watch.look(time.monotonic() + seconds, account(120, 80), 0.2)
        assert watch.health.why == f"no frame for {seconds:.1f} s"
    assert watch.health.since_s < time.monotonic()


def test_why_names_the_deadline() -> None:
    told: list[Event] = []
    watch = SourceWatch("camera", Camera(), stall_s=60.0, tell=told.append)
    for at_s in (0, 2):
        late = Account(
            captured=30 * at_s, delivered=0, dropped={"deadline": 25 * at_s}, fps_captured=0, fps_delivered=0
        )
        watch.look(at_s, late, 0.06)
    assert told[-1].detail == (
        "30.0 frames/s come, 5.0 are computed (60 ms each); 25.0 are too old for the deadline"
    )


class Leaky(Camera):
    """A camera that loses frames."""

    def __init__(self, losses: dict[str, int]) -> None:
        super().__init__()
        self.losses = losses


@pytest.mark.parametrize(
    ("reason", "state"), [("replaced", "overloaded"), ("driver", "overloaded"), ("damaged", "ok")]
)
def test_frames_that_a_source_loses_because_nobody_takes_them_are_overload(reason: str, state: str) -> None:
    told: list[Event] = []
    camera = Leaky({reason: 7})
    watch = SourceWatch("camera", camera, stall_s=60.0, tell=told.append)
    for at_s in (0, 2):
        camera.losses = {reason: 7 + 20 * at_s}
        watch.look(at_s, account(10 * at_s), 0.1)
    assert watch.health.state == state
    if state == "overloaded":
        assert (
            told[-1].detail
            == watch.health.why
            == (
                "30.0 frames/s come, 10.0 are computed (100 ms each); "
                f"the source loses those that nobody takes in time (20.0 {reason})"
            )
        )
    watch.look(4, account(80), 0.01)
    assert [event.kind for event in told] == (["overloaded", "recovered"] if state != "ok" else [])


def test_a_camera_that_has_to_wait_for_every_frame_to_be_computed_is_overloaded() -> None:
    camera, over = PushSource(keep="newest"), threading.Event()

    def shoot() -> None:
        while not over.wait(0.02) and camera.push(image_of(0)):
            pass

    shooting = threading.Thread(target=shoot)
    shooting.start()
    events: list[Event] = []
    with network(0.1).stream(camera, policy="all", on_event=events.append) as stream:
        taking = consumed(stream)
        until(lambda: stream.health.state == "overloaded")
        assert "the source loses those that nobody takes in time" in stream.health.why
        assert not any(stream.statistics().sources[0].dropped.values())
    over.set()
    taking.join(10)
    shooting.join(10)
    assert [event.kind for event in events] == ["connected", "overloaded"]


@pytest.mark.parametrize("place", ["loop", "source"])
@pytest.mark.parametrize(("drops", "is_too_much"), [("burst", False), ("steady", True)])
def test_frames_that_come_all_at_once_after_a_hiccup_are_no_overload(
    drops: str, is_too_much: bool, place: str
) -> None:
    """A camera of 30 frames a second gives none for 1.5 seconds, and then all 45 in 0.3 seconds.

    What is too much is dropped by the loop, or in the source by its decoder.
    """
    told: list[Event] = []
    camera = Leaky({})
    watch = SourceWatch("camera", camera, stall_s=60.0, tell=told.append)
    for tick in range(200):
        late = max(tick - 15, 0) if tick < 30 else max(33 - tick, 0) * 5
        came = 3 * (tick - late)
        lost = 40 * min(max(tick - 30, 0), 3) // 3 if drops == "burst" else tick
        if place == "source":
            camera.losses = {"replaced": lost}
        watch.look(tick / 10, account(came, lost) if place == "loop" else account(came - lost), 0.03)
    assert [event.kind for event in told] == (["overloaded"] if is_too_much else [])


def test_a_program_that_takes_a_frame_every_three_seconds_is_one_overload() -> None:
    told: list[Event] = []
    camera = Leaky({})
    watch = SourceWatch("camera", camera, stall_s=60.0, tell=told.append)
    for tick in range(300):
        takes = tick // 30
        camera.losses = {"replaced": 89 * takes}
        watch.look(tick / 10, account(1 + takes), 0.03)
    for tick in range(300, 500):  # now it takes even longer
        watch.look(tick / 10, account(10), 0.03)
    assert [event.kind for event in told] == ["overloaded"]
    for tick in range(500, 700):  # then it is quick, and the camera gives one a second
        watch.look(tick / 10, account(tick // 10), 0.03)
    assert [event.kind for event in told] == ["overloaded", "recovered"]


def test_overload_is_told_with_its_rates_and_its_end() -> None:
    events: list[Event] = []
    slow = threading.Event()
    slow.set()
    stream = network(lambda: 0.25 if slow.is_set() else 0.001).stream(
        Camera(None, 0.1), on_event=events.append
    )
    with stream:
        taking = consumed(stream)
        until(lambda: stream.health.state == "overloaded")
        why = stream.health.why
        slow.clear()
        until(lambda: stream.health.state == "ok", 30)
    taking.join(10)
    assert [event.kind for event in events] == ["connected", "overloaded", "recovered"]
    words = why.split()
    came, computed, each_ms = float(words[0]), float(words[3]), float(words[6].lstrip("("))
    assert why == f"{came:.1f} frames/s come, {computed:.1f} are computed ({each_ms:.0f} ms each)"
    assert came > 1.1 * computed > 1
    assert each_ms >= 250


def test_a_network_that_keeps_up_is_not_overloaded() -> None:
    events: list[Event] = []
    stream = network(0.002).stream(Camera(50, 0.05), on_event=events.append)
    list(stream)
    missed = sum(stream.statistics().sources[0].dropped.values())
    assert [event.kind for event in events] == ["connected", "ended"] or missed > 2, (
        "the machine is overloaded"
    )
