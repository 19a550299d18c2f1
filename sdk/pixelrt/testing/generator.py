"""A real `Generator` without a bundle: a function paints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle import Bundle
from pixelrt.errors import InputError
from pixelrt.frames import nearest
from pixelrt.generation.generator import Generator
from pixelrt.manifest import (
    SCHEMA,
    Axis,
    ClassInfo,
    GenerationGate,
    GenerationManifest,
    LabelInfo,
    LatentInfo,
    MaskInfo,
    OutputInfo,
    Precision,
    Preprocess,
    Source,
    Tensor,
)
from pixelrt.pipeline.options import GpuOptions
from pixelrt.strict import type_of
from pixelrt.testing.fake_cuda import FakeCuda
from pixelrt.testing.session import class_infos, fake_session

Bytes = NDArray[np.uint8]
Paint = Callable[[dict[str, Any]], Bytes]
_LARGEST_SIDE = 1 << 16
_LARGEST_BATCH = 16


def fake_generator(
    compute: Paint,
    size: tuple[int, int, int] = (64, 96, 3),
    *,
    latent: int | tuple[int, int, int] | None = None,
    labels: Sequence[str] = (),
    classes: Sequence[str | ClassInfo] = (),
    image: tuple[int, int, int] | None = None,
    cuda: FakeCuda | None = None,
    gpu: GpuOptions | None = None,
) -> Generator:
    """Make a generator whose network is a function.

    Everything but the network is real: what goes in, strategies, batches, results, closing, threads. With
    `cuda` it runs on a simulated GPU: slots, tickets, graphs, images that stay there.

    Args:
        compute: From what one image is made of (`latent` float32[*size], `label` int, `mask` uint8[H, W] at
            the size of the images, `image` uint8[H, W, C], by nearest neighbour at its size) to the image,
            uint8 of `size`. What it raises comes out of the call.
        size: Height, width and channels (1 or 3) of the images, in RGB.
        latent: Length of a latent vector, or channels, height and width; None takes none. They are normal.
        labels: Names of the labels; none makes it unconditional.
        classes: Of the masks, in the order of their ids; none takes no mask.
        image: Height, width and channels of the images that go in, in RGB; None takes none.
        cuda: The simulated GPU; None for the CPU.
        gpu: How it is used.

    Raises:
        InputError: If compute is no function, a size cannot be, or nothing goes in.
    """
    _check(compute, size, latent, image)
    for what, names in (("labels", labels), ("classes", classes)):
        if isinstance(names, str):
            raise InputError(f"{what} is {names!r}, expected a list of names: [{names!r}]")
    if latent is None and image is None and not labels and not classes:
        raise InputError("nothing goes into this generator; give it latent, labels, classes or image")
    mask = MaskInfo(size=(size[0], size[1]), classes=class_infos(classes)) if classes else None
    vector = (latent,) if isinstance(latent, int) else latent
    info = LatentInfo(size=vector, distribution="normal") if vector else None
    manifest = _manifest(size, info, _label_info(labels), mask, image)
    session = fake_session(manifest, _Network(manifest, compute).run, cuda, gpu)
    return Generator(Bundle(Path("a-fake-for-tests"), manifest), session)


@dataclass(frozen=True, slots=True)
class _Network:
    """A function in the place of a network."""

    manifest: GenerationManifest
    compute: Paint

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        count = len(next(iter(feeds.values())))
        return {"generated": np.stack([self._paint(feeds, index) for index in range(count)])}

    def _paint(self, feeds: Mapping[str, NDArray[Any]], index: int) -> Bytes:
        given: dict[str, Any] = {name: array[index] for name, array in feeds.items()}
        manifest = self.manifest
        if manifest.label is not None:
            given["label"] = int(given["label"])
        if manifest.mask is not None:
            given["mask"] = nearest(given["mask"], *manifest.mask.size)
        if manifest.image is not None:
            given["image"] = nearest(given["image"], *manifest.image.size)
        painted = self.compute(given)
        shape = (*manifest.output.size, manifest.output.channels)
        if not isinstance(painted, np.ndarray) or painted.dtype != np.uint8 or painted.shape != shape:
            what = isinstance(painted, np.ndarray)
            found = f"{painted.dtype}{list(painted.shape)}" if what else type(painted).__name__
            raise InputError(f"compute gave {found}, expected uint8{list(shape)}")
        return painted


def _label_info(labels: Sequence[str]) -> LabelInfo | None:
    try:
        return LabelInfo(names=tuple(labels)) if labels else None
    except ValueError as problem:
        raise InputError(f"labels: {problem}") from problem


def _check(compute: object, size: object, latent: object, image: object) -> None:
    if not callable(compute):
        raise InputError(f"compute is {type_of(compute)}, expected a function from what goes in to an image")
    if not _sides(size) or size[2] not in (1, 3):  # type: ignore[index]
        raise InputError(f"size {size}: height, width, and 1 or 3 channels were expected")
    if image is not None and not _sides(image):
        raise InputError(f"image {image}: height, width and channels were expected")
    if latent is not None and not (_sides(latent) or (type(latent) is int and latent >= 1)):
        raise InputError(f"latent is {latent!r}, expected a length, or channels, height and width")


def _sides(value: object) -> bool:
    sides = value if isinstance(value, (tuple, list)) else ()
    return len(sides) == 3 and all(isinstance(side, int) and side >= 1 for side in sides)


def _manifest(
    size: tuple[int, int, int],
    latent: LatentInfo | None,
    label: LabelInfo | None,
    mask: MaskInfo | None,
    image: tuple[int, int, int] | None,
) -> GenerationManifest:
    inputs = []
    if latent is not None:
        inputs.append(Tensor(name="latent", dtype="float32", shape=("batch", *latent.size)))
    if label is not None:
        inputs.append(Tensor(name="label", dtype="int32", shape=("batch",)))
    if mask is not None:
        inputs.append(Tensor(name="mask", dtype="uint8", shape=("batch", "mask_height", "mask_width")))
    if image is not None:
        inputs.append(Tensor(name="image", dtype="uint8", shape=("batch", "height", "width", image[2])))
    side = Axis(min=1, opt=size[0], max=max(_LARGEST_SIDE, size[0]))
    axes = {dim for tensor in inputs for dim in tensor.shape if isinstance(dim, str)} - {"batch"}
    height, width, channels = size
    return GenerationManifest(
        schema=SCHEMA,
        name="fake",
        created="2000-01-01T00:00:00Z",
        tools={},
        inputs=tuple(inputs),
        outputs=(Tensor(name="generated", dtype="uint8", shape=("batch", *size)),),
        axes={"batch": Axis(min=1, opt=1, max=_LARGEST_BATCH), **dict.fromkeys(sorted(axes), side)},
        precision=Precision(requested="fp32", layers={}),
        artifacts=(),
        source=Source(model="a function, for tests"),
        output=OutputInfo(size=(height, width), channels=1 if channels == 1 else 3, range="none"),
        gate=GenerationGate(
            skipped=True, psnr=40.0, ssim=0.99, max_difference=32, seed=0, images="", num_images=0
        ),
        latent=latent,
        label=label,
        mask=mask,
        image=_preprocess(image) if image else None,
    )


def _preprocess(image: tuple[int, int, int]) -> Preprocess:
    height, width, channels = image
    return Preprocess(
        size=(height, width), channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels, color="rgb"
    )
