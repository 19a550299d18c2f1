"""Every source passes the same contract; then what each of them refuses."""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from recordings import CAMERA, Record, image, stamp, write_mcap, write_ros1, write_ros2
from source_contract import SIZE, SourceContract, picture

from pixelrt.errors import SourceError
from pixelrt.machine import processor
from pixelrt.manifest import ColorOrder
from pixelrt.video.events import Event
from pixelrt.video.sources import (
    Frame,
    IteratorSource,
    PushSource,
    Source,
    open_masks,
    open_source,
    video_file,
)
from pixelrt.video.sources.pictures import SUFFIXES


def write_video(
    path: Path,
    frames: int = 12,
    *,
    times: Sequence[int] | None = None,
    format_options: dict[str, str] | None = None,
) -> Path:
    """A video of `picture`s at 25 frames/s; `times` are in frames."""
    with av.open(str(path), "w", options=format_options or {}) as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "12", "g": "5"})
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            image = shot(index)
            image.pts = times[index] if times is not None else index
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    return path


def shot(index: int, size: tuple[int, int] = SIZE) -> av.VideoFrame:
    """A picture of 25 a second, to be encoded."""
    frame = av.VideoFrame.from_ndarray(picture(index, size), format="rgb24")
    frame.pts, frame.time_base = index, Fraction(1, 25)
    return frame


def turn(path: Path, matrix: tuple[int, ...]) -> Path:
    """Say in an MP4's track header how the camera was held."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 4 + 20 + 16
    content[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    return path


QUARTER_TURN = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)


def write_images(folder: Path, names: Sequence[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), picture(index)[..., ::-1])
    return folder


def write_labels(folder: Path, names: Sequence[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), np.full(SIZE, index, np.uint8))
    return folder


class TestMp4(SourceContract):
    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        return str(write_video(tmp_path / "drive.mp4"))

    def test_pixels_and_times(self, uri: str) -> None:
        with open_source(uri) as source:
            for frame in source:
                assert abs(frame.image[-1, -1].astype(int) - (40 + 5 * frame.index)).max() <= 3
                red, green, blue = frame.image[4, 4].astype(int)
                assert red > green + 100 < blue + 200
                assert frame.time_s == pytest.approx(frame.index / 25, abs=1e-3)
                assert frame.name == f"drive-{frame.index:06d}"


class TestMatroska(SourceContract):
    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        return str(write_video(tmp_path / "drive.mkv"))


class TestTransportStream(SourceContract):
    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        return str(write_video(tmp_path / "drive.ts"))


class TestTurnedVideo(SourceContract):
    size = (128, 96)

    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        return str(turn(write_video(tmp_path / "upright.mp4"), QUARTER_TURN))

    def test_the_picture_stands_upright(self, uri: str) -> None:
        """The matrix of a phone held upright: the first column of the picture becomes its top row."""
        with open_source(uri) as source:
            image = next(iter(source)).image.astype(int)
        assert image[4, -5, 0] > image[4, -5, 1] + 100
        assert abs(image[4, 4] - 40).max() <= 3
        capture = cv2.VideoCapture(uri)  # OpenCV turns it as well
        _, theirs = capture.read()
        capture.release()
        assert np.abs(image - theirs[..., ::-1]).mean() < 3


class TestImage(SourceContract):
    count = 1

    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        return str(write_images(tmp_path, ["photo.png"]) / "photo.png")

    def test_pixels(self, uri: str) -> None:
        with open_source(uri) as source:
            np.testing.assert_array_equal(next(iter(source)).image, picture(0))


class TestFolder(SourceContract):
    count = 3

    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        folder = write_images(tmp_path / "photos", ["frame2.png", "frame10.bmp", "frame1.png"])
        (folder / "notes.txt").write_text("ignored")
        (folder / ".hidden.png").write_text("ignored")
        return str(folder)

    def test_people_order(self, uri: str) -> None:
        with open_source(uri, fps=10) as source:
            frames = list(source)
        assert [frame.name for frame in frames] == ["frame1", "frame2", "frame10"]
        assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.2])


class TestLabelledFolder(SourceContract):
    count = 2
    truth = True

    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        write_images(tmp_path / "images", ["a.png", "b.png"])
        write_labels(tmp_path / "labels", ["a.png", "b.png"])
        return str(tmp_path)

    def test_the_folder_of_images_finds_its_labels_too(self, uri: str) -> None:
        for path in (uri, f"{uri}/images"):
            with open_source(path) as source:
                truths = [frame.truth for frame in source]
            assert [int(truth.max()) for truth in truths if truth is not None] == [0, 1]


class TestDrive(SourceContract):
    count = 4
    truth = True

    @pytest.fixture
    def uri(self) -> str:
        return "test://drive?frames=4&size=96x128&seed=3&fps=10"

    def test_options(self, uri: str) -> None:
        with open_source(uri) as source:
            assert source.fps == 10
            assert source.truth_classes is not None
            assert source.truth_classes[3] == "road"


class TestMcap(SourceContract):
    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        return str(write_mcap(tmp_path / "drive.mcap", recorded()))


class TestRos2Bag(SourceContract):
    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        return str(write_ros2(tmp_path / "drive", recorded(), "sqlite3"))


class TestRos1Bag(SourceContract):
    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        return f"{write_ros1(tmp_path / 'drive.bag', recorded())}?topic={CAMERA}"


class TestIterator(SourceContract):
    @pytest.fixture
    def uri(self) -> str:
        return ""

    def open(self, uri: str, color: ColorOrder = "rgb") -> Source:
        pictures = [picture(index)[..., :: 1 if color == "rgb" else -1] for index in range(12)]
        return IteratorSource(pictures, color=color)


class TestPush(SourceContract):
    live = True

    @pytest.fixture
    def uri(self) -> str:
        return ""

    def open(self, uri: str, color: ColorOrder = "rgb") -> Source:
        source = PushSource(size=self.size, color=color, keep="all", capacity=12)
        for index in range(12):
            source.push(picture(index)[..., :: 1 if color == "rgb" else -1])
        source.end()
        return source


def recorded() -> list[Record]:
    return [Record(stamp(index), image(picture(index), index)) for index in range(12)]


@pytest.mark.skipif(not Path("/dev/video0").exists(), reason="this machine has no camera")
def test_camera() -> None:
    with open_source("0") as source:
        frame = next(iter(source))
        assert frame.image.shape == (*source.size, 3)
        assert source.num_frames is None


# What is refused, and how it is said


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "source is empty"),
        ("sip://camera/1", r"unknown scheme sip://.*; expected a video file"),
        ("tests://drive", r"unknown scheme tests:// \(did you mean 'test'\?\)"),
        ("test://drives", r"no test source 'drives' \(did you mean 'drive'\?\)"),
        ("test://drive?sed=3", r"no option 'sed' \(did you mean 'seed'\?\); known: frames, size, seed, fps"),
        ("test://drive?seed=x", "seed=x, expected a whole number"),
        ("test://drive?fps=x", "fps=x, expected a number"),
        ("test://drive?size=720", "size=720: '720' is no size; give height x width"),
        ("test://drive?seed=1&seed=2", "got seed twice"),
        ("test://drive?seed", "not a list of key=value"),
        ("test://drive?size=10x10", "at least 64 pixels"),
        ("/dev/video97", "no camera 97: /dev/video97 does not exist"),
        ("97", "no camera 97"),
        ("v4l2:///dev/video97", "no camera 97"),
    ],
)
def test_addresses_that_cannot_be_opened(uri: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(uri)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("rtsp:/camera/live", "rtsp://camera/live"),
        ("rtsp:camera", "rtsp://camera"),
        ("RTSP//camera/live", "RTSP://camera/live"),
        ("http:/camera/a.mjpg?x=1", "http://camera/a.mjpg"),
        ("csi:0", "csi://0"),
        ("test:drive", "test://drive"),
        ("rtsp:/admin:hunter2@camera/live", "rtsp://camera/live"),
    ],
)
def test_an_address_with_too_few_slashes(text: str, meant: str) -> None:
    with pytest.raises(SourceError) as problem:
        open_source(text)
    assert f" does not exist; did you mean the address {meant}" in str(problem.value)
    assert "hunter2" not in str(problem.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("192.168.1.7", "192.168.1.7"),
        ("192.168.1.7:554/live", "192.168.1.7:554/live"),
        ("localhost:8554", "localhost:8554"),
        ("camera.local:8554/live", "camera.local:8554/live"),
        ("[fe80::1]:554", "[fe80::1]:554"),
        ("admin:hunter2@camera/live", "***@camera/live"),
        ("admin:hunter2@10.0.0.1", "***@10.0.0.1"),
    ],
)
def test_a_camera_without_a_scheme(text: str, shown: str) -> None:
    with pytest.raises(SourceError) as problem:
        open_source(text)
    assert str(problem.value).startswith(f"{shown} does not exist; if it is a camera in the network, write")
    assert f"such as rtsp://{shown} or http://{shown} (" in str(problem.value)


def test_files_have_no_scheme(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=rf"files have no scheme; give the path alone, {tmp_path}/a\.mp4$"):
        open_source(f"file://{tmp_path}/a.mp4")


def test_a_recording_for_rerun_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "out.rrd").write_bytes(b"RRF2")
    with pytest.raises(SourceError, match=r"out\.rrd is a recording for Rerun's viewer, .* record out\.mcap"):
        open_source(tmp_path / "out.rrd")


def test_missing_file_names_a_near_one(tmp_path: Path) -> None:
    write_images(tmp_path, ["highway.png"])
    with pytest.raises(SourceError, match=r"does not exist \(did you mean 'highway.png'\?\)"):
        open_source(tmp_path / "higway.png")


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no folder .*nowhere; .* exists"):
        open_source(tmp_path / "nowhere" / "drive.mp4")


@pytest.mark.parametrize(("others", "found"), [([], "it is empty"), (["readme.txt"], "it holds readme.txt")])
def test_folder_without_images(tmp_path: Path, others: list[str], found: str) -> None:
    for name in others:
        (tmp_path / name).write_text("no image")
    with pytest.raises(SourceError, match=f"has no images: {found}; expected files ending in .png"):
        open_source(tmp_path)


def test_a_folder_of_films(tmp_path: Path) -> None:
    for name in ("a.txt", "b.MP4", "c.mp4"):
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match=r"; a film is a source of its own, such as .*/b\.MP4$"):
        open_source(tmp_path)


def test_text_called_mp4(tmp_path: Path) -> None:
    file = tmp_path / "notes.mp4"
    file.write_text("These are notes, not a video.\n" * 20)
    with pytest.raises(SourceError, match=r"cannot be read as a video .*begins with b'These are notes,'"):
        open_source(file)


def test_text_that_ffmpeg_would_draw(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("FFmpeg makes a video of this, as of a teletype.\n" * 20)
    with pytest.raises(SourceError, match="not a video"):
        open_source(file)


def test_a_list_of_addresses_is_not_followed(tmp_path: Path) -> None:
    video = write_video(tmp_path / "drive.mp4")
    file = tmp_path / "list.mp4"
    file.write_text(f"ffconcat version 1.0\nfile '{video.name}'\n")
    with pytest.raises(SourceError, match=r"not a video|cannot be read as a video"):
        open_source(file)


def test_empty_file(tmp_path: Path) -> None:
    file = tmp_path / "drive.mp4"
    file.touch()
    with pytest.raises(SourceError, match=r"is empty \(0 bytes\)"):
        open_source(file)


def test_text_called_png(tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    file.write_text("no image")
    with pytest.raises(SourceError, match=r"photo.png \(8 bytes\) cannot be decoded as an image"):
        open_source(file)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted as Linux tells them")
@pytest.mark.parametrize(("cores", "threads"), [(1, 0), (2, 0), (4, 3), (64, 16)])
def test_decoding_leaves_a_core_to_the_network(
    tmp_path: Path, cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = dataclasses.replace(processor(), cores=cores)
    monkeypatch.setattr(video_file, "processor", lambda: machine)
    path = write_video(tmp_path / "a.mp4")
    before = len(os.listdir("/proc/self/task"))
    with open_source(path) as source:
        assert len(list(source)) == 12
        assert len(os.listdir("/proc/self/task")) - before == threads


def test_video_without_picture(tmp_path: Path) -> None:
    file = tmp_path / "song.mkv"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(SourceError, match=r"holds no video stream \(found: audio\)"):
        open_source(file)


def test_colon_and_percent_in_a_name(tmp_path: Path) -> None:
    with open_source(write_video(tmp_path / "10:15 50%02d.mp4", frames=2)) as source:
        assert len(list(source)) == 2


def test_times_come_from_the_file(tmp_path: Path) -> None:
    video = write_video(tmp_path / "uneven.mkv", frames=4, times=[0, 1, 5, 6])
    with open_source(video) as source:
        assert [frame.time_s for frame in source] == pytest.approx([0, 0.04, 0.2, 0.24], abs=2e-3)


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.mp4"])
def test_video_cut_short(tmp_path: Path, name: str) -> None:
    """What is whole is delivered; then it is said, whatever the format."""
    video = write_video(
        tmp_path / name, frames=40, format_options={"movflags": "faststart"} if name == "a.mp4" else {}
    )
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) * 6 // 10])
    frames: list[Frame] = []
    with open_source(video) as source, pytest.raises(SourceError) as problem:
        frames.extend(source)
    assert 10 <= len(frames) < 40
    assert f"is damaged after frame {len(frames) - 1}" in str(problem.value)
    assert f"--limit {len(frames)}" in str(problem.value)
    for frame in frames:
        assert abs(int(frame.image[-1, -1, 1]) - (40 + 5 * frame.index)) <= 3


def test_a_part_of_a_film_whose_times_go_on(tmp_path: Path) -> None:
    """Matroska's header has the time of its end, and this part begins a minute after the film."""
    video = write_video(tmp_path / "part2.mkv", frames=40, times=range(1500, 1540))
    with open_source(video) as source:
        assert source.num_frames == 40
        frames = list(source)
    assert [frame.time_s for frame in frames] == pytest.approx([index / 25 for index in range(40)], abs=2e-3)
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) * 6 // 10])
    with (
        open_source(video) as source,
        pytest.raises(SourceError, match=r"it ends at \d\.\d s, and its header says 1\.6 s"),
    ):
        list(source)


@pytest.mark.parametrize("name", ["slides.mp4", "slides.mov"])
def test_a_last_frame_that_is_shown_for_long(tmp_path: Path, name: str) -> None:
    """Of slides and of what was recorded from a screen."""
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        packets = [packet for index in range(12) for packet in stream.encode(shot(index))]
        packets += stream.encode(None)
        packets[-1].duration = int(5 / packets[-1].time_base)
        container.mux(packets)
    with open_source(tmp_path / name) as source:
        assert len(list(source)) == 12


def test_a_last_picture_of_a_gif_that_is_shown_for_long(tmp_path: Path) -> None:
    first, *rest = [Image.fromarray(picture(index)) for index in range(4)]
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest, duration=[100, 100, 100, 5000])
    with open_source(tmp_path / "a.gif") as source:
        assert [frame.time_s for frame in source] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_a_film_that_changes_its_size(tmp_path: Path) -> None:
    content = b""
    for size in (SIZE, (192, 256)):
        with av.open(str(tmp_path / "part.h264"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            for index in range(4):
                container.mux(stream.encode(shot(index, size)))
            container.mux(stream.encode(None))
        content += (tmp_path / "part.h264").read_bytes()
    (tmp_path / "both.h264").write_bytes(content)
    events: list[Event] = []
    with open_source(tmp_path / "both.h264") as source:
        source.on_event = events.append
        assert [frame.size for frame in source] == [SIZE] * 4 + [(192, 256)] * 4
    assert [(event.kind, event.detail) for event in events] == [
        ("resized", "frames are 192x256 now, they were 96x128")
    ]


@pytest.mark.parametrize(("name", "step", "fps"), [("clock.mkv", 3600, 25), ("clock.mp4", 1, 20)])
def test_a_file_that_says_the_rate_of_a_clock(tmp_path: Path, name: str, step: int, fps: float) -> None:
    """Then its times say the rate, or else whoever opens it."""
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("mjpeg", rate=90000)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuvj420p"
        for index in range(8):
            image = shot(index)
            image.pts, image.time_base = index * step, Fraction(1, 90000)
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / name)) as container:
        assert float(container.streams.video[0].average_rate or 0) > 1000
    with open_source(tmp_path / name, fps=20) as source:
        assert source.fps == fps
        assert len(list(source)) == 8


def test_mp4_without_its_index(tmp_path: Path) -> None:
    video = write_video(tmp_path / "drive.mp4")
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"begins as an MP4 and its index is missing: .* cut short"):
        open_source(video)


def test_video_damaged_in_the_middle(tmp_path: Path) -> None:
    video = write_video(tmp_path / "drive.mp4", frames=40)
    content = bytearray(video.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 60] = bytes(60)
    video.write_bytes(content)
    count = 0
    with open_source(video) as source, pytest.raises(SourceError, match=r"is damaged after frame \d+"):
        for frame in source:
            count += 1
            assert abs(int(frame.image[-1, -1, 1]) - (40 + 5 * frame.index)) <= 3
    assert 5 < count < 40


def test_motion_jpeg_damaged_in_the_middle(tmp_path: Path) -> None:
    video = tmp_path / "drive.avi"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuvj420p"
        for index in range(8):
            container.mux(stream.encode(shot(index)))
        container.mux(stream.encode(None))
    content = bytearray(video.read_bytes())
    begin = [place for place in range(len(content)) if content.startswith(b"\xff\xd8\xff", place)][5]
    content[begin + 1200 : begin + 1300] = b"\xff" * 100
    video.write_bytes(content)
    frames: list[Frame] = []
    with open_source(video) as source, pytest.raises(SourceError, match=r"is damaged after frame 4"):
        frames.extend(source)
    assert len(frames) == 5


def test_image_of_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", ["1.png", "2.png"])
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:40])
    with open_source(folder) as source, pytest.raises(SourceError, match=r"2.png .* cannot be decoded"):
        list(source)


@pytest.mark.parametrize("part", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_image_that_is_cut_short(tmp_path: Path, suffix: str, part: float) -> None:
    """Some libraries paint what is missing grey or black, and say nothing."""
    folder = write_images(tmp_path / "photos", ["1.png"])
    found, whole = cv2.imencode(suffix, picture(1)[..., 0] if suffix == ".pgm" else picture(1))
    assert found
    (folder / f"2{suffix}").write_bytes(whole.tobytes()[: int(part * whole.size)])
    said = "is cut short: its JPEG has no end" if suffix in (".jpg", ".jpeg") else ".* cannot be decoded"
    frames = []
    with open_source(folder) as source, pytest.raises(SourceError, match=rf"2\{suffix} {said}"):
        frames.extend(source)
    assert len(frames) == 1


def test_a_photo_with_a_film_behind_it_and_a_note_which_way_is_up(tmp_path: Path) -> None:
    image = Image.fromarray(picture(0))
    notes = image.getexif()
    notes[0x0112] = 6
    image.save(tmp_path / "phone.jpg", exif=notes, quality=95)
    with (tmp_path / "phone.jpg").open("ab") as file:
        file.write(b"MotionPhoto_Data" + bytes(range(256)))
    with open_source(tmp_path / "phone.jpg") as source:
        turned = next(iter(source)).image
    assert turned.shape == (SIZE[1], SIZE[0], 3)
    assert turned[4, -5, 0] > 200, "the red corner is on the right"
    assert np.abs(turned[-5, 4].astype(int) - 40).max() <= 3


@pytest.mark.parametrize("place", ["folder", "drive", "labels"])
def test_masks_that_are_interrupted(tmp_path: Path, place: str) -> None:
    write_images(tmp_path / "set" / "images", ["1.png", "2.png", "3.png"])
    write_labels(tmp_path / "set" / "labels", ["1.png", "2.png", "3.png"])
    uris = {
        "folder": write_labels(tmp_path / "masks", ["1.png", "2.png", "3.png"]),
        "labels": tmp_path / "set",
        "drive": "test://drive?frames=3&size=96x128",
    }
    with open_masks(uris[place]) as masks:
        read = iter(masks)
        assert next(read).index == 0
        masks.interrupt()
        assert list(read) == []


def test_labels_elsewhere(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", ["a.png"])
    labels = write_labels(tmp_path / "ids", ["a.png"])
    with open_source(folder, labels=labels) as source:
        assert next(iter(source)).truth is not None


def test_label_missing(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", ["a.png", "b.png"])
    labels = write_labels(tmp_path / "ids", ["a.png"])
    with pytest.raises(SourceError, match=r"no label for .*b.png in .*ids: no b.png in it"):
        open_source(folder, labels=labels)
    with pytest.raises(SourceError, match="no such folder"):
        open_source(folder, labels=tmp_path / "nowhere")


def test_label_of_another_size(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", ["a.png"])
    cv2.imwrite(str(write_labels(tmp_path / "ids", []) / "a.png"), np.zeros((5, 6), np.uint8))
    source = open_source(folder, labels=tmp_path / "ids")
    with source, pytest.raises(SourceError, match=r"its labels are \(5, 6\)"):
        next(iter(source))


def test_label_in_colours(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", ["a.png"])
    write_images(tmp_path / "ids", ["a.png"])
    source = open_source(folder, labels=tmp_path / "ids")
    with source, pytest.raises(SourceError, match="expected labels of one byte a pixel"):
        next(iter(source))


def test_labels_for_something_else(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="labels were given"):
        open_source("test://drive", labels=tmp_path)
    with pytest.raises(SourceError, match="labels were given"):
        open_source(write_video(tmp_path / "a.mp4"), labels=tmp_path)


def test_equal_stems_keep_their_suffixes(tmp_path: Path) -> None:
    with open_source(write_images(tmp_path / "photos", ["a.png", "a.bmp", "b.png"])) as source:
        assert [frame.name for frame in source] == ["a.bmp", "a.png", "b"]


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), 0.0004, 1e12])
def test_rate_that_makes_no_sense(tmp_path: Path, fps: float) -> None:
    with pytest.raises(SourceError, match=r"expected 0\.01 to 1000"):
        open_source(tmp_path, fps=fps)
    with pytest.raises(SourceError, match=r"expected 0\.01 to 1000"):
        open_source(f"test://drive?fps={fps}")


def test_every_file_that_is_read_is_known(tmp_path: Path) -> None:
    write_images(tmp_path / "images", ["a.png", "b.png"])
    write_labels(tmp_path / "labels", ["a.png", "b.png"])
    with open_source(tmp_path) as source:
        read = {Path(path).relative_to(tmp_path).as_posix() for path in source.paths}
    assert read >= {"images", "labels", "images/a.png", "images/b.png", "labels/a.png", "labels/b.png"}


def test_a_frame_checks_itself() -> None:
    with pytest.raises(SourceError, match=r"expected uint8\[H, W, 3\]"):
        Frame(image=np.zeros((4, 4), np.uint8), index=0, time_s=0, name="x")
    frame = Frame(image=picture(0), index=3, time_s=0.12, name="x-3")
    assert repr(frame) == "Frame('x-3', index=3, time_s=0.120, 96x128)"
