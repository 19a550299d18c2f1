"""The CUDA contract over the emulated driver, which must be the `libcuda.so.1` that the loader finds.

test_cuda.py in tests/contract runs this in a process of its own: no other test may see a library that passes
for the driver.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from pipeline_contract import PipelineContract

from pixelrt.cuda.opening import DriverName, count_devices, open_driver, unavailable
from pixelrt.cuda.protocol import Driver, Stream
from pixelrt.errors import ContextLost, DeviceError, DeviceLost, InputError, OutOfMemory

_spec = importlib.util.spec_from_file_location("cuda_contract", Path(__file__).with_name("contract.py"))
assert _spec and _spec.loader
contract = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(contract)
KINDS = ("device memory", "host memory", "stream", "event", "graph")

# pycuda refers to all of CUDA's functions, and the emulator has those that are called
sys.setdlopenflags(os.RTLD_LAZY)
emulator = ctypes.CDLL("libcuda.so.1", os.RTLD_LAZY | os.RTLD_GLOBAL)
emulator.emulator_get.restype = ctypes.c_long
emulator.emulator_set.argtypes = [ctypes.c_char_p, ctypes.c_long]


def count(what: str) -> int:
    return int(emulator.emulator_get(what.encode()))


def configure(what: str, value: int) -> None:
    emulator.emulator_set(what.encode(), value)


@contextmanager
def failing(function: str, code: int) -> Iterator[None]:
    emulator.emulator_fail(function.encode(), code)
    yield
    emulator.emulator_fail(b"", 0)


@contextmanager
def pressing_ctrl_c(place: int) -> Iterator[list[str]]:
    """Interrupt the block at the n-th place within the context's code where Python looks at signals.

    It does when a function begins and when a call into C has returned. The beginning of `__exit__` and `pop`
    is left out: nothing can be guarded before it has begun.

    Yields:
        Where it was; empty if the block has fewer places.
    """
    passed, pressed = itertools.count(), []

    def look(frame: FrameType, event: str, argument: object) -> None:
        file, function = Path(frame.f_code.co_filename).name, frame.f_code.co_name
        if file not in ("resources.py", "cuda_python.py", "pycuda.py") or event not in ("call", "c_return"):
            return
        if event == "call" and function in ("__exit__", "pop"):
            return
        if next(passed) == place:
            pressed.append(f"{file} {function} {event} {argument}")
            raise KeyboardInterrupt

    sys.setprofile(look)
    try:
        yield pressed
    finally:
        sys.setprofile(None)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Every test begins with a fresh GPU and leaves nothing on it."""
    emulator.emulator_reset()
    yield
    left = {what: count(what) for what in (*KINDS, "template", "holders", "depth", "misused")}
    emulator.emulator_reset()
    assert not any(left.values()), left


class EmulatedContract(contract.CudaContract):  # type: ignore[misc,name-defined]  # loaded at run time
    """The contract, and what only an emulator can show."""

    name: DriverName

    def make(self, index: int = 0) -> Driver:
        return open_driver(self.name, index)

    def test_is_available(self) -> None:
        assert unavailable(self.name) == ""
        assert count_devices() == 1

    def test_no_such_gpu(self) -> None:
        with pytest.raises(DeviceError, match=r"no GPU with index 1: there is one, index 0"):
            self.make(1)
        assert "no GPU with index -1" in unavailable(self.name, -1)

    def test_no_gpu(self) -> None:
        configure("devices", 0)
        with pytest.raises(DeviceError, match="no CUDA-capable device is detected") as caught:
            self.make()
        assert type(caught.value) is DeviceError, "a GPU that never worked is not lost"
        assert "CUDA_ERROR_NO_DEVICE 100" in unavailable(self.name)

    def test_counts_what_cuda_counts(self, driver: Driver) -> None:
        made: list[Any] = [driver.allocate(8), driver.allocate(8), driver.allocate_host(8), driver.event()]
        assert driver.live == {kind: count(kind) for kind in KINDS}
        made += [driver.stream()]
        if driver.captures_graphs:
            made[-1].begin_capture()
            made += [made[-1].end_capture()]
        assert driver.live == {kind: count(kind) for kind in KINDS}
        assert count("template") == 0
        for resource in made:
            resource.close()

    def test_the_context_is_current_only_during_calls(self, driver: Driver, stream: Stream) -> None:
        assert count("depth") == 0
        with driver.current():
            assert count("depth") == 1
            with driver.current():
                driver.memory()
                assert count("depth") == 1
            assert count("depth") == 1
        assert count("depth") == 0
        with (
            failing("cuStreamSynchronize", 1),
            pytest.raises(DeviceError, match="cuStreamSynchronize failed: invalid argument"),
        ):
            stream.synchronize()
        assert count("depth") == 0

    def test_two_gpus_take_turns(self, driver: Driver) -> None:
        configure("devices", 2)
        with self.make(1) as other, other.stream() as theirs, driver.stream() as ours:
            assert (driver.device.index, other.device.index) == (0, 1)
            with driver.current(), other.current():
                for owner, stream in ((driver, ours), (other, theirs)):
                    got = contract.round_trip(owner, stream, contract.noise(12))
                    np.testing.assert_array_equal(got, contract.noise(12))
            with other.event() as event, pytest.raises(InputError, match="another driver"):
                ours.record(event)

    def test_the_context_is_given_up_by_the_last(self) -> None:
        driver = self.make()
        first, second = driver.stream(), driver.allocate(1)
        with driver.current():
            driver.close()
            first.synchronize()
            first.close()
            second.close()
            assert count("holders") == 1, "a thread is still in it"
        assert count("holders") == 0
        drivers = [self.make() for _ in range(3)]
        assert count("holders") == 3
        contract.in_threads(3, lambda index: drivers[index].close())
        assert count("holders") == 0

    def test_a_forgotten_driver_gives_up_its_context(self) -> None:
        self.make().stream().synchronize()
        gc.collect()
        assert count("holders") == 0

    def test_nothing_is_done_when_the_process_ends(self) -> None:
        program = (
            "import atexit, ctypes, os, sys\n"
            "sys.setdlopenflags(os.RTLD_LAZY)\n"
            "emulator = ctypes.CDLL('libcuda.so.1', os.RTLD_LAZY | os.RTLD_GLOBAL)\n"
            "kinds = b'stream', b'event', b'device memory', b'host memory', b'holders'\n"
            "atexit.register(lambda: print(*(emulator.emulator_get(kind) for kind in kinds)))\n"
            "from pixelrt.cuda.opening import open_driver\n"
            f"driver = open_driver({self.name!r})\n"
            "kept = driver.stream(), driver.event(), driver.allocate(9), driver.allocate_host(9)\n"
            "kept[0].copy_to_device(kept[2].address, kept[3].array)\n"
        )
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "1 1 1 1 1\n", "")

    @pytest.mark.parametrize(
        ("function", "make"),
        [
            ("cuMemAlloc", lambda driver: driver.allocate(8)),
            ("cuMemHostAlloc", lambda driver: driver.allocate_host(8)),
            ("cuMemHostGetDevicePointer", lambda driver: driver.allocate_host(8, mapped=True)),
            ("cuStreamCreate", lambda driver: driver.stream()),
            ("cuEventCreate", lambda driver: driver.event()),
            ("cuCtxPushCurrent", lambda driver: driver.allocate(8)),
        ],
    )
    def test_what_cannot_be_made_leaves_nothing(
        self, driver: Driver, function: str, make: Callable[[Driver], object]
    ) -> None:
        driver.memory()
        with (
            failing(function, 2),
            pytest.raises(OutOfMemory, match=f"{function}.* failed: out of memory .*fewer slots"),
        ):
            make(driver)
        assert {kind: count(kind) for kind in KINDS} == driver.live == dict.fromkeys(KINDS, 0)

    def test_host_memory_runs_out(self, driver: Driver) -> None:
        configure("total_bytes", 1000)
        with driver.allocate_host(900), pytest.raises(OutOfMemory, match="cuMemHostAlloc"):
            driver.allocate_host(200)
        with driver.allocate_host(900):
            pass

    def test_an_access_outside_is_refused(self, driver: Driver, stream: Stream) -> None:
        with driver.allocate(100) as memory, driver.allocate_host(200) as host:
            with pytest.raises(DeviceError, match="invalid argument"):
                stream.copy_to_device(memory.address, host.array)
            with pytest.raises(DeviceError, match="invalid argument"):
                stream.copy_to_host(host.array, memory.address)

    def test_memory_that_cannot_be_mapped(self) -> None:
        configure("maps", 0)
        with self.make() as driver:
            assert not driver.device.maps_host_memory
            with pytest.raises(DeviceError, match=r"cannot map .*GpuOptions\(zero_copy=False\)"):
                driver.allocate_host(8, mapped=True)
            driver.allocate_host(8).close()

    def test_nothing_works_after_a_sticky_error(self) -> None:
        driver = self.make()
        stream, memory, host, event = (
            driver.stream(),
            driver.allocate(8),
            driver.allocate_host(8),
            driver.event(),
        )
        with (
            failing("cuStreamSynchronize", 700),
            pytest.raises(
                ContextLost, match=r"illegal memory access .*CUDA_ERROR_ILLEGAL_ADDRESS 700.*start a new one"
            ),
        ):
            stream.synchronize()
        for use in (
            lambda: stream.copy_to_device(memory.address, host.array),
            lambda: stream.record(event),
            event.synchronize,
            lambda: event.done,
            driver.memory,
            driver.synchronize,
            driver.stream,
        ):
            with pytest.raises(ContextLost):
                use()
        for resource in (host, memory, event, stream, driver):
            resource.close()
            resource.close()
        assert not any(driver.live.values())
        assert count("holders") == 0
        emulator.emulator_reset()  # CUDA frees with the process what it did not let us free

    def test_other_code_destroys_the_context(self) -> None:
        driver = self.make()
        made = driver.stream(), driver.allocate(8), driver.allocate_host(8), driver.event()
        configure("primary contexts", 0)  # as cudaDeviceReset does
        for use in (made[0].synchronize, made[3].synchronize, driver.synchronize, driver.stream):
            with pytest.raises(ContextLost, match=r"201\); other code .* \(cudaDeviceReset\).*isolate"):
                use()
        for resource in (*made, driver):
            resource.close()
        assert not any(driver.live.values())
        assert count("depth") == 0
        emulator.emulator_reset()

    def test_an_error_that_comes_to_light_while_freeing(self) -> None:
        with self.make() as driver, driver.stream() as stream:
            with driver.allocate(8) as memory, driver.allocate_host(8) as host:
                stream.copy_to_device(memory.address, host.array)
            # freed before the copy was done: the emulator finds out then
            with pytest.raises(ContextLost):
                stream.synchronize()
        emulator.emulator_reset()

    def test_the_gpu_breaks(self, driver: Driver, stream: Stream) -> None:
        with (
            failing("cuStreamSynchronize", 214),
            pytest.raises(DeviceLost, match=r"uncorrectable ECC error .* 214.*restart the machine"),
        ):
            stream.synchronize()

    def test_only_the_loss_of_the_context_is_forgiven(self) -> None:
        if self.name == "pycuda":
            pytest.skip("pycuda prints what fails while it frees, and tells nobody")
        with self.make() as driver:
            event = driver.event()
            with (
                failing("cuEventDestroy", 1),
                pytest.raises(DeviceError, match="cuEventDestroy failed: invalid argument"),
            ):
                event.close()
            event.close()
            assert driver.live["event"] == count("event") == 1, "it is still there"
        emulator.emulator_reset()

    def test_ctrl_c_leaves_the_context_as_it_was(self, driver: Driver) -> None:
        current, place, finished = driver.current(), 0, False
        while not finished:
            with pressing_ctrl_c(place) as pressed, suppress(KeyboardInterrupt), current:
                pass
            assert (count("depth"), count("holders")) == (0, 1), pressed
            assert driver.live == dict.fromkeys(KINDS, 0)
            with self.make() as other, other.current():  # of the same GPU, and another holder
                assert (count("depth"), count("holders")) == (1, 2), pressed
                driver.memory()
            place, finished = place + 1, not pressed
        assert place > 8

    def test_ctrl_c_where_it_is_current_already(self, driver: Driver) -> None:
        place, finished = 0, False
        while not finished:
            with driver.current():
                with pressing_ctrl_c(place) as pressed, suppress(KeyboardInterrupt), driver.current():
                    pass
                assert count("depth") == 1, pressed
            assert count("depth") == 0, pressed
            place, finished = place + 1, not pressed
        assert place > 1


class TestCudaPython(EmulatedContract):
    name = "cuda-python"

    def test_work_that_cannot_be_captured(self, driver: Driver, stream: Stream) -> None:
        stream.begin_capture()
        with pytest.raises(DeviceError, match="not permitted when stream is capturing"):
            driver.allocate(8)
        with pytest.raises(DeviceError, match="previous error during capture"):
            stream.end_capture()

    def test_a_capture_ends_where_it_began(self, driver: Driver, stream: Stream) -> None:
        stream.begin_capture()
        problems: list[str] = []

        def end() -> None:
            with pytest.raises(DeviceError, match="in the thread that began it") as caught:
                stream.end_capture()
            problems.append(str(caught.value))

        contract.in_threads(1, lambda _: end())
        assert "908" in problems[0]
        stream.end_capture().close()

    def test_a_graph_that_cannot_be_made_leaves_nothing(self, driver: Driver, stream: Stream) -> None:
        stream.begin_capture()
        with failing("cuGraphInstantiate", 2), pytest.raises(OutOfMemory):
            stream.end_capture()
        assert count("template") == count("graph") == driver.live["graph"] == 0

    def test_an_old_driver_cannot_mark_all_work(self) -> None:
        configure("version", 12040)
        with self.make() as driver, driver.event() as event:
            assert not driver.marks_all_work
            with pytest.raises(DeviceError, match=r"speaks CUDA 12\.4 .* CUDA 12\.5 can"):
                driver.mark_all_work(event)
        configure("version", 12050)
        with self.make() as driver, driver.event() as event:
            assert driver.marks_all_work
            driver.mark_all_work(event)

    def test_others_work_while_one_captures(self, driver: Driver, stream: Stream) -> None:
        stream.begin_capture()

        def work() -> None:
            with driver.stream() as other:
                contract.round_trip(driver, other, contract.noise(13))

        contract.in_threads(1, lambda _: work())
        stream.end_capture().close()


class TestPycuda(EmulatedContract):
    name = "pycuda"
    waits_for_other_streams = False

    def test_the_default_stream_may_be_given_by_its_name(self, driver: Driver, stream: Stream) -> None:
        stream.wait_for_stream(1)
        stream.synchronize()

    def test_contexts_of_the_user_stay_current(self) -> None:
        import pycuda.driver as cuda

        cuda.init()
        configure("devices", 2)
        theirs = cuda.Device(1).retain_primary_context()
        theirs.push()
        with self.make() as driver, driver.stream() as stream:
            contract.round_trip(driver, stream, contract.noise(14))
            assert cuda.Context.get_current() == theirs
            assert count("depth") == 1
        assert cuda.Context.get_current() == theirs
        assert count("holders") == 1
        cuda.Context.pop()
        theirs.detach()
        emulator.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))  # pycuda leaves it there


class TestPipelineOnCudaPython(PipelineContract):
    def make(self) -> Driver:
        return open_driver("cuda-python")


class TestPipelineOnPycuda(PipelineContract):
    def make(self) -> Driver:
        return open_driver("pycuda")
