"""Images and labels from folders."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixelrt.errors import SourceError
from pixelrt_export.images import find_images, labels_beside, read_frame, read_label, resized

SIZE = (20, 30)


def pixels(seed: int = 0, channels: int = 3, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (3, 4, channels), dtype=np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC).reshape(*size, channels)


def folder_of(folder: Path, count: int, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index:03}{suffix}"), pixels(index))
    return folder


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".jpg", ".webp"])
def test_formats_and_colour_orders(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    cv2.imwrite(str(path), pixels(), [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else [])
    rgb, bgr = read_frame(path, 3, "rgb"), read_frame(path, 3, "bgr")
    assert rgb.dtype == np.uint8
    assert rgb.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(rgb, bgr[:, :, ::-1])
    np.testing.assert_allclose(bgr.astype(int), pixels(), atol=40 if suffix == ".jpg" else 0)


def test_grey_alpha_and_arrays(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), pixels(channels=4))
    np.testing.assert_array_equal(read_frame(path, 4, "rgb"), pixels(channels=4)[:, :, [2, 1, 0, 3]])
    np.testing.assert_array_equal(read_frame(path, 4, "bgr"), pixels(channels=4))
    assert read_frame(path, 3).shape == (*SIZE, 3)
    assert read_frame(path, 1).shape == (*SIZE, 1)
    np.save(tmp_path / "five.npy", pixels(channels=5))
    np.testing.assert_array_equal(read_frame(tmp_path / "five.npy", 5), pixels(channels=5))


def test_a_grey_image_is_no_four_channels(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), pixels())
    with pytest.raises(SourceError, match=r"uint8\[20, 30, 3\], the network takes uint8 with 4 channels"):
        read_frame(path, 4)
    with pytest.raises(SourceError, match=r"takes 5 channels; save them as .npy"):
        read_frame(path, 5)
    np.save(tmp_path / "float.npy", np.zeros((4, 4, 5)))
    with pytest.raises(SourceError, match=r"float64\[4, 4, 5\], uint8\[H, W, 5\] was expected"):
        read_frame(tmp_path / "float.npy", 5)
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(SourceError, match=r"no readable .npy file"):
        read_frame(tmp_path / "object.npy", 5)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_a_damaged_image_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    cv2.imwrite(str(path), pixels(size=(64, 64)))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    said = "was cut short" if suffix == ".jpg" else "is no readable image"
    with pytest.raises(SourceError, match=rf"image\{suffix} {said}"):
        read_frame(path, 3)
    for nonsense in (b"", b"GIF89a nonsense"):
        path.write_bytes(nonsense)
        with pytest.raises(SourceError, match=rf"image\{suffix} is no readable image"):
            read_frame(path, 3)
    path.unlink()
    with pytest.raises(SourceError, match=r"cannot be read: No such file"):
        read_frame(path, 3)


def test_images_are_sorted_and_evenly_spread(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "images", 10)
    (folder / "notes.txt").touch()
    (folder / ".hidden.png").touch()
    found = find_images(folder, max_images=4)
    assert [path.stem for path in found.images] == ["000", "002", "005", "007"]
    assert found.labels is None
    assert len(find_images(folder).images) == 10


def test_a_folder_of_images_and_labels_stands_for_both(tmp_path: Path) -> None:
    folder_of(tmp_path / "images", 1)
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "labels" / "000.png"), np.zeros(SIZE, dtype=np.uint8))
    found = find_images(tmp_path, labels=labels_beside(tmp_path))
    assert found.folder == tmp_path / "images"
    assert found.labels == (tmp_path / "labels" / "000.png",)
    assert labels_beside(tmp_path) == labels_beside(tmp_path / "images") == tmp_path / "labels"


def test_missing_folders_and_labels_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"images/none does not exist; name a folder"):
        find_images(tmp_path / "images" / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"empty holds no image.*\.jpg.*subfolders are not searched"):
        find_images(tmp_path / "empty")
    images = folder_of(tmp_path / "images", 5)
    with pytest.raises(SourceError, match=r"the folder of images .*000.png is a file"):
        find_images(images / "000.png")
    with pytest.raises(SourceError, match=r"the folder of labels .*labels does not exist"):
        find_images(images, labels=tmp_path / "labels")
    (tmp_path / "labels").mkdir()
    with pytest.raises(SourceError, match=r"labels lacks 000.png, 001.png, 002.png and 2 more"):
        find_images(images, labels=tmp_path / "labels")


def test_bad_labels_are_named(tmp_path: Path) -> None:
    path = tmp_path / "000.png"
    cv2.imwrite(str(path), pixels())
    with pytest.raises(SourceError, match=r"holds colours \(3 channels, or a palette\), class ids"):
        read_label(path)
    cv2.imwrite(str(path), np.full(SIZE, 300, dtype=np.uint16))
    with pytest.raises(SourceError, match=r"ids up to 300, at most 255"):
        read_label(path)
    cv2.imwrite(str(path), np.full(SIZE, 200, dtype=np.uint16))
    assert read_label(path).dtype == np.uint8


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_resizing_keeps_the_channels(channels: int) -> None:
    frame = pixels(channels=channels)
    assert resized(frame, SIZE) is frame
    assert resized(frame, (7, 9)).shape == (7, 9, channels)
