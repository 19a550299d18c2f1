"""Recordings: every layout of pixels, every way to write them, and every way in which they are broken."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from recordings import (
    CAMERA,
    COMPRESSED,
    START_NS,
    STEP_NS,
    McapOptions,
    Record,
    compressed,
    image,
    stamp,
    text,
    write_foxglove,
    write_mcap,
    write_own_type,
    write_ros1,
    write_ros2,
)

from pixelrt.errors import SourceError
from pixelrt.video.events import Event
from pixelrt.video.sources import Frame, open_source

Bytes = NDArray[np.uint8]
COUNT = 12


def noise(index: int, size: tuple[int, int] = (48, 64)) -> Bytes:
    return np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8)


def drive(count: int = COUNT) -> Iterator[Record]:
    """Noise that a camera took, five milliseconds before it was recorded, and messages in between."""
    for index in range(count):
        yield Record(stamp(index) + 5_000_000, image(noise(index), index))
        yield text(stamp(index) + 6_000_000)


def read(uri: Path | str) -> list[Frame]:
    with open_source(uri) as source:
        return list(source)


def one(path: Path, fields: dict[str, Any], kind: str = "sensor_msgs/msg/Image") -> Bytes:
    """The pixels of a recording of one message."""
    (frame,) = read(write_mcap(path, [Record(START_NS, fields, type=kind)]))
    pixels: Bytes = frame.image
    return pixels


@pytest.mark.parametrize("way", ["mcap", "sqlite3", "file.mcap", "file.db3", "ros1", "mcap of ros1"])
def test_every_way_to_record(tmp_path: Path, way: str) -> None:
    path = {
        "mcap": lambda: write_ros2(tmp_path / "drive", drive()),
        "sqlite3": lambda: write_ros2(tmp_path / "drive", drive(), "sqlite3"),
        "file.mcap": lambda: write_ros2(tmp_path / "drive", drive()) / "drive.mcap",
        "file.db3": lambda: write_ros2(tmp_path / "drive", drive(), "sqlite3") / "drive.db3",
        "ros1": lambda: write_ros1(tmp_path / "drive.bag", drive()),
        "mcap of ros1": lambda: write_mcap(tmp_path / "drive.mcap", drive(), profile="ros1"),
    }[way]()
    with open_source(path) as source:
        assert (source.size, source.fps, source.num_frames) == ((48, 64), 25.0, COUNT)
        frames = list(source)
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, noise(index))
        assert frame.clock_s == stamp(index) / 10**9  # the camera's stamp, not the recorder's
        assert frame.time_s == pytest.approx(index * 0.04)
        assert (frame.source, frame.name) == (path.name, f"drive-{index:06d}")
    assert len(frames) == COUNT


@pytest.mark.parametrize("form", ["protobuf", "json"])
@pytest.mark.parametrize("kind", ["foxglove.RawImage", "foxglove.CompressedImage"])
def test_foxglove(tmp_path: Path, kind: str, form: Any) -> None:
    pictures = [noise(index) for index in range(4)]
    frames = read(write_foxglove(tmp_path / "drive.mcap", pictures, kind, form))
    np.testing.assert_array_equal([frame.image for frame in frames], pictures)
    assert [frame.clock_s for frame in frames] == [stamp(index) / 10**9 for index in range(4)]


def test_a_type_that_comes_with_its_definition(tmp_path: Path) -> None:
    """Foxglove's image as a message of ROS 2, which no library knows by itself."""
    definition = (
        "builtin_interfaces/Time timestamp\nstring frame_id\nuint32 width\nuint32 height\n"
        f"string encoding\nuint32 step\nuint8[] data\n{'=' * 80}\n"
        "MSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
    )
    path = write_own_type(tmp_path / "a.mcap", "foxglove_msgs/msg/RawImage", definition, image(noise(1)))
    (frame,) = read(path)
    np.testing.assert_array_equal(frame.image, noise(1))
    assert frame.clock_s == START_NS / 10**9
    broken = definition.replace("uint32 width", "uint32")
    path = write_own_type(
        tmp_path / "b.mcap", "foxglove_msgs/msg/RawImage", definition, image(noise(1)), broken
    )
    with pytest.raises(SourceError, match=r"its type foxglove_msgs/msg/RawImage cannot be understood \("):
        open_source(path)


@pytest.mark.parametrize(
    "options",
    [
        McapOptions(compression="lz4", chunk_bytes=20_000),
        McapOptions(compression="none", chunk_bytes=20_000),
        McapOptions(chunks=False),
        McapOptions(index=False, chunk_bytes=20_000),
        McapOptions(index=False, chunks=False),
    ],
)
def test_every_layout_of_a_file(tmp_path: Path, options: McapOptions) -> None:
    frames = read(write_mcap(tmp_path / "drive.mcap", drive(), options))
    np.testing.assert_array_equal([frame.image for frame in frames], [noise(i) for i in range(COUNT)])


@pytest.mark.parametrize("chunk_bytes", [20_000, 1 << 20])
def test_messages_that_were_recorded_late_are_in_order(tmp_path: Path, chunk_bytes: int) -> None:
    records = [Record(stamp(index), image(noise(index), index)) for index in (0, 3, 1, 2, 5, 4)]
    frames = read(write_mcap(tmp_path / "drive.mcap", records, McapOptions(chunk_bytes=chunk_bytes)))
    np.testing.assert_array_equal([frame.image for frame in frames], [noise(i) for i in range(6)])


def test_a_recording_in_several_files(tmp_path: Path) -> None:
    """The order is that of time, whatever the files are called."""
    for name, first in (("out.mcap", 0), ("out-2.mcap", 4), ("out-10.mcap", 8)):
        records = [Record(stamp(first + i), image(noise(first + i), first + i)) for i in range(4)]
        write_mcap(tmp_path / name, records)
    with open_source(tmp_path) as source:
        assert source.num_frames == COUNT
        np.testing.assert_array_equal([frame.image for frame in source], [noise(i) for i in range(COUNT)])


# Pixels


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "8UC3", "RGB8"])
def test_colours(tmp_path: Path, encoding: str, padding: int, color: Any) -> None:
    pixels = noise(1)
    stored = pixels if encoding.lower().startswith("rgb") else pixels[..., ::-1]
    if "a8" in encoding:
        stored = np.dstack([stored, np.full(stored.shape[:2], 77, np.uint8)])
    path = write_mcap(
        tmp_path / "a.mcap", [Record(START_NS, image(stored, encoding=encoding, padding=padding))]
    )
    with open_source(path, color=color) as source:
        (frame,) = source
    np.testing.assert_array_equal(frame.image, pixels if color == "rgb" else pixels[..., ::-1])
    assert frame.color == color
    assert frame.image.flags.c_contiguous
    assert frame.image.flags.writeable


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey(tmp_path: Path, encoding: str, padding: int) -> None:
    grey = noise(2)[..., 0]
    pixels = one(tmp_path / "a.mcap", image(grey, encoding=encoding, padding=padding))
    np.testing.assert_array_equal(pixels, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bgr16", "bayer_rggb16"])
def test_two_bytes_a_value(tmp_path: Path, encoding: str, big_endian: bool, padding: int) -> None:
    """The upper byte is what is seen."""
    shape = (48, 64, 3) if encoding in ("rgb16", "bgr16") else (48, 64)
    upper = np.random.default_rng(3).integers(0, 256, shape, np.uint16)
    values = (upper * 256 + 200).astype(">u2" if big_endian else "<u2")
    seen = one(tmp_path / "a.mcap", image(values, encoding=encoding, padding=padding, big_endian=big_endian))
    wanted = one(tmp_path / "b.mcap", image(upper.astype(np.uint8), encoding=encoding.replace("16", "8")))
    np.testing.assert_array_equal(seen, wanted)


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize(("encoding", "luma"), [("yuv422", 1), ("uyvy", 1), ("yuv422_yuy2", 0), ("yuyv", 0)])
def test_yuv(tmp_path: Path, encoding: str, luma: int, padding: int) -> None:
    """Red on the left, green on the right, by the numbers of BT.601."""
    packed = np.empty((48, 64, 2), np.uint8)
    for columns, (y, u, v) in ((slice(0, 32), (81, 90, 240)), (slice(32, 64), (145, 54, 34))):
        packed[:, columns, luma] = y
        packed[:, columns, 1 - luma][:, ::2] = u
        packed[:, columns, 1 - luma][:, 1::2] = v
    pixels = one(tmp_path / "a.mcap", image(packed, encoding=encoding, padding=padding)).astype(int)
    assert np.abs(pixels[10, 10] - (255, 0, 0)).max() <= 3
    assert np.abs(pixels[10, 50] - (0, 255, 0)).max() <= 3


@pytest.mark.parametrize("order", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer(tmp_path: Path, order: str) -> None:
    """A plain colour through the filter of a sensor comes back as it was."""
    colour = {"r": 200, "g": 90, "b": 30}
    tile = np.array([[colour[order[0]], colour[order[1]]], [colour[order[2]], colour[order[3]]]], np.uint8)
    pixels = one(tmp_path / "a.mcap", image(np.tile(tile, (24, 32)), encoding=f"bayer_{order}8"))
    np.testing.assert_array_equal(pixels[4:-4, 4:-4], np.broadcast_to((200, 90, 30), (40, 56, 3)))


@pytest.mark.parametrize("form", ["png", "bgr8; png compressed bgr8", ""])
def test_png(tmp_path: Path, form: str) -> None:
    pixels = one(tmp_path / "a.mcap", compressed(noise(1), form=form), COMPRESSED)
    np.testing.assert_array_equal(pixels, noise(1))


def test_jpeg(tmp_path: Path) -> None:
    smooth = cv2.resize(noise(1, (3, 4)), (64, 48), interpolation=cv2.INTER_CUBIC)
    pixels = one(tmp_path / "a.mcap", compressed(smooth, suffix=".jpg", form="jpeg"), COMPRESSED)
    assert np.abs(pixels.astype(int) - smooth).mean() < 4


# Times


def test_without_a_stamp_the_time_of_the_recorder_counts(tmp_path: Path) -> None:
    records = [Record(stamp(index), image(noise(index), taken_ns=0)) for index in range(4)]
    frames = read(write_mcap(tmp_path / "a.mcap", records))
    assert [frame.clock_s for frame in frames] == [stamp(index) / 10**9 for index in range(4)]


STRAYS = {
    "none": ([0, 40, 80, 120, 160], [0, 40, 80, 120, 160]),
    "goes back": ([0, 40, 80, 40, 160, 200], [0, 40, 80, 120, 160, 200]),
    "swapped": ([0, 80, 40, 120, 160], [0, 80, 120, 160, 200]),
    "stands still": ([0, 0, 0, 120], [0, 40, 80, 120]),
    "one far off": ([0, 40, 10**10, 120, 160], [0, 40, 80, 120, 160]),
    "two far off": ([0, 40, 10**10, 5 * 10**10, 160], [0, 40, 80, 120, 160]),
    "set forward": ([0, 40, 10**10, 10**10 + 41, 10**10 + 80], [0, 40, 80, 121, 160]),
    "set back": ([0, 40, -(10**10), 39 - 10**10, 80 - 10**10], [0, 40, 80, 119, 160]),
    "begins far off": ([10**10, 40, 81, 120], [0, 40, 81, 120]),
    "less than an hour": ([0, 40, 3_000_000, 3_000_040], [0, 40, 3_000_000, 3_000_040]),
}
"""In milliseconds: the stamps of images that were recorded every 40 ms, and their times."""


@pytest.mark.parametrize("case", STRAYS)
def test_stamps_that_cannot_be_true(tmp_path: Path, case: str) -> None:
    stamps, wanted = STRAYS[case]
    taken = [10**18 + 10**6 * ms for ms in stamps]
    records = [Record(stamp(i), image(noise(i), taken_ns=ns)) for i, ns in enumerate(taken)]
    events: list[Event] = []
    with open_source(write_mcap(tmp_path / "a.mcap", records)) as source:
        source.on_event = events.append
        frames = list(source)
    assert [round(1000 * frame.time_s) for frame in frames] == wanted
    assert [frame.clock_s for frame in frames] == [ns / 10**9 for ns in taken], "what the stamp says"
    assert [event.kind for event in events] == ["mistimed"] * (case not in ("none", "less than an hour"))


def test_a_pause_of_the_recorder_is_none(tmp_path: Path) -> None:
    paused = [0, STEP_NS, 10**14, 10**14 + STEP_NS]
    records = [Record(START_NS + ns, image(noise(i), taken_ns=START_NS + ns)) for i, ns in enumerate(paused)]
    with open_source(write_mcap(tmp_path / "a.mcap", records)) as source:
        source.on_event = lambda event: pytest.fail(event.detail)
        assert [frame.time_s for frame in source] == [ns / 10**9 for ns in paused]


def test_a_rate_that_no_camera_has(tmp_path: Path) -> None:
    records = [Record(stamp(index), image(noise(index), taken_ns=START_NS)) for index in range(4)]
    path = write_mcap(tmp_path / "a.mcap", records)
    with open_source(path, fps=12) as source:
        assert source.fps == 12


def test_an_interrupt_ends_it(tmp_path: Path) -> None:
    with open_source(write_mcap(tmp_path / "a.mcap", drive())) as source:
        seen = []
        for frame in source:
            seen.append(frame)
            source.interrupt()
    assert len(seen) == 1


def test_another_size_is_told(tmp_path: Path) -> None:
    sizes = [(48, 64), (48, 64), (32, 64)]
    records = [Record(stamp(i), image(noise(i, size), i)) for i, size in enumerate(sizes)]
    events: list[Event] = []
    with open_source(write_mcap(tmp_path / "a.mcap", records)) as source:
        source.on_event = events.append
        assert [frame.size for frame in source] == sizes
    assert [(event.kind, event.detail) for event in events] == [
        ("resized", "frames are 32x64 now, they were 48x64")
    ]


# Topics


def two_cameras(count: int = 3) -> Iterator[Record]:
    for index in range(count):
        yield Record(stamp(index), image(noise(index), index), "/left/image")
        yield Record(stamp(index) + 1, compressed(noise(index + 100), index), "/right/image", COMPRESSED)
        yield text(stamp(index) + 2)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_topic_is_chosen(tmp_path: Path, storage: Any) -> None:
    path = write_ros2(tmp_path / "drive", two_cameras(), storage)
    message = (
        r"holds 2 topics with images: /left/image \(sensor_msgs/msg/Image, 3 messages\), /right/image "
        r"\(sensor_msgs/msg/CompressedImage, 3 messages\); choose one, such as .*drive\?topic=/left/image"
    )
    with pytest.raises(SourceError, match=message):
        open_source(path)
    for topic, first in (("/left/image", 0), ("/right/image", 100)):
        frames = read(f"{path}?topic={topic}")
        np.testing.assert_array_equal([frame.image for frame in frames], [noise(first + i) for i in range(3)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "topic=/left/imag",
            r"has no topic '/left/imag' \(did you mean '/left/image'\?\); images are in /left",
        ),
        ("topic=/chatter", "/chatter holds std_msgs/msg/String in cdr, which is no image that can be read"),
        ("topics=/left", r"a.mcap.* has no option 'topics' \(did you mean 'topic'\?\); known: topic"),
        ("topic", "is not a list of key=value"),
    ],
)
def test_topics_that_are_refused(tmp_path: Path, options: str, message: str) -> None:
    path = write_mcap(tmp_path / "a.mcap", two_cameras())
    with pytest.raises(SourceError, match=message):
        open_source(f"{path}?{options}")


def test_nothing_to_see(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", [text(START_NS)])
    held = r"it holds /chatter \(std_msgs/msg/String, 1 message\)"
    with pytest.raises(SourceError, match=f"holds no image, expected sensor_msgs/Image or the like; {held}"):
        open_source(path)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_an_empty_topic(tmp_path: Path, storage: Any) -> None:
    from recordings import IMAGE, ROS2
    from rosbags.rosbag2 import StoragePlugin, Writer

    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    with Writer(tmp_path / "drive", version=9, storage_plugin=plugin) as writer:
        writer.add_connection(CAMERA, IMAGE, typestore=ROS2)
    with pytest.raises(SourceError, match=f"{CAMERA} is empty: not one message was recorded"):
        open_source(f"{tmp_path}/drive?topic={CAMERA}")
    with pytest.raises(SourceError, match="holds no image"):
        open_source(tmp_path / "drive")


# Names


def test_any_name_with_the_scheme(tmp_path: Path) -> None:
    for path in (write_mcap(tmp_path / "a.tmp", drive(2)), write_ros1(tmp_path / "b.bag", drive(2))):
        odd = path.rename(tmp_path / f"odd-{path.stem}")
        assert len(read(f"bag://{odd}?topic={CAMERA}")) == 2


def test_a_question_mark_in_a_name(tmp_path: Path) -> None:
    assert len(read(write_mcap(tmp_path / "why?.mcap", drive(2)))) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("drives.mcap", r"drives.mcap does not exist \(did you mean 'drive.mcap'\?\); expected a recording"),
        ("bag://nowhere/drive", r"nowhere/drive does not exist; expected a recording"),
    ],
)
def test_a_name_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    write_mcap(tmp_path / "drive.mcap", drive(2))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=message):
        open_source(name)


def test_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="labels were given"):
        open_source(write_mcap(tmp_path / "a.mcap", drive(2)), labels=tmp_path)


# What is broken


@pytest.mark.parametrize(
    "options",
    [
        McapOptions(chunk_bytes=20_000),
        McapOptions(chunks=False),
        McapOptions(chunk_bytes=20_000, index=False),
    ],
)
def test_a_recorder_that_lost_its_power(tmp_path: Path, options: McapOptions) -> None:
    """Every whole frame comes first, then the error, which counts them."""
    whole = write_mcap(tmp_path / "whole.mcap", drive(), options).read_bytes()
    for cut in range(len(whole) // 3, len(whole) - 20, len(whole) // 11):
        path = tmp_path / "cut.mcap"
        path.write_bytes(whole[:cut])
        frames: list[Frame] = []
        with open_source(path) as source, pytest.raises(SourceError) as problem:
            frames.extend(source)
        assert 1 <= len(frames) <= cut * COUNT / len(whole) + 2
        np.testing.assert_array_equal(
            [frame.image for frame in frames], [noise(i) for i in range(len(frames))]
        )
        assert (
            f"{CAMERA} ends after {len(frames)} frames: it has no end: the recorder or the copy was cut"
            in str(problem.value)
        )
        assert f"--limit {len(frames)}" in str(problem.value)


def test_a_folder_that_was_not_described(tmp_path: Path) -> None:
    """The power went before `metadata.yaml` and the index were written."""
    folder = write_ros2(tmp_path / "drive", drive(300))
    (folder / "metadata.yaml").unlink()
    file = folder / "drive.mcap"
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 9 // 10])
    frames: list[Frame] = []
    with open_source(folder) as source, pytest.raises(SourceError, match="cut short"):
        frames.extend(source)
    assert 200 < len(frames) < 300


def test_a_chunk_that_rotted(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", drive(), McapOptions(chunk_bytes=20_000, compression="none"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    frames: list[Frame] = []
    with open_source(path) as source, pytest.raises(SourceError, match=r"ends after \d+ of 12 frames: .*crc"):
        frames.extend(source)
    assert 3 <= len(frames) < COUNT
    np.testing.assert_array_equal([frame.image for frame in frames], [noise(i) for i in range(len(frames))])


@pytest.mark.parametrize("name", ["drive.bag", "drive.db3"])
def test_bags_that_were_cut(tmp_path: Path, name: str) -> None:
    if name == "drive.bag":
        path = write_ros1(tmp_path / name, drive())
    else:
        path = write_ros2(tmp_path / "drive", drive(), "sqlite3") / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames: list[Frame] = []
    with pytest.raises(SourceError, match=r"is damaged or was never finished \("):  # noqa: SIM117
        with open_source(path) as source:
            frames.extend(source)
    np.testing.assert_array_equal(
        np.array([frame.image for frame in frames]).reshape(-1, 48, 64, 3),
        np.array([noise(i) for i in range(len(frames))]).reshape(-1, 48, 64, 3),
    )


@pytest.mark.parametrize("name", ["a.mcap", "a.bag", "a.db3", "bag://a.odd"])
@pytest.mark.parametrize("content", [b"", b"no recording at all, just a text that is long enough" * 4])
def test_files_that_are_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name.removeprefix("bag://")).write_bytes(content)
    with pytest.raises(SourceError, match=r"cannot be read: it (is empty|begins with|is damaged)"):
        open_source(name)


@pytest.mark.parametrize("cut", [9, 40, 100])
def test_a_file_that_was_cut_before_its_first_frame(tmp_path: Path, cut: int) -> None:
    path = write_mcap(tmp_path / "a.mcap", drive())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(SourceError, match=r"\(it has no end: .* cut short\) holds no image"):
        open_source(path)


def broken(**changes: Any) -> dict[str, Any]:
    return {**image(noise(1)), **changes}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (broken(encoding="32FC1"), r"it holds distances \(32FC1\), expected a picture"),
        (broken(encoding="16UC1"), r"it holds distances \(16UC1\), expected a picture"),
        (broken(encoding="rgb88"), r"its pixels are rgb88 \(did you mean 'rgb8'\?\)"),
        (broken(encoding=""), "its pixels are of no named encoding"),
        (broken(step=10), r"says 48x64 rgb8 with 10 bytes a row, expected at least 1x1 and 192 bytes a row"),
        (broken(height=49), "it holds 9216 bytes, expected 9408 for 49x64 rgb8"),
        (broken(height=0), "says 0x64"),
        (broken(width=63, encoding="yuv422"), "is 63 pixels wide, expected an even number"),
    ],
)
def test_images_that_make_no_sense(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        one(tmp_path / "a.mcap", fields)


def coded(content: bytes, form: str) -> dict[str, Any]:
    return {"stamp_ns": START_NS, "format": form, "data": np.frombuffer(content, np.uint8)}


JPEG = compressed(noise(1), suffix=".jpg")["data"].tobytes()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (coded(JPEG[: len(JPEG) // 3] + JPEG[len(JPEG) // 2 :], "jpeg"), r"its JPEG of \d+ bytes cannot be"),
        (coded(JPEG[: len(JPEG) // 2], "jpeg"), r"its JPEG is cut short \(\d+ bytes without an end\)"),
        (coded(b"", "jpeg"), r"its 0 bytes \(jpeg"),
        (coded(b"no picture", "png"), r"its 10 bytes \(png, beginning with b'no pictu'\) cannot be decoded"),
        (coded(b"\0" * 30, "16UC1; compressedDepth png"), r"it holds distances \(16UC1; compressedDepth"),
    ],
)
def test_pictures_that_cannot_be_decoded(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        one(tmp_path / "a.mcap", fields, COMPRESSED)


def test_a_broken_image_comes_after_the_whole_ones(tmp_path: Path) -> None:
    records = [
        *(Record(stamp(index), image(noise(index), index)) for index in range(4)),
        Record(stamp(4), broken(encoding="rgb7")),
        Record(stamp(5), image(noise(5), 5)),
    ]
    frames: list[Frame] = []
    message = r"ends after 4 of 6 frames: message 4 cannot be read: its pixels are rgb7.*--limit 4"
    with (
        open_source(write_mcap(tmp_path / "a.mcap", records)) as source,
        pytest.raises(SourceError, match=message),
    ):
        frames.extend(source)
    assert len(frames) == 4


def test_bytes_that_are_no_message(tmp_path: Path) -> None:
    """A length within the message that cannot be."""
    path = write_mcap(
        tmp_path / "a.mcap", [Record(START_NS, image(noise(1)))], McapOptions(compression="none", index=False)
    )
    content = bytearray(path.read_bytes())
    start = content.index(b"camera\0")
    content[start - 4 : start] = b"\xff\xff\xff\x7f"
    chunk = content.index(b"\x06", content.index(b"\x01"))
    content[chunk + 9 + 24 : chunk + 9 + 28] = bytes(4)  # no checksum
    path.write_bytes(content)
    with pytest.raises(SourceError, match=f"{CAMERA} cannot be read: it is no sensor_msgs/msg/Image"):
        read(path)


# Resources


@pytest.mark.parametrize("storage", ["mcap", "sqlite3", "ros1"])
def test_memory_stays_bounded(tmp_path: Path, storage: Any) -> None:
    """Of 130 MB a few are ever in memory."""
    pixels = noise(1, (480, 640))
    records = (Record(stamp(index), image(pixels, index)) for index in range(140))
    path = (
        write_ros1(tmp_path / "drive.bag", records)
        if storage == "ros1"
        else write_ros2(tmp_path / "drive", records, storage)
    )
    process = psutil.Process()
    with open_source(path) as source:
        frames = iter(source)
        next(frames)
        before = process.memory_info().rss
        most = max(process.memory_info().rss for _ in frames)
    assert most - before < 50e6


@pytest.mark.parametrize("storage", ["mcap", "sqlite3", "ros1"])
def test_files_are_closed(tmp_path: Path, storage: Any) -> None:
    path = (
        write_ros1(tmp_path / "drive.bag", drive(3))
        if storage == "ros1"
        else write_ros2(tmp_path / "drive", drive(3), storage)
    )
    process = psutil.Process()
    before = {file.path for file in process.open_files()}
    source = open_source(path)
    assert next(iter(source)).index == 0
    source.close()
    source.close()
    with pytest.raises(SourceError):
        open_source(f"{path}?topic=/nothing")
    assert {file.path for file in process.open_files()} == before
    shutil.rmtree(tmp_path / "drive", ignore_errors=True)
