"""One JSON object per frame, on standard output and in files."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

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


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_all(tmp_path: Path, source: Source, segmenter: Segmenter) -> None:
    with open_sink(tmp_path / "out.jsonl", source) as sink:
        feed(sink, results(segmenter))
    lines = read(tmp_path / "out.jsonl")
    assert [line["index"] for line in lines] == list(range(6))
    line = lines[3]
    coverage = line.pop("coverage")
    assert list(coverage) == list(CLASSES)
    assert math.isclose(sum(coverage.values()), 1, abs_tol=1e-5)
    assert coverage["road"] == pytest.approx((blobs(3) == 1).mean(), abs=1e-5)
    assert line == {
        "source": "front camera",
        "index": 3,
        "name": "front-000003",
        "time_s": 0.3,
        "clock_s": START_S + 0.3,
        "ages_ms": {"received": 1, "submitted": 2, "computed": 3, "delivered": 4},
        "frame_size": list(SIZE),
        "network_size": list(SIZE),
    }


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_are_no_text(
    tmp_path: Path, source: Source, segmenter: Segmenter, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of old disks; and what the encoding of a terminal lacks."""
    name = os.fsdecode(b"caf\xe9 \xc3\xa9")
    frame = dataclasses.replace(frame_at(0), name=name)
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding))
    with open_sink(tmp_path / "out.jsonl", source) as file, open_sink("-", source) as stdout:
        for sink in (file, stdout):
            sink.write(delivery(frame, segmenter(frame.image)))
    for text in ((tmp_path / "out.jsonl").read_bytes(), content.getvalue()):
        assert json.loads(text.decode(encoding))["name"] == name


def test_drops_are_those_of_the_source(tmp_path: Path, segmenter: Segmenter) -> None:
    names = ("left", "right")
    cameras = [IteratorSource([picture(0)], name=name) for name in names]
    (sink,) = open_sinks([tmp_path / "out.jsonl"], *cameras)
    sources = [SimpleNamespace(name="left", dropped={"newer": 7}), SimpleNamespace(name="right", dropped={})]
    sink.attach(cast(Any, SimpleNamespace(statistics=lambda: SimpleNamespace(sources=sources))))
    with sink:
        for name in names:
            feed(sink, results(segmenter, 1, name))
    assert [line["dropped"] for line in read(tmp_path / "out.jsonl")] == [{"newer": 7}, {}]


def test_segments(tmp_path: Path, source: Source, segmenter: Segmenter) -> None:
    with open_sink(f"{tmp_path}/out.jsonl?segment=0.35", source) as sink:
        feed(sink, results(segmenter, 10))
        outputs = sink.close()
    assert [path.name for path in outputs] == ["out.jsonl", "out-2.jsonl", "out-3.jsonl"]
    assert [[line["index"] for line in read(path)] for path in outputs] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]


def test_what_is_kept_is_whole_lines(tmp_path: Path, segmenter: Segmenter) -> None:
    """A camera's recording is not thrown away because something else failed."""
    camera = IteratorSource([picture(0)], name="front camera", live=True)
    with pytest.raises(RuntimeError), open_sink(tmp_path / "out.jsonl", camera) as sink:
        feed(sink, results(segmenter, 3))
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["out-unfinished.jsonl"]
    assert len(read(tmp_path / "out-unfinished.jsonl")) == 3


@pytest.mark.parametrize("uri", ["-", "jsonl:"])
def test_standard_output(
    source: Source, segmenter: Segmenter, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_sink(uri, source) as sink:
        seen = []
        feed(sink, results(segmenter, 3), after=lambda: seen.append(capsys.readouterr().out))
        assert sink.close() == ()
    assert [json.loads(line)["index"] for line in seen] == [0, 1, 2]  # one at a time, without delay


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("jsonl:out", "nothing follows jsonl:, which is standard output; a file is out.jsonl"),
        ("out.jsonl?a=1", r"\.jsonl has no option 'a'; known: segment, keep"),
        ("out.json", r"ends in .json \(did you mean '.jsonl'\?\)"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Source, uri: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SinkError, match=message):
        open_sink(uri, source)


READER_GOES = """
    import sys
    sys.path.insert(0, {support!r})
    from drives import *
    from pixelrt.video.sinks import open_sink
    from pixelrt.video.sources import IteratorSource
    with see() as segmenter, IteratorSource([picture(0)]) as source:
        try:
            with open_sink("-", source) as sink:
                feed(sink, results(segmenter, 100_000))
        except BrokenPipeError:
            print("ended", file=sys.stderr)
            sys.stderr.flush()
            import os
            os._exit(0)
"""


def test_a_reader_that_goes(tmp_path: Path) -> None:
    """`| head -1`: it ends at once, and says so in the way that the command line knows."""
    script = textwrap.dedent(READER_GOES).format(support=str(Path(__file__).parents[1] / "support"))
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["index"] == 0
        process.stdout.close()
        assert process.stderr.read() == b"ended\n"
        assert process.wait() == 0


def test_standard_output_is_given_to_one_sink() -> None:
    with IteratorSource([picture(0)]) as source, pytest.raises(SinkError, match="was asked for twice"):
        open_sinks(["-", "null:", "jsonl:"], source)
