"""Which frames are computed and delivered, and how old they may be."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from statistics import median

import pytest
from live import MOST_UNDER_WAY, Camera, Notes, check_accounts, check_pairs, network
from threads import hiccups

from pixelrt.errors import InputError, SinkError
from pixelrt.session import GpuOptions
from pixelrt.testing import FakeCuda
from pixelrt.video.delivery import Delivery
from pixelrt.video.frame import Frame
from pixelrt.video.live import StreamOptions


def test_a_file_gives_every_frame_once_and_in_order() -> None:
    notes = Notes()
    stream = network(0.001).stream(Camera(60, live=False), sinks=[notes])
    taken = list(stream)
    assert stream.policy == "all"
    assert [delivery.frame.index for delivery in taken] == list(range(60)) == notes.indices
    check_pairs(taken)
    statistics = stream.statistics()
    check_accounts(statistics, taken, whole=True)
    (source,) = statistics.sources
    assert (source.captured, source.delivered, dict(source.dropped)) == (60, 60, {})


def test_a_slow_program_slows_a_file_down_and_loses_nothing() -> None:
    stream = network().stream(Camera(30, live=False))
    taken = []
    for delivery in stream:
        time.sleep(0.003)
        taken.append(delivery.frame.index)
        source = stream.statistics().sources[0]
        assert source.in_flight <= MOST_UNDER_WAY, "only what the queues hold is read ahead"
    assert taken == list(range(30))


def test_a_camera_gives_the_newest_frame() -> None:
    stream = network(0.02).stream(Camera(60, 0.005))
    taken = list(stream)
    assert stream.policy == "latest"
    check_pairs(taken)
    (source,) = stream.statistics().sources
    check_accounts(stream.statistics(), taken, whole=True)
    assert source.captured == 60
    assert set(source.dropped) == {"newer"}
    assert source.delivered == len(taken) < 50
    assert taken[-1].frame.index == 59, "the last frame has nobody to replace it"


def test_the_policy_can_be_chosen() -> None:
    camera = network(0.004).stream(Camera(20, 0.001), policy="all")
    assert [delivery.frame.index for delivery in camera] == list(range(20))
    file = network(0.01).stream(Camera(60, 0.001, live=False), policy="latest")
    assert len(list(file)) < 60


def test_a_camera_beside_a_file_keeps_its_own_policy() -> None:
    """The file waits for the program and for a sink, the camera for neither."""
    sink = Notes(lambda _: time.sleep(0.02))
    camera, file = Camera(60, 0.005, name="camera"), Camera(40, live=False, name="file")
    stream = network(0.002).stream([camera, file], sinks=[sink])
    taken = []
    for delivery in stream:
        taken.append(delivery)
        time.sleep(0.01)
    assert [status.policy for status in stream.sources] == ["latest", "all"]
    assert stream.policy is None
    check_pairs(taken)
    check_pairs(sink.got)
    check_accounts(stream.statistics(), taken, cameras=[camera, file], whole=True)
    of_camera, of_file = stream.statistics().sources
    assert (of_file.delivered, dict(of_file.dropped)) == (40, {})
    assert of_camera.captured == 60
    assert of_camera.dropped, "it is quicker than the program"
    assert [each.frame.index for each in sink.got if each.frame.source == "file"] == list(range(40))


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("who", ["program", "sink"])
def test_a_file_that_must_wait_never_holds_up_a_camera(who: str, on_gpu: bool) -> None:
    go_on = threading.Event()
    blocked = Notes(lambda _: go_on.wait(20) and None)
    blocked.only_source = "file"
    camera, file = Camera(None, 0.002, name="camera"), Camera(100, live=False, name="file")
    segmenter = network(cuda=FakeCuda(), gpu=GpuOptions(slots=2)) if on_gpu else network()
    stream = segmenter.stream([camera, file], sinks=[blocked] if who == "sink" else [])
    with segmenter, stream, contextlib.ExitStack() as at_the_end:
        at_the_end.callback(go_on.set)
        for _ in range(200 if who == "sink" else 1):
            next(stream)
        time.sleep(0.3)  # the file fills its places
        before = stream.statistics().sources
        time.sleep(0.3)  # the program takes nothing
        after = stream.statistics().sources
        assert after[0].captured > before[0].captured
        assert after[0].dropped["consumer"] > before[0].dropped.get("consumer", 0), "results still come"
        assert after[1].captured < 100
        assert after[1].dropped == {}


def test_a_camera_beside_a_file_goes_on_without_a_sink_that_fails() -> None:
    def fail(_: int) -> None:
        raise SinkError("the disk is full")

    sources = [Camera(20, 0.002, name="camera"), Camera(20, live=False, name="file")]
    stream = network().stream(sources, sinks=[Notes(fail)])
    taken = list(stream)
    assert len([each for each in taken if each.frame.source == "file"]) == 20
    assert stream.statistics().sinks[0].failed == "the disk is full"


def test_a_slow_program_gets_the_newest_result_of_a_camera() -> None:
    stream = network().stream(Camera(40, 0.005))
    taken: list[Delivery] = []
    for delivery in stream:
        taken.append(delivery)
        time.sleep(0.04)
    check_pairs(taken)
    (source,) = stream.statistics().sources
    assert source.dropped["consumer"] >= 1
    assert taken[-1].frame.index == 39
    check_accounts(stream.statistics(), taken, whole=True)


def test_latency_stays_bounded_for_ever_when_the_network_is_slower_than_the_camera() -> None:
    """The benchmark has tighter bounds, on a quiet machine."""
    compute_s, period_s = 0.06, 1 / 30
    with hiccups() as late_s:
        taken = list(network(compute_s).stream(Camera(150, period_s)))
    ages_s = [delivery.age_ms / 1e3 for delivery in taken]
    assert median(ages_s) <= 2 * compute_s + period_s
    network_s = [delivery.times.computed_s - delivery.times.submitted_s for delivery in taken]
    slack_s = compute_s + 2 * max(late_s)
    for before_s, own_s, age_s in zip(network_s, network_s[1:], ages_s[1:], strict=False):
        assert age_s <= before_s + own_s + period_s + slack_s, "one inference to wait for, and its own"
    third = len(taken) // 3
    assert median(ages_s[-third:]) < median(ages_s[:third]) + period_s, "it does not grow"


class Aging(Camera):
    """Its frames are a second old from the fifth on: a buffer somewhere has filled."""

    def frame(self, index: int) -> Frame:
        frame = super().frame(index)
        return dataclasses.replace(frame, captured_s=frame.captured_s - (index >= 5))


def test_frames_past_the_deadline_are_not_computed() -> None:
    computed: list[int] = []
    segmenter = network(lambda: computed.append(1) or 0.0)
    stream = segmenter.stream(Aging(10, 0.01), deadline=0.5, policy="all")
    taken = [delivery.frame.index for delivery in stream]
    assert taken == list(range(5))
    assert len(computed) == 5
    assert stream.statistics().sources[0].dropped == {"deadline": 5}


def test_results_past_the_deadline_are_not_delivered() -> None:
    notes = Notes()
    stream = network(0.1).stream(Camera(3, live=False), deadline=0.05, sinks=[notes])
    assert list(stream) == []
    assert not notes.got
    assert stream.statistics().sources[0].dropped == {"deadline": 3}
    check_accounts(stream.statistics(), [], whole=True)


def test_a_film_is_not_read_so_far_ahead_that_its_frames_get_too_old() -> None:
    stream = network(0.05).stream(Camera(30, live=False), deadline=0.16)
    assert len(list(stream)) >= 20, "they wait for the frame before, and for no other one"


def test_a_result_that_waited_too_long_for_the_program_is_not_delivered() -> None:
    stream = network().stream(Camera(2, live=False), deadline=0.1)
    first = next(stream)
    assert first.frame.index == 0
    time.sleep(0.2)
    assert list(stream) == []
    assert stream.statistics().sources[0].dropped == {"deadline": 1}


def test_16_cameras_are_served_fairly() -> None:
    sources = [Camera(None, 0.002, name=f"camera {number}") for number in range(16)]
    stream = network(0.002).stream(sources)
    taken: list[Delivery] = []
    for delivery in stream:
        taken.append(delivery)
        if len(taken) == 320:
            break
    check_pairs(taken)
    counts = [source.delivered for source in stream.statistics().sources]
    assert min(counts) >= 0.7 * max(counts), counts
    check_accounts(stream.statistics(), taken, cameras=sources, ended=True)


_SINK = Notes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "lates"}, r"policy is 'lates', expected one of latest, all \(did you mean 'latest'\?\)"),
        ({"deadline": 0}, r"deadline is 0, expected seconds above 0 \(up to a year\), or None"),
        ({"deadline": True}, "deadline is True"),
        ({"stall": -1}, "stall is -1, expected seconds above 0"),
        ({"watchdog": 1.0}, "go together"),
        (
            {"sinks": "out.mp4"},
            r"sinks is 'out.mp4', expected a list of sinks or URIs, such as \['out.mp4'\]",
        ),
        ({"sinks": [3]}, "sinks holds an int, expected sinks or URIs"),
        ({"alpha": 2}, "alpha is 2"),
        ({"on_sink_error": "ignore"}, "on_sink_error is 'ignore', expected one of stop, detach"),
        ({"on_event": 3}, "on_event is 3, expected a function"),
        ({"on_event": None}, "on_event is None, expected a function; leave it away"),
        ({"watchdog": 1e10, "on_watchdog": print}, r"watchdog is 10000000000.0, .*up to a year"),
        ({"log": 0}, "log is 0, expected seconds above 0"),
        ({"head": ["lane"]}, r"head is \['lane'\], expected the name of a head"),
        ({"head": 0}, "head is 0, expected the name of a head"),
        ({"alpha": "x"}, "alpha is 'x', expected a number, 0 to 1"),
        ({"alpha": None}, "alpha is None, expected a number"),
        ({"alpha": True}, "alpha is True, expected a number"),
        ({"legend": "no"}, "legend is 'no', expected True or False"),
        ({"adaptive": "no"}, "adaptive is 'no', expected True or False"),
        ({"sinks": [_SINK, _SINK]}, "a sink is in the list twice"),
        ({"head": "lane"}, "no head 'lane'"),
        ({"adaptive": True}, "one input size only"),
    ],
)
def test_wrong_options_are_refused_before_a_frame_is_taken(options: dict[str, object], message: str) -> None:
    camera = Camera(1)
    with pytest.raises(InputError, match=message):
        network().stream(camera, **options)
    assert not camera.given


def test_an_unknown_option_is_refused_with_a_hint() -> None:
    with pytest.raises(TypeError, match=r"'polcy' \(did you mean 'policy'\?\); it takes policy, deadline"):
        network().stream(Camera(1), polcy="all")  # type: ignore[call-arg]
    assert StreamOptions().policy is None
