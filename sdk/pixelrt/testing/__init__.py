"""For tests: segmenters, generators, networks and GPUs that need neither a bundle nor a GPU. NumPy is enough.

A robot's own tests say what its segmenter sees, and look at what it does:

    from pixelrt.testing import fake_segmenter

    def test_the_robot_stops_in_front_of_a_wall():
        wall = np.ones((64, 96), np.uint8)
        robot = Robot(fake_segmenter(lambda frame: wall, classes=("floor", "wall")))
        assert robot.speed(camera_frame) == 0

What a robot does with several frames on their way, it does on a simulated GPU:

    segmenter = fake_segmenter(see, classes=("floor", "wall"), cuda=FakeCuda(), gpu=GpuOptions(slots=3))
    tickets = [segmenter.submit(frame) for frame in frames]

A generator that is a function (`fake_generator`) draws, batches and streams as a real one does:

    generator = fake_generator(lambda given: paint(given["latent"]), size=(28, 28, 1), latent=64)

`FakeCuda` is a GPU in main memory that does its work in orders that nobody expects and reports races, and
`FakeExecutor` is a network for it that is a NumPy function: PixelRT's own pipeline is tested with them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixelrt.testing.fake_cuda import FakeCuda
    from pixelrt.testing.fake_executor import FakeExecutor, FakeNetwork
    from pixelrt.testing.generator import fake_generator
    from pixelrt.testing.segmenter import fake_segmenter
    from pixelrt.testing.simulation import DataRaceError, Span

_HOME = {
    "DataRaceError": "simulation",
    "FakeCuda": "fake_cuda",
    "FakeExecutor": "fake_executor",
    "FakeNetwork": "fake_executor",
    "Span": "simulation",
    "fake_generator": "generator",
    "fake_segmenter": "segmenter",
}

__all__ = [
    "DataRaceError",
    "FakeCuda",
    "FakeExecutor",
    "FakeNetwork",
    "Span",
    "fake_generator",
    "fake_segmenter",
]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562): a fake GPU needs no segmenter."""
    if name not in _HOME:
        raise AttributeError(f"module 'pixelrt.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"pixelrt.testing.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
