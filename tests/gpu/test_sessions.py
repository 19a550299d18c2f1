"""Sessions on a real GPU: ONNX Runtime through both CUDA libraries, TensorRT where it is installed."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from session_contract import FRAMES, MASKS, SessionContract, cpu, expect_mask

from pixelrt.bundle import Bundle
from pixelrt.cuda.opening import DriverName, choose, installed
from pixelrt.loading import load
from pixelrt.segmentation import Segmenter
from pixelrt.self_test.checks import ImpossibleError
from pixelrt.self_test.groups import TensorRTGround, supported
from pixelrt.self_test.protocol import Order
from pixelrt.self_test.session_checks import driver_of
from pixelrt.self_test.tiny import tiny_bundle
from pixelrt.session import GpuOptions, choices
from pixelrt.trt.library import FLAVOURS, Flavour, installed_flavours

Absent = Callable[[str], NoReturn]
ROAD = Path(__file__).parents[2] / "engines" / "road-unet" / "bundle"
DRIVE = "test://drive?frames=12&size=720x1280&seed=11"
AGREEMENT = 0.999

NO_MEMORY = """
import sys
from pixelrt.cuda.opening import open_driver
from pixelrt.errors import OutOfMemory
from pixelrt.loading import load
from pixelrt.self_test.groups import TensorRTGround
from pixelrt.self_test.protocol import Order
from pixelrt.self_test.tiny import golden, tiny_bundle
from pixelrt.session import GpuOptions

frames, masks = golden()

def attempt():
    with OPENING as segmenter:
        return "works" if (segmenter(frames[0]).mask == masks[0]).all() else "another mask"

driver = open_driver()
if BEFORE:
    print(attempt())
filled, block = [], driver.memory()[0]
while block >= 1 << 20:
    try:
        filled.append(driver.allocate(block))
    except OutOfMemory:
        block //= 2
free = driver.memory()[0]
try:
    print(attempt())
except OutOfMemory as problem:
    print("out of memory")
print("gone" if driver.memory()[0] < free - (64 << 20) else "freed")
for memory in filled:
    memory.close()
print(attempt())
"""
"""In a process of its own: whatever libraries do without memory, no other test sees it."""


class OnTheGpu(SessionContract):
    """Beside the contract, what only a GPU with other libraries can show."""

    backend: str
    driver: DriverName | None = None
    """None for the one that would be taken."""

    def opening(self) -> str:
        """What opens it in another process."""
        return f"load(tiny_bundle(), device='cuda', backend={self.backend!r})"

    @pytest.mark.parametrize("before", [False, True], ids=["at the first time", "at the second time"])
    def test_no_memory(self, before: bool) -> None:
        program = NO_MEMORY.replace("OPENING", self.opening()).replace("BEFORE", str(before))
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stdout + done.stderr
        expected = ["works"] * before + ["out of memory", "freed", "works"]
        assert done.stdout.splitlines() == expected, done.stdout + done.stderr

    @pytest.fixture
    def torch(self, absent: Absent) -> Any:
        if importlib.util.find_spec("torch") is None:
            absent("torch is not installed")
        import torch

        if not torch.cuda.is_available():
            absent("this torch has no CUDA")
        return torch

    def test_tensors_of_pytorch(self, segmenter: Segmenter, torch: Any) -> None:
        frames = [torch.from_numpy(frame).cuda() for frame in FRAMES]
        for turn in range(12):
            expect_mask(segmenter(frames[turn % 3]), turn % 3)
        tickets = [segmenter.submit(frame) for frame in frames]
        for index, ticket in enumerate(tickets):
            expect_mask(ticket.result(), index)

    def test_masks_for_pytorch(self, segmenter: Segmenter, torch: Any) -> None:
        kept = []
        for index, frame in enumerate(FRAMES):
            there = torch.from_numpy(frame).cuda()
            mask = segmenter.submit(there, on_device=True).result().device_mask
            assert mask is not None
            kept.append(torch.from_dlpack(mask))
            assert kept[index].device.type == "cuda"
        for turn in range(6):
            segmenter.submit(FRAMES[turn % 3], on_device=True).result()
        for index, tensor in enumerate(kept):
            np.testing.assert_array_equal(tensor.cpu().numpy(), MASKS[index])

    def test_pytorch_works_beside_it(self, segmenter: Segmenter, torch: Any) -> None:
        weights = torch.randn((512, 512), device="cuda")
        expected = (weights @ weights).sum()
        for turn in range(30):
            ticket = segmenter.submit(FRAMES[turn % 3])
            assert torch.allclose((weights @ weights).sum(), expected)
            expect_mask(ticket.result(), turn % 3)

    def test_blocking_and_zero_copy_change_nothing(self) -> None:
        ways: list[dict[str, Any]] = [{"blocking": True}, {"zero_copy": True}, {"zero_copy": False}]
        if (self.driver or choose()) != "pycuda":
            ways.append({"priority": -5})
        for options in ways:
            with self.open(**options) as segmenter:
                for turn in range(9):
                    expect_mask(segmenter(FRAMES[turn % 3]), turn % 3)

    def test_road_unet_agrees_with_the_cpu(self, absent: Absent) -> None:
        """The shipped network on the drive that it was trained for."""
        if not (ROAD / "manifest.json").is_file():
            pytest.skip(f"there is no bundle in {ROAD}: pixelrt export engines/road-unet/recipe.toml")
        from pixelrt.video.sources.opening import open_source

        bundle = Bundle.open(ROAD)
        with open_source(DRIVE) as source:
            frames = [frame.image for frame in itertools.islice(source, 12)]
        with self.open_bundle(bundle) as segmenter, load_cpu(bundle) as reference:
            same = [segmenter(frame).mask == reference(frame).mask for frame in frames]
        assert np.mean(same) >= AGREEMENT

    def open_bundle(self, bundle: Bundle) -> Segmenter:
        """A bundle with this backend on the GPU."""
        return load(bundle, device="cuda", backend=self.backend)


def load_cpu(bundle: Bundle) -> Segmenter:
    """The same network on the CPU, in float32."""
    return load(bundle, device="cpu", precision="float32")


class OnnxRuntime(OnTheGpu):
    backend = "onnxruntime"
    why_no_graphs = "frees memory in callbacks"

    @pytest.fixture(autouse=True)
    def library(self, absent: Absent) -> None:
        assert self.driver is not None
        if self.driver not in installed():
            absent(f"{self.driver} is not installed")
        for choice in choices():
            if (choice.backend, choice.device) == ("onnxruntime", "cuda") and not choice.usable:
                absent(choice.reason)

    def open(self, **options: Any) -> Segmenter:
        gpu = GpuOptions(driver=self.driver, **options)
        return load(tiny_bundle(), device="cuda", backend="onnxruntime", gpu=gpu)


class TestOnnxRuntime(OnnxRuntime):
    driver = "cuda-python"


class TestOnnxRuntimeThroughPycuda(OnnxRuntime):
    driver = "pycuda"


class TensorRT(OnTheGpu):
    """Where this TensorRT is not installed, or does not know the GPU, there is nothing to test."""

    backend = "tensorrt"
    flavour: Flavour

    @pytest.fixture(autouse=True)
    def library(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path_factory.getbasetemp() / f"cache-{self.flavour}"
        folder.mkdir(exist_ok=True)
        monkeypatch.setenv("PIXELRT_CACHE", str(folder / "cache"))
        if self.flavour not in installed_flavours():
            pytest.skip(f"{FLAVOURS[self.flavour]} is not installed")
        self.ground = TensorRTGround(self.flavour, Order(folder=str(folder)))
        try:
            supported(self.ground)
        except ImpossibleError as reason:
            pytest.skip(str(reason))

    def open(self, **options: Any) -> Segmenter:
        return self.ground.open_segmenter(GpuOptions(**options))

    def opening(self) -> str:
        folder = str(self.ground.cache.parent)
        ground = f"TensorRTGround({self.flavour!r}, Order(folder={folder!r}))"
        return f"{ground}.open_segmenter(GpuOptions())"


class TestTensorRT(TensorRT):
    flavour = "tensorrt"


class TestTensorRTRTX(TensorRT):
    flavour = "tensorrt_rtx"
    why_no_graphs = "by itself"


def test_the_cpu_and_the_gpu_are_different_sessions() -> None:
    """What agreement is measured against does not run on the GPU by accident."""
    with cpu() as reference:
        assert reference.session.info.device == "cpu"
        assert driver_of(reference) is None
