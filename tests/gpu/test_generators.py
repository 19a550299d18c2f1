"""Generators on a real GPU: ONNX Runtime through both CUDA libraries, TensorRT where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from generator_contract import GpuGeneratorContract, bundles, opened

import pixelrt
from pixelrt import Generator
from pixelrt.bundle import Bundle
from pixelrt.cuda.opening import DriverName, installed
from pixelrt.self_test.groups import with_engine
from pixelrt.session import GpuOptions, choices
from pixelrt.trt import BuildOptions
from pixelrt.trt.cache import cached_engine
from pixelrt.trt.engine import supports
from pixelrt.trt.gpu import local_gpu
from pixelrt.trt.library import FLAVOURS, Flavour, installed_flavours, load_library
from pixelrt.trt.targets import LOCAL

__all__ = ["bundles", "opened"]  # fixtures


class OnnxRuntime(GpuGeneratorContract):
    driver: DriverName
    why_no_graphs = "frees memory in callbacks"

    @pytest.fixture(scope="class", autouse=True)
    def library(self, request: pytest.FixtureRequest, absent: Callable[[str], NoReturn]) -> None:
        """Before `opened`, which is of the class too."""
        if request.cls.driver not in installed():
            absent(f"{request.cls.driver} is not installed")
        for choice in choices():
            if (choice.backend, choice.device) == ("onnxruntime", "cuda") and not choice.usable:
                absent(choice.reason)

    def open(self, bundle: Bundle) -> Generator:
        gpu = GpuOptions(driver=self.driver, slots=2)
        return pixelrt.load(bundle, task="generation", device="cuda", backend="onnxruntime", gpu=gpu)


class TestOnnxRuntime(OnnxRuntime):
    driver = "cuda-python"


class TestOnnxRuntimeThroughPycuda(OnnxRuntime):
    driver = "pycuda"


class TensorRT(GpuGeneratorContract):
    """Where this TensorRT is not installed, or does not know the GPU, there is nothing to test."""

    flavour: Flavour
    folder: Path

    @pytest.fixture(scope="class", autouse=True)
    def library(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
        """Before `opened`, which is of the class too."""
        flavour = request.cls.flavour
        if flavour not in installed_flavours():
            pytest.skip(f"{FLAVOURS[flavour]} is not installed")
        if not supports(load_library(flavour), local_gpu(0).target):
            pytest.skip(f"{FLAVOURS[flavour]} does not support this GPU")
        request.cls.folder = tmp_path_factory.mktemp(f"engines-{flavour}")

    def open(self, bundle: Bundle) -> Generator:
        """An engine of exactly this flavour, computed in float32; the second time it is in the cache."""
        gpu, library = local_gpu(0), load_library(self.flavour)
        target = LOCAL if self.flavour == "tensorrt" else gpu.target
        options = BuildOptions(flavour=self.flavour, targets=(target,), tf32=False)
        folder = self.folder / bundle.manifest.name
        engine = cached_engine(bundle, options, version=library.version, gpu=gpu, folder=folder)
        return pixelrt.load(
            with_engine(bundle, engine),
            task="generation",
            device="cuda",
            backend="tensorrt",
            build="never",
            gpu=GpuOptions(slots=2),
        )


class TestTensorRT(TensorRT):
    flavour = "tensorrt"


class TestTensorRTRTX(TensorRT):
    flavour = "tensorrt_rtx"
    why_no_graphs = "by itself"
