"""What systemd hears of a stream, on a real socket."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from deliveries import delivery

from pixelrt.errors import SinkError
from pixelrt.testing import fake_segmenter
from pixelrt.video.frame import Frame
from pixelrt.video.sinks import open_sink
from pixelrt.video.sinks import systemd as module
from pixelrt.video.sources import IteratorSource

FRAME = np.zeros((64, 96, 3), np.uint8)


class Listener:
    """Systemd's end."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.settimeout(10)

    def heard(self) -> dict[str, str]:
        """The next message."""
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())

    def all(self) -> list[dict[str, str]]:
        """Every message so far."""
        self.socket.setblocking(False)
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.heard())
        return found


@pytest.fixture(params=["path", "abstract"])
def listener(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Listener]:
    address = (
        str(tmp_path / "notify") if request.param == "path" else f"@pixelrt-{tmp_path.name}-{id(tmp_path)}"
    )
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    listening = Listener(address)
    yield listening
    listening.socket.close()


def test_ready_with_the_first_result_and_alive_while_they_come(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PERIOD_S", 0.0)
    segmenter = fake_segmenter(lambda frame: frame[..., 0])
    sink = open_sink("systemd:", IteratorSource([FRAME]))
    stream = segmenter.stream([FRAME] * 3, sinks=[sink])
    figures = stream.run()
    assert figures.sinks[0].written == 3
    first, second, third, last = listener.all()
    assert (first["READY"], first["WATCHDOG"]) == ("1", "1")
    assert first["STATUS"].startswith("ok, ") and first["STATUS"].endswith(" ms old")
    assert "READY" not in second and second["WATCHDOG"] == third["WATCHDOG"] == "1"
    assert last == {"STOPPING": "1"}


def test_systemd_is_told_once_a_second_at_most(listener: Listener) -> None:
    segmenter = fake_segmenter(lambda frame: frame[..., 0])
    with open_sink("systemd:", IteratorSource([FRAME])) as sink:
        for index in range(50):
            frame = Frame(image=FRAME, index=index, time_s=0.0, name=str(index))
            sink.write(delivery(frame, segmenter(FRAME)))
    told = listener.all()
    assert told[0]["STATUS"] == "results are 4 ms old"
    assert len(told) < 10 and told[-1] == {"STOPPING": "1"}


@pytest.mark.parametrize(("watchdog_us", "most_s"), [("900000", 0.3), ("60000000", 1.0), ("never", 1.0)])
def test_a_short_watchdog_hears_three_times_in_its_time(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, watchdog_us: str, most_s: float
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", watchdog_us)
    now = [1000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    segmenter = fake_segmenter(lambda frame: frame[..., 0])
    with open_sink("systemd:", IteratorSource([FRAME])) as sink:
        told = []
        for index in range(60):  # 20 frames a second
            frame = Frame(image=FRAME, index=index, time_s=0.0, name=str(index))
            sink.write(delivery(frame, segmenter(FRAME)))
            told += [now[0] for _ in listener.all()]
            now[0] += 0.05
    gaps = np.diff(told)
    assert len(gaps) > 1 and gaps.max() <= most_s + 0.051 and gaps.min() >= most_s - 0.001


def test_a_reason_of_many_lines_is_one_of_status(listener: Listener) -> None:
    """Of a driver, of another alphabet, or of a file whose name is no text."""
    why = "caf\udce9\nWATCHDOG=trigger\r\n" + 3000 * "\u65e5"
    stream = SimpleNamespace(
        health=SimpleNamespace(state="stalled", why=why), statistics=lambda: SimpleNamespace(fps=2.0)
    )
    segmenter = fake_segmenter(lambda frame: frame[..., 0])
    with open_sink("systemd:", IteratorSource([FRAME])) as sink:
        sink.attach(cast(Any, stream))
        sink.write(delivery(Frame(image=FRAME, index=0, time_s=0.0, name="0"), segmenter(FRAME)))
        content = listener.socket.recv(1 << 16)
    assert len(content) < 1100
    ready, watchdog, status = content.decode().split("\n")
    assert (ready, watchdog) == ("READY=1", "WATCHDOG=1")
    assert status.startswith(
        "STATUS=stalled, 2.0 fps, results are 4 ms old: caf? WATCHDOG=trigger \u65e5\u65e5"
    )


def test_a_stream_that_fails_says_no_more(listener: Listener) -> None:
    sink = open_sink("systemd:", IteratorSource([FRAME]))
    sink.abort()
    sink.abort()
    assert sink.close() == ()
    assert listener.all() == []


def test_systemd_that_goes_away_is_a_failure_of_the_sink(listener: Listener) -> None:
    segmenter = fake_segmenter(lambda frame: frame[..., 0])
    sink = open_sink("systemd:", IteratorSource([FRAME]))
    listener.socket.close()
    frame = Frame(image=FRAME, index=0, time_s=0.0, name="0")
    with pytest.raises(SinkError, match="systemd: it cannot be told of results"):
        sink.write(delivery(frame, segmenter(FRAME)))
    with pytest.raises(SinkError, match="systemd: it cannot be told of results"):
        sink.close()
    assert sink.close() == (), "nothing is open any more"


def test_without_systemd_it_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = IteratorSource([FRAME])
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with pytest.raises(SinkError, match="NOTIFY_SOCKET is not set; leave it away"):
        open_sink("systemd:", source)
    with pytest.raises(SinkError, match="nothing follows systemd:"):
        open_sink("systemd:unit", source)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    with pytest.raises(SinkError, match=r"nobody listens at .*nobody"):
        open_sink("systemd:", source)
