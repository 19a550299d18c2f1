"""A run: what comes out, what is measured, and what is left when it breaks."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from stripes import SIZE, stripes

import pixelrt
from pixelrt.bundle import Bundle
from pixelrt.errors import InputError, SinkError, SourceError
from pixelrt.segmentation import Segmenter
from pixelrt.video.delivery import Delivery
from pixelrt.video.events import Event
from pixelrt.video.live import StreamView
from pixelrt.video.run import Observers, Progress, Run, RunOptions, run
from pixelrt.video.sinks import Sink, open_sink, open_sinks
from pixelrt.video.sinks.null import NullSink
from pixelrt.video.sources import Frame, Source, open_source
from pixelrt.video.sources.base import BaseSource
from pixelrt.video.sources.paced import Paced
from pixelrt.video.statistics import StageTimes

Bytes = NDArray[np.uint8]


@pytest.fixture(scope="module")
def segmenter(make_bundle: Callable[..., Bundle]) -> Iterator[Segmenter]:
    with pixelrt.load(make_bundle(), device="cpu", color="rgb") as opened:
        yield opened


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Four images whose labels are right, but for one quarter of the last one, and unlabelled for another."""
    for folder in ("images", "labels"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for index in range(4):
        image = stripes(index)
        labels = image.argmax(axis=2).astype(np.uint8)
        if index == 3:
            labels[:24], labels[72:] = (labels[:24] + 1) % 3, 255
        cv2.imwrite(str(tmp_path / f"set/images/{index}.png"), image[..., ::-1])
        cv2.imwrite(str(tmp_path / f"set/labels/{index}.png"), labels)
    return tmp_path / "set"


def test_report_counts_frames_classes_and_hits(segmenter: Segmenter, labelled: Path) -> None:
    with open_source(labelled) as source:
        report = run(segmenter, source)
    assert (report.bundle, report.head, report.source) == ("colors", "scene", "set")
    assert (report.frames, report.interrupted, report.frame_size) == (4, False, SIZE)
    assert report.coverage == pytest.approx({"red": 1 / 3, "green": 1 / 3, "blue": 1 / 3})
    assert report.accuracy is not None
    wrong, all_labelled = 24 * 144, 4 * 96 * 144 - 24 * 144
    assert report.accuracy.pixel_accuracy == pytest.approx(1 - wrong / all_labelled)
    right = all_labelled - wrong
    assert report.accuracy.miou == pytest.approx(right / (right + 2 * wrong))
    assert set(report.accuracy.iou) == {"red", "green", "blue"}


def test_the_time_of_a_frame_is_that_of_its_stages(
    segmenter: Segmenter, labelled: Path, tmp_path: Path
) -> None:
    with open_source(labelled) as source:
        report = run(segmenter, source, open_sinks([tmp_path / "out.mp4"], source))
    sink = f"sink {tmp_path / 'out.mp4'}"
    names = ["decode", "wait", "network", "draw", "deliver", "capture to delivery", sink]
    assert list(report.stages) == names
    assert {name: times.count for name, times in report.stages.items()} == dict.fromkeys(names, 4)
    parts = [report.stages[name].mean_ms for name in ("wait", "network", "deliver")]
    assert sum(parts) == pytest.approx(report.stages["capture to delivery"].mean_ms, rel=0.2, abs=5)
    assert report.stages[sink].mean_ms >= report.stages["draw"].mean_ms  # it was the first to ask
    assert report.fps == pytest.approx(report.frames / report.seconds)
    for times in report.stages.values():
        assert 0 <= times.p50_ms <= times.p95_ms <= times.p99_ms <= times.max_ms
        assert times.mean_ms <= times.max_ms


def test_report_as_json(segmenter: Segmenter, labelled: Path, tmp_path: Path) -> None:
    with open_source(labelled) as source:
        report = run(segmenter, source, open_sinks([f"{tmp_path}/masks/"], source))
    data = json.loads(report.to_json())
    assert data["frames"] == 4
    assert data["stages"]["network"]["p50_ms"] > 0
    assert data["accuracy"]["iou"]["red"] == report.accuracy.iou["red"]  # type: ignore[union-attr]
    assert data["outputs"] == [str(tmp_path / "masks")]
    assert data["session"]["backend"] == segmenter.session.info.backend
    assert data["machine"]["processor"]["cores"] >= 1
    assert data["machine"]["libraries"]["numpy"] == np.__version__


def test_classes_that_never_occur_are_null_in_json(segmenter: Segmenter, tmp_path: Path) -> None:
    for folder, image in (("images", stripes(0)[:, :48]), ("labels", np.zeros((96, 48), np.uint8))):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), image[..., ::-1] if image.ndim == 3 else image)
    with open_source(tmp_path) as source:
        report = run(segmenter, source)
    assert json.loads(report.to_json())["accuracy"]["iou"] == {"red": 1.0, "green": None, "blue": None}


def test_labels_with_ids_that_are_no_classes_are_not_scored(segmenter: Segmenter, labelled: Path) -> None:
    cv2.imwrite(str(labelled / "labels" / "2.png"), np.full((96, 144), 7, np.uint8))
    with open_source(str(labelled)) as source:
        report = run(segmenter, source)
    assert report.accuracy is None
    assert report.no_accuracy.startswith("the label of 2 holds the ids 7, and this head has 3 classes")


def test_labels_of_other_classes_are_not_scored(segmenter: Segmenter) -> None:
    with open_source("test://drive?frames=2&size=96x144") as source:
        report = run(segmenter, source)
    assert report.accuracy is None
    assert report.no_accuracy.startswith("drive has labels in the classes sky, building")
    assert report.no_accuracy.endswith("this head has red, green, blue")


def test_unlabelled_sources_have_no_accuracy(segmenter: Segmenter, labelled: Path) -> None:
    with open_source(labelled / "images" / "0.png") as source:
        report = run(segmenter, source)
    assert (report.accuracy, report.no_accuracy) == (None, "")


def test_limit(segmenter: Segmenter, labelled: Path) -> None:
    seen: list[Progress] = []
    with open_source(labelled) as source:
        report = run(
            segmenter, source, options=RunOptions(limit=2), observers=Observers(progress=seen.append)
        )
    assert report.frames == 2
    assert not report.interrupted
    assert [now.frames for now in seen] == [1, 2]
    assert seen[-1].total == 2
    assert seen[-1].p50_ms > 0


def test_stop_finishes_the_files(segmenter: Segmenter, tmp_path: Path) -> None:
    seen: list[Progress] = []
    with open_source("test://drive?frames=1000000&size=96x144") as source:
        report = run(
            segmenter,
            source,
            open_sinks([tmp_path / "out.mp4", f"{tmp_path}/masks/"], source),
            observers=Observers(progress=seen.append),
            stop=lambda: len(seen) >= 3,
        )
    assert report.interrupted
    assert report.frames == len(seen) >= 3
    with open_source(tmp_path / "out.mp4") as written:
        assert len(list(written)) == report.frames
    assert len(list((tmp_path / "masks").iterdir())) == report.frames
    assert report.sources[0].dropped == {}


class Silent(BaseSource):
    """A camera that never gives a frame, until it is interrupted."""

    name, size, fps, num_frames, live = "silent", SIZE, 25.0, None, True

    def __init__(self) -> None:
        self._over = threading.Event()

    def __enter__(self) -> Silent:
        return self

    def __iter__(self) -> Iterator[Frame]:
        self._over.wait()
        yield from ()

    def interrupt(self) -> None:
        self._over.set()


class Uninterruptible(Silent):
    """A camera whose driver does not want to be interrupted."""

    def interrupt(self) -> None:
        super().interrupt()
        raise OSError("no such device")


def test_stop_interrupts_all_sources_whatever_one_of_them_says(
    segmenter: Segmenter, caplog: pytest.LogCaptureFixture
) -> None:
    asked = [Uninterruptible(), Uninterruptible()]
    with asked[0] as one, asked[1] as other, pytest.raises(OSError, match="no such device"):
        run(segmenter, [one, other], stop=lambda: True)
    warnings = [said for said in caplog.messages if "cannot be interrupted" in said]
    assert warnings == ["silent cannot be interrupted: no such device"] * 2


def test_stop_while_no_frame_comes_leaves_nothing(segmenter: Segmenter, tmp_path: Path) -> None:
    with Silent() as source:
        report = run(segmenter, source, open_sinks([tmp_path / "out.mp4"], source), stop=lambda: True)
    assert (report.frames, report.outputs, report.stages, report.policy) == (0, (), {}, "latest")
    assert report.interrupted
    assert json.loads(report.to_json())["fps"] == 0
    assert not list(tmp_path.iterdir())


def test_a_source_that_breaks_keeps_what_was_whole(
    segmenter: Segmenter, labelled: Path, tmp_path: Path
) -> None:
    (labelled / "images" / "3.png").write_bytes(b"no image")
    with open_source(labelled) as source:
        sinks = open_sinks([tmp_path / "out.mp4", f"{tmp_path}/masks/"], source)
        job = Run(segmenter, source, sinks)
        with pytest.raises(SourceError, match=r"3.png .* cannot be decoded"):
            job.execute()
    report = job.report()
    assert (report.frames, report.interrupted) == (3, True)
    assert report.outputs == (str(tmp_path / "out.mp4"), str(tmp_path / "masks"))
    assert len(list((tmp_path / "masks").iterdir())) == 3
    with open_source(tmp_path / "out.mp4") as written:
        assert len(list(written)) == 3


class Broken(NullSink):
    """A sink that fails at its second frame, or at the end."""

    def __init__(self, at_frame: int | None) -> None:
        self._at_frame = at_frame

    def write(self, delivery: Delivery) -> None:
        if self._at_frame is not None and delivery.frame.index >= self._at_frame:
            raise SinkError("the disk is full")

    def close(self) -> tuple[Path, ...]:
        raise SinkError("the disk is full")


@pytest.mark.parametrize("at_frame", [1, None])
def test_a_sink_that_breaks_takes_the_half_written_with_it(
    segmenter: Segmenter, labelled: Path, tmp_path: Path, at_frame: int | None
) -> None:
    with open_source(labelled) as source:
        sinks: list[Sink] = [Broken(at_frame), open_sink(tmp_path / "out.mp4", source)]
        with pytest.raises(SinkError, match="disk is full"):
            run(segmenter, source, sinks)
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"set"} if at_frame is not None else left <= {"set", "out.mp4"}


def test_ctrl_c_in_a_program_finishes_the_files(segmenter: Segmenter, labelled: Path, tmp_path: Path) -> None:
    def interrupt(now: Progress) -> None:
        if now.frames == 2:
            raise KeyboardInterrupt

    with open_source(labelled) as source:
        sinks = open_sinks([tmp_path / "out.mp4"], source)
        with pytest.raises(KeyboardInterrupt):
            run(segmenter, source, sinks, observers=Observers(progress=interrupt))
    with open_source(tmp_path / "out.mp4") as written:
        assert len(list(written)) >= 2


def test_several_sources_in_one_run(segmenter: Segmenter, labelled: Path, tmp_path: Path) -> None:
    with (
        open_source(labelled) as first,
        open_source("test://drive?frames=7&size=64x96") as second,
        open_source("test://drive?frames=3&size=64x96&seed=2") as third,
    ):
        sources = [first, second, third]
        sinks = open_sinks(["null:", f"{tmp_path}/{{source}}.mp4"], *sources)
        report = run(segmenter, sources, sinks)
    assert (report.source, report.frames, report.policy) == ("set, drive, drive-2", 14, "all")
    assert [(each.name, each.captured, each.frames) for each in report.sources] == [
        ("set", 4, 4),
        ("drive", 7, 7),
        ("drive-2", 3, 3),
    ]
    assert [each.frame_size for each in report.sources] == [SIZE, (64, 96), (64, 96)]
    assert [sink.written for sink in report.sinks] == [14, 4, 7, 3]
    for name, count in (("set", 4), ("drive", 7), ("drive-2", 3)):
        with open_source(tmp_path / f"{name}.mp4") as written:
            assert len(list(written)) == count
    alone, rest = report.sources[0], report.sources[1:]
    assert alone.accuracy is not None
    assert report.accuracy == alone.accuracy
    assert all(each.accuracy is None and "drive has labels" in each.no_accuracy for each in rest[:1])
    for name, share in report.coverage.items():
        parts = sum(each.frames * each.coverage[name] for each in report.sources)
        assert share == pytest.approx(parts / 14)


def test_a_limit_holds_for_each_source(segmenter: Segmenter) -> None:
    with (
        open_source("test://drive?frames=9&size=64x96") as first,
        open_source("test://drive?frames=2&size=64x96") as second,
    ):
        report = run(segmenter, [first, second], options=RunOptions(limit=4))
    assert [each.captured for each in report.sources] == [4, 2]


def test_an_end_that_was_asked_for_is_told_as_that(segmenter: Segmenter) -> None:
    told: list[Event] = []
    with contextlib.ExitStack() as opened:
        sources = [
            opened.enter_context(open_source(f"test://drive?frames={count}&size=64x96"))
            for count in (2, 9, 9)
        ]
        run(segmenter, sources, options=RunOptions(limit=4), observers=Observers(event=told.append))
    name = sources[0].name
    assert {event.source: event.detail for event in told if event.kind == "ended"} == {
        name: "there are no more frames",
        f"{name}-2": "4 frames, as asked",
        f"{name}-3": "4 frames, as asked",
    }


@pytest.mark.parametrize("keep_going", [False, True])
def test_one_source_of_two_breaks(
    segmenter: Segmenter, labelled: Path, tmp_path: Path, keep_going: bool
) -> None:
    (labelled / "images" / "1.png").write_bytes(b"no image")
    told: list[Event] = []
    with open_source(labelled) as broken, open_source("test://drive?frames=200&size=64x96") as whole:
        sinks = open_sinks([f"{tmp_path}/{{source}}.mp4"], broken, whole)
        options, observers = RunOptions(keep_going=keep_going), Observers(event=told.append)
        job = Run(segmenter, [broken, whole], sinks, options=options, observers=observers)
        with pytest.raises(SourceError, match=r"1.png .* cannot be decoded"):
            job.execute()
    report = job.report()
    assert report.sources[0].frames == 1
    assert (report.sources[1].frames == 200) is keep_going
    assert report.interrupted is not keep_going
    assert "cannot be decoded" in report.sources[0].failed
    assert report.sources[1].failed == ""
    assert [event.source for event in told if event.kind == "failed"] == ["set"]
    assert (tmp_path / "drive.mp4").exists() is (report.sources[1].frames > 0)
    if keep_going:
        with open_source(tmp_path / "drive.mp4") as written:
            assert len(list(written)) == 200


def test_a_live_source_has_the_newest_frames_only(segmenter: Segmenter, tmp_path: Path) -> None:
    """Fifty frames come at once while one is computed: most are replaced, all are accounted for."""
    with Paced(open_source("test://drive?frames=50&size=96x144&fps=1000")) as source:
        report = run(segmenter, source, open_sinks(["null:"], source))
    [camera] = report.sources
    assert (report.policy, camera.live) == ("latest", True)
    assert camera.captured == camera.frames + sum(camera.dropped.values()) == 50
    assert report.frames == camera.frames >= 1


def test_a_live_run_ends_with_its_last_sink(segmenter: Segmenter, tmp_path: Path) -> None:
    def endless() -> Source:
        return open_source("test://drive?frames=5&size=64x96&fps=100")

    told: list[Event] = []
    with Paced(endless(), endless) as source:
        sinks: list[Sink] = [Broken(1), Broken(3)]
        report = run(segmenter, source, sinks, observers=Observers(event=told.append))
    assert [event.kind for event in told if event.kind == "sink_failed"] == ["sink_failed"] * 2
    assert [sink.failed for sink in report.sinks] == ["the disk is full"] * 2
    assert report.interrupted
    assert report.frames >= 1


def test_views_see_the_stream_until_its_end(segmenter: Segmenter, labelled: Path) -> None:
    seen: list[int] = []

    @contextlib.contextmanager
    def view(stream: StreamView) -> Iterator[None]:
        assert [source.name for source in stream.sources] == ["set"]
        yield
        seen.append(stream.statistics().delivered)

    with open_source(labelled) as source:
        run(segmenter, source, observers=Observers(views=[view]))
    assert seen == [4]


def test_silence_is_told(segmenter: Segmenter) -> None:
    told: list[float] = []
    source = Silent()
    options = RunOptions(watchdog=0.05)
    run(segmenter, source, options=options, observers=Observers(silence=told.append), stop=lambda: bool(told))
    assert told[0] >= 0.05


def test_no_thread_is_left(segmenter: Segmenter, labelled: Path) -> None:
    before = set(threading.enumerate())
    with open_source(labelled) as source:
        run(segmenter, source, open_sinks(["null:"], source), stop=lambda: False)
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()


def test_another_head(make_bundle: Callable[..., Bundle], labelled: Path) -> None:
    with pixelrt.load(make_bundle(heads=("scene", "lane")), device="cpu", color="rgb") as segmenter:
        with open_source(labelled / "images" / "0.png") as source:
            report = run(segmenter, source, options=RunOptions(head="lane"))
        assert report.coverage == pytest.approx({"none": 2 / 3, "lane": 1 / 3})
        with open_source(labelled) as source, pytest.raises(InputError, match=r"did you mean 'lane'"):
            Run(segmenter, source, options=RunOptions(head="lanes"))


def test_a_bundle_without_masks_is_refused(make_bundle: Callable[..., Bundle], labelled: Path) -> None:
    segmenter = pixelrt.load(make_bundle(emit=("grid",)), device="cpu", color="rgb")
    with segmenter, open_source(labelled) as source, pytest.raises(InputError, match="emits no mask"):
        Run(segmenter, source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"limit": 0}, "limit is 0"),
        ({"deadline": 0}, "deadline is 0, expected seconds above 0"),
        ({"watchdog": -1.0}, "watchdog is -1"),
        ({"policy": "newest"}, "policy is 'newest'"),
    ],
)
def test_options_are_checked(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RunOptions(**options)  # type: ignore[arg-type]


def test_a_broken_video_is_processed_up_to_the_damage(
    segmenter: Segmenter, labelled: Path, tmp_path: Path
) -> None:
    with open_source("test://drive?frames=30&size=96x144") as source:
        run(segmenter, source, open_sinks([tmp_path / "drive.mp4"], source))
    content = (tmp_path / "drive.mp4").read_bytes()
    (tmp_path / "drive.mp4").write_bytes(content[: len(content) * 7 // 10])
    with open_source(tmp_path / "drive.mp4") as source:
        job = Run(segmenter, source, open_sinks([tmp_path / "out.mp4"], source))
        with pytest.raises(SourceError, match=r"drive.mp4 is damaged after frame \d+"):
            job.execute()
    with open_source(tmp_path / "out.mp4") as written:
        assert 3 < len(list(written)) == job.report().frames < 30


def test_stage_times_are_exact() -> None:
    times = StageTimes(("decode", "score"))
    values = np.random.default_rng(0).gamma(2.0, 5.0, 1000)
    for value in values:
        times.add(decode=value)
    found = times.statistics()
    assert list(found) == ["decode"]
    assert found["decode"].p99_ms == pytest.approx(np.percentile(values, 99))
    assert found["decode"].max_ms == values.max()
    assert len(times) == 1000
