"""The CUDA contract on a real GPU, for both drivers, and beside PyTorch."""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from pixelrt.cuda.opening import DriverName, installed, open_driver, unavailable
from pixelrt.cuda.protocol import Driver, Stream
from pixelrt.cuda.status import STATUSES

_spec = importlib.util.spec_from_file_location(
    "cuda_contract", Path(__file__).parents[1] / "cuda" / "contract.py"
)
assert _spec and _spec.loader
contract = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(contract)

MIB = 1 << 20
Absent = Callable[[str], NoReturn]

CRASH = """
from cuda.bindings import driver as cuda
from pixelrt.cuda.opening import open_driver
from pixelrt.errors import ContextLost

PTX = b'''
.version 6.3
.target sm_75
.address_size 64
.visible .entry crash()
{
    .reg .b64 %address;
    .reg .b32 %value;
    mov.u64 %address, 16;
    mov.u32 %value, 1;
    st.global.u32 [%address], %value;
    ret;
}
\\0'''

def check(answer):
    assert answer[0] == cuda.CUresult.CUDA_SUCCESS, answer
    return answer[-1]

driver = open_driver(NAME)
stream, event = driver.stream(), driver.event()
memory, host = driver.allocate(64), driver.allocate_host(64)
with driver.current():
    module = check(cuda.cuModuleLoadData(PTX))
    kernel = check(cuda.cuModuleGetFunction(module, b"crash"))
    check(cuda.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream.handle, 0, 0))
uses = (
    stream.synchronize,
    lambda: stream.copy_to_device(memory.address, host.array),
    lambda: driver.allocate(1),
    driver.synchronize,
)
for use in uses:
    try:
        use()
    except ContextLost as problem:
        print(problem)
    else:
        print("worked", use)
for resource in (event, memory, host, stream, driver):
    resource.close()
assert not any(driver.live.values())
"""


class GpuContract(contract.CudaContract):  # type: ignore[misc,name-defined]  # loaded at run time
    name: DriverName

    @pytest.fixture(autouse=True)
    def library(self, absent: Absent) -> None:
        if self.name not in installed():
            absent(f"{self.name} is not installed")

    @pytest.fixture
    def torch(self, absent: Absent) -> Any:
        if importlib.util.find_spec("torch") is None:
            absent("torch is not installed")
        import torch

        if not torch.cuda.is_available():
            absent("this torch has no CUDA")
        return torch

    def make(self) -> Driver:
        return open_driver(self.name)

    def test_is_available(self) -> None:
        assert unavailable(self.name) == ""

    def test_torch_works_before_between_and_after(self, torch: Any) -> None:
        before = torch.arange(1000, device="cuda")
        for _ in range(3):
            with self.make() as driver, driver.stream() as stream:
                got = contract.round_trip(driver, stream, contract.noise(1))
                np.testing.assert_array_equal(got, contract.noise(1))
                between = torch.full((512, 512), 2.0, device="cuda")
                assert float((between @ between).sum()) == 512 * 512 * 2048
                with driver.current():
                    assert int((before * 2).sum()) == 999_000
                assert driver.live["stream"] == 1
            assert int(before.sum()) == 499_500
        torch.cuda.synchronize()

    def test_we_come_before_torch(self, absent: Absent) -> None:
        program = (
            "from pixelrt.cuda.opening import open_driver\n"
            f"driver = open_driver({self.name!r})\n"
            "memory, stream = driver.allocate(64), driver.stream()\n"
            "import torch\n"
            "values = torch.arange(10, device='cuda')\n"
            "for resource in (memory, stream, driver): resource.close()\n"
            "print(int(values.sum()))\n"
        )
        if importlib.util.find_spec("torch") is None:
            absent("torch is not installed")
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (0, "45\n"), done.stderr

    def test_we_wait_for_what_torch_does(self, torch: Any, driver: Driver, stream: Stream) -> None:
        with driver.allocate_host(MIB) as host:
            for value in range(1, 6):
                slow = torch.ones((2048, 2048), device="cuda")
                for _ in range(20):
                    slow = slow @ slow / 2048
                tensor = (torch.full((MIB,), value, device="cuda") * slow[0, 0]).to(torch.uint8)
                stream.wait_for_stream(torch.cuda.current_stream().cuda_stream)
                stream.copy_to_host(host.array, tensor.data_ptr())
                stream.synchronize()
                assert (host.array == value).all()

    def test_torch_and_we_in_several_threads(self, torch: Any, driver: Driver) -> None:
        def work(index: int) -> None:
            with driver.stream() as stream:
                for turn in range(50):
                    ones = torch.ones(1000, device="cuda")
                    content = contract.noise(index * 100 + turn)
                    np.testing.assert_array_equal(contract.round_trip(driver, stream, content), content)
                    assert float(ones.sum()) == 1000

        contract.in_threads(4, work)

    def test_ten_thousand_frames_leak_nothing(self, driver: Driver, stream: Stream) -> None:
        content = contract.noise(2, MIB)
        with (
            driver.allocate_host(MIB) as source,
            driver.allocate(MIB) as memory,
            driver.allocate_host(MIB) as target,
            driver.event(timing=True) as start,
            driver.event(timing=True) as end,
        ):
            source.array[:] = content

            def frame() -> None:
                stream.wait_for_stream(0)
                stream.record(start)
                stream.copy_to_device(memory.address, source.array)
                stream.copy_to_host(target.array, memory.address)
                stream.record(end)
                end.synchronize()
                with driver.event() as event, driver.stream() as other:
                    other.wait(end)
                    other.record(event)

            for _ in range(100):
                frame()
            free, live = driver.memory()[0], driver.live
            for _ in range(10_000):
                frame()
            assert driver.live == live
            assert driver.memory()[0] >= free - MIB
            assert end.elapsed_ms(start) > 0
            np.testing.assert_array_equal(target.array, content)

    def test_ten_thousand_allocations_leak_nothing(self, driver: Driver) -> None:
        for turn in range(10_000):
            driver.allocate(MIB).close()
            if turn % 100 == 0:
                driver.allocate_host(MIB).close()
            if turn == 100:
                free = driver.memory()[0]
        assert driver.memory()[0] >= free - MIB

    def test_closing_gives_the_memory_back(self, driver: Driver) -> None:
        free = driver.memory()[0]
        for _ in range(3):
            with self.make() as other, other.allocate(64 * MIB):
                assert driver.memory()[0] <= free - 64 * MIB
        assert driver.memory()[0] >= free - MIB

    def test_a_kernel_that_crashes_loses_the_context(self, absent: Absent) -> None:
        if "cuda-python" not in installed():
            absent("cuda-python is not installed, which launches the kernel")
        program = CRASH.replace("NAME", repr(self.name))
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
        lines = done.stdout.splitlines()
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(lines) == 4, done.stdout
        assert all("an illegal memory access was encountered" in line for line in lines), done.stdout
        assert all("pixelrt.isolate" in line for line in lines)


class TestCudaPython(GpuContract):
    name = "cuda-python"


class TestPycuda(GpuContract):
    name = "pycuda"
    waits_for_other_streams = False


def test_the_texts_are_those_of_the_driver() -> None:
    driver = ctypes.CDLL("libcuda.so.1")
    for code, status in STATUSES.items():
        name, text = ctypes.c_char_p(), ctypes.c_char_p()
        if driver.cuGetErrorName(code, ctypes.byref(name)):
            continue  # newer than this driver
        driver.cuGetErrorString(code, ctypes.byref(text))
        assert (name.value, text.value) == (status.name.encode(), status.text.encode())
