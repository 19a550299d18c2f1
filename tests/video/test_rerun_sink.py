"""Files for the Rerun viewer, read back by Rerun; and a viewer that comes and goes."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deliveries import delivery
from drives import CLASSES, SIZE, START_S, blobs, feed, frame_at, picture, results, see

from pixelrt.errors import SinkError
from pixelrt.segmentation import Segmenter
from pixelrt.video.sinks import open_sink, open_sinks
from pixelrt.video.sources import IteratorSource, Source


@pytest.fixture
def segmenter() -> Iterator[Segmenter]:
    with see() as made:
        yield made


@pytest.fixture
def source() -> Iterator[Source]:
    with IteratorSource([picture(0)], name="front camera") as opened:
        yield opened


def entities(path: Path) -> dict[str, list[Any]]:
    """The rows of each entity of a file, in order, as record batches."""
    from rerun.chunk import RrdReader

    found: dict[str, list[Any]] = {}
    for chunk in RrdReader(path).stream():
        found.setdefault(chunk.entity_path, []).append(chunk.to_record_batch())
    return found


def column(batches: list[Any], name: str) -> list[Any]:
    """The values of a column whose name contains a text."""
    return [
        row
        for batch in batches
        for index, field in enumerate(batch.schema)
        if name in field.name
        for row in batch.column(index).to_pylist()
    ]


def test_a_file_holds_what_was_seen(tmp_path: Path, source: Source, segmenter: Segmenter) -> None:
    with open_sink(f"{tmp_path}/out.rrd?overlay=yes", source) as sink:
        assert sink.wants_overlay
        feed(sink, results(segmenter))
        assert [path.name for path in sink.close()] == ["out.rrd"]
    found = entities(tmp_path / "out.rrd")
    names = ("camera", "mask", "overlay", "coverage", "latency_ms")
    wanted = {"/front_camera", *(f"/front_camera/{name}" for name in names)}
    assert {place for place in found if not place.startswith("/__")} == wanted
    masks = column(found["/front_camera/mask"], "buffer")
    assert len(masks) == 6
    for index, mask in enumerate(masks):
        ids = np.array(mask, np.uint8).reshape(SIZE)
        np.testing.assert_array_equal(ids, blobs(index))
    shares = column(found["/front_camera/coverage"], "scalars")
    wanted_shares = [[(blobs(index) == id_).mean() for id_ in range(3)] for index in range(6)]
    np.testing.assert_allclose(shares, wanted_shares)
    assert column(found["/front_camera/coverage"], "names") == [list(CLASSES)]
    np.testing.assert_allclose(column(found["/front_camera/latency_ms"], "scalars"), [[1, 2, 3, 4]] * 6)
    times_ns = [time.value for batch in found["/front_camera/mask"] for time in batch.column("time")]
    assert np.array(times_ns) / 1e9 == pytest.approx([START_S + index / 10 for index in range(6)], abs=1e-5)
    (context,) = column(found["/front_camera"], "context")
    labels = {each["class_id"]: each["class_description"]["info"]["label"] for each in context[0]}
    assert labels == dict(enumerate(CLASSES))


def test_a_film_has_its_own_times(tmp_path: Path, source: Source, segmenter: Segmenter) -> None:
    """However fast it is read."""
    with open_sink(f"{tmp_path}/out.rrd?camera=no", source) as sink:
        for index in range(3):
            frame = dataclasses.replace(frame_at(index), clock_s=None, captured_s=1.0)
            sink.write(delivery(frame, segmenter(frame.image)))
    batches = entities(tmp_path / "out.rrd")["/front_camera/mask"]
    times_s = np.array([time.value for batch in batches for time in batch.column("time")]) / 1e9
    assert np.diff(times_s) == pytest.approx([0.1, 0.1], abs=1e-5)


def test_several_sources_and_segments(tmp_path: Path, segmenter: Segmenter) -> None:
    cameras = [IteratorSource([picture(0)], name=name) for name in ("left", "right")]
    (sink,) = open_sinks([f"{tmp_path}/out.rrd?camera=no&segment=0.15"], *cameras)
    with sink:
        for first in (0, 2):
            for name in ("left", "right"):
                feed(sink, results(segmenter, 1, name, first))
        outputs = sink.close()
    assert [path.name for path in outputs] == ["out.rrd", "out-2.rrd"]
    for path in outputs:
        assert {place for place in entities(path) if place.endswith("mask")} == {"/left/mask", "/right/mask"}


def test_a_camera_s_recording_is_kept(tmp_path: Path, segmenter: Segmenter) -> None:
    camera = IteratorSource([picture(0)], name="front camera", live=True)
    with pytest.raises(RuntimeError), open_sink(tmp_path / "out.rrd", camera) as sink:
        feed(sink, results(segmenter, 3))
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["out-unfinished.rrd"]
    assert len(column(entities(tmp_path / "out-unfinished.rrd")["/front_camera/mask"], "buffer")) == 3


SERVER = """
import rerun, sys
recording = rerun.RecordingStream("viewer")
recording.serve_grpc(grpc_port={port})
print("listens", flush=True)
sys.stdin.read()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_viewer_that_comes_and_goes(source: Source, segmenter: Segmenter) -> None:
    """Results go to Rerun's own server; when that is killed, it is said within seconds."""
    port = free_port()
    with pytest.raises(SinkError, match=rf"rerun://127.0.0.1:{port}: no viewer listens there \(.+rerun$"):
        open_sink(f"rerun://127.0.0.1:{port}", source)
    with subprocess.Popen(
        [sys.executable, "-c", SERVER.format(port=port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"listens\n"
        sink = open_sink(f"rerun://127.0.0.1:{port}?overlay=yes", source)
        feed(sink, results(segmenter))
        server.kill()
        server.wait()
    with pytest.raises(SinkError, match="the viewer has gone, or takes nothing"):
        feed(sink, results(segmenter, 20))
    sink.abort()
    assert sink.close() == ()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("rerun://here:port", "'port' is no port, expected 1 to 65535, such as rerun://here:9876"),
        ("rerun://::1:9876", "'::1:9876' is no address, expected such as rerun://192.168.1.7:9876"),
        ("rerun://a/b", "'a/b' is no address"),
        ("rerun://[::1]:1", r"rerun://\[::1\]:1: no viewer listens there \(.*; start it with: rerun"),
        ("rerun://?camera=perhaps", "camera=perhaps: expected yes or no"),
        ("rerun://?mesk=no", r"rerun:// has no option 'mesk' \(did you mean 'mask'\?\)"),
        ("out.rrd?quality=0", "quality=0: expected a whole number, 1 to 100"),
        ("nowhere/out.rrd", "there is no folder .*nowhere"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Source, uri: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SinkError, match=message):
        open_sink(uri, source)
    assert not list(tmp_path.iterdir())
