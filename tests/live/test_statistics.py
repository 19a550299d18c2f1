"""The figures of a stream: right, of one moment, in constant memory, and cheap."""

from __future__ import annotations

import dataclasses
import gc
import logging
import random
import re
import threading
import time
import tracemalloc
from types import MappingProxyType

import numpy as np
import pytest
from live import Camera, Notes, check_accounts, network
from views import STATISTICS

from pixelrt.video.health import Health
from pixelrt.video.live import StreamStatistics
from pixelrt.video.live.ledger import Account, Ledger, Meter
from pixelrt.video.live.stages import StageClock
from pixelrt.video.live.statistics import STAGES


def test_percentiles_are_within_a_percent_and_the_rest_is_exact() -> None:
    clock, times_s = StageClock(), np.random.default_rng(3).lognormal(-3, 1, 5000)
    for seconds in times_s:
        clock.add("network", float(seconds))
    for figures in (clock.whole()["network"], clock.recent()["network"]):
        for share in (50, 95, 99):
            exact = 1e3 * np.percentile(times_s, share)
            assert getattr(figures, f"p{share}_ms") == pytest.approx(exact, rel=0.02)
        assert figures.max_ms == pytest.approx(1e3 * times_s.max())
        assert figures.mean_ms == pytest.approx(1e3 * times_s.mean())
        assert figures.count == 5000


def test_recent_figures_forget_and_those_of_the_run_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("pixelrt.video.live.stages.time.monotonic", lambda: now_s[0])
    clock = StageClock()
    for second in range(60):
        now_s[0] = 100.0 + second
        clock.add("network", 0.001 * (1 + second))
    recent, whole = clock.recent()["network"], clock.whole()["network"]
    assert (whole.count, whole.max_ms) == (60, pytest.approx(60))
    assert 8 <= recent.count <= 14
    assert recent.p50_ms > 45
    now_s[0] += 1000
    assert clock.recent() == {}
    assert clock.whole()["network"].count == 60


def test_stages_are_in_order_and_only_those_that_happened() -> None:
    clock = StageClock()
    for stage in reversed(STAGES[:3]):
        clock.add(stage, 0.001)
    assert list(clock.whole()) == ["decode", "wait", "network"]


def test_a_clock_that_ran_backwards_between_two_threads_is_no_negative_time() -> None:
    clock = StageClock()
    clock.add("deliver", -1e-6)
    assert clock.whole()["deliver"].max_ms == 0


def test_rates() -> None:
    meter = Meter()
    assert meter.fps(0.0) == 0
    for number in range(100):
        meter.note(number / 30)
    assert meter.fps(99 / 30) == pytest.approx(30)
    assert meter.fps(99 / 30 + 2) < 25, "it sinks while nothing comes"
    assert meter.fps(1000.0) == 0
    for number in range(100_000):
        meter.note(2000 + number / 10_000)
    assert meter.fps(2010.0) == pytest.approx(10_000, rel=0.01)


def test_accounts_are_of_one_moment() -> None:
    ledger = Ledger(2)
    over = threading.Event()

    def work(source: int) -> None:
        while not over.is_set():
            ledger.captured(source)
            ledger.delivered(source) if random.random() < 0.5 else ledger.dropped(source, "newer")

    workers = [threading.Thread(target=work, args=(number % 2,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for _ in range(300):
        for account in ledger.accounts():
            assert 0 <= account.in_flight <= 2
    over.set()
    for worker in workers:
        worker.join()
    assert [account.in_flight for account in ledger.accounts()] == [0, 0]


def test_what_is_left_at_the_end_is_settled(unknown_frames: list[Account]) -> None:
    ledger = Ledger(2)
    for _ in range(5):
        ledger.captured(0)
    ledger.delivered(0)
    ledger.dropped(0, "newer")
    ledger.settle("stopped")
    ledger.settle("stopped")
    first, second = ledger.accounts()
    assert (first.captured, first.delivered, first.dropped) == (5, 1, {"newer": 1, "stopped": 3})
    assert (first.in_flight, second.dropped) == (0, {})
    assert [account.in_flight for account in unknown_frames] == [3]
    unknown_frames.clear()


def test_a_result_on_whose_way_ctrl_c_came_is_accounted_for(
    monkeypatch: pytest.MonkeyPatch, unknown_frames: list[Account]
) -> None:
    def interrupted(_: Ledger, place: int) -> None:
        raise KeyboardInterrupt

    stream = network().stream(Camera(1, live=False))
    monkeypatch.setattr(Ledger, "delivered", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert stream.statistics().sources[0].dropped == {"stopped": 1}
    check_accounts(stream.statistics(), [], ended=True)
    assert [account.in_flight for account in unknown_frames] == [1], "it was counted as what is left"
    unknown_frames.clear()


def test_one_line_says_how_it_goes() -> None:
    assert str(STATISTICS) == (
        "12.5 s, reconnecting; "
        "front: 120 captured (30.0/s), 100 delivered (25.0/s), dropped 15 newer, 3 deadline, lost 4 damaged; "
        "rear: reconnecting (connection refused; next try in 4 s), "
        "102 captured (30.0/s), 100 delivered (25.0/s); "
        "capture to delivery p50 22.0 ms, p99 66.0 ms"
    )
    failed = dataclasses.replace(STATISTICS, health=Health(state="failed", why="the disk is full"))
    assert str(failed).startswith("12.5 s, failed (the disk is full); front: 120 captured")
    started = network().stream(Camera(1))
    assert str(started.statistics()) == "0.0 s, ok; camera: 0 captured (0.0/s), 0 delivered (0.0/s)"
    started.close()


def test_statistics_can_be_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pixelrt.video.statistics")
    stream = network().stream(Camera(None, 0.01), log=0.1)
    until_s = time.monotonic() + 30
    for _ in stream:
        lines = [each for each in caplog.records if each.name == "pixelrt.video.statistics"]
        if len(lines) >= 2 or time.monotonic() > until_s:
            break
    records = [each for each in caplog.records if each.name == "pixelrt.video.statistics"]
    assert len(records) >= 3, "and one at the end"
    assert {each.levelname for each in records} == {"INFO"}
    assert {each.threadName for each in records[:-1]} == {"pixelrt monitor"}
    captured = [int(each.getMessage().split("camera: ")[1].split()[0]) for each in records]
    assert captured == sorted(captured)
    assert captured[-1] == stream.statistics().captured
    caplog.clear()
    list(network().stream(Camera(3)))
    assert not [each for each in caplog.records if each.name == "pixelrt.video.statistics"]


COUNTS = re.compile(r"camera: (\d+) captured .*?, (\d+) delivered [^,]*(?:, dropped (.*?);|;)")


def last_line(caplog: pytest.LogCaptureFixture) -> tuple[int, int, int]:
    """What the last line of statistics says: captured, delivered, dropped."""
    *_, last = [each for each in caplog.records if each.name == "pixelrt.video.statistics"]
    found = COUNTS.search(last.getMessage())
    assert found, last.getMessage()
    dropped = sum(int(part.split()[0]) for part in (found[3] or "").split(", ") if part)
    return int(found[1]), int(found[2]), dropped


def test_the_last_line_that_is_logged_is_of_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pixelrt.video.statistics")
    stream = network().stream(Camera(20, live=False), log=1000.0)
    for _ in stream:
        time.sleep(0.02)  # results wait when the network has had its last frame
    stream.close()
    assert len(caplog.records) == 1, "once"
    assert last_line(caplog) == (20, 20, 0)


@pytest.mark.parametrize("live", [False, True])
def test_the_last_line_knows_what_became_of_every_frame(caplog: pytest.LogCaptureFixture, live: bool) -> None:
    caplog.set_level(logging.INFO, "pixelrt.video.statistics")
    for _ in network(0.01).stream(Camera(None, 0.001, live=live), log=1000.0):
        time.sleep(0.05)
        break
    captured, delivered, dropped = last_line(caplog)
    assert captured == delivered + dropped > 1


def test_a_stream_that_never_ran_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pixelrt.video.statistics")
    network().stream(Camera(3), log=1000.0).close()
    assert not caplog.records


def test_figures_can_be_read_at_any_time_from_any_thread() -> None:
    notes = Notes()
    cameras = [Camera(None, 0.001), Camera(None, 0.001)]
    stream = network(0.002).stream(cameras, sinks=[notes])
    read: list[StreamStatistics] = []
    over = threading.Event()

    def reading() -> None:
        while not over.is_set():
            read.append(stream.statistics())

    readers = [threading.Thread(target=reading) for _ in range(2)]
    for reader in readers:
        reader.start()
    taken = [next(stream) for _ in range(100)]
    over.set()
    for reader in readers:
        reader.join()
    stream.close()
    for statistics in read:
        check_accounts(statistics)
    check_accounts(stream.statistics(), taken, cameras=cameras, ended=True)
    assert [source.name for source in read[0].sources] == ["camera", "camera-2"]


def test_figures_are_those_of_the_run() -> None:
    class Lossy(Camera):
        losses = MappingProxyType({"damaged": 4})

    class Drawing(Notes):
        wants_overlay = True

        def write(self, delivery) -> None:  # type: ignore[no-untyped-def]
            delivery.overlay()
            super().write(delivery)

    sink = Drawing()
    stream = network(0.02).stream(Lossy(30, 0.001, live=False), sinks=[sink])
    began_s = time.monotonic()
    statistics = stream.run()
    took_s = time.monotonic() - began_s
    (source,) = statistics.sources
    assert source.lost == {"damaged": 4}
    assert tuple(statistics.stages) == (*STAGES, "sink notes")
    assert all(figures.count == 30 for figures in statistics.stages.values())
    assert statistics.stages["network"].p50_ms >= 19
    assert statistics.stages["capture to delivery"].max_ms >= statistics.stages["network"].max_ms
    assert 0.5 * took_s < statistics.seconds <= took_s
    assert 20 < source.fps_delivered < 52
    assert (statistics.captured, statistics.delivered) == (30, 30)
    assert statistics.fps == source.fps_delivered
    (notes,) = statistics.sinks
    assert (notes.name, notes.written, notes.dropped, notes.queue_depth) == ("notes", 30, 0, 0)
    assert sink.streams[0].statistics().delivered == 30
    time.sleep(0.1)
    assert stream.statistics().seconds == statistics.seconds, "the clock stops with the stream"


def test_every_result_knows_the_age_of_its_frame() -> None:
    for delivery in network(0.02).stream(Camera(3, live=False)):
        ages = delivery.times.ages_ms
        assert list(ages) == ["received", "submitted", "computed", "delivered"]
        assert ages["computed"] - ages["submitted"] >= 19
        assert delivery.age_ms == ages["delivered"] >= ages["computed"]
        assert delivery.size == (8, 12)


def test_jumps_of_the_wall_clock_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = iter(random.Random(5).choices([-1e9, 0.0, 1e9, 3600.0], k=100_000))
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + next(jumps))
    barks: list[float] = []
    stream = network(0.002).stream(
        Camera(50, 0.005), deadline=5.0, stall=2.0, watchdog=3.0, on_watchdog=barks.append
    )
    taken = list(stream)
    logging.getLogger("pixelrt").debug("the clock jumps: %s", time.time())
    assert taken
    assert not barks
    assert all(0 <= delivery.age_ms < 5000 for delivery in taken)
    assert set(stream.statistics().sources[0].dropped) <= {"newer", "consumer"}


def test_memory_stays_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelrt.video.live.stages._WINDOW_S", 0.05)  # all windows are full soon
    stream = network().stream(Camera(3000, live=False), sinks=[Sparse()])
    sizes = []
    tracemalloc.start()
    try:
        for delivery in stream:
            if delivery.frame.index % 500 == 499:
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[-1] - sizes[1] < 100_000, sizes


class Sparse(Notes):
    """Keeps nothing."""

    def write(self, delivery: object) -> None:
        pass


def test_keeping_figures_costs_little() -> None:
    ledger, clock = Ledger(1), StageClock()
    began_s = time.perf_counter()
    for _ in range(2000):
        ledger.captured(0)
        for stage in STAGES:
            clock.add(stage, 0.0123)
        ledger.delivered(0)
    each_us = 1e6 * (time.perf_counter() - began_s) / 2000
    assert each_us < 1000, "a tenth of that on a quiet machine"
