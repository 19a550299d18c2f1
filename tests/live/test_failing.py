"""What a source, the network, a sink or a callback raises."""

from __future__ import annotations

import contextlib
import gc
import resource
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live import Camera, Notes, check_accounts, check_pairs, image_of, network, until

from pixelrt.errors import DeviceError, DeviceLost, ExecutionFailed, InputError, SinkError, SourceError
from pixelrt.video.delivery import Delivery
from pixelrt.video.events import Event
from pixelrt.video.sinks import open_sink
from pixelrt.video.sources import open_source


class OwnError(Exception):
    """Of the program."""


def breaks_at(place: int, problem: Exception) -> Callable[[Camera, int], None]:
    def before(_: Camera, index: int) -> None:
        if index == place:
            raise problem

    return before


def raises_at(place: int, problem: Exception) -> Callable[[int], None]:
    def before(number: int) -> None:
        if number == place:
            raise problem

    return before


def failing_network(failures: dict[int, Exception], compute_s: float = 0.0) -> Callable[[], float]:
    """Raises at the n-th frames that it computes."""
    count = iter(range(1 << 30))

    def compute() -> float:
        problem = failures.get(next(count))
        if problem is not None:
            raise problem
        return compute_s

    return compute


@pytest.mark.parametrize("problem", [SourceError("the cable was pulled"), OwnError("of a generator")])
def test_a_source_that_fails_raises_its_error_after_the_results_before_it(problem: Exception) -> None:
    notes, taken = Notes(), []
    camera = Camera(None, live=False, before=breaks_at(5, problem))
    stream = network(0.005).stream(camera, sinks=[notes])
    with pytest.raises(type(problem)) as raised:
        for delivery in stream:
            taken.append(delivery)  # noqa: PERF402
    assert raised.value is problem
    assert "breaks_at" not in str(problem)
    assert any(frame.name == "before" for frame in traceback.extract_tb(raised.value.__traceback__))
    assert [delivery.frame.index for delivery in taken] == notes.indices == [0, 1, 2, 3, 4]
    assert notes.ends == ["closed"], "what there is is kept"
    assert stream.health.state == "failed"
    assert stream.sources[0].health.why == str(problem)
    check_accounts(stream.statistics(), taken, cameras=[camera], ended=True)
    assert not stream.statistics().sources[0].dropped
    assert next(stream, None) is None, "an error is raised once"


def test_a_sink_that_writes_into_what_all_share_harms_nobody() -> None:
    class Scribbler(Notes):
        def write(self, delivery: Delivery) -> None:
            assert delivery.result.mask is not None
            delivery.result.mask[:] = 9

    notes = Notes()
    stream = network().stream(Camera(3, live=False), sinks=[Scribbler(), notes], on_sink_error="detach")
    taken = list(stream)
    check_pairs(taken)
    assert [delivery.frame.index for delivery in taken] == notes.indices == [0, 1, 2]
    assert "read-only" in stream.statistics().sinks[0].failed


def test_the_end_of_a_source_is_no_failure() -> None:
    events: list[Event] = []
    stream = network().stream(Camera(2), on_event=events.append)
    list(stream)
    assert [event.kind for event in events] == ["connected", "ended"]
    assert stream.health.is_ok


def test_a_failed_source_ends_the_others() -> None:
    sources = [
        Camera(None, live=False, name="good"),
        Camera(None, live=False, name="bad", before=breaks_at(3, SourceError("gone"))),
    ]
    stream = network(0.001).stream(sources)
    with pytest.raises(SourceError, match="gone"):
        list(stream)
    check_accounts(stream.statistics(), cameras=sources, ended=True)


@pytest.mark.parametrize("live", [False, True])
def test_a_driver_that_hangs_does_not_hold_back_the_error_of_another_source(
    monkeypatch: pytest.MonkeyPatch, live: bool
) -> None:
    monkeypatch.setattr("pixelrt.video.live.loop._PATIENCE_S", 1.0)
    answers = threading.Event()
    sources = [
        Camera(None, live=live, name="hangs", before=lambda _, index: void(not index or answers.wait(30))),
        Camera(None, 0.01, live=False, name="bad", before=breaks_at(3, SourceError("gone"))),
    ]
    taken, began_s = [], time.monotonic()
    with pytest.raises(SourceError, match="gone"):
        for delivery in network().stream(sources):
            taken.append(delivery)  # noqa: PERF402
    took_s = time.monotonic() - began_s
    answers.set()
    check_pairs(taken)
    assert len(taken) == 4
    assert took_s < 1.9, "and it is waited for once"


def test_a_failed_source_leaves_the_others_running_where_it_may() -> None:
    events: list[Event] = []
    sources = [
        Camera(40, live=False, name="good"),
        Camera(None, live=False, name="bad", before=breaks_at(3, SourceError("gone"))),
    ]
    stream = network(0.001).stream(sources, on_source_error="detach", on_event=events.append)
    taken = []
    with pytest.raises(SourceError, match="gone"):
        for delivery in stream:
            taken.append(delivery)  # noqa: PERF402
    check_pairs(taken)
    check_accounts(stream.statistics(), taken, cameras=sources, ended=True)
    assert [source.delivered for source in stream.statistics().sources] == [40, 3]
    assert ("failed", "bad") in [(event.kind, event.source) for event in events]
    assert [status.health.state for status in stream.sources] == ["ok", "failed"]
    assert stream.health.state == "failed"


def test_wrong_colours_are_an_error_that_says_how_to_load() -> None:
    stream = network().stream(Camera(3, color="bgr"))
    refusal = r"camera says that its frames are in bgr, .* takes rgb; .* color='rgb'; if not, .* color='bgr'"
    with pytest.raises(InputError, match=refusal):
        list(stream)


def test_a_frame_without_a_result_is_counted_and_told_and_the_next_one_is_computed() -> None:
    events: list[Event] = []
    segmenter = network(failing_network({3: ExecutionFailed("a hiccup"), 5: ExecutionFailed("another")}))
    stream = segmenter.stream(Camera(10, live=False), on_event=events.append)
    taken = list(stream)
    check_pairs(taken)
    assert [delivery.frame.index for delivery in taken] == [0, 1, 2, 4, 6, 7, 8, 9]
    assert stream.statistics().sources[0].dropped == {"failed": 2}
    assert [event.detail for event in events if event.kind == "skipped"] == ["a hiccup", "another"]
    check_accounts(stream.statistics(), taken, whole=True)


def test_what_the_network_tells_of_a_source_comes_after_what_the_source_tells() -> None:
    """The program is still at an event of the source when the network fails."""
    at_it, told, together = threading.Lock(), [], []

    def on_event(event: Event) -> None:
        together.append(not at_it.acquire(blocking=False))
        told.append(event.kind)
        if event.kind == "damaged":
            until(lambda: stream.statistics().sources[0].dropped)
            time.sleep(0.05)
        if not together[-1]:
            at_it.release()

    def damaged(camera: Camera, index: int) -> None:
        if index == 1:
            camera.tell("damaged")

    camera = Camera(3, live=False, before=damaged)
    segmenter = network(failing_network({0: ExecutionFailed("a hiccup")}))
    stream = segmenter.stream(camera, on_event=on_event)
    assert len(list(stream)) == 2
    assert told == ["connected", "damaged", "skipped", "ended"]
    assert not any(together)


def test_a_network_that_never_gives_a_result_ends_the_stream() -> None:
    problem = ExecutionFailed("always")
    segmenter = network(failing_network(dict.fromkeys(range(1000), problem)))
    stream = segmenter.stream(Camera(None, live=False))
    with pytest.raises(ExecutionFailed, match="always"):
        list(stream)
    assert stream.statistics().sources[0].dropped["failed"] == 10


@pytest.mark.parametrize("problem", [DeviceLost("the GPU is gone"), OwnError("a bug")])
def test_a_lost_device_ends_the_stream_with_its_own_traceback(problem: Exception) -> None:
    notes = Notes()
    camera = Camera(None, live=False)
    stream = network(failing_network({4: problem})).stream(camera, sinks=[notes])
    taken = []
    with pytest.raises(type(problem)) as raised:
        for delivery in stream:
            taken.append(delivery.frame.index)  # noqa: PERF401
    assert raised.value is problem
    assert any(frame.name == "compute" for frame in traceback.extract_tb(raised.value.__traceback__))
    assert taken == [0, 1, 2, 3]
    assert notes.ends == ["aborted"]
    assert stream.statistics().sources[0].dropped["failed"] == 1
    check_accounts(stream.statistics(), cameras=[camera], ended=True)


def test_another_thread_that_uses_the_segmenter_does_not_end_the_stream() -> None:
    calls, over = [], threading.Event()
    segmenter = network(0.002)

    def call_again_and_again() -> None:
        while not over.is_set():
            with contextlib.suppress(DeviceError):  # refused, or in between two frames
                calls.append(segmenter(image_of(7)).mask)

    other = threading.Thread(target=call_again_and_again)
    other.start()
    try:
        camera = Camera(200, 0.001, live=False)
        taken = list(segmenter.stream(camera))
    finally:
        over.set()
        other.join()
    assert len(taken) == 200
    check_pairs(taken)
    assert calls and all((mask == 7).all() for mask in calls)


def test_a_segmenter_that_is_closed_meanwhile_is_an_error() -> None:
    segmenter = network()
    with pytest.raises(DeviceError, match="closed"):
        for _ in segmenter.stream(Camera(None, 0.001)):
            with contextlib.suppress(DeviceError):
                segmenter.close()


def test_a_sink_that_raises_stops_a_file_and_the_other_sinks() -> None:
    problem = SinkError("the disk is full")
    bad, good = Notes(raises_at(3, problem), name="bad"), Notes(name="good")
    stream = network(0.002).stream(Camera(None, live=False), sinks=[bad, good])
    with pytest.raises(SinkError) as raised:
        list(stream)
    assert raised.value is problem
    assert bad.indices == [0, 1, 2]
    assert (bad.ends, good.ends) == (["aborted"], ["aborted"])
    check_accounts(stream.statistics(), ended=True)


def test_a_sink_that_raises_is_left_out_of_a_live_stream() -> None:
    events: list[Event] = []
    bad, good = Notes(raises_at(1, OwnError("no more")), name="bad"), Notes(name="good")
    stream = network().stream(Camera(30, 0.005), sinks=[bad, good], on_event=events.append)
    taken = list(stream)
    assert taken
    assert good.ends == ["closed"]
    assert good.got[-1].frame.index == taken[-1].frame.index == 29
    assert bad.ends == ["aborted"]
    statistics = {sink.name: sink for sink in stream.statistics().sinks}
    assert statistics["bad"].failed == "no more"
    assert statistics["bad"].written == 1
    assert statistics["bad"].written + statistics["bad"].dropped == statistics["good"].written
    assert [(event.source, event.detail) for event in events if event.kind == "sink_failed"] == [
        ("bad", "no more")
    ]
    assert stream.health.is_ok


def test_a_sink_that_raises_is_told_by_its_event_alone(caplog: pytest.LogCaptureFixture) -> None:
    bad = Notes(raises_at(0, OwnError("no more")), name="bad")
    list(network().stream(Camera(5, 0.005), sinks=[bad]))
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.getMessage() for record in warnings] == ["bad: sink_failed: no more"]
    assert warnings[0].exc_info is None


def test_an_error_that_was_heard_of_keeps_nothing_of_its_thread() -> None:
    """Frames in its traceback hold pictures, and memory of a GPU."""

    class Large:
        pass

    class Failing(Notes):
        def write(self, delivery: Delivery) -> None:
            large = Large()
            held.append(weakref.ref(large))
            raise SinkError("the disk is full")

    held: list[weakref.ref[Large]] = []
    stream = network().stream(Camera(3, live=False), sinks=[Failing()])
    gc.disable()
    try:
        with contextlib.suppress(SinkError):
            list(stream)
        assert [each() for each in held] == [None]
    finally:
        gc.enable()


def test_a_sink_that_cannot_be_finished_is_an_error_of_the_stream() -> None:
    class Unfinished(Notes):
        def close(self) -> tuple[Path, ...]:
            raise SinkError("cannot write the index")

    taken = []
    with pytest.raises(SinkError, match="cannot write the index"):
        for delivery in network().stream(Camera(3, live=False), sinks=[Unfinished()]):
            taken.append(delivery.frame.index)  # noqa: PERF401
    assert taken == [0, 1, 2]
    stream = network().stream(Camera(None, live=False), sinks=[Unfinished()])
    next(stream)
    with pytest.raises(SinkError, match="cannot write the index"):
        stream.close()
    stream.close()
    (sink,) = stream.statistics().sinks
    assert (sink.written, sink.dropped) == (sink.written, 0), "its results had been written"


@pytest.mark.parametrize("given", [None, "ages.csv", ("ages.csv",), [Path("ages.csv")]])
def test_what_close_of_a_sink_gives_is_checked(given: object) -> None:
    class Mine(Notes):
        def close(self) -> tuple[Path, ...]:
            super().close()
            return given  # type: ignore[return-value]

    sink = Mine(name="ages")
    stream = network().stream(Camera(3, live=False), sinks=[sink])
    with pytest.raises(InputError, match=r"sink ages: its close gave .*, expected a tuple with the Path"):
        stream.run()
    assert sink.indices == [0, 1, 2]
    assert sink.ends == ["closed", "aborted"]
    assert stream.outputs == ()


def test_an_abort_that_raises_does_not_hide_why_it_was_called() -> None:
    class Worse(Notes):
        def abort(self) -> None:
            raise AttributeError("no file")

    events: list[Event] = []
    worse, good = Worse(raises_at(1, OwnError("no more")), name="worse"), Notes(name="good")
    stream = network().stream(Camera(5, 0.005), sinks=[worse, good], on_event=events.append)
    assert list(stream)[-1].frame.index == 4
    assert [event.detail for event in events if event.kind == "sink_failed"] == ["no more"]
    assert stream.statistics().sinks[0].failed == "no more"
    assert good.ends == ["closed"]


def test_a_blocked_sink_does_not_slow_a_live_stream() -> None:
    go_on = threading.Event()
    blocked, good = Notes(lambda _: void(go_on.wait()), name="blocked"), Notes(name="good")
    stream = network().stream(Camera(60, 0.002), sinks=[blocked, good])
    taken = []
    for delivery in stream:
        taken.append(delivery)
        if delivery.frame.index >= 40:
            go_on.set()
    (slow, _) = stream.statistics().sinks
    assert slow.dropped >= len(good.got) - 20 - 10
    assert slow.written + slow.dropped == len(good.got)
    check_pairs(blocked.got)
    check_pairs(taken)


def test_a_blocked_sink_makes_a_file_wait() -> None:
    go_on = threading.Event()
    blocked = Notes(lambda _: void(go_on.wait()))
    stream = network().stream(Camera(100, live=False), sinks=[blocked])
    taken = [next(stream) for _ in range(8)]
    time.sleep(0.1)
    assert stream.statistics().sources[0].captured < 30
    assert stream.statistics().sinks[0].queue_depth == 8
    go_on.set()
    taken += list(stream)
    assert len(taken) == 100
    assert blocked.indices == list(range(100))


def test_a_sink_that_never_answers_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelrt.video.live.loop._PATIENCE_S", 0.3)
    go_on = threading.Event()
    stream = network().stream(Camera(None, 0.001), sinks=[Notes(lambda _: void(go_on.wait()))])
    next(stream)
    began_s = time.monotonic()
    stream.close()
    assert 0.2 < time.monotonic() - began_s < 5
    go_on.set()


def test_a_sink_that_takes_long_to_finish_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelrt.video.live.loop._PATIENCE_S", 0.2)

    class Long(Notes):
        def close(self) -> tuple[Path, ...]:
            time.sleep(0.6)
            return super().close()

    sink = Long(lambda _: time.sleep(0.1))
    stream = network().stream(Camera(8, live=False), sinks=[sink], policy="latest")
    stream.run()
    assert sink.ends == ["closed"]
    assert stream.outputs == (Path("notes"),)


@pytest.mark.parametrize("when", ["event", "watchdog"])
def test_a_callback_that_raises_ends_the_stream(when: str) -> None:
    problem = OwnError(f"in the {when}")

    def callback(_: object) -> None:
        raise problem

    camera = Camera(None, before=lambda camera, index: camera.wait(1e9) if index == 1 else None)
    options = {"on_event": callback} if when == "event" else {"watchdog": 0.05, "on_watchdog": callback}
    stream = network().stream(camera, **options)  # type: ignore[arg-type]
    with pytest.raises(OwnError) as raised:
        list(stream)
    assert raised.value is problem
    assert any(frame.name == "callback" for frame in traceback.extract_tb(raised.value.__traceback__))


@contextlib.contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """A disk on which no file may grow beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("policy", ["all", "latest"])
def test_a_disk_that_fills_up_during_a_recording(tmp_path: Path, policy: str) -> None:
    source = open_source("test://drive?frames=25&size=96x144&seed=3")
    sink, notes = open_sink(tmp_path / "out.mp4", source), Notes()
    stream = network(0.005).stream(source, sinks=[sink, notes], policy=policy)  # type: ignore[arg-type]
    taken = []
    expected = pytest.raises(SinkError) if policy == "all" else contextlib.nullcontext()
    with largest_file(3_000), expected:
        for delivery in stream:
            taken.append(delivery)  # noqa: PERF402
    assert list(tmp_path.iterdir()) == [], "nothing half-written is left"
    assert stream.statistics().sinks[0].failed
    check_accounts(stream.statistics(), taken, ended=policy == "all", whole=policy == "latest")
    if policy == "latest":
        assert taken[-1].frame.index == 24


def test_an_array_that_is_no_image_is_refused_with_its_place() -> None:
    images = [image_of(0), image_of(1), image_of(2)[..., 0]]
    taken = []
    with pytest.raises(SourceError, match="frame 2 of frames"):
        for delivery in network().stream(images):
            taken.append(delivery.frame.index)  # noqa: PERF401
    assert taken == [0, 1]


@pytest.mark.parametrize(("item", "kind"), [(image_of(1), "an ndarray"), (None, "a NoneType")])
def test_a_source_that_gives_no_frames_is_refused(item: object, kind: str) -> None:
    class Odd(Camera):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield self.frame(0)
            yield item

    stream = network().stream(Odd(live=False))
    with pytest.raises(InputError, match=f"camera gave {kind}, expected a pixelrt.video.frame.Frame"):
        list(stream)
    assert stream.statistics().delivered == 1


def void(_: object) -> None:
    """Nothing."""
