"""The pipeline on a real GPU, for both CUDA libraries, with a network that needs no other library."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest
from pipeline_contract import PipelineContract

from pixelrt.cuda.opening import DriverName, installed, open_driver
from pixelrt.cuda.protocol import Driver


class OnTheGpu(PipelineContract):
    name: DriverName

    @pytest.fixture(autouse=True)
    def library(self, absent: Callable[[str], NoReturn]) -> None:
        if self.name not in installed():
            absent(f"{self.name} is not installed")

    def make(self) -> Driver:
        return open_driver(self.name)


class TestCudaPython(OnTheGpu):
    name = "cuda-python"


class TestPycuda(OnTheGpu):
    name = "pycuda"
