"""Every sink passes the same contract; then what each of them writes and refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import av
import cv2
import numpy as np
import pytest
from deliveries import OnGpu, delivery
from disks import full_disk
from numpy.typing import NDArray
from stripes import SIZE, stripes

import pixelrt
from pixelrt.bundle import Bundle
from pixelrt.errors import InputError, SinkError
from pixelrt.segmentation import Segmentation, Segmenter
from pixelrt.video.health import Health
from pixelrt.video.live import SourceStatus, StreamStatistics
from pixelrt.video.sinks import ContactSheet, Sink, open_sink, open_sinks
from pixelrt.video.sources import Frame, Source, open_source
from pixelrt.video.sources.base import BaseSource

Bytes = NDArray[np.uint8]
FRAMES = 6
RED, GREEN, BLUE = range(3)


@pytest.fixture(scope="module")
def segmenter(make_bundle: Callable[..., Bundle]) -> Iterator[Segmenter]:
    with pixelrt.load(make_bundle(), device="cpu", color="rgb") as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    """Six frames, and one of them alone as `source/3.png`."""
    folder = tmp_path / "source"
    folder.mkdir()
    for index in range(FRAMES):
        cv2.imwrite(str(folder / f"{index}.png"), stripes(index)[..., ::-1])
    with open_source(folder, fps=12.5) as opened:
        yield opened


class SinkContract:
    """What holds for every sink."""

    target: ClassVar[str]
    frames: ClassVar[int] = FRAMES

    @pytest.fixture
    def source(self, source: Source) -> Iterator[Source]:
        if self.frames == FRAMES:
            yield source
            return
        with open_source(Path(source.paths[0]) / "3.png") as single:
            yield single

    @pytest.fixture
    def make(self, tmp_path: Path, source: Source, segmenter: Segmenter) -> Callable[[], Sink]:
        return lambda: open_sink(f"{tmp_path}/{self.target}", source)

    def feed(self, sink: Sink, source: Source, segmenter: Segmenter, limit: int | None = None) -> None:
        for frame in source:
            if frame.index == limit:
                return
            result = segmenter(frame.image)
            sink.write(delivery(frame, result))

    def left(self, folder: Path) -> list[str]:
        return sorted(file.name for file in folder.iterdir() if file.name != "source")

    def expected(self) -> list[str]:
        return [self.target.rstrip("/")]

    def test_what_is_closed_is_there(
        self, tmp_path: Path, make: Callable[[], Sink], source: Source, segmenter: Segmenter
    ) -> None:
        sink = make()
        self.feed(sink, source, segmenter)
        outputs = sink.close()
        assert outputs == sink.close()
        sink.abort()
        assert self.left(tmp_path) == self.expected()
        assert [path.name for path in outputs] == self.expected()

    def test_frames_on_a_gpu_are_copied_from_there(
        self, tmp_path: Path, make: Callable[[], Sink], source: Source, segmenter: Segmenter
    ) -> None:
        with make() as sink:
            for frame in source:
                there = dataclasses.replace(frame, image=OnGpu(frame.image))
                sink.write(delivery(there, segmenter(frame.image)))
        assert self.left(tmp_path) == self.expected()

    def test_an_error_leaves_nothing_half_written(
        self, tmp_path: Path, make: Callable[[], Sink], source: Source, segmenter: Segmenter
    ) -> None:
        with pytest.raises(RuntimeError, match="elsewhere"), make() as sink:
            self.feed(sink, source, segmenter, limit=1)
            raise RuntimeError("elsewhere")
        assert not [name for name in self.left(tmp_path) if name.endswith(".tmp") or name.startswith("out.")]

    def test_what_was_there_survives_an_error(
        self, tmp_path: Path, make: Callable[[], Sink], source: Source, segmenter: Segmenter
    ) -> None:
        with make() as sink:
            self.feed(sink, source, segmenter)
        before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
        again = make()
        again.abort()
        assert before == {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}

    def test_without_a_frame_there_is_no_file(self, tmp_path: Path, make: Callable[[], Sink]) -> None:
        make().close()
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "source"]

    def test_a_second_abort_is_harmless(self, make: Callable[[], Sink]) -> None:
        sink = make()
        sink.abort()
        sink.abort()


class TestMp4(SinkContract):
    target = "out.mp4"

    def test_frames_times_and_colours(
        self, tmp_path: Path, make: Callable[[], Sink], source: Source, segmenter: Segmenter
    ) -> None:
        with make() as sink:
            self.feed(sink, source, segmenter)
        with open_source(tmp_path / "out.mp4") as written:
            assert written.fps == 12.5
            assert written.num_frames == FRAMES
            for frame in written:
                assert frame.time_s == pytest.approx(frame.index / 12.5, abs=1e-3)
                middle = frame.image[48, [24, 72, 120]].astype(int)
                wanted = stripes(frame.index)[48, [24, 72, 120]].astype(int)
                full = (wanted > 0) * 255
                assert np.abs(middle - (wanted + full) / 2).max() < 12

    def test_any_player_understands_it(
        self, tmp_path: Path, make: Callable[[], Sink], source: Source, segmenter: Segmenter
    ) -> None:
        with make() as sink:
            self.feed(sink, source, segmenter)
        content = (tmp_path / "out.mp4").read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")  # plays while it is still being copied
        with av.open(str(tmp_path / "out.mp4")) as container:
            context = container.streams.video[0].codec_context
            assert context.pix_fmt == "yuv420p"
            assert context.name == ("h264" if "libx264" in av.codecs_available else "mpeg4")
            assert (context.colorspace, context.color_range) == (1, 1)
            assert container.duration == pytest.approx(FRAMES / 12.5 * 1e6, rel=0.01)


class TestMatroska(SinkContract):
    target = "out.mkv"


class TestMov(SinkContract):
    target = "out.mov"


class TestMcap(SinkContract):
    target = "out.mcap"


class TestRerun(SinkContract):
    target = "out.rrd"


class TestJsonLines(SinkContract):
    target = "out.jsonl"


class TestArrays(SinkContract):
    target = "results.npz/"


class TestMasks(SinkContract):
    target = "masks/"

    def test_masks_are_class_ids_at_the_size_of_the_frame(
        self, tmp_path: Path, make: Callable[[], Sink], source: Source, segmenter: Segmenter
    ) -> None:
        with make() as sink:
            self.feed(sink, source, segmenter)
        assert [file.name for file in sorted((tmp_path / "masks").iterdir())] == [
            f"{index}.png" for index in range(FRAMES)
        ]
        for index in range(FRAMES):
            mask = cv2.imread(str(tmp_path / f"masks/{index}.png"), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(mask, stripes(index).argmax(axis=2))

    def test_masks_are_labels_again(
        self, tmp_path: Path, make: Callable[[], Sink], source: Source, segmenter: Segmenter
    ) -> None:
        with make() as sink:
            self.feed(sink, source, segmenter)
        with open_source(source.paths[0], labels=tmp_path / "masks") as labelled:
            assert all(frame.truth is not None for frame in labelled)

    def test_a_new_folder_goes_if_nothing_is_in_it(self, tmp_path: Path, make: Callable[[], Sink]) -> None:
        make().abort()
        assert not (tmp_path / "masks").exists()

    def test_frames_of_the_same_name(
        self, make: Callable[[], Sink], source: Source, segmenter: Segmenter
    ) -> None:
        sink, frame = make(), next(iter(source))
        sink.write(delivery(frame, segmenter(frame.image)))
        with pytest.raises(SinkError, match="two frames are called '0'"):
            sink.write(delivery(frame, segmenter(frame.image)))


class TestPicture(SinkContract):
    target = "out.png"
    frames = 1

    def test_a_second_frame(
        self, tmp_path: Path, make: Callable[[], Sink], source: Source, segmenter: Segmenter
    ) -> None:
        sink, frame = make(), next(iter(source))
        result = segmenter(frame.image)
        sink.write(delivery(frame, result))
        with pytest.raises(SinkError, match=r"holds one image, and a second frame came \(3\)"):
            sink.write(delivery(frame, result))

    def test_pixels(
        self, tmp_path: Path, make: Callable[[], Sink], source: Source, segmenter: Segmenter
    ) -> None:
        with make() as sink:
            self.feed(sink, source, segmenter)
        image = cv2.imread(str(tmp_path / "out.png"))[..., ::-1]
        frame = stripes(3)
        np.testing.assert_array_equal(image, segmenter(frame).overlay(frame))


class TestSheet(SinkContract):
    target = "sheet.png"

    @pytest.fixture
    def make(self, tmp_path: Path, source: Source, segmenter: Segmenter) -> Callable[[], Sink]:
        return lambda: ContactSheet(tmp_path / self.target, segmenter.classes, count=4, title="colours")

    def test_frames_in_bgr_have_the_same_colours(
        self, tmp_path: Path, make: Callable[[], Sink], source: Source, segmenter: Segmenter
    ) -> None:
        sheets = []
        for color in ("rgb", "bgr"):
            with make() as sink:
                for frame in source:
                    result = dataclasses.replace(segmenter(frame.image), color=color)
                    image = np.ascontiguousarray(frame.image[..., :: 1 if color == "rgb" else -1])
                    sink.write(delivery(dataclasses.replace(frame, image=image, color=color), result))
            sheets.append((tmp_path / self.target).read_bytes())
        assert sheets[0] == sheets[1]

    @pytest.mark.parametrize("frames", [1, 3, 4, 5, 16, 17, 40, 333])
    def test_any_number_of_frames(
        self, tmp_path: Path, segmenter: Segmenter, frames: int, make: Callable[[], Sink]
    ) -> None:
        """The tiles are spread over the whole run, and no more are kept than needed."""
        sheet = make()
        assert isinstance(sheet, ContactSheet)
        result = segmenter(stripes(0))
        for index in range(frames):
            frame = Frame(image=stripes(0), index=index, time_s=index / 10, name=str(index))
            sheet.write(delivery(frame, result))
        shown = [tile.index for tile in sheet._chosen()]
        assert len(shown) == min(frames, 4)
        assert shown[0] == 0
        assert shown[-1] >= 0.8 * (frames - 1)
        steps = np.diff(shown)
        assert len(steps) == 0 or steps.max() <= 2 * steps.min() + 1
        sheet.close()
        page = cv2.imread(str(tmp_path / "sheet.png"))
        across, down = {1: (1, 1), 3: (2, 2)}.get(frames, (2, 2))
        assert page.shape[1] == across * (SIZE[1] + 8) + 8
        assert page.shape[0] > down * SIZE[0]

    @pytest.mark.parametrize(
        ("name", "count", "message"), [("a.txt", 9, "ends in .txt"), ("a.png", 0, "at least 1")]
    )
    def test_refusals(
        self, tmp_path: Path, segmenter: Segmenter, name: str, count: int, message: str
    ) -> None:
        with pytest.raises(SinkError, match=message):
            ContactSheet(tmp_path / name, segmenter.classes, count=count)


def test_null_writes_nothing(tmp_path: Path, source: Source, segmenter: Segmenter) -> None:
    before = sorted(tmp_path.rglob("*"))
    with open_sink("null:", source) as sink:
        frame = next(iter(source))
        sink.write(delivery(frame, segmenter(frame.image)))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("size", [(95, 144), (96, 143), (65, 67)])
def test_odd_sizes_are_made_even(tmp_path: Path, segmenter: Segmenter, size: tuple[int, int]) -> None:
    source = open_source(f"test://drive?frames=3&size={size[0]}x{size[1]}")
    with source, open_sink(tmp_path / "out.mp4", source) as sink:
        for frame in source:
            sink.write(delivery(frame, segmenter(frame.image)))
    with open_source(tmp_path / "out.mp4") as written:
        assert written.size == (size[0] + size[0] % 2, size[1] + size[1] % 2)
        assert len(list(written)) == 3


@pytest.mark.parametrize("fps", [25.0, 24000 / 1001, 30000 / 1001, 12.5, 1.0, 240.0, 7.3, 0.01, 1000.0])
def test_rates_are_kept(tmp_path: Path, segmenter: Segmenter, fps: float) -> None:
    source = open_source(f"test://drive?frames=5&size=64x64&fps={fps}")
    with source, open_sink(tmp_path / "out.mp4", source) as sink:
        for frame in source:
            sink.write(delivery(frame, segmenter(frame.image)))
    with open_source(tmp_path / "out.mp4") as written:
        assert written.fps == pytest.approx(fps, rel=1e-4)


class TimeLapse(BaseSource):
    """A source of a rate that no video has: a file may say anything about itself."""

    name, size, num_frames = "lapse", SIZE, FRAMES

    def __init__(self, fps: float) -> None:
        self.fps = fps

    def __enter__(self) -> TimeLapse:
        return self

    def __iter__(self) -> Iterator[Frame]:
        yield from ()


@pytest.mark.parametrize("fps", [0.0004, 1e12, float("nan")])
def test_a_rate_that_no_video_has(tmp_path: Path, fps: float) -> None:
    with pytest.raises(SinkError, match=r"expected 0\.01 to 1000; write a folder of masks"):
        open_sink(tmp_path / "out.mp4", TimeLapse(fps))
    assert not list(tmp_path.iterdir())


def test_uneven_times_are_kept_and_go_forward(tmp_path: Path, source: Source, segmenter: Segmenter) -> None:
    image, times = stripes(0), [0.0, 0.5, 0.5, 0.7, 2.0]
    result: Segmentation = segmenter(image)
    with open_sink(tmp_path / "out.mp4", source) as sink:
        for index, time_s in enumerate(times):
            frame = Frame(image=image, index=index, time_s=time_s, name=str(index))
            sink.write(delivery(frame, result))
    with open_source(tmp_path / "out.mp4") as written:
        assert [frame.time_s for frame in written] == pytest.approx(times, abs=1e-3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_frames_of_another_size_begin_a_new_part(
    tmp_path: Path, source: Source, segmenter: Segmenter, suffix: str
) -> None:
    """A camera that changes its resolution does not end the recording."""
    with open_sink(tmp_path / f"out.{suffix}", source) as sink:
        for index, rows in enumerate((64, 64, 96, 96, 96, 64)):
            image = stripes(0)[:rows]
            frame = Frame(image=image, index=index, time_s=index / 5, name=str(index))
            sink.write(delivery(frame, segmenter(image)))
        outputs = sink.close()
    assert [path.name for path in outputs] == [f"out.{suffix}", f"out-2.{suffix}", f"out-3.{suffix}"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["source", *(path.name for path in outputs)]
    )
    for path, rows, times in zip(outputs, (64, 96, 64), ([0, 0.2], [0, 0.2, 0.4], [0]), strict=True):
        with open_source(path) as written:
            assert written.size == (rows, 144)
            assert [frame.time_s for frame in written] == pytest.approx(times, abs=1e-3)


# What is refused, and how it is said


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("out", r"out has no suffix; .*for a folder of masks write .*out/"),
        ("out.mp5", r"ends in .mp5 \(did you mean '.mp4'\?\); expected a video"),
        ("ftp://place", r"unknown scheme ftp://; expected a video"),
        ("null:x", "nothing follows null:"),
        ("nul:", r"unknown scheme nul: \(did you mean 'null:'\?\)"),
        ("nowhere/out.mp4", "there is no folder .*nowhere; make it first"),
        ("nowhere/masks/", "there is no folder .*nowhere; make it first"),
        ("out.png", r"holds one image, and source has more frames; .*--limit 1"),
        ("source/", "source/ is where source is read from; write somewhere else"),
    ],
)
def test_sinks_that_cannot_be_opened(tmp_path: Path, source: Source, uri: str, message: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    place = uri if ":" in uri else f"{tmp_path}/{uri}"
    with pytest.raises(SinkError, match=message):
        open_sink(place, source)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_source_is_not_overwritten(tmp_path: Path, source: Source, segmenter: Segmenter) -> None:
    with open_sink(tmp_path / "drive.mp4", source) as sink:
        for frame in source:
            sink.write(delivery(frame, segmenter(frame.image)))
    content = (tmp_path / "drive.mp4").read_bytes()
    (tmp_path / "other.mp4").symlink_to("drive.mp4")
    with open_source(tmp_path / "drive.mp4") as video:
        for name in ("drive.mp4", "other.mp4"):
            with pytest.raises(SinkError, match=r"is where drive.mp4 is read from"):
                open_sink(tmp_path / name, video)
    assert (tmp_path / "drive.mp4").read_bytes() == content


def test_masks_are_not_written_among_the_images(tmp_path: Path, source: Source) -> None:
    with open_source(f"{source.paths[0]}/3.png") as single:
        for name in ("source/3.png", "source/"):
            with pytest.raises(SinkError, match="is read from"):
                open_sink(f"{tmp_path}/{name}", single)


def test_all_sinks_or_none(tmp_path: Path, source: Source) -> None:
    with pytest.raises(SinkError, match=r"ends in .xyz"):
        open_sinks([tmp_path / "out.mp4", f"{tmp_path}/masks/", tmp_path / "out.xyz"], source)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["source"]
    with pytest.raises(SinkError, match="asked for twice"):
        open_sinks([tmp_path / "out.mp4", f"{tmp_path}/source/../out.mp4"], source)


@pytest.mark.parametrize(("given", "kind"), [("drive.mp4", "a str"), (0, "an int"), ([], "a list")])
def test_a_source_that_is_not_opened(tmp_path: Path, given: object, kind: str) -> None:
    with pytest.raises(
        InputError, match=rf"was given {kind} as its source, expected an opened one: .*open_source"
    ):
        open_sinks([tmp_path / "out.mp4"], given)  # type: ignore[arg-type]


def test_a_limit_of_one_makes_an_image_of_a_video(tmp_path: Path, source: Source) -> None:
    open_sink(tmp_path / "out.png", source, num_frames=1).abort()


# Several sources


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Source, Source]]:
    """Two sources of one name, of different sizes."""
    (tmp_path / "front").mkdir()
    (tmp_path / "rear").mkdir()
    for place, rows in (("front", 96), ("rear", 64)):
        cv2.imwrite(str(tmp_path / place / "cam 1.png"), stripes(0)[:rows])
    with (
        open_source(tmp_path / "front/cam 1.png") as front,
        open_source(tmp_path / "rear/cam 1.png") as rear,
    ):
        yield front, rear


class Told:
    """A stream that tells two sources of one name apart."""

    def __init__(self, *names: str) -> None:
        health = Health()
        self.health = health
        self.sources = tuple(
            SourceStatus(name=name, health=health, size=SIZE, fps=25.0, live=False, policy="all", ended=False)
            for name in names
        )

    def statistics(self) -> StreamStatistics:
        raise NotImplementedError


def test_a_file_per_source(tmp_path: Path, two: tuple[Source, Source], segmenter: Segmenter) -> None:
    sinks = open_sinks([f"{tmp_path}/out-{{source}}.mp4", f"{tmp_path}/masks-{{source}}/"], *two)
    assert len(sinks) == 4
    names = ("cam", "cam-2")
    for sink in sinks:
        sink.attach(Told(*names))
    for name, source in zip(names, two, strict=True):
        for frame in source:
            told = dataclasses.replace(frame, source=name)
            for sink in sinks:
                sink.write(delivery(told, segmenter(frame.image)))
    written = [path.name for sink in sinks for path in sink.close()]
    assert written == ["out-cam-1.mp4", "out-cam-1-2.mp4", "masks-cam-1", "masks-cam-1-2"]
    for name, rows in (("cam-1", 96), ("cam-1-2", 64)):
        with open_source(tmp_path / f"out-{name}.mp4") as video:
            assert [frame.size for frame in video] == [(rows, 144)]
        assert cv2.imread(str(tmp_path / f"masks-{name}/cam 1.png")).shape[:2] == (rows, 144)


def test_a_sink_for_all_sources_is_opened_once(two: tuple[Source, Source]) -> None:
    assert len(open_sinks(["null:"], *two)) == 1
    assert open_sink("null:", *two).close() == ()
    with pytest.raises(SinkError, match=r"null:\{source\}"):
        open_sinks(["null:{source}"], *two)


@pytest.mark.parametrize(
    ("uri", "example"),
    [
        ("out.mp4", "out-{source}.mp4"),
        ("out.mp4?keep=yes", "out-{source}.mp4?keep=yes"),
        ("masks/", "masks-{source}/"),
        ("results.npz/?compress=no", "results-{source}.npz/?compress=no"),
        ("out.png", "out-{source}.png"),
    ],
)
def test_sources_are_named_apart(tmp_path: Path, two: tuple[Source, Source], uri: str, example: str) -> None:
    """What the message says can be opened."""
    message = r"holds one source, and there are 2; put \{source\} in it, such as "
    with pytest.raises(SinkError, match=message) as problem:
        open_sinks([f"{tmp_path}/{uri}"], *two, num_frames=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["front", "rear"]
    assert str(problem.value).endswith(f" {tmp_path}/{example}")
    for sink in open_sinks([f"{tmp_path}/{example}"], *two, num_frames=1):
        sink.abort()


@pytest.mark.parametrize(
    ("uri", "hint"), [("{sources}.mp4", r" \(did you mean '\{source\}'\?\)"), ("{}/", "")]
)
def test_another_field(tmp_path: Path, two: tuple[Source, Source], uri: str, hint: str) -> None:
    for sources in (two, two[:1]):
        with pytest.raises(SinkError, match=rf"in it{hint}; expected \{{source\}}, \{{time\}}, or no braces"):
            open_sinks([f"{tmp_path}/{uri}"], *sources)


def test_one_source_may_be_named_too(tmp_path: Path, source: Source) -> None:
    sink = open_sink(f"{tmp_path}/{{source}}.mp4", source)
    assert getattr(sink, "name", None) == f"{tmp_path}/source.mp4"
    sink.abort()


def test_a_sink_per_source_is_not_one_sink(tmp_path: Path, two: tuple[Source, Source]) -> None:
    with pytest.raises(SinkError, match="is one per source, 2 in all"):
        open_sink(f"{tmp_path}/{{source}}.mp4", *two)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["front", "rear"]


def test_no_source_of_several_is_overwritten(tmp_path: Path, two: tuple[Source, Source]) -> None:
    with pytest.raises(SinkError, match=r"rear/cam 1.png is where cam 1.png is read from"):
        open_sinks([f"{tmp_path}/rear/cam 1.png", "null:"], two[1], num_frames=1)
    with pytest.raises(SinkError, match="asked for twice"):
        open_sinks([f"{tmp_path}/{{source}}.mp4", f"{tmp_path}/./{{source}}.mp4"], *two)


def noisy(index: int) -> Frame:
    image = np.random.default_rng(index).integers(0, 256, (*SIZE, 3), np.uint8)
    return Frame(image=image, index=index, time_s=index / 25, name=f"noise-{index}")


@pytest.mark.parametrize(
    "target",
    ["out.mp4", "out.mkv", "out.mcap", "out.jsonl", "masks/", "a.npz/", "out.png", "sheet.png"],
)
def test_full_disk(tmp_path: Path, segmenter: Segmenter, target: str) -> None:
    with open_source("test://drive?frames=1&size=96x144") as source:
        is_sheet = target == "sheet.png"
        make = (
            (lambda: ContactSheet(tmp_path / target, segmenter.classes))
            if is_sheet
            else (lambda: open_sink(f"{tmp_path}/{target}", source))
        )
        name = target.split("/")[0].split(".")[0]
        message = rf"{name}.* cannot be written \(File too large\); nothing (half-written|was changed)"
        with pytest.raises(SinkError, match=message), full_disk(), make() as sink:
            for index in range(1 if target == "out.png" else 200):
                frame = noisy(index)
                sink.write(delivery(frame, segmenter(frame.image)))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "out.mcap", "out.jsonl", "masks/", "a.npz/"])
def test_what_failed_takes_nothing_more_and_claims_nothing(
    tmp_path: Path, segmenter: Segmenter, target: str
) -> None:
    """A program that goes on after an error, and leaves the block without one."""

    def feed(first: int) -> None:
        for index in range(first, first + 200):
            frame = noisy(index)
            sink.write(delivery(frame, segmenter(frame.image)))

    with open_source("test://drive?frames=1&size=96x144") as source:
        with full_disk(), open_sink(f"{tmp_path}/{target}", source) as sink:
            for first in (0, 200):
                with pytest.raises(SinkError, match="cannot be written"):
                    feed(first)
        assert sink.close() == ()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
