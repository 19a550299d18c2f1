"""A real `Segmenter` without a bundle: a robot's own tests say what it sees."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.backends.base import LocalSession, SessionInfo
from pixelrt.backends.gpu_session import GpuSession, Origin
from pixelrt.bundle import Bundle
from pixelrt.cuda.protocol import Driver
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
)
from pixelrt.pipeline.options import GpuOptions
from pixelrt.pipeline.streams import Streams
from pixelrt.segmentation import Segmenter
from pixelrt.tensors import TensorSpec
from pixelrt.testing.fake_cuda import FakeCuda
from pixelrt.testing.fake_executor import FakeExecutor

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
        cuda: The simulated GPU; None for the CPU.
        gpu: How it is used.

    Raises:
        InputError: If compute is no function, there are no classes or more than 256, a name comes twice, or
            the size or the colour order is none.
    """
    _check(compute, classes, size, color)
    manifest = _manifest(_class_infos(classes), size, confidence is not None, color)
    network = _Network(manifest, compute, confidence)
    session = FakeSession(manifest, network) if cuda is None else _on_gpu(manifest, network, cuda, gpu)
    return Segmenter(Bundle(Path("a-fake-for-tests"), manifest), session)


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


def _on_gpu(
    manifest: SegmentationManifest, network: _Network, cuda: FakeCuda, gpu: GpuOptions | None
) -> GpuSession:
    info = SessionInfo(
        backend="fake",
        device="cuda:0",
        precision="float32",
        version="1",
        why="a fake for tests",
        gpu=cuda.device.name,
        driver=f"{cuda.name} {cuda.version}",
    )
    inputs, outputs = (tuple(map(TensorSpec.of, tensors)) for tensors in (manifest.inputs, manifest.outputs))

    def make(driver: Driver, streams: Streams) -> FakeExecutor:
        return FakeExecutor(cuda, inputs, outputs, network.run)

    return GpuSession(manifest, info, Origin.of(cuda, make, gpu or GpuOptions()))


class FakeSession(LocalSession):
    """Calls functions instead of a network; see `fake_segmenter`."""

    def __init__(self, manifest: SegmentationManifest, network: _Network) -> None:
        info = SessionInfo(
            backend="fake", device="cpu", precision="float32", version="1", why="a fake for tests"
        )
        super().__init__(manifest, info, {})
        self._manifest = manifest
        self._network = network

    def clone(self) -> FakeSession:
        """Another session that calls the same functions."""
        with self._alone():
            return FakeSession(self._manifest, self._network)

    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return self._network.run(feeds)

    def _free(self) -> None:
        return


def _checked(what: str, plane: Bytes, size: tuple[int, int]) -> Bytes:
    if not isinstance(plane, np.ndarray) or plane.dtype != np.uint8 or plane.shape != size:
        found = f"{plane.dtype}{list(plane.shape)}" if isinstance(plane, np.ndarray) else type(plane).__name__
        raise InputError(f"{what} gave {found}, expected uint8{list(size)}")
    return plane


def _check(compute: object, classes: object, size: object, color: object) -> None:
    if not callable(compute):
        raise InputError(
            f"compute is a {type(compute).__name__}, expected a function from a frame to class ids"
        )
    if isinstance(classes, str):
        raise InputError(f"classes is {classes!r}, expected a list of names: [{classes!r}]")
    sides = size if isinstance(size, (tuple, list)) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 1 for side in sides):
        raise InputError(f"size {size}: height and width of at least 1 were expected")
    if color not in ("rgb", "bgr"):
        raise InputError(f"color is {color!r}, expected 'rgb' or 'bgr'")


def _class_infos(classes: Sequence[str | ClassInfo]) -> tuple[ClassInfo, ...]:
    infos = tuple(
        entry if isinstance(entry, ClassInfo) else ClassInfo(name=entry, color=_color(i, len(classes)))
        for i, entry in enumerate(classes)
    )
    names = [info.name for info in infos]
    if not 1 <= len(names) <= 256 or len(set(names)) < len(names):
        raise InputError(f"classes {names}: 1 to 256, each with a name of its own, were expected")
    return infos


def _color(index: int, count: int) -> tuple[int, int, int]:
    red, green, blue = (round(255 * value) for value in colorsys.hsv_to_rgb(index / count, 0.72, 0.95))
    return red, green, blue


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
