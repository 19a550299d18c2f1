"""Arrays on the GPU, lent and borrowed. NumPy and PyTorch are real here, the GPU is in main memory."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from pixelrt.cuda.device_array import DeviceArray, DeviceMemoryPool
from pixelrt.cuda.dlpack import DeviceType, borrow, contiguous, lend
from pixelrt.cuda.interop import DeviceView, device_view, host_view
from pixelrt.cuda.protocol import DeviceMemory, HostMemory
from pixelrt.errors import DeviceError, InputError, OutOfMemory
from pixelrt.testing import FakeCuda
from pixelrt.testing.simulation import Order
from pixelrt.testing.stream import FakeStream

FRAME = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
HOST = (int(DeviceType.CPU), 0)
GPU = (int(DeviceType.CUDA), 0)


class Lender:
    """An array of another library: memory, a place that it tells, and what it was asked."""

    def __init__(self, array: np.ndarray[Any, Any], device: tuple[int, int] = GPU) -> None:
        self.array = array
        self.device = device
        self.streams: list[int] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: int, max_version: tuple[int, int] | None = None) -> object:
        self.streams.append(stream)
        return lend(self.array, self.device, max_version)


class OldLender(Lender):
    """From before `max_version`."""

    def __dlpack__(self, *, stream: int) -> object:  # type: ignore[override]
        return super().__dlpack__(stream=stream)


class Interface:
    """An array that has the CUDA array interface and nothing else."""

    def __init__(self, **entries: object) -> None:
        self.__cuda_array_interface__ = {"typestr": "|u1", "version": 3, **entries}


@pytest.fixture
def driver() -> Iterator[FakeCuda]:
    """A GPU that does nothing before somebody waits, and that must be empty in the end."""
    with FakeCuda() as fake:
        yield fake
        gc.collect()
        assert fake.live == dict.fromkeys(fake.live, 0)


@pytest.fixture
def stream(driver: FakeCuda) -> Iterator[FakeStream]:
    with driver.stream() as made:
        yield made


@pytest.fixture
def pool(driver: FakeCuda, stream: FakeStream) -> Iterator[DeviceMemoryPool]:
    """A pool whose arrays say that they are in main memory, where they are."""
    with DeviceMemoryPool(driver, dlpack_device=HOST) as made:
        yield made


@pytest.fixture
def page_locked(driver: FakeCuda) -> Iterator[HostMemory]:
    with driver.allocate_host(FRAME.size) as made:
        made.array[:] = FRAME.reshape(-1)
        yield made


def uploaded(pool: DeviceMemoryPool, stream: FakeStream, page_locked: HostMemory) -> DeviceArray:
    """The frame as a result that its stream may still have to write."""
    array = pool.array(FRAME.shape, FRAME.dtype, stream)
    stream.copy_to_device(array.address, page_locked.array)
    return array


def describe(memory: DeviceMemory, **entries: object) -> Interface:
    return Interface(shape=FRAME.shape, data=(memory.address, False), **entries)


# --- capsules of other libraries ------------------------------------------------------------------------

ARRAYS: list[tuple[str, Any]] = [
    ("numpy", np.arange(24, dtype=np.int16).reshape(2, 3, 4)),
    ("numpy", np.arange(24, dtype=np.float64).reshape(4, 6)[:, ::2]),
    ("numpy", np.arange(24, dtype=np.float16).reshape(4, 6).T),
    ("numpy", np.array(7, dtype=np.uint32)),
    ("numpy", np.array([True, False])),
    ("numpy", np.array([1 + 2j], dtype=np.complex64)),
    ("numpy", np.empty((0, 3), np.float32)),
    ("torch", torch.arange(24, dtype=torch.int64).reshape(2, 3, 4)),
    (
        "torch",
        torch.arange(48, dtype=torch.float16).reshape(1, 2, 4, 6).to(memory_format=torch.channels_last),
    ),
    ("torch", torch.arange(24, dtype=torch.uint8).reshape(4, 6)[1:, 2:]),
    ("torch", torch.tensor([True, False])),
]


@pytest.mark.parametrize("max_version", [None, (1, 0)], ids=["plain", "versioned"])
@pytest.mark.parametrize(("library", "array"), ARRAYS)
def test_a_capsule_says_what_its_library_says(
    library: str, array: Any, max_version: tuple[int, int] | None
) -> None:
    capsule = array.__dlpack__(max_version=max_version)
    assert ("versioned" in repr(capsule)) == (max_version is not None)
    borrowed = borrow(capsule)
    expected = array if library == "numpy" else array.numpy()
    assert borrowed.device == HOST
    assert borrowed.dtype == expected.dtype
    assert borrowed.shape == expected.shape
    if expected.size:
        assert borrowed.address == expected.__array_interface__["data"][0]
        steps = [step // expected.itemsize for step in expected.strides]
        assert list(borrowed.strides) == steps
    borrowed.loan.release()


def test_read_only_is_told_where_the_layout_can() -> None:
    array = np.arange(3)
    array.flags.writeable = False
    assert borrow(array.__dlpack__(max_version=(1, 0))).read_only
    assert not borrow(np.arange(3).__dlpack__(max_version=(1, 0))).read_only


@pytest.mark.parametrize("max_version", [None, (1, 0)])
def test_borrowed_memory_is_given_back_once(max_version: tuple[int, int] | None) -> None:
    array = np.arange(6)
    before = sys.getrefcount(array)
    borrowed = borrow(array.__dlpack__(max_version=max_version))
    assert sys.getrefcount(array) == before + 1
    borrowed.loan.release()
    borrowed.loan.release()
    assert sys.getrefcount(array) == before
    borrowed = borrow(array.__dlpack__(max_version=max_version))
    del borrowed
    assert sys.getrefcount(array) == before


def test_a_capsule_is_used_once() -> None:
    capsule = np.arange(6).__dlpack__()
    borrow(capsule)
    with pytest.raises(InputError, match=r'nobody has used, found <capsule object "used_dltensor"'):
        borrow(capsule)
    with pytest.raises(InputError, match=r"expected a capsule of DLPack .* found 3"):
        borrow(3)


def test_types_that_numpy_lacks_are_refused_and_given_back() -> None:
    tensor = torch.zeros(3, dtype=torch.bfloat16)
    gone = weakref.finalize(tensor, lambda: None)
    with pytest.raises(InputError, match=r"16 bits of bfloat16, expected one of int8, .* convert it"):
        borrow(tensor.__dlpack__(max_version=(1, 0)))
    del tensor
    assert not gone.alive


def test_what_cannot_be_given_back_is_let_go() -> None:
    borrow(_patched(np.arange(6), DELETER, bytes(8))).loan.release()


def _patched(array: np.ndarray[Any, Any], offset: int, value: bytes) -> object:
    """A versioned capsule of which some bytes are changed; offsets as in dlpack.h on 64-bit machines."""
    capsule = array.__dlpack__(max_version=(1, 0))
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    ctypes.memmove(get_pointer(capsule, b"dltensor_versioned") + offset, value, len(value))
    return capsule


TENSOR = 32
MAJOR, DELETER, LANES, BITS, BYTE_OFFSET = 0, 16, TENSOR + 22, TENSOR + 21, TENSOR + 40


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (MAJOR, b"\2", r"came in version 2\.\d of DLPack, expected 1\.x"),
        (LANES, b"\4", "elements of 4 values each, expected 1"),
        (BITS, b"\4", "elements of 4 bits of DLPack type 0, expected one of"),
    ],
)
def test_other_layouts_and_packed_elements_are_refused_and_given_back(
    offset: int, value: bytes, message: str
) -> None:
    array = np.arange(6)
    before = sys.getrefcount(array)
    with pytest.raises(InputError, match=message) as refused:
        borrow(_patched(array, offset, value))
    assert sys.getrefcount(array) == before  # although the traceback is still there
    del refused


def test_the_offset_in_bytes_is_part_of_the_address() -> None:
    array = np.arange(6)
    assert borrow(_patched(array, BYTE_OFFSET, b"\x10")).address == array.ctypes.data + 16


def test_missing_strides_mean_c_order() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    assert borrow(_patched(array, TENSOR + 32, bytes(8))).strides == (12, 4, 1) == contiguous((2, 3, 4))


# --- frames on the GPU ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [FRAME, torch.from_numpy(FRAME), [1, 2], None, "frame.png", 7])
def test_what_is_not_on_a_gpu_is_not_looked_at(stream: FakeStream, value: object) -> None:
    assert device_view(value, stream, 0) is None


@pytest.mark.parametrize("kind", [DeviceType.CUDA, DeviceType.CUDA_MANAGED])
@pytest.mark.parametrize("lender", [Lender, OldLender])
def test_dlpack_is_asked_with_our_stream(stream: FakeStream, lender: type[Lender], kind: DeviceType) -> None:
    lent = lender(FRAME, (int(kind), 0))
    before = sys.getrefcount(FRAME)
    view = device_view(lent, stream, 0)
    assert view is not None
    assert (view.address, view.shape, view.dtype) == (FRAME.ctypes.data, FRAME.shape, FRAME.dtype)
    assert view.size_bytes == FRAME.nbytes
    assert view.is_aligned == (FRAME.ctypes.data % 256 == 0)
    assert lent.streams[-1] == stream.handle
    assert sys.getrefcount(FRAME) == before + 1
    view.release()
    assert sys.getrefcount(FRAME) == before


def test_dlpack_goes_before_the_cuda_array_interface(stream: FakeStream) -> None:
    class Both(Lender):
        @property
        def __cuda_array_interface__(self) -> dict[str, object]:
            raise AssertionError("not to be read")

    view = device_view(Both(FRAME), stream, 0)
    assert view is not None
    assert view.address == FRAME.ctypes.data


def test_a_frame_of_another_gpu_is_refused(stream: FakeStream) -> None:
    with pytest.raises(InputError, match=r"is on GPU 1, expected GPU 0, .* device='cuda:1'"):
        device_view(Lender(FRAME, (int(DeviceType.CUDA), 1)), stream, 0)
    # Managed memory is of no one GPU.
    assert device_view(Lender(FRAME, (int(DeviceType.CUDA_MANAGED), 0)), stream, 1) is not None


def test_a_device_of_another_kind_is_refused(stream: FakeStream) -> None:
    with pytest.raises(InputError, match="device of DLPack's type 10, expected the host or a CUDA GPU"):
        device_view(Lender(FRAME, (10, 0)), stream, 0)


def test_a_lender_that_contradicts_itself_is_refused(stream: FakeStream) -> None:
    class Confused(Lender):
        def __dlpack_device__(self) -> tuple[int, int]:
            return GPU

    with pytest.raises(InputError, match=r"said device \(2, 0\) and lent memory of device \(1, 0\)"):
        device_view(Confused(FRAME, HOST), stream, 0)


@pytest.mark.parametrize(
    "array",
    [FRAME.transpose(2, 0, 1), FRAME[:, ::2], FRAME[::-1], FRAME[:, :3]],
    ids=["transposed", "gaps", "backwards", "part"],
)
def test_frames_with_gaps_are_refused_and_given_back(stream: FakeStream, array: np.ndarray[Any, Any]) -> None:
    before = sys.getrefcount(array)
    lent = Lender(array)
    with pytest.raises(InputError, match=r"has strides .* first: \.contiguous\(\)") as refused:
        device_view(lent, stream, 0)
    assert sys.getrefcount(array) == before + 1  # the lender's own, although the traceback is still there
    del refused
    entries = {"shape": array.shape, "strides": array.strides, "data": (array.ctypes.data, False)}
    with pytest.raises(InputError, match=r"has strides .* make a contiguous copy first"):
        device_view(Interface(**entries), stream, 0)


def test_strides_of_axes_of_one_do_not_matter(stream: FakeStream) -> None:
    array = np.lib.stride_tricks.as_strided(FRAME, (1, 4, 6, 3), (999, 18, 3, 1))
    assert device_view(Lender(array), stream, 0) is not None


def test_empty_frames_are_refused(stream: FakeStream) -> None:
    with pytest.raises(InputError, match=r"of shape \(0, 6, 3\) .* is empty, expected data"):
        device_view(Lender(FRAME[:0]), stream, 0)
    with pytest.raises(InputError, match=r"at address 0 is empty, expected data"):
        device_view(Interface(shape=(3,), data=(0, False)), stream, 0)


def test_the_words_of_a_library_that_refuses_are_passed_on(stream: FakeStream) -> None:
    class Refuses(Lender):
        def __dlpack__(self, **_: object) -> object:
            raise BufferError("it requires gradient, use tensor.detach()")

    with pytest.raises(InputError, match=r"Refuses cannot be used where it is: it requires .*detach\(\)"):
        device_view(Refuses(FRAME), stream, 0)


def test_host_memory_of_other_libraries_is_a_numpy_array() -> None:
    assert host_view(FRAME) is FRAME
    found = host_view(torch.from_numpy(FRAME))
    assert found is not None
    assert found.ctypes.data == FRAME.ctypes.data
    np.testing.assert_array_equal(found, FRAME)
    assert host_view([1, 2]) is None
    assert host_view(Lender(FRAME)) is None
    with pytest.raises(InputError, match=r"cannot be used where it is: .*requires? grad"):
        host_view(torch.zeros(3, requires_grad=True))


# --- the CUDA array interface: the frame is not written yet, and must be when it is read ----------------


@pytest.fixture
def late_frame(driver: FakeCuda, page_locked: HostMemory) -> Iterator[Callable[[FakeStream], DeviceMemory]]:
    """Memory that a stream will write the frame into, when somebody waits."""
    with driver.allocate(FRAME.size) as memory:

        def write(producer: FakeStream) -> DeviceMemory:
            producer.copy_to_device(memory.address, page_locked.array)
            return memory

        yield write


def read(driver: FakeCuda, stream: FakeStream, view: DeviceView) -> np.ndarray[Any, Any]:
    with driver.allocate_host(view.size_bytes) as host:
        stream.copy_to_host(host.array, view.address)
        stream.synchronize()
        return host.array.copy().view(view.dtype).reshape(view.shape)


@pytest.mark.parametrize(
    "entries",
    [
        {"version": 2},
        {"version": 3},
        {"version": 3, "stream": None, "strides": None},
        {"version": 3, "stream": 1, "strides": FRAME.strides, "mask": None},
    ],
)
def test_without_a_stream_the_default_stream_is_waited_for(
    driver: FakeCuda,
    stream: FakeStream,
    late_frame: Callable[[FakeStream], DeviceMemory],
    entries: dict[str, object],
) -> None:
    memory = late_frame(driver.default_stream)
    view = device_view(describe(memory, **entries), stream, 0)
    assert view is not None
    assert (view.address, view.shape, view.dtype) == (memory.address, FRAME.shape, FRAME.dtype)
    np.testing.assert_array_equal(read(driver, stream, view), FRAME)


def test_a_stream_of_the_producer_is_waited_for(
    driver: FakeCuda, stream: FakeStream, late_frame: Callable[[FakeStream], DeviceMemory]
) -> None:
    with driver.stream() as producer:
        view = device_view(describe(late_frame(producer), stream=producer.handle), stream, 0)
        assert view is not None
        np.testing.assert_array_equal(read(driver, stream, view), FRAME)


def test_the_default_stream_of_each_thread_is_a_handle_to_wait_for(
    driver: FakeCuda, stream: FakeStream, late_frame: Callable[[FakeStream], DeviceMemory]
) -> None:
    # CUDA knows it as the handle 2; the imitation has no such stream and names what was asked for.
    with pytest.raises(DeviceError, match="handle 0x2"):
        device_view(describe(late_frame(driver.default_stream), stream=2), stream, 0)


def test_the_producer_is_kept_until_release(stream: FakeStream) -> None:
    class Frame(Interface):
        pass

    frame = Frame(shape=FRAME.shape, data=(FRAME.ctypes.data, True))
    alive = weakref.ref(frame)
    view = device_view(frame, stream, 0)
    assert view is not None
    del frame
    assert alive() is not None
    view.release()
    view.release()
    assert alive() is None


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"version": 1}, "has version 1 of the CUDA array interface, expected 2 or 3"),
        ({"version": None}, "has version None of the CUDA array interface"),
        ({"version": 4}, "has version 4 of the CUDA array interface"),
        ({"stream": 0}, "gives stream 0, which the CUDA array interface forbids"),
        ({"mask": Interface()}, "is masked, expected an array without"),
        ({"typestr": "<V2"}, "elements of type '<V2', expected numbers"),
        ({"typestr": ">f4"}, "elements of type '>f4', expected numbers as this machine stores them"),
        ({"typestr": "<f4", "strides": (18, 3, 1)}, r"has strides \(18, 3, 1\) bytes for the shape"),
        ({"strides": (1,)}, r"has strides \(1,\) bytes for the shape \(4, 6, 3\)"),
    ],
)
def test_what_the_interface_may_not_say(stream: FakeStream, entries: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        device_view(Interface(**{"shape": FRAME.shape, "data": (4096, False), **entries}), stream, 0)


# --- results that stay on the GPU -----------------------------------------------------------------------

TAKE: dict[str, Callable[[DeviceArray], Any]] = {
    "numpy": np.from_dlpack,
    "torch": torch.from_dlpack,
    "torch, plain layout": lambda array: torch.from_dlpack(array.__dlpack__()),
    "torch, versioned layout": lambda array: torch.from_dlpack(array.__dlpack__(max_version=(1, 0))),
}


@pytest.fixture(params=list(TAKE))
def take(request: pytest.FixtureRequest) -> Callable[[DeviceArray], Any]:
    return TAKE[request.param]


def test_other_libraries_see_what_is_written(
    pool: DeviceMemoryPool,
    stream: FakeStream,
    page_locked: HostMemory,
    take: Callable[[DeviceArray], Any],
) -> None:
    array = uploaded(pool, stream, page_locked)
    taken = take(array)
    np.testing.assert_array_equal(np.asarray(taken), FRAME)
    assert tuple(taken.shape) == array.shape == FRAME.shape
    taken[0, 0, 0] = 99  # it is the same memory
    assert array.to_host()[0, 0, 0] == 99


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint8", "float16", "float32", "float64"])
def test_every_type_of_a_network_can_be_taken(pool: DeviceMemoryPool, stream: FakeStream, dtype: str) -> None:
    array = pool.array((2, 5), dtype, stream)
    taken = torch.from_dlpack(array)
    taken.copy_(torch.tensor([[0, 1, 0, 1, 1], [1, 1, 0, 0, 1]]))
    assert array.size_bytes == 10 * np.dtype(dtype).itemsize
    found = array.to_host()
    assert found.dtype == np.dtype(dtype)
    assert found.astype(int).tolist() == [[0, 1, 0, 1, 1], [1, 1, 0, 0, 1]]


def test_what_was_taken_keeps_the_memory_and_the_last_one_returns_it(
    pool: DeviceMemoryPool,
    stream: FakeStream,
    page_locked: HostMemory,
    take: Callable[[DeviceArray], Any],
) -> None:
    array = uploaded(pool, stream, page_locked)
    first, second = take(array), take(array)
    array.close()
    array.close()
    del array
    assert pool.free_bytes == 0
    del first
    assert pool.free_bytes == 0
    np.testing.assert_array_equal(np.asarray(second), FRAME)
    other = pool.array(FRAME.shape, FRAME.dtype, stream)
    del second
    assert pool.free_bytes == FRAME.size
    del other
    assert pool.free_bytes == 2 * FRAME.size


@pytest.mark.parametrize("max_version", [None, (1, 0)])
def test_a_capsule_that_nobody_used_returns_the_memory(
    pool: DeviceMemoryPool, stream: FakeStream, max_version: tuple[int, int] | None
) -> None:
    array = pool.array((4,), "uint8", stream)
    capsule = array.__dlpack__(max_version=max_version)
    array.close()
    assert pool.free_bytes == 0
    del capsule
    assert pool.free_bytes == 4


def test_an_exception_under_way_survives_the_end_of_a_capsule(driver: FakeCuda, stream: FakeStream) -> None:
    with DeviceMemoryPool(driver) as pool:
        array = pool.array((4,), "uint8", stream)
        assert array.__dlpack_device__() == GPU
        # NumPy drops the capsule while it raises this.
        with pytest.raises((RuntimeError, BufferError), match=r"[Uu]nsupported device"):
            np.from_dlpack(array)
        array.close()
        assert pool.free_bytes == 4


def test_nothing_is_left_of_many_results(
    driver: FakeCuda, pool: DeviceMemoryPool, stream: FakeStream, take: Callable[[DeviceArray], Any]
) -> None:
    def one() -> None:
        array = pool.array((16, 16), "uint8", stream)
        stream.synchronize()
        array.complete()
        taken = take(array)
        array.close()
        del taken

    for _ in range(200):
        one()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(5000):
        one()
    gc.collect()
    assert sys.getallocatedblocks() - before < 500
    assert driver.live["device memory"] == 1
    assert pool.free_bytes == 256


def test_nothing_is_left_of_many_frames(stream: FakeStream) -> None:
    tensor = torch.from_numpy(FRAME.copy())

    def one() -> None:
        borrow(tensor.__dlpack__(max_version=(1, 0))).loan.release()
        view = device_view(Lender(FRAME), stream, 0)
        assert view is not None

    for _ in range(200):
        one()
    gc.collect()
    before, references = sys.getallocatedblocks(), sys.getrefcount(FRAME)
    for _ in range(5000):
        one()
    gc.collect()
    assert sys.getallocatedblocks() - before < 500
    assert sys.getrefcount(FRAME) == references


def test_results_end_on_any_thread(driver: FakeCuda, pool: DeviceMemoryPool, stream: FakeStream) -> None:
    problems: list[BaseException] = []
    taken: list[Any] = []

    def work(number: int) -> None:
        try:
            for step in range(300):
                array = pool.array((64,), "uint8", stream)
                array.complete()
                tensor = torch.from_dlpack(array)
                tensor.fill_(number)
                taken.append(tensor)
                array.close()
                del tensor, array
                if step % 3 == 0:
                    taken.pop()  # often of another thread
        except BaseException as problem:  # noqa: BLE001
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len({tensor.data_ptr() for tensor in taken}) == len(taken) == 800
    assert all(len(set(tensor.tolist())) == 1 for tensor in taken)
    taken.clear()
    pool.trim()
    assert driver.live["device memory"] == 0


def test_a_circle_of_garbage_returns_the_memory(pool: DeviceMemoryPool, stream: FakeStream) -> None:
    array = pool.array((4,), "uint8", stream)
    circle: list[object] = [array, torch.from_dlpack(array)]
    circle.append(circle)
    del array, circle
    gc.collect()
    assert pool.free_bytes == 4


def test_the_cuda_array_interface_describes_it_and_keeps_it(
    driver: FakeCuda, pool: DeviceMemoryPool, stream: FakeStream, page_locked: HostMemory
) -> None:
    array = uploaded(pool, stream, page_locked)
    assert driver.num_pending > 0
    found = array.__cuda_array_interface__
    assert driver.num_pending == 0  # PyTorch does not look at `stream`
    assert found == {
        "shape": FRAME.shape,
        "typestr": "|u1",
        "data": (array.address, False),
        "strides": None,
        "stream": None,
        "version": 3,
    }
    array.close()  # what was made of the interface knows the array alone
    assert pool.free_bytes == 0
    del array
    assert pool.free_bytes == FRAME.size


def test_a_result_can_be_the_next_frame(
    driver: FakeCuda, stream: FakeStream, page_locked: HostMemory
) -> None:
    with DeviceMemoryPool(driver) as pool, driver.stream() as reader:
        array = uploaded(pool, stream, page_locked)
        view = device_view(array, reader, 0)
        assert view is not None
        array.close()
        assert pool.free_bytes == 0
        np.testing.assert_array_equal(read(driver, reader, view), FRAME)
        view.release()
        assert pool.free_bytes == FRAME.size


def test_the_borrower_waits_unless_it_sees_to_the_order(
    driver: FakeCuda, pool: DeviceMemoryPool, stream: FakeStream, page_locked: HostMemory
) -> None:
    array = uploaded(pool, stream, page_locked)
    array.__dlpack__(stream=-1)
    assert driver.num_pending > 0
    array.__dlpack__(stream=None)
    assert driver.num_pending == 0
    stream.copy_to_device(array.address, page_locked.array)
    array.__dlpack__(stream=None)  # it was waited for once: its stream is nobody's business any more
    assert driver.num_pending > 0
    stream.synchronize()


def test_to_host_waits_and_copies(
    pool: DeviceMemoryPool, stream: FakeStream, page_locked: HostMemory
) -> None:
    array = uploaded(pool, stream, page_locked)
    found = array.to_host()
    np.testing.assert_array_equal(found, FRAME)
    array.close()
    found[:] = 0  # its own memory, that can be written


def test_numpy_gets_no_copy_in_silence(pool: DeviceMemoryPool, stream: FakeStream) -> None:
    array = pool.array((4,), "uint8", stream)
    with pytest.raises(TypeError, match=r"on the GPU, and NumPy is not; copy it with to_host\(\)"):
        np.asarray(array)
    with pytest.raises(BufferError, match=r"not on \(2, 1\); copy it with to_host\(\)"):
        array.__dlpack__(dl_device=(2, 1))
    with pytest.raises(BufferError, match="makes no copy"):
        array.__dlpack__(copy=True)
    assert np.from_dlpack(array, copy=False).shape == (4,)


def test_a_closed_array_is_refused(pool: DeviceMemoryPool, stream: FakeStream) -> None:
    with pool.array((4, 2), "uint8", stream) as array:
        assert repr(array) == f"DeviceArray(uint8[4, 2] at {array.address:#x})"
        assert not array.closed
    assert array.closed
    assert repr(array).endswith(", closed)")
    uses: list[Callable[[], object]] = [
        array.__dlpack__,
        array.to_host,
        lambda: array.__cuda_array_interface__,
    ]
    for use in uses:
        with pytest.raises(InputError, match="is closed; use it before close"):
            use()


def test_another_shape_is_the_same_memory_and_keeps_it(
    driver: FakeCuda, pool: DeviceMemoryPool, stream: FakeStream, page_locked: HostMemory
) -> None:
    array = uploaded(pool, stream, page_locked)
    with array.reshaped((24, 3)) as other:
        assert (other.shape, other.dtype, other.address) == ((24, 3), array.dtype, array.address)
        assert array.shape == FRAME.shape
        with pytest.raises(AttributeError):
            other.shape = (72,)  # type: ignore[misc]
        array.close()
        assert not other.closed and pool.free_bytes == 0
        np.testing.assert_array_equal(other.to_host(), FRAME.reshape(24, 3))
        np.testing.assert_array_equal(torch.from_dlpack(other).numpy(), FRAME.reshape(24, 3))
    assert pool.free_bytes == FRAME.size
    with pytest.raises(InputError, match="is closed; use it before close"):
        other.reshaped((72,))


def test_one_wait_is_enough_for_all_shapes(
    driver: FakeCuda, pool: DeviceMemoryPool, page_locked: HostMemory
) -> None:
    with driver.stream() as writer:
        array = uploaded(pool, writer, page_locked)
        other = array.reshaped((FRAME.size,))
        writer.synchronize()
        array.complete()
    np.testing.assert_array_equal(other.to_host(), FRAME.reshape(-1))  # the writer is gone


@pytest.mark.parametrize("shape", [(71,), (4, 6), (), (-1,), (-4, -18), (0, 72)])
def test_another_shape_has_as_many_elements(
    pool: DeviceMemoryPool, stream: FakeStream, shape: tuple[int, ...]
) -> None:
    array = pool.array(FRAME.shape, FRAME.dtype, stream)
    with pytest.raises(InputError, match=r"for an array of \[4, 6, 3\], expected 72 elements"):
        array.reshaped(shape)


# --- the pool -------------------------------------------------------------------------------------------


def test_no_result_gets_the_memory_of_another_one(pool: DeviceMemoryPool, stream: FakeStream) -> None:
    arrays = [pool.array((8,), "uint8", stream) for _ in range(5)]
    assert len({array.address for array in arrays}) == 5
    freed = arrays.pop(2).address
    assert pool.array((4,), "uint16", stream).address == freed  # as many bytes
    assert pool.array((9,), "uint8", stream).address != freed


def test_what_the_default_stream_still_reads_is_not_overwritten(
    driver: FakeCuda, pool: DeviceMemoryPool, stream: FakeStream, page_locked: HostMemory
) -> None:
    array = uploaded(pool, stream, page_locked)
    array.__dlpack__(stream=1)
    with driver.allocate_host(FRAME.size) as seen, driver.allocate_host(FRAME.size) as dark:
        dark.array[:] = 0
        driver.default_stream.copy_to_host(seen.array, array.address)
        address = array.address
        del array
        following = pool.array(FRAME.shape, FRAME.dtype, stream)
        assert following.address == address
        stream.copy_to_device(following.address, dark.array)
        assert not following.to_host().any()
        driver.default_stream.synchronize()
        np.testing.assert_array_equal(seen.array.reshape(FRAME.shape), FRAME)


def read_by_others(driver: FakeCuda, pool: DeviceMemoryPool, writer: FakeStream, count: int) -> list[int]:
    """The addresses of results that a stream of another library reads, each of which is let go at once."""
    addresses = []
    with driver.allocate_host(8) as source, driver.allocate_host(8) as target, driver.stream() as reader:
        for _ in range(count):
            array = pool.array((8,), "uint8", writer)
            writer.copy_to_device(array.address, source.array)
            array.__dlpack__(stream=reader.handle)
            reader.copy_to_host(target.array, array.address)
            addresses.append(array.address)
            del array
        reader.synchronize()
        writer.synchronize()
    return addresses


def test_what_another_stream_may_still_read_rests_until_the_gpu_was_waited_for() -> None:
    with (
        FakeCuda(captures_graphs=False) as driver,
        driver.stream() as stream,
        DeviceMemoryPool(driver) as pool,
    ):
        assert not driver.marks_all_work
        addresses = read_by_others(driver, pool, stream, 9)
        assert driver.live["event"] == 0
    assert len(set(addresses[:8])) == 8
    assert addresses[8] in addresses[:8]


@pytest.mark.parametrize("order", ["lazy", "eager", "random"])
def test_what_another_stream_may_still_read_rests_until_a_mark_was_passed(order: Order) -> None:
    with FakeCuda(order=order) as driver, driver.stream() as stream, DeviceMemoryPool(driver) as pool:
        driver.fail("Driver.synchronize", DeviceError("the whole GPU was waited for"))
        addresses = read_by_others(driver, pool, stream, 200)
        assert len(set(addresses[:8])) == 8
        assert len(set(addresses)) <= 24
        with pytest.raises(DeviceError, match="the whole GPU was waited for"):
            driver.synchronize()
    assert driver.live == dict.fromkeys(driver.live, 0)


def test_only_a_gpu_that_is_far_behind_is_waited_for(
    driver: FakeCuda, pool: DeviceMemoryPool, stream: FakeStream
) -> None:
    with driver.stream() as reader, driver.allocate(8) as memory:
        for _ in range(100):
            reader.copy_on_device(memory.address, memory.address, 8)
        for count in range(18):
            array = pool.array((8,), "uint8", stream)
            array.complete()
            array.__dlpack__(stream=reader.handle)
            del array
            assert (driver.num_pending > 50) == (count < 16)
        driver.synchronize()


def test_memory_that_nobody_asks_for_again_is_freed(
    driver: FakeCuda, pool: DeviceMemoryPool, stream: FakeStream
) -> None:
    arrays = [pool.array((size,), "uint8", stream) for size in range(1, 40)]
    del arrays
    pool.array((1,), "uint8", stream)
    assert driver.live["device memory"] <= 18
    pool.trim()
    assert driver.live["device memory"] == 0


def test_a_full_gpu_gets_back_what_the_pool_keeps() -> None:
    with (
        FakeCuda(memory_bytes=1 << 20) as driver,
        driver.stream() as stream,
        DeviceMemoryPool(driver) as pool,
    ):
        size = 400 << 10
        kept = [pool.array((size,), "uint8", stream), pool.array((size,), "uint8", stream)]
        del kept
        array = pool.array((size * 2,), "uint8", stream)
        assert (array.size_bytes, driver.live["device memory"]) == (size * 2, 1)
        with pytest.raises(OutOfMemory):
            pool.array((size,), "uint8", stream)


def test_the_pool_is_emptied_when_cuda_works_no_more(driver: FakeCuda, stream: FakeStream) -> None:
    def fault() -> None:
        raise DeviceError("an illegal address")

    pool = DeviceMemoryPool(driver)
    array = pool.array((8,), "uint8", stream)
    array.complete()
    array.__dlpack__(stream=stream.handle)
    del array
    stream.run(fault)
    with pytest.raises(DeviceError, match="illegal address"):
        pool.close()
    assert driver.live["device memory"] == 0


def test_results_outlive_the_pool(driver: FakeCuda, stream: FakeStream, page_locked: HostMemory) -> None:
    with DeviceMemoryPool(driver, dlpack_device=HOST) as pool:
        array = uploaded(pool, stream, page_locked)
        idle = pool.array((5,), "uint8", stream)
        del idle
        taken = torch.from_dlpack(array)
    assert driver.live["device memory"] == 1
    np.testing.assert_array_equal(array.to_host(), FRAME)
    array.close()
    np.testing.assert_array_equal(taken.numpy(), FRAME)
    del taken
    assert driver.live["device memory"] == 0
    with pytest.raises(DeviceError, match="pool of this session's results is closed"):
        pool.array((4,), "uint8", stream)


def test_the_interpreter_ends_in_peace_while_others_hold_results() -> None:
    program = """
import torch
from pixelrt.cuda.device_array import DeviceMemoryPool
from pixelrt.cuda.dlpack import borrow
from pixelrt.testing import FakeCuda
driver = FakeCuda()
stream = driver.stream()
pool = DeviceMemoryPool(driver, dlpack_device=(1, 0))
array = pool.array((4, 4), "uint8", stream)
taken = torch.from_dlpack(array)
unused = array.__dlpack__()
borrowed = borrow(torch.zeros(3).__dlpack__())
print("end")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
