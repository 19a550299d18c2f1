"""Images and films: what is written is read back, and what cannot be written leaves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from disks import full_disk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelrt.encoding import ArraysEncoder, encode_image, encode_png, write_gif, write_video
from pixelrt.errors import InputError, SinkError

Bytes = NDArray[np.uint8]
SIDES = st.integers(1, 40)
FORMS = st.sampled_from([(), (1,), (3,)])


def decoded(content: bytes) -> Bytes:
    """What a PNG holds, with red first."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    return np.asarray(image if image.ndim == 2 else image[..., ::-1], np.uint8)


def frames_of(path: Path) -> tuple[list[Bytes], list[float]]:
    """Images uint8[H, W, 3] RGB and their times in seconds."""
    with av.open(str(path)) as film:
        pictures = list(film.decode(video=0))
        return [one.to_ndarray(format="rgb24") for one in pictures], [float(one.time) for one in pictures]


def soft(size: tuple[int, int], index: int = 0) -> Bytes:
    """Slopes in all three channels that move from image to image."""
    rows, cols = np.mgrid[: size[0], : size[1]]
    across, down = 200 * cols / max(size[1], 2), 200 * rows / max(size[0], 2)
    return np.stack([across, down, (across + down) / 2 + 5 * index], axis=2).astype(np.uint8)


def luma(image: Bytes) -> NDArray[np.float64]:
    return image @ np.array([0.2126, 0.7152, 0.0722])  # BT.709


def as_rgb(image: Bytes) -> Bytes:
    return np.broadcast_to(np.atleast_3d(image), (*image.shape[:2], 3))


@given(height=SIDES, width=SIDES, form=FORMS, seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_a_png_holds_the_very_bytes(height: int, width: int, form: tuple[int, ...], seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, *form), np.uint8)
    found = decoded(encode_png(image))
    np.testing.assert_array_equal(found, image if form == (3,) else image.reshape(height, width))


def test_views_with_strides_are_images_too() -> None:
    image = soft((20, 30))
    np.testing.assert_array_equal(decoded(encode_png(image[::2, ::-1])), image[::2, ::-1])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
)
def test_what_is_no_image_is_refused(image: Bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected uint8\[H, W\] or \[H, W, 1\] \(grey\)"):
        encode_png(image)
    with pytest.raises(InputError, match="an image is"):
        write_video(tmp_path / "a.mp4", [image], 25)
    assert not list(tmp_path.iterdir())


def test_other_formats_go_by_their_suffix() -> None:
    assert encode_image(soft((8, 8)), ".JPG")[:2] == b"\xff\xd8"


@given(height=st.integers(1, 33), width=st.integers(1, 33), form=FORMS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_video_of_any_size(height: int, width: int, form: tuple[int, ...], tmp_path: Path) -> None:
    images = [soft((height, width), index) for index in range(3)]
    given_images = (
        images if form == (3,) else [image[..., 0].reshape(height, width, *form) for image in images]
    )
    write_video(tmp_path / "a.mp4", given_images, 12.5)
    found, times = frames_of(tmp_path / "a.mp4")
    assert times == pytest.approx([0, 0.08, 0.16], abs=1e-4)
    assert len(found) == 3
    for image, shown in zip(given_images, found, strict=True):
        padded = np.pad(as_rgb(image), ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        assert shown.shape == padded.shape
        assert np.abs(luma(shown) - luma(padded)).mean() < 6  # the colour of so few pixels is coarse


def test_a_video_keeps_its_colours(tmp_path: Path) -> None:
    images = [soft((96, 128), index) for index in range(4)]
    write_video(tmp_path / "a.mkv", images, 25)
    found, _ = frames_of(tmp_path / "a.mkv")
    for image, shown in zip(images, found, strict=True):
        assert np.abs(shown.astype(int) - image).mean() < 3


@given(height=SIDES, width=SIDES, form=st.sampled_from([(), (1,)]), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_grey_gif_has_no_loss(
    height: int, width: int, form: tuple[int, ...], seed: int, tmp_path: Path
) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (3, height, width, *form), np.uint8)
    write_gif(tmp_path / "a.gif", images, 10)
    found, times = frames_of(tmp_path / "a.gif")
    assert times == pytest.approx([0, 0.1, 0.2])
    np.testing.assert_array_equal(found, [as_rgb(image) for image in images])


@given(height=SIDES, width=SIDES, colours=st.integers(1, 256), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_gif_of_few_colours_has_them_all(
    height: int, width: int, colours: int, seed: int, tmp_path: Path
) -> None:
    random = np.random.default_rng(seed)
    palettes = random.integers(0, 256, (3, colours, 3), np.uint8)
    images = [palette[random.integers(0, colours, (height, width))] for palette in palettes]
    write_gif(tmp_path / "a.gif", images, 10)
    found, _ = frames_of(tmp_path / "a.gif")
    assert np.abs(np.array(found, int) - images).max() <= 2  # the palette is rounded in another colour space


def test_a_gif_of_many_colours_is_close(tmp_path: Path) -> None:
    images = [soft((96, 128), index) for index in range(4)]
    write_gif(tmp_path / "a.gif", images, 25)
    found, times = frames_of(tmp_path / "a.gif")
    assert times == pytest.approx([0, 0.04, 0.08, 0.12])
    for image, shown in zip(images, found, strict=True):
        assert np.abs(shown.astype(int) - image).mean() < 6
        assert np.abs(cv2.blur(shown, (5, 5)).astype(int) - cv2.blur(image, (5, 5))).mean() < 1.5


def test_a_gif_is_repeated_for_ever(tmp_path: Path) -> None:
    write_gif(tmp_path / "a.gif", [soft((8, 8), index) for index in range(2)], 10)
    assert b"NETSCAPE2.0\x03\x01\x00\x00" in (tmp_path / "a.gif").read_bytes()


@pytest.mark.parametrize(("write", "name"), [(write_gif, "a.gif"), (write_video, "a.mp4")])
class TestFilms:
    """What holds for both kinds."""

    def test_images_may_be_made_while_it_is_written(
        self, tmp_path: Path, write: Callable[..., None], name: str
    ) -> None:
        seen: list[list[str]] = []

        def made() -> Iterator[Bytes]:
            for index in range(3):
                yield soft((16, 16), index)
                seen.append([file.name for file in tmp_path.iterdir()])

        write(tmp_path / name, made(), 10)
        assert len(seen) == 3
        assert name not in {file for files in seen for file in files}
        assert [file.name for file in tmp_path.iterdir()] == [name]

    def test_one_image_is_a_film_too(self, tmp_path: Path, write: Callable[..., None], name: str) -> None:
        write(str(tmp_path / name), [soft((16, 16))], 10)
        assert len(frames_of(tmp_path / name)[0]) == 1

    def test_an_error_on_the_way_leaves_the_old_film(
        self, tmp_path: Path, write: Callable[..., None], name: str
    ) -> None:
        (tmp_path / name).write_bytes(b"old")

        def broken() -> Iterator[Bytes]:
            yield soft((16, 16))
            raise RuntimeError("elsewhere")

        with pytest.raises(RuntimeError, match="elsewhere"):
            write(tmp_path / name, broken(), 10)
        assert (tmp_path / name).read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize(
        ("images", "fps", "kind", "message"),
        [
            ([], 10, InputError, "there are no images for it"),
            ([soft((8, 8)), soft((8, 9))], 10, SinkError, r"frame 1 is \(8, 9\); a video has one size"),
            ([soft((8, 8))], 0.0, SinkError, "cannot have 0 frames per second"),
            ([soft((8, 8))], float("nan"), SinkError, "cannot have nan frames"),
            ([soft((8, 8))], 2000, SinkError, "cannot have 2000 frames per second, expected 0.01 to"),
        ],
    )
    def test_what_is_refused(
        self,
        tmp_path: Path,
        write: Callable[..., None],
        name: str,
        images: Iterable[Bytes],
        fps: float,
        kind: type[Exception],
        message: str,
    ) -> None:
        with pytest.raises(kind, match=message):
            write(tmp_path / name, images, fps)
        assert not list(tmp_path.iterdir())

    def test_places_that_cannot_be_written(
        self, tmp_path: Path, write: Callable[..., None], name: str
    ) -> None:
        with pytest.raises(SinkError, match="there is no folder"):
            write(tmp_path / "nowhere" / name, [soft((8, 8))], 10)
        with pytest.raises(SinkError, match=r"ends in \.txt, expected a film"):
            write(tmp_path / "a.txt", [soft((8, 8))], 10)
        (tmp_path / name).mkdir()
        with pytest.raises(SinkError, match="is a folder, expected a file"):
            write(tmp_path / name, [soft((8, 8))], 10)

    def test_a_full_disk_leaves_nothing(self, tmp_path: Path, write: Callable[..., None], name: str) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (20, 96, 144, 3), np.uint8)
        with pytest.raises(SinkError, match=r"cannot be written \(File too large\)"), full_disk():
            write(tmp_path / name, noise, 10)
        assert not list(tmp_path.iterdir())


def test_the_other_kind_of_film_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"ends in \.gif, expected a video"):
        write_video(tmp_path / "a.gif", [soft((8, 8))], 10)
    with pytest.raises(SinkError, match=r"ends in \.mp4, expected \.gif"):
        write_gif(tmp_path / "a.mp4", [soft((8, 8))], 10)
    assert not list(tmp_path.iterdir())


def test_grey_and_colour_in_one_gif(tmp_path: Path) -> None:
    grey, colour = soft((8, 8))[..., 0], soft((8, 8))
    with pytest.raises(SinkError, match="begun with grey images, and frame 1 is in colour"):
        write_gif(tmp_path / "a.gif", [grey, colour], 10)
    assert not list(tmp_path.iterdir())
    write_gif(tmp_path / "a.gif", [colour, grey], 10)
    np.testing.assert_array_equal(frames_of(tmp_path / "a.gif")[0][1], as_rgb(grey))


class TestArrays:
    @given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 99))
    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_pieces_become_one(self, lengths: list[int], seed: int, tmp_path: Path) -> None:
        random = np.random.default_rng(seed)
        images = [random.integers(0, 256, (length, 3, 4, 1), np.uint8) for length in lengths]
        latents = [random.normal(size=(length, 7)).astype(np.float32) for length in lengths]
        encoder = ArraysEncoder(tmp_path / "a.npz")
        for image, latent in zip(images, latents, strict=True):
            encoder.append(images=image[:, ::-1], latents=latent)
        assert encoder.close(labels=np.array(["a", "bc"]), seed=np.array(7))
        assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
        with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
            np.testing.assert_array_equal(found["images"], np.concatenate(images)[:, ::-1])
            np.testing.assert_array_equal(found["latents"], np.concatenate(latents))
            assert found["images"].dtype == np.uint8 and found["latents"].dtype == np.float32
            assert (found["labels"].tolist(), int(found["seed"])) == (["a", "bc"], 7)

    def test_nothing_is_no_file(self, tmp_path: Path) -> None:
        assert not ArraysEncoder(tmp_path / "a.npz").close()
        assert not list(tmp_path.iterdir())

    def test_given_up(self, tmp_path: Path) -> None:
        (tmp_path / "a.npz").write_bytes(b"old")
        encoder = ArraysEncoder(tmp_path / "a.npz")
        encoder.append(images=np.zeros((2, 2), np.uint8))
        encoder.abort()
        assert not encoder.close()
        assert (tmp_path / "a.npz").read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 1

    def test_pieces_that_do_not_fit(self, tmp_path: Path) -> None:
        encoder = ArraysEncoder(tmp_path / "a.npz")
        encoder.append(x=np.zeros((2, 3), np.uint8))
        for piece in (np.zeros((2, 4), np.uint8), np.zeros((2, 3), np.float32)):
            with pytest.raises(SinkError, match=r"x was begun as uint8\[N, 3\], and"):
                encoder.append(x=piece)
        encoder.abort()

    def test_places_that_cannot_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(SinkError, match=r"ends in \.npy, expected \.npz"):
            ArraysEncoder(tmp_path / "a.npy")
        with pytest.raises(SinkError, match="there is no folder"):
            ArraysEncoder(tmp_path / "nowhere" / "a.npz")

    @pytest.mark.parametrize("late", [False, True])
    def test_a_full_disk_leaves_nothing(self, tmp_path: Path, late: bool) -> None:
        """Full while it grows, or when it is compressed."""
        noise = np.random.default_rng(0).integers(0, 256, (20, 1000), np.uint8)
        encoder = ArraysEncoder(tmp_path / "a.npz")
        with pytest.raises(SinkError, match=r"cannot be written \(File too large\)"):
            if late:
                encoder.append(x=noise[:1, :690])
            with full_disk():
                if not late:
                    encoder.append(x=noise)
                encoder.close()
        encoder.abort()
        assert not list(tmp_path.iterdir())
