"""Frames that PyTorch, CuPy and pycuda made on the GPU, and results that they take from there.

In the tests of order the frame is not written yet when it is handed over, which is checked.
"""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

import pixelrt
from pixelrt.cuda.device_array import DeviceArray, DeviceMemoryPool
from pixelrt.cuda.interop import DeviceView, device_view
from pixelrt.cuda.opening import DriverName, installed, open_driver
from pixelrt.cuda.protocol import Driver, HostMemory, Stream
from pixelrt.errors import InputError
from pixelrt.session import choices

Absent = Callable[[str], NoReturn]
Array = np.ndarray[Any, Any]

FRAME = np.random.default_rng(5).integers(1, 256, (540, 960, 3), dtype=np.uint8)
NUM_SLOW_STEPS = 60


@pytest.fixture(params=["cuda-python", "pycuda"])
def driver(request: pytest.FixtureRequest, absent: Absent) -> Iterator[Driver]:
    name: DriverName = request.param
    if name not in installed():
        absent(f"{name} is not installed")
    with open_driver(name) as opened:
        yield opened
        gc.collect()
        assert opened.live == dict.fromkeys(opened.live, 0)


@pytest.fixture
def stream(driver: Driver) -> Iterator[Stream]:
    with driver.stream() as made:
        yield made


@pytest.fixture
def pool(driver: Driver) -> Iterator[DeviceMemoryPool]:
    with DeviceMemoryPool(driver) as made:
        yield made


@pytest.fixture
def host(driver: Driver) -> Iterator[HostMemory]:
    """Room for a frame of the largest type."""
    with driver.allocate_host(FRAME.size * 8) as made:
        yield made


@pytest.fixture
def torch(absent: Absent) -> Any:
    if importlib.util.find_spec("torch") is None:
        absent("torch is not installed")
    import torch

    if not torch.cuda.is_available():
        absent("this torch has no CUDA")
    return torch


@pytest.fixture
def cupy() -> Any:
    return pytest.importorskip("cupy")


@pytest.fixture
def pycuda() -> Iterator[Any]:
    """With the primary context current, as pycuda wants it."""
    pytest.importorskip("pycuda")
    import pycuda.driver
    import pycuda.gpuarray

    pycuda.driver.init()
    context = pycuda.driver.Device(0).retain_primary_context()
    context.push()
    try:
        yield pycuda
    finally:
        context.pop()


def seen(value: object, stream: Stream) -> DeviceView:
    view = device_view(value, stream, 0)
    assert view is not None
    return view


def read(host: HostMemory, stream: Stream, view: DeviceView) -> Array:
    """What our stream finds there. It allocates nothing, since that may wait for the GPU."""
    content = host.array[: view.size_bytes]
    stream.copy_to_host(content, view.address)
    stream.synchronize()
    view.release()
    found: Array = content.copy().view(view.dtype).reshape(view.shape)
    return found


def result(pool: DeviceMemoryPool, stream: Stream, content: Array) -> DeviceArray:
    """A result that our stream has been told to write."""
    array = pool.array(content.shape, content.dtype, stream)
    with pool.driver.allocate_host(content.nbytes) as host:
        host.array[:] = content.reshape(-1).view(np.uint8)
        stream.copy_to_device(array.address, host.array)
        stream.synchronize()
    return array


def late(torch: Any, frame: Any) -> Any:
    """A copy of a tensor that PyTorch's current stream will have written after a long computation."""
    value = torch.ones((4096, 4096), device="cuda")
    for _ in range(NUM_SLOW_STEPS):
        value = value @ value / 4096
    return frame * value[0, 0].round().to(torch.uint8)


def warm_up(torch: Any, frame: Any) -> None:
    """Load every kernel, which may wait for the GPU."""
    late(torch, frame).flip(0).contiguous()
    torch.cuda.synchronize()


# --- in -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "int64", "bool"])
def test_tensors_of_pytorch_come_in(host: HostMemory, stream: Stream, torch: Any, dtype: str) -> None:
    content = (FRAME > 99) if dtype == "bool" else FRAME.astype(dtype)
    tensor = torch.from_numpy(content).cuda()
    view = seen(tensor, stream)
    assert view.address == tensor.data_ptr()
    np.testing.assert_array_equal(read(host, stream, view), content)


def test_a_stream_of_pytorch_is_waited_for(host: HostMemory, stream: Stream, torch: Any) -> None:
    ready, side = torch.from_numpy(FRAME).cuda(), torch.cuda.Stream()
    warm_up(torch, ready)
    for _ in range(3):
        with torch.cuda.stream(side):
            frame = late(torch, ready)
            view = seen(frame, stream)
        assert not side.query(), "the frame was written too early for this test: raise NUM_SLOW_STEPS"
        np.testing.assert_array_equal(read(host, stream, view), FRAME)
        frame.zero_()  # its memory is the next frame's
        torch.cuda.synchronize()


def test_frames_of_pytorch_that_cannot_come_in(stream: Stream, torch: Any) -> None:
    frame = torch.from_numpy(FRAME).cuda()
    with pytest.raises(InputError, match=r"make a contiguous copy first: \.contiguous\(\)"):
        device_view(frame.permute(2, 0, 1), stream, 0)
    with pytest.raises(InputError, match=r"expected GPU 1, the session's"):
        device_view(frame, stream, 1)
    with pytest.raises(InputError, match="bfloat16"):
        device_view(frame.to(torch.bfloat16), stream, 0)
    with pytest.raises(InputError, match=r"detach\(\)"):
        device_view(frame.float().requires_grad_(), stream, 0)
    assert device_view(torch.from_numpy(FRAME).pin_memory(), stream, 0) is None


def test_frames_of_pytorch_are_given_back(stream: Stream, torch: Any) -> None:
    def one() -> None:
        frame = torch.empty((1 << 20,), dtype=torch.uint8, device="cuda")
        view = seen(frame, stream)
        del frame
        view.release()

    one()
    taken = torch.cuda.memory_allocated()
    for _ in range(1000):
        one()
    assert torch.cuda.memory_allocated() == taken


def test_arrays_of_cupy_come_in_after_their_stream(host: HostMemory, stream: Stream, cupy: Any) -> None:
    ready, side = cupy.asarray(FRAME), cupy.cuda.Stream(non_blocking=True)
    ones = cupy.ones((4096, 4096), cupy.float32)

    def make() -> Any:
        value = ones
        for _ in range(NUM_SLOW_STEPS):
            value = value @ ones / 4096
        return ready * cupy.rint(value[0, 0]).astype(cupy.uint8)

    make()  # loads every kernel, which may wait for the GPU
    cupy.cuda.Device().synchronize()
    with side:
        frame = make()
        view = seen(frame, stream)
    assert not side.done, "the frame was written too early for this test: raise NUM_SLOW_STEPS"
    np.testing.assert_array_equal(read(host, stream, view), FRAME)
    side.synchronize()


def test_arrays_of_pycuda_come_in_after_the_default_stream(
    host: HostMemory, stream: Stream, pycuda: Any
) -> None:
    size = 256 << 20
    ready, frame = pycuda.gpuarray.to_gpu(FRAME), pycuda.gpuarray.to_gpu(np.zeros_like(FRAME))
    first, second = pycuda.driver.mem_alloc(size), pycuda.driver.mem_alloc(size)
    for _ in range(200):
        pycuda.driver.memcpy_dtod_async(int(second), int(first), size)
    pycuda.driver.memcpy_dtod_async(int(frame.gpudata), int(ready.gpudata), FRAME.nbytes)
    view = seen(frame, stream)
    end = pycuda.driver.Event().record()
    assert not end.query(), "the frame was written too early for this test: copy more"
    assert view.address == int(frame.gpudata)
    np.testing.assert_array_equal(read(host, stream, view), FRAME)
    end.synchronize()


# --- out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["from_dlpack", "as_tensor"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "int64"])
def test_pytorch_takes_results(
    pool: DeviceMemoryPool, stream: Stream, torch: Any, way: str, dtype: str
) -> None:
    content = FRAME.astype(dtype)
    array = result(pool, stream, content)
    take = torch.from_dlpack if way == "from_dlpack" else lambda value: torch.as_tensor(value, device="cuda")
    tensor = take(array)
    assert tensor.data_ptr() == array.address
    assert tensor.device == torch.device("cuda", 0)
    array.close()
    del array
    other = result(pool, stream, np.zeros_like(content))
    np.testing.assert_array_equal(tensor.cpu().numpy(), content)
    assert not other.to_host().any()
    del tensor
    assert pool.free_bytes == content.nbytes


def test_pytorch_takes_results_for_a_stream(pool: DeviceMemoryPool, stream: Stream, torch: Any) -> None:
    side = torch.cuda.Stream()
    for turn in range(20):
        array = result(pool, stream, FRAME ^ np.uint8(turn))
        with torch.cuda.stream(side):
            taken = torch.from_dlpack(array)
            total = taken.long().sum()
        del array, taken  # its kernel may not have begun
        assert int(total) == int((FRAME ^ np.uint8(turn)).astype(np.int64).sum())


def test_results_are_not_overwritten_while_the_default_stream_reads(
    pool: DeviceMemoryPool, stream: Stream, torch: Any
) -> None:
    warm_up(torch, torch.from_numpy(FRAME).cuda())
    array = result(pool, stream, FRAME)
    address = array.address
    with pool.driver.allocate_host(FRAME.nbytes) as dark:
        dark.array[:] = 0
        taken = torch.from_dlpack(array)
        copy = late(torch, taken)
        done = torch.cuda.Event()
        done.record()
        del array, taken
        following = pool.array(FRAME.shape, FRAME.dtype, stream)
        stream.copy_to_device(following.address, dark.array)
        assert not done.query(), "the result was read too early for this test: raise NUM_SLOW_STEPS"
        assert following.address == address
        stream.synchronize()
    np.testing.assert_array_equal(copy.cpu().numpy(), FRAME)
    assert not following.to_host().any()


def test_nothing_is_left_of_ten_thousand_results(
    driver: Driver, pool: DeviceMemoryPool, stream: Stream, torch: Any
) -> None:
    for turn in range(10_000):
        array = pool.array((256, 512), "uint8", stream)
        array.complete()
        taken = torch.from_dlpack(array)
        if turn == 100:
            free = driver.memory()[0]
        del array, taken
    assert driver.memory()[0] >= free - (1 << 20)
    assert driver.live["device memory"] <= 2


@pytest.mark.parametrize("way", ["from_dlpack", "asarray"])
def test_cupy_takes_results(pool: DeviceMemoryPool, stream: Stream, cupy: Any, way: str) -> None:
    array = result(pool, stream, FRAME)
    taken = getattr(cupy, way)(array)
    assert taken.data.ptr == array.address
    array.close()
    del array
    result(pool, stream, np.zeros_like(FRAME))
    np.testing.assert_array_equal(cupy.asnumpy(taken), FRAME)


def test_pycuda_takes_results(pool: DeviceMemoryPool, stream: Stream, pycuda: Any) -> None:
    array = result(pool, stream, FRAME)
    taken = pycuda.gpuarray.GPUArray(array.shape, array.dtype, gpudata=array.address, base=array)
    np.testing.assert_array_equal(taken.get(), FRAME)
    assert array.__cuda_array_interface__["data"] == (array.address, False)


def test_a_result_of_one_driver_is_a_frame_of_another(
    host: HostMemory, pool: DeviceMemoryPool, stream: Stream
) -> None:
    np.testing.assert_array_equal(read(host, stream, seen(result(pool, stream, FRAME), stream)), FRAME)
    with open_driver() as other, other.stream() as writer, DeviceMemoryPool(other) as others:
        array = result(others, writer, FRAME)
        np.testing.assert_array_equal(read(host, stream, seen(array, stream)), FRAME)


# --- through a bundle -----------------------------------------------------------------------------------


@pytest.fixture
def bundle(make_bundle: Callable[..., Any], absent: Absent) -> Path:
    made = make_bundle()
    reasons = [choice for choice in choices(made) if choice.device == "cuda"]
    if not any(choice.usable for choice in reasons):
        absent("; ".join(f"{choice.backend}: {choice.reason}" for choice in reasons))
    path: Path = made.path
    return path


def test_the_mask_is_that_of_the_finished_frame(bundle: Path, torch: Any) -> None:
    frame = np.zeros((32, 48, 3), np.uint8)
    frame[:16, :, 0] = frame[16:, :24, 1] = frame[16:, 24:, 2] = 255
    expected = np.repeat([[0, 0], [1, 2]], 16, axis=0).repeat(24, axis=1)
    ready, side = torch.from_numpy(frame).cuda(), torch.cuda.Stream()
    warm_up(torch, ready)
    with pixelrt.load(bundle, device="cuda") as segmenter:
        np.testing.assert_array_equal(segmenter(ready).mask, expected)
        for turn in range(4):
            with torch.cuda.stream(side):
                frame = late(torch, ready).flip(0).contiguous() if turn % 2 else late(torch, ready)
                assert not side.query(), "the frame was written too early: raise NUM_SLOW_STEPS"
                ticket = segmenter.submit(frame, on_device=True)
            mask = torch.from_dlpack(ticket.result().device_mask)
            np.testing.assert_array_equal(mask.cpu().numpy(), expected[::-1] if turn % 2 else expected)
