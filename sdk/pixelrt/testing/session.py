"""Sessions that call a function in the place of a network, on the CPU or on a simulated GPU."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from pixelrt.backends.base import LocalSession, Session, SessionInfo
from pixelrt.backends.gpu_session import GpuSession, Origin
from pixelrt.cuda.protocol import Driver
from pixelrt.errors import InputError
from pixelrt.manifest import ClassInfo, Manifest
from pixelrt.pipeline.options import GpuOptions
from pixelrt.pipeline.streams import Streams
from pixelrt.tensors import TensorSpec
from pixelrt.testing.fake_cuda import FakeCuda
from pixelrt.testing.fake_executor import FakeExecutor

Run = Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]
"""From the arrays of all inputs to those of all outputs, by their names."""


def fake_session(manifest: Manifest, run: Run, cuda: FakeCuda | None, gpu: GpuOptions | None) -> Session:
    """A session whose network is a function: on the CPU, or on `cuda`."""
    return FakeSession(manifest, run) if cuda is None else _on_gpu(manifest, run, cuda, gpu)


class FakeSession(LocalSession):
    """Calls a function instead of a network."""

    def __init__(self, manifest: Manifest, run: Run) -> None:
        info = SessionInfo(
            backend="fake", device="cpu", precision="float32", version="1", why="a fake for tests"
        )
        super().__init__(manifest, info, {})
        self._manifest = manifest
        self._network = run

    def clone(self) -> FakeSession:
        """Another session that calls the same function."""
        with self._alone(cloning=True):
            return FakeSession(self._manifest, self._network)

    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return self._network(feeds)

    def _free(self) -> None:
        return


def _on_gpu(manifest: Manifest, run: Run, cuda: FakeCuda, gpu: GpuOptions | None) -> GpuSession:
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
        return FakeExecutor(cuda, inputs, outputs, run)

    return GpuSession(manifest, info, Origin.of(cuda, make, gpu or GpuOptions()))


def class_infos(classes: Sequence[str | ClassInfo]) -> tuple[ClassInfo, ...]:
    """Classes with colours of their own.

    Raises:
        InputError: If there are none or more than 256, or a name comes twice.
    """
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
