"""Segmenter and Segmentation, on a bundle that tells red, green and blue apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional

import pixelrt
from pixelrt.bundle import Bundle
from pixelrt.errors import BundleError, DeviceError, InputError, OutOfMemory, SinkError
from pixelrt.frames import id_counts, nearest
from pixelrt.manifest import ClassInfo
from pixelrt.segmentation import Latency, Segmentation, Segmenter

MakeBundle = Callable[..., Bundle]
Bytes = NDArray[np.uint8]
PALETTE = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)
CLASSES = tuple(
    ClassInfo(name=name, color=color)
    for name, color in {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}.items()
)


def stripes(height: int, width: int) -> Bytes:
    columns = (np.arange(width) * 3) // width
    return np.ascontiguousarray(np.broadcast_to(PALETTE[columns], (height, width, 3)))


@pytest.fixture(scope="module")
def segmenter(make_bundle: MakeBundle) -> Iterator[Segmenter]:
    with pixelrt.load(make_bundle(), device="cpu") as opened:
        yield opened


def a_result(mask: Bytes, frame_size: tuple[int, int] = (60, 90)) -> Segmentation:
    return Segmentation("scene", CLASSES, frame_size, Latency(1, 2, 3), mask=mask)


# --- frames -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 48), (64, 96), (720, 1280), (33, 51), (7, 500)])
def test_frames_of_any_size(segmenter: Segmenter, size: tuple[int, int]) -> None:
    result = segmenter(stripes(*size))
    assert result.frame_size == size
    assert result.mask is not None and result.mask.shape == (32, 48)
    np.testing.assert_array_equal(result.mask[0, [2, 24, 45]], [0, 1, 2])
    resized = result.resized().mask
    assert resized is not None and resized.shape == size


def test_everything_that_the_bundle_emits_is_there(segmenter: Segmenter) -> None:
    result = segmenter(stripes(32, 48))
    assert result.confidence is not None and result.confidence.dtype == np.uint8
    assert result.grid is not None and result.grid.shape == (3, 2, 3)
    assert result.logits is not None and result.logits.shape == (3, 32, 48)
    assert [info.name for info in segmenter.classes] == ["red", "green", "blue"]
    latency = result.latency
    assert 0 <= latency.prepare_ms <= latency.total_ms
    assert 0 < latency.network_ms <= latency.total_ms
    assert repr(result).startswith(
        "Segmentation('scene', mask, confidence, grid, logits, frame_size=(32, 48)"
    )


def test_what_the_bundle_does_not_emit_is_none(make_bundle: MakeBundle) -> None:
    with pixelrt.load(make_bundle(emit=("confidence",))) as segmenter:
        result = segmenter(stripes(32, 48))
        assert result.mask is result.grid is result.logits is None
        with pytest.raises(InputError, match="emits no mask; export it with 'mask'"):
            result.colorize()


@pytest.mark.parametrize(
    "view",
    [
        lambda frame: np.asfortranarray(frame),
        lambda frame: frame[:, ::-1][:, ::-1],
        lambda frame: np.concatenate([frame, frame], axis=2)[..., :3],
    ],
)
def test_any_strides(segmenter: Segmenter, view: Callable[[Bytes], Bytes]) -> None:
    frame = stripes(40, 60)
    np.testing.assert_array_equal(segmenter(view(frame)).mask, segmenter(frame).mask)


def test_a_read_only_frame_is_fine(segmenter: Segmenter) -> None:
    frame = stripes(32, 48)
    frame.flags.writeable = False
    np.testing.assert_array_equal(segmenter(frame).mask, segmenter(frame.copy()).mask)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ("picture.png", r"frame is a str, expected a NumPy array uint8\[H, W, 3\]"),
        (None, "the frame is None, .*did the camera or the file fail"),
        (np.zeros((4, 4, 3)), r"float64\[4, 4, 3\], expected uint8\[H, W, 3\]; from 0..1, convert"),
        (np.zeros((4, 4, 3), np.int16), r"frame is int16\[4, 4, 3\], expected uint8.*frame.astype"),
        (
            np.zeros((4, 4), np.uint8),
            r"frame is uint8\[4, 4\], expected uint8\[H, W, 3\]; a grey frame becomes",
        ),
        (np.zeros((4, 4, 1), np.uint8), r"a grey frame becomes one with np.repeat\(frame, 3, axis=2\)"),
        (np.zeros((4, 4, 4), np.uint8), r"frame is uint8\[4, 4, 4\], expected .*without its alpha channel"),
        (np.zeros((3, 4, 5), np.uint8), r"channels come last: frame.transpose\(1, 2, 0\)"),
        (np.zeros((0, 5, 3), np.uint8), "frame is empty"),
        (np.zeros((2, 5, 0, 3), np.uint8), "frame is empty"),
    ],
)
def test_what_is_no_frame_is_refused(segmenter: Segmenter, frame: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        segmenter(frame)  # type: ignore[call-overload]


def test_a_batch_gives_a_result_per_frame(segmenter: Segmenter) -> None:
    frames = [stripes(32, 48), stripes(64, 64)[:, ::-1], *[stripes(32, 48)] * 7]
    results = segmenter(frames)
    assert [result.frame_size for result in results] == [frame.shape[:2] for frame in frames]
    for frame, result in zip(frames, results, strict=True):
        np.testing.assert_array_equal(result.mask, segmenter(frame).mask)
    stacked = segmenter(np.stack([stripes(32, 48)] * 2))  # type: ignore[call-overload]
    assert len(stacked) == 2
    assert segmenter([]) == []


def test_one_frame_is_no_batch(segmenter: Segmenter) -> None:
    for frames in (stripes(32, 48), None, 5):
        with pytest.raises(InputError, match=r"batch takes several frames.*one: segmenter\(frame\)"):
            segmenter.batch(frames)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [720, None, (1,), (0, 5), (True, True), "720x1280"])
def test_what_is_no_size_is_refused(segmenter: Segmenter, size: object) -> None:
    for call in (segmenter.warm_up, segmenter.frame_buffer):
        with pytest.raises(InputError, match="height and width, whole numbers of at least 1"):
            call(size)  # type: ignore[arg-type]


def test_a_frame_buffer_without_memory_or_session(make_bundle: MakeBundle) -> None:
    segmenter = pixelrt.load(make_bundle(), device="cpu")
    with segmenter, pytest.raises(OutOfMemory, match="there is no memory for an array"):
        segmenter.frame_buffer((10**9, 10**9))
    with pytest.raises(DeviceError, match="closed"):
        segmenter.frame_buffer((4, 4))


@pytest.mark.parametrize("options", [{"gpu": {}}, {"gpu": 0}, {"threads": True}])
def test_options_of_another_kind(make_bundle: MakeBundle, options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        pixelrt.load(make_bundle(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [None, 3, b"bundle", ""])
def test_what_is_no_path(path: object) -> None:
    with pytest.raises(InputError, match="expected the path of the folder"):
        pixelrt.load(path)  # type: ignore[arg-type]


def test_one_bad_frame_refuses_the_batch(segmenter: Segmenter) -> None:
    with pytest.raises(InputError, match="float64"):
        segmenter([stripes(32, 48), np.zeros((4, 4, 3))])


def test_frames_in_the_other_colour_order(make_bundle: MakeBundle) -> None:
    frame = stripes(64, 96)
    with pixelrt.load(make_bundle(), color="bgr") as opened:
        swapped = opened(frame[..., ::-1])
    with pixelrt.load(make_bundle()) as opened:
        np.testing.assert_array_equal(swapped.mask, opened(frame).mask)
    plain = np.full((8, 8, 3), 40, np.uint8)
    np.testing.assert_array_equal(swapped.overlay(plain), swapped.overlay(plain, color="rgb")[..., ::-1])
    with pytest.raises(InputError, match="color is 'rbg'"):
        pixelrt.load(make_bundle(), color="rbg")  # type: ignore[arg-type]


def test_two_heads_by_name(make_bundle: MakeBundle) -> None:
    with pixelrt.load(make_bundle(heads=("scene", "lane"))) as segmenter:
        result = segmenter(stripes(32, 48))
        assert result["scene"] is result
        lane = result["lane"]
        np.testing.assert_array_equal(lane.mask[0, [2, 24, 45]], [1, 0, 0])  # type: ignore[index]
        assert [info.name for info in lane.classes] == ["none", "lane"]
        assert result.resized((8, 8))["lane"].mask.shape == (8, 8)  # type: ignore[union-attr]
        with pytest.raises(InputError, match=r"no head 'lanes', this bundle has \['scene', 'lane'\]"):
            result["lanes"]


def test_loading_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such folder"):
        pixelrt.load(tmp_path / "nothing")


# --- results ------------------------------------------------------------------------------------------------


def test_resizing_is_pytorch_s_exact_nearest() -> None:
    mask = np.random.default_rng(0).integers(0, 3, (11, 15)).astype(np.uint8)
    for size in [(22, 30), (7, 40), (100, 9), (11, 15), (360, 480)]:
        golden = functional.interpolate(torch.from_numpy(mask)[None, None], size, mode="nearest-exact")[0, 0]
        np.testing.assert_array_equal(a_result(mask).resized(size).mask, golden)
        np.testing.assert_array_equal(a_result(mask).mask_at(size), golden)
    for size in [(0, 3), (10.5, 3), (3,)]:
        with pytest.raises(InputError, match="whole numbers of at least 1"):
            a_result(mask).resized(size)  # type: ignore[arg-type]


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    alpha=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_the_overlay_is_a_blend_of_frame_and_colours(
    height: int, width: int, alpha: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    frame = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
    mask = random.integers(0, 3, (height, width)).astype(np.uint8)
    exact = (1 - alpha) * frame + alpha * PALETTE[mask]
    blended = a_result(mask).overlay(frame, alpha)
    assert blended.dtype == np.uint8
    np.testing.assert_allclose(blended, exact, atol=1.5)


@given(
    mask_size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    seed=st.integers(0, 9),
)
def test_the_overlay_at_any_size_is_that_of_the_resized_mask(
    mask_size: tuple[int, int], size: tuple[int, int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    frame = random.integers(0, 256, (*size, 3)).astype(np.uint8)
    mask = random.integers(0, 3, mask_size).astype(np.uint8)
    before = frame.copy(), mask.copy()
    colors = PALETTE[nearest(mask, *size)]
    for alpha in (0.0, 0.4, 0.5, 1.0):
        wanted = cv2.addWeighted(frame, 1 - alpha, colors, alpha, 0)
        np.testing.assert_array_equal(a_result(mask).overlay(frame, alpha), wanted)
    np.testing.assert_array_equal(frame, before[0])
    np.testing.assert_array_equal(mask, before[1])


def test_the_overlay_fits_the_frame_and_its_colour_order() -> None:
    mask = np.array([[0, 2]], np.uint8)
    frame = np.zeros((10, 20, 3), np.uint8)
    overlay = a_result(mask).overlay(frame, 1.0)
    assert overlay.shape == frame.shape
    assert (overlay[:, :10] == (255, 0, 0)).all() and (overlay[:, 10:] == (0, 0, 255)).all()
    np.testing.assert_array_equal(a_result(mask).overlay(frame, 1.0, "bgr"), overlay[..., ::-1])
    np.testing.assert_array_equal(a_result(mask).overlay(frame, 0.0), frame)
    for bad, message in [(frame[..., 0], "expected uint8"), (frame.astype(np.float32), "float32")]:
        with pytest.raises(InputError, match=message):
            a_result(mask).overlay(bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="alpha is 2"):
        a_result(mask).overlay(frame, 2)


def test_colours_and_coverage() -> None:
    result = a_result(np.array([[0, 1], [2, 2]], np.uint8))
    np.testing.assert_array_equal(result.colorize()[1, 0], (0, 0, 255))
    np.testing.assert_array_equal(result.colorize("bgr"), result.colorize()[..., ::-1])
    assert result.coverage() == {"red": 0.25, "green": 0.25, "blue": 0.5}


@given(
    height=st.integers(1, 9), width=st.integers(1, 9), most=st.sampled_from([2, 255]), seed=st.integers(0, 9)
)
def test_pixels_are_counted_by_id(height: int, width: int, most: int, seed: int) -> None:
    mask = np.random.default_rng(seed).integers(0, most + 1, (height, width)).astype(np.uint8)
    counts = np.bincount(mask.ravel(), minlength=256)
    for view in (mask, np.asfortranarray(mask), np.repeat(mask, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(id_counts(view), counts)
    shares = a_result(mask).coverage()
    assert shares == {info.name: counts[number] / mask.size for number, info in enumerate(CLASSES)}


def test_saving(tmp_path: Path) -> None:
    result = a_result(np.random.default_rng(0).integers(0, 3, (8, 9)).astype(np.uint8))
    result.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_UNCHANGED), result.mask)
    result.save(tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as saved:
        assert list(saved) == ["mask"]
        np.testing.assert_array_equal(saved["mask"], result.mask)
    with pytest.raises(InputError, match=r"ends in '.jpg', expected .png"):
        result.save(tmp_path / "mask.jpg")
    with pytest.raises(SinkError, match="cannot be written"):
        result.save(tmp_path / "missing" / "mask.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.npz", "mask.png"]


def test_the_public_names_exist() -> None:
    for name in pixelrt.__all__:
        assert getattr(pixelrt, name) is not None
    assert set(pixelrt.__all__) <= set(dir(pixelrt))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        pixelrt.lode  # noqa: B018
