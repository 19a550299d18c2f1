"""Generators and segmenters one after the other, also on one simulated GPU."""

from __future__ import annotations

import dataclasses
import gc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pixelrt
from pixelrt import Generator, Segmenter
from pixelrt.errors import DeviceError, InputError
from pixelrt.pipeline.options import GpuOptions
from pixelrt.testing import FakeCuda, fake_generator, fake_segmenter

SIZE = (12, 16)
CLASSES = ("red", "green", "blue")
MASKS = np.random.default_rng(0).integers(0, 3, (5, *SIZE)).astype(np.uint8)


def paint(given: dict[str, Any]) -> NDArray[np.uint8]:
    return np.eye(3, dtype=np.uint8)[given["mask"]] * np.uint8(200)


def see(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return frame.argmax(axis=-1).astype(np.uint8)


def painter(classes: Any = CLASSES, **options: Any) -> Generator:
    return fake_generator(paint, (*SIZE, 3), classes=classes, **options)


def segmenter(classes: Any = CLASSES, **options: Any) -> Segmenter:
    return fake_segmenter(see, classes, SIZE, **options)


def editor(size: tuple[int, int, int] = (*SIZE, 3), **options: Any) -> Generator:
    return fake_generator(lambda given: 255 - given["image"], size, image=size, **options)


def test_mask_to_image_to_mask() -> None:
    with pixelrt.chain(painter(), segmenter()) as both:
        painted, seen = both(MASKS[0])
        assert (seen.mask == MASKS[0]).all() and painted.image.max() == 200
        result = both(MASKS[1])
        assert len(result) == 2 and result.last is result[1] and result.total_ms > 0
        assert both.on_device == (False,)
    with pytest.raises(DeviceError, match="closed"):
        both(MASKS[0])


def test_longer_chains() -> None:
    with pixelrt.chain(segmenter(), painter(), editor(), editor()) as chained:
        frame = paint({"mask": MASKS[2]})
        seen, painted, inverted, back = chained(frame)
        assert (seen.mask == MASKS[2]).all()
        assert (inverted.image == 255 - painted.image).all() and (back.image == painted.image).all()


@pytest.mark.parametrize("order", ["lazy", "eager", "random"])
def test_the_image_stays_on_the_gpu(order: Any) -> None:
    """Of each mask one copy goes up, and of each result one comes down: the image never does."""
    cuda = FakeCuda(order=order)
    gpu = GpuOptions(slots=2)
    with pixelrt.chain(painter(cuda=cuda, gpu=gpu), segmenter(cuda=cuda, gpu=gpu)) as both:
        assert both.on_device == (True,)
        results = list(both.stream(MASKS))
        for result, mask in zip(results, MASKS, strict=True):
            assert (result.last.mask == mask).all()
        up = [span for span in cuda.timeline if span.label == "copy to device"]
        down = [span for span in cuda.timeline if span.label == "copy to host"]
        assert len(up) == len(down) == len(MASKS)
        kept = results[3][0].device_images
        assert (kept.to_host()[0] == paint({"mask": MASKS[3]})).all()
        with pytest.raises(InputError, match="stay on the GPU"):
            _ = results[3][0].image
        del results, result, kept
    gc.collect()
    assert not any(cuda.live.values()), cuda.live


def test_all_the_way_on_the_gpu() -> None:
    """A mask that is there already is painted, seen and painted again without any copy but the last."""
    cuda = FakeCuda()
    steps = segmenter(cuda=cuda), painter(cuda=cuda), editor(cuda=cuda), segmenter(cuda=cuda)
    with pixelrt.chain(*steps) as chained:
        frame = paint({"mask": MASKS[0]})
        chained(frame)
        before = len(cuda.timeline)
        result = chained(frame)
        labels = [span.label for span in cuda.timeline][before:]
        assert labels.count("copy to device") == labels.count("copy to host") == 1
        assert (result.last.mask == see(255 - frame)).all()


def test_the_way_by_the_host_if_asked() -> None:
    cuda = FakeCuda()
    with pixelrt.chain(painter(cuda=cuda), segmenter(cuda=cuda), on_device=False) as both:
        painted, seen = both(MASKS[0])
        assert (painted.image == paint({"mask": MASKS[0]})).all() and (seen.mask == MASKS[0]).all()
        with both.clone() as clone:
            assert clone.on_device == (False,) and (clone(MASKS[1]).last.mask == MASKS[1]).all()


def test_seeds_and_inputs_reach_the_first_step() -> None:
    def shade(given: dict[str, Any]) -> NDArray[np.uint8]:
        value = np.clip(128 + 40 * given["latent"][0] + given["label"], 0, 255)
        return np.full((*SIZE, 3), value, np.uint8)

    with pixelrt.chain(fake_generator(shade, (*SIZE, 3), latent=2, labels=("a", "b")), editor()) as both:
        first, second = both(seed=3, label="b")
        assert first.labels == ("b",) and first.seed == 3
        assert (second.image == 255 - first.image).all()
        assert (both(seed=4, label="b")[0].image != first.image).all()
        with pytest.raises(InputError, match="2 images came at once, a chain takes one after the other"):
            both(label=["a", "b"])
        with pytest.raises(InputError, match="takes a label, none came"):
            both()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: (painter(), painter()), "an image comes, this generator takes mask"),
        (lambda: (segmenter(), segmenter()), "a mask comes, the next step takes a frame"),
        (lambda: (segmenter(), editor()), "a mask comes, the next step takes image"),
        (lambda: (segmenter(("red", "blue", "green")), painter()), "the same in another order"),
        (lambda: (segmenter(("red", "green", "sky")), painter()), "it does not know 'sky'"),
        (lambda: (painter(), segmenter(color="bgr")), "the image is rgb, bgr is taken; load both with"),
        (lambda: (painter(), editor((*SIZE, 1))), "an image of 3 channels comes, 1 are taken"),
        (
            lambda: (segmenter(), painter(labels=("a", "b"))),
            "takes a label too, which the step before",
        ),
        (lambda: (painter(), "segmenter"), "step 2 is a str, expected a Segmenter or a Generator"),
    ],
)
def test_what_does_not_fit(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pixelrt.chain(*make())


def test_the_same_step_twice() -> None:
    twice = editor()
    with pytest.raises(InputError, match="the same step came twice"):
        pixelrt.chain(twice, twice)


def test_insisting_on_a_gpu() -> None:
    with pytest.raises(InputError, match="cannot stay on the GPU: not both steps run on a GPU"):
        pixelrt.chain(painter(), segmenter(), on_device=True)


def test_steps_on_different_gpus() -> None:
    first, second = painter(cuda=FakeCuda()), segmenter(cuda=FakeCuda())
    second.session.info = dataclasses.replace(second.session.info, device="cuda:1")
    with first, second, pytest.raises(InputError, match="one runs on cuda:0, the next on cuda:1"):
        pixelrt.chain(first, second)


def test_sizes_that_an_engine_does_not_take() -> None:
    """On the CPU they are resized; an engine has a range."""
    cuda = FakeCuda()
    with painter(cuda=cuda) as first, segmenter(cuda=cuda) as second:
        axes = second.bundle.manifest.axes
        narrow = dataclasses.replace(axes["width"], min=20, opt=20)
        second.bundle.manifest.axes["width"] = narrow
        with pytest.raises(InputError, match=r"12x16 \(height x width\) comes, width may be 20 to"):
            pixelrt.chain(first, second)


def test_inputs_by_name_are_for_generators() -> None:
    with (
        pixelrt.chain(segmenter(), painter()) as both,
        pytest.raises(InputError, match="a segmenter and takes a frame"),
    ):
        both(MASKS[0], label=3)
