"""How a stream and its sources are, since when and why; the watchdog."""

from __future__ import annotations

import random
import threading
import time

import pytest
from live import SIZE, Camera, Notes, account, consumed, network, until

from pixelrt.errors import SourceError
from pixelrt.video.delivery import Delivery
from pixelrt.video.events import Event, EventKind
from pixelrt.video.health import Health, HealthState
from pixelrt.video.live.watching import SourceWatch, worst


def test_a_stall_is_told_and_its_end() -> None:
    events: list[Event] = []
    go_on = threading.Event()
    camera = Camera(3, before=lambda _, index: None if index != 2 else void(go_on.wait()))
    stream = network().stream(camera, stall=0.2, on_event=events.append)
    taking = consumed(stream)
    until(lambda: stream.health.state == "stalled")
    health = stream.sources[0].health
    assert health.why.startswith("no frame for 0.")
    assert time.monotonic() - health.since_s >= 0.2, "it has been so since the last frame"
    assert stream.statistics().health.state == "stalled"
    go_on.set()
    taking.join(10)
    assert [event.kind for event in events] == ["connected", "stalled", "recovered", "ended"]
    assert stream.health.is_ok


def test_a_camera_that_never_gave_a_frame_has_stalled_and_says_so() -> None:
    told: list[Event] = []
    watch = SourceWatch("camera", Camera(), stall_s=1.0, tell=told.append)
    watch.asked()
    watch.look(time.monotonic() + 1.5, account(0), 0.01)
    assert (watch.health.state, watch.health.why) == ("stalled", "no frame yet, in 1.5 s")
    watch.came(SIZE, 30.0)
    assert [event.kind for event in told] == ["stalled", "connected"]
    assert told[-1].detail == "frames of 8x12 come, nominally 30 a second"


def test_a_file_does_not_stall() -> None:
    camera = Camera(2, live=False, before=lambda _, index: time.sleep(0.4))
    events: list[Event] = []
    list(network().stream(camera, stall=0.1, on_event=events.append))
    assert [event.kind for event in events] == ["connected", "ended"]


def test_a_camera_that_waits_for_a_slow_program_has_not_stalled() -> None:
    events: list[Event] = []
    stream = network().stream(Camera(12, 0.001), policy="all", stall=0.2, on_event=events.append)
    next(stream)
    time.sleep(0.6)
    list(stream)
    assert "stalled" not in [event.kind for event in events]


def test_what_a_source_tells_is_its_health() -> None:
    seen: list[tuple[str, Health]] = []

    def tell(camera: Camera, index: int) -> None:
        if index == 1:
            for kind in ("lost", "reconnecting", "connected"):
                camera.tell(kind)
                seen.append((kind, stream.health))

    events: list[Event] = []
    stream = network().stream(Camera(3, before=tell, live=False), on_event=events.append)
    list(stream)
    assert [(kind, health.state, health.why) for kind, health in seen] == [
        ("lost", "reconnecting", "as told"),
        ("reconnecting", "reconnecting", "as told"),
        ("connected", "ok", ""),
    ]
    assert seen[0][1].since_s == seen[1][1].since_s
    assert [event.kind for event in events] == ["connected", "lost", "reconnecting", "connected", "ended"]
    assert stream.statistics().sources[0].reconnects == 1


def test_a_source_that_tells_its_first_connection_has_not_reconnected() -> None:
    def tell(camera: Camera, index: int) -> None:
        if index == 0:
            camera.tell("connected")

    events: list[Event] = []
    stream = network().stream(Camera(3, before=tell, live=False), on_event=events.append)
    list(stream)
    assert stream.statistics().sources[0].reconnects == 0
    assert [event.kind for event in events] == ["connected", "ended"]


def test_a_stall_that_both_see_is_told_once() -> None:
    def tell(camera: Camera, index: int) -> None:
        if index == 1:
            camera.wait(0.5)
            camera.tell("stalled")
            camera.tell("recovered")

    events: list[Event] = []
    list(network().stream(Camera(2, before=tell), stall=0.1, on_event=events.append))
    assert [event.kind for event in events] == ["connected", "stalled", "recovered", "ended"]


def test_a_stall_is_not_told_while_a_source_reconnects() -> None:
    def tell(camera: Camera, index: int) -> None:
        if index == 1:
            camera.tell("reconnecting")
            camera.wait(0.5)

    events: list[Event] = []
    stream = network().stream(Camera(2, before=tell), stall=0.1, on_event=events.append)
    list(stream)
    assert [event.kind for event in events] == ["connected", "reconnecting", "connected", "ended"]
    assert stream.statistics().sources[0].reconnects == 1, "though the source did not say so itself"


def test_a_camera_that_is_away_when_it_is_stopped_does_not_become_well_by_that() -> None:
    def tell(camera: Camera, index: int) -> None:
        if index == 1:
            camera.tell("reconnecting")
            camera.interrupt()

    stream = network().stream(Camera(3, before=tell))
    assert len(list(stream)) == 1
    health = stream.statistics().sources[0].health
    assert (health.state, health.why) == ("reconnecting", "as told")


def test_a_silence_before_a_connection_is_no_stall_after_it() -> None:
    told: list[Event] = []
    watch = SourceWatch("camera", Camera(), stall_s=0.5, tell=told.append)
    watch.came(SIZE, 30.0)
    watch.asked()
    for kind in ("lost", "reconnecting"):
        watch.on_event(Event(kind=kind, source="camera", detail="as told"))
    time.sleep(0.6)
    watch.on_event(Event(kind="connected", source="camera", detail="as told"))
    watch.look(time.monotonic(), account(1), 0.01)
    assert [event.kind for event in told] == ["connected", "lost", "reconnecting", "connected"]
    watch.look(time.monotonic() + 0.6, account(1), 0.01)
    assert told[-1].kind == "stalled", "from then on it may stall"


STATES: dict[EventKind, HealthState] = {
    "connected": "ok",
    "recovered": "ok",
    "stalled": "stalled",
    "lost": "reconnecting",
    "reconnecting": "reconnecting",
    "overloaded": "overloaded",
    "failed": "failed",
    "ended": "ok",
}


def test_no_state_without_its_event() -> None:
    """Whatever happens in whatever order."""
    chance = random.Random(7)
    seen: set[HealthState] = set()
    for _ in range(60):
        told: list[Event] = []
        watch = SourceWatch("camera", Camera(), stall_s=3.0, tell=told.append)
        watch.came(SIZE, 30.0)
        now_s, captured, busy = time.monotonic(), 0, 0
        for _ in range(60):
            happens = chance.choice(["frame", "frame", "ask", "tell", "quiet", "busy", "easy"])
            if happens == "frame":
                watch.came(SIZE, 30.0)
            elif happens == "ask":
                watch.asked()
            elif happens == "tell":
                kind = chance.choice(["connected", "recovered", "stalled", "lost", "reconnecting", "damaged"])
                watch.on_event(Event(kind=kind, source="camera", detail="as told"))  # type: ignore[arg-type]
            else:
                now_s += 4.0 if happens == "quiet" else 0.5
                captured += 0 if happens == "quiet" else 15
                busy += 10 if happens == "busy" else 0
                watch.look(now_s, account(captured, busy), 0.05)
            states = [STATES[event.kind] for event in told if event.kind in STATES]
            assert watch.health.state == (states[-1] if states else "ok")
            seen.add(watch.health.state)
        before = watch.health
        watch.ended()
        assert told[-1].kind == "ended"
        assert watch.health.is_ok if before.state in ("ok", "overloaded") else watch.health == before
    assert seen == {"ok", "overloaded", "stalled", "reconnecting"}


def test_events_are_told_in_the_order_in_which_they_happened_and_nobody_waits_for_a_slow_program() -> None:
    told: list[str] = []
    went_on: list[bool] = []
    is_told, go_on = threading.Event(), threading.Event()

    def tell(event: Event) -> None:
        if event.kind == "stalled":
            is_told.set()
            went_on.append(go_on.wait(5))
        told.append(event.kind)

    watch = SourceWatch("camera", Camera(), stall_s=1.0, tell=tell)
    watch.came(SIZE, 30.0)
    watch.asked()
    monitor = threading.Thread(target=watch.look, args=(time.monotonic() + 2, account(1), 0.01))
    monitor.start()
    assert is_told.wait(10)
    watch.came(SIZE, 30.0)  # returns, while the other event is still being told
    assert watch.health.is_ok
    go_on.set()
    monitor.join(10)
    assert went_on == [True]
    assert told == ["connected", "stalled", "recovered"]


def test_a_source_that_has_ended_says_so() -> None:
    short, other = Camera(2, name="short"), Camera(None, 0.01, name="other")
    with network().stream([short, other]) as stream:
        next(stream)
        until(lambda: stream.sources[0].ended)
        assert [source.ended for source in stream.statistics().sources] == [True, False]
        assert stream.health.is_ok
    assert [source.ended for source in stream.sources] == [True, False], "it was stopped"
    broken = Camera(3, before=lambda _, index: fail(index))
    stream = network().stream(broken)
    with pytest.raises(SourceError):
        list(stream)
    assert not stream.sources[0].ended


def fail(index: int) -> None:
    if index:
        raise SourceError("the cable was pulled")


def test_a_stream_has_failed_after_an_error_wherever_it_was() -> None:
    def broken(_: object = None) -> float:
        raise ZeroDivisionError("broken")

    for stream in (
        network(broken).stream(Camera(None, 0.005)),
        network().stream(Camera(None, 0.005), sinks=[Notes(broken)], on_sink_error="stop"),
        network().stream(Camera(None, 0.005), on_event=broken),
        network().stream(Camera(None, 0.005, before=lambda _, index: broken() if index else None)),
    ):
        with pytest.raises(ZeroDivisionError):
            list(stream)
        assert (stream.health.state, stream.health.why) == ("failed", "broken")
        assert stream.statistics().health.state == "failed"
        assert not stream.health.is_ok


def test_a_stream_is_as_its_worst_source_is() -> None:
    calm, stuck = (
        Camera(None, 0.02, name="calm"),
        Camera(None, name="stuck", before=lambda camera, _: camera.wait(60)),
    )
    with network().stream([calm, stuck], stall=0.2) as stream:
        for _ in range(3):
            next(stream)
        until(lambda: stream.health.state == "stalled")
        assert [status.health.state for status in stream.sources] == ["ok", "stalled"]
        assert repr(stream) == "Stream(calm, stuck: stalled)"


def test_the_worst_of_equals_is_the_first() -> None:
    bad = [Health(state="stalled", since_s=since_s) for since_s in (3.0, 1.0, 2.0)]
    assert worst([Health(), *bad]).since_s == 1.0
    assert worst([*bad, Health(state="failed")]).state == "failed"


def test_the_watchdog_barks_once_per_silence_on_a_thread_of_its_own() -> None:
    barks: list[tuple[float, str]] = []
    go_on = threading.Event()

    def stuck(_: Camera, index: int) -> None:
        if index == 2:
            go_on.wait(10)
            go_on.clear()
        if index == 4:
            go_on.wait(10)

    stream = network().stream(
        Camera(5, before=stuck, live=False),
        watchdog=0.15,
        on_watchdog=lambda silent_s: barks.append((silent_s, threading.current_thread().name)),
    )
    taking = consumed(stream)
    until(lambda: len(barks) == 1)
    time.sleep(0.4)
    assert len(barks) == 1, "a silence is told once"
    go_on.set()
    until(lambda: len(barks) == 2)
    go_on.set()
    taking.join(10)
    assert all(0.15 <= silent_s < 5 for silent_s, _ in barks)
    assert {name for _, name in barks} == {"pixelrt watchdog"}


def test_the_watchdog_watches_from_the_start() -> None:
    barked = threading.Event()
    camera = Camera(1, before=lambda camera, _: void(barked.wait(10)))
    stream = network().stream(camera, watchdog=0.1, on_watchdog=lambda _: barked.set())
    assert len(list(stream)) == 1
    assert barked.is_set()


def test_the_watchdog_is_quiet_while_results_come() -> None:
    barks: list[float] = []
    taken: list[Delivery] = list(network().stream(Camera(40, 0.01), watchdog=2.0, on_watchdog=barks.append))
    assert taken
    assert not barks


def void(_: object) -> None:
    """Nothing."""
