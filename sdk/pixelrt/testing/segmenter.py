"""A real `Segmenter` without a bundle: a robot's own tests say what it sees."""

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
from pixelrt.manifest import (
    SCHEMA,
    Axis,
    ClassInfo,
    ColorOrder,
    Head,
    Precision,
    Preprocess,
    SegmentationGate,
    SegmentationManifest,
    Source,
    Tensor,
    check_smaller,
)
from pixelrt.pipeline.options import GpuOptions
from pixelrt.segmentation import Segmenter
from pixelrt.strict import type_of
from pixelrt.testing.fake_cuda import FakeCuda
from pixelrt.testing.session import class_infos, fake_session

Bytes = NDArray[np.uint8]
FromFrame = Callable[[Bytes], Bytes]
_LARGEST_SIDE = 1 << 16
_LARGEST_BATCH = 64


def fake_segmenter(
    compute: FromFrame,
    classes: Sequence[str | ClassInfo] = ("road", "car"),
    size: tuple[int, int] = (64, 96),
    *,
    confidence: FromFrame | None = None,
    color: ColorOrder = "rgb",
    smaller: Sequence[tuple[int, int]] = (),
    cuda: FakeCuda | None = None,
    gpu: GpuOptions | None = None,
) -> Segmenter:
    """Make a segmenter whose network is a function.

    Everything but the network is real: what a frame must be, sizes, batches, results, closing, threads. With
    `cuda` it runs on a simulated GPU: slots, tickets, graphs, page-locked frames and masks that stay there.

    Args:
        compute: From a frame uint8[H, W, 3] of `size`, scaled by nearest neighbour, to class ids uint8[H, W].
            What it raises comes out of the call: a `DeviceError` shows what a robot does without a mask.
        classes: Their names, in the order of their ids; colours are chosen. Or whole `ClassInfo`.
        size: Height and width of the network.
        confidence: The same, to the confidence uint8[H, W]; None emits none.
        color: Colour order of the frames.
        smaller: Smaller sizes for `at_sizes`, from large to small; compute gets frames of each of them.
        cuda: The simulated GPU; None for the CPU.
        gpu: How it is used.

    Raises:
        InputError: If compute is no function, there are no classes or more than 256, a name comes twice, or
            a size or the colour order is none.
    """
    _check(compute, classes, size, color)
    _check_smaller(size, smaller)

    def opened(size: tuple[int, int], smaller: Sequence[tuple[int, int]] = ()) -> Segmenter:
        manifest = _manifest(class_infos(classes), size, confidence is not None, color)
        network = _Network(manifest, compute, confidence)
        session = fake_session(manifest, network.run, cuda, gpu)
        bundle = Bundle(Path("a-fake-for-tests"), manifest)
        return Segmenter(bundle, session, open_smaller=lambda: [opened(each) for each in smaller])

    return opened(size, smaller)


@dataclass(frozen=True, slots=True)
class _Network:
    """Functions in the place of a network."""

    manifest: SegmentationManifest
    compute: FromFrame
    confidence: FromFrame | None

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        height, width = self.manifest.preprocess.size
        frames = [nearest(frame, height, width) for frame in feeds["frame"]]
        num_classes = len(self.manifest.heads[0].classes)
        masks = [_checked("compute", self.compute(frame), (height, width)) for frame in frames]
        outputs = {"mask": np.stack(masks)}
        if (highest := int(outputs["mask"].max())) >= num_classes:
            raise InputError(f"compute gave the class id {highest}, expected 0 to {num_classes - 1}")
        if self.confidence is not None:
            planes = [_checked("confidence", self.confidence(frame), (height, width)) for frame in frames]
            outputs["confidence"] = np.stack(planes)
        return outputs


def _checked(what: str, plane: Bytes, size: tuple[int, int]) -> Bytes:
    if not isinstance(plane, np.ndarray) or plane.dtype != np.uint8 or plane.shape != size:
        found = f"{plane.dtype}{list(plane.shape)}" if isinstance(plane, np.ndarray) else type(plane).__name__
        raise InputError(f"{what} gave {found}, expected uint8{list(size)}")
    return plane


def _check(compute: object, classes: object, size: object, color: object) -> None:
    if not callable(compute):
        raise InputError(f"compute is {type_of(compute)}, expected a function from a frame to class ids")
    if isinstance(classes, str):
        raise InputError(f"classes is {classes!r}, expected a list of names: [{classes!r}]")
    sides = size if isinstance(size, (tuple, list)) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 1 for side in sides):
        raise InputError(f"size {size}: height and width of at least 1 were expected")
    if color not in ("rgb", "bgr"):
        raise InputError(f"color is {color!r}, expected 'rgb' or 'bgr'")


def _check_smaller(size: tuple[int, int], smaller: Sequence[tuple[int, int]]) -> None:
    try:
        check_smaller(size, smaller)
    except ValueError as problem:
        raise InputError(f"smaller: {problem}") from problem


def _manifest(
    classes: tuple[ClassInfo, ...], size: tuple[int, int], with_confidence: bool, color: ColorOrder
) -> SegmentationManifest:
    height, width = size
    emitted = ("mask", "confidence") if with_confidence else ("mask",)
    side = Axis(min=1, opt=max(size), max=max(_LARGEST_SIDE, *size))
    return SegmentationManifest(
        schema=SCHEMA,
        name="fake",
        task="segmentation",
        created="2000-01-01T00:00:00Z",
        tools={},
        inputs=(Tensor(name="frame", dtype="uint8", shape=("batch", "height", "width", 3)),),
        outputs=tuple(Tensor(name=kind, dtype="uint8", shape=("batch", height, width)) for kind in emitted),
        axes={"batch": Axis(min=1, opt=1, max=_LARGEST_BATCH), "height": side, "width": side},
        preprocess=Preprocess(size=size, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3, color=color),
        heads=(
            Head(
                name="scene",
                classes=classes,
                activation="softmax",
                outputs={kind: kind for kind in emitted},
            ),
        ),
        precision=Precision(requested="fp32", layers={}),
        artifacts=(),
        gate=SegmentationGate(skipped=True, agreement=0.999, miou_drop=0.002, images="none", num_images=0),
        source=Source(model="a function, for tests"),
    )
