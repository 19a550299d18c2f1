"""For tests: a GPU in main memory, and networks that are NumPy functions."""

from pixelrt.testing.fake_cuda import FakeCuda
from pixelrt.testing.fake_executor import FakeExecutor, FakeNetwork
from pixelrt.testing.simulation import DataRaceError, Span

__all__ = ["DataRaceError", "FakeCuda", "FakeExecutor", "FakeNetwork", "Span"]
