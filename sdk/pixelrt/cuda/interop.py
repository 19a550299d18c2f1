"""Frames that are on the GPU already: taken where they are, in the order of the stream that makes them.

Two protocols tell where an array lies. DLPack (https://dmlc.github.io/dlpack/latest/python_spec.html) is
asked first: it names the GPU, and the other library lets our stream wait for its current one. PyTorch, CuPy,
JAX and others have it. The CUDA array interface, version 2 and 3
(https://nvidia.github.io/numba-cuda/user/cuda_array_interface.html), is for pycuda, Numba and all else:

| it says | what our stream waits for |
|---|---|
| a stream | that stream |
| no stream (version 2 has none, and pycuda's arrays say None whatever runs) | CUDA's default stream |

Waiting for the default stream covers all work in it and in every stream that was made without
`cudaStreamNonBlocking`. Work in other streams is not covered: synchronise such a stream before the frame is
handed over. The interface does not name the GPU either: with several, the frame must be on the session's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixelrt.cuda.dlpack import VERSION, Borrowed, DeviceType, borrow, contiguous
from pixelrt.cuda.protocol import Stream
from pixelrt.errors import InputError
from pixelrt.tensors import Shape

ALIGNMENT_BYTES = 256
"""What TensorRT asks of the address of every tensor (`IExecutionContext::setTensorAddress`)."""

_DEFAULT_STREAM, _LEGACY_STREAM = 0, 1
_HOST = (DeviceType.CPU, DeviceType.CUDA_HOST)


class Owner(Protocol):
    """What keeps memory that is not ours."""

    def release(self) -> None:
        """Let it go. A second time does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class DeviceView:
    """An array of another library on the GPU, C-contiguous, that our stream may read from now on."""

    address: int
    """Aligned to its elements; TensorRT wants `is_aligned`."""
    shape: Shape
    dtype: np.dtype[Any]
    owner: Owner = field(repr=False, compare=False)
    """Keeps the memory."""

    @property
    def size_bytes(self) -> int:
        """How much there is to read."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def is_aligned(self) -> bool:
        """Whether it begins at a multiple of 256 bytes, which a slice of a batch may not."""
        return self.address % ALIGNMENT_BYTES == 0

    def release(self) -> None:
        """Give it back. Only when the GPU has read it: its library may write to it again at once."""
        self.owner.release()


class _Reference:
    """Keeps an array whose protocol has no way to give it back."""

    __slots__ = ("_array",)

    def __init__(self, array: object) -> None:
        self._array: object = array

    def release(self) -> None:
        self._array = None


def is_on_device(value: object) -> bool:
    """Whether a value is an array on a CUDA GPU.

    Raises:
        InputError: If its library refuses to say.
    """
    if isinstance(value, np.ndarray):
        return False
    device = _dlpack_device(value)
    if device is not None:
        return device[0] in (DeviceType.CUDA, DeviceType.CUDA_MANAGED)
    return _cuda_array_interface(value) is not None


def device_view(value: object, stream: Stream, device_index: int) -> DeviceView | None:
    """Look at an array on the GPU without copying it.

    Args:
        value: An array of any library.
        stream: Will read it; all work to come in it waits until the array is written.
        device_index: The GPU, as CUDA_VISIBLE_DEVICES numbers them.

    Returns:
        None if the value is no array on a GPU.

    Raises:
        InputError: If it is on another GPU, has gaps, is empty, masked, of a type that NumPy does not know,
            or its library refuses to lend it.
    """
    if isinstance(value, np.ndarray):
        return None
    device = _dlpack_device(value)
    if device is not None and device[0] in _HOST:
        return None
    if device is not None and device[0] in (DeviceType.CUDA, DeviceType.CUDA_MANAGED):
        return _by_dlpack(value, device, stream, device_index)
    interface = _cuda_array_interface(value)
    if interface is not None:
        return _by_interface(value, interface, stream)
    if device is not None:
        raise InputError(
            f"the {_name(value)} is on a device of DLPack's type {device[0]}, "
            "expected the host or a CUDA GPU; copy it to one of them"
        )
    return None


def host_view(value: object) -> NDArray[Any] | None:
    """Look at an array in main memory, page-locked or not, without copying it.

    Returns:
        None if it is no NumPy array, and does not say through DLPack that it is in main memory.

    Raises:
        InputError: If its library refuses to lend it.
    """
    if isinstance(value, np.ndarray):
        return value
    device = _dlpack_device(value)
    if device is None or device[0] not in _HOST:
        return None
    lent: NDArray[Any] = _lent(value, lambda: np.from_dlpack(value))  # type: ignore[arg-type,unused-ignore]
    return lent


def _by_dlpack(value: object, device: tuple[int, int], stream: Stream, device_index: int) -> DeviceView:
    # Managed memory is of no one GPU, and its index is 0.
    if device[0] == DeviceType.CUDA and device[1] != device_index:
        raise InputError(
            f"the {_name(value)} is on GPU {device[1]}, expected GPU {device_index}, the session's; "
            f"copy it there, or open the session with device='cuda:{device[1]}'"
        )
    borrowed = borrow(_lent(value, lambda: _capsule(value, stream.handle)))
    try:
        _check(value, borrowed.address, borrowed.shape, borrowed.strides)
        _check_device(value, borrowed, device)
    except InputError:
        borrowed.loan.release()
        raise
    return DeviceView(borrowed.address, borrowed.shape, borrowed.dtype, borrowed.loan)


def _capsule(value: Any, stream: int) -> object:
    try:
        return value.__dlpack__(stream=stream, max_version=VERSION)
    except TypeError:  # from before `max_version`
        return value.__dlpack__(stream=stream)


def _check_device(value: object, borrowed: Borrowed, device: tuple[int, int]) -> None:
    if borrowed.device != device:
        raise InputError(
            f"the {_name(value)} said device {device} and lent memory of device {borrowed.device}"
        )


def _by_interface(value: object, interface: dict[str, Any], stream: Stream) -> DeviceView:
    version = interface.get("version")
    if version not in (2, 3):
        raise InputError(
            f"the {_name(value)} has version {version!r} of the CUDA array interface, expected 2 or 3; "
            "hand it over through DLPack"
        )
    if interface.get("mask") is not None:
        raise InputError(f"the {_name(value)} is masked, expected an array without; fill it first")
    address, shape, dtype = (
        interface["data"][0],
        tuple(interface["shape"]),
        _typestr(value, interface["typestr"]),
    )
    _check(value, address or 0, shape, _element_strides(value, interface.get("strides"), shape, dtype))
    _order(value, interface.get("stream"), stream)
    return DeviceView(address, shape, dtype, _Reference(value))


def _order(value: object, producer: int | None, stream: Stream) -> None:
    if producer == 0:
        raise InputError(
            f"the {_name(value)} gives stream 0, which the CUDA array interface forbids as ambiguous; "
            "expected None, 1, 2 or a handle"
        )
    # None promises that all is done, and pycuda promises it always.
    stream.wait_for_stream(_DEFAULT_STREAM if producer in (None, _LEGACY_STREAM) else producer)


def _element_strides(
    value: object, strides: tuple[int, ...] | None, shape: Shape, dtype: np.dtype[Any]
) -> Shape:
    if strides is None:
        return contiguous(shape)
    if len(strides) != len(shape) or any(step % dtype.itemsize for step in strides):
        raise InputError(
            f"the {_name(value)} has strides {tuple(strides)} bytes for the shape {shape} of {dtype}; "
            "make a contiguous copy of it first"
        )
    return tuple(step // dtype.itemsize for step in strides)


def _typestr(value: object, typestr: str) -> np.dtype[Any]:
    dtype = np.dtype(typestr)
    if dtype.kind not in "biufc" or not dtype.isnative:
        raise InputError(
            f"the {_name(value)} has elements of type {typestr!r}, "
            "expected numbers as this machine stores them; convert it first"
        )
    return dtype


def _check(value: object, address: int, shape: Shape, strides: Shape) -> None:
    if 0 in shape or not address:
        raise InputError(f"the {_name(value)} of shape {shape} at address {address} is empty, expected data")
    wanted = contiguous(shape)
    gaps = any(size > 1 and found != step for size, found, step in zip(shape, strides, wanted, strict=True))
    if gaps:
        raise InputError(
            f"the {_name(value)} of shape {shape} has strides {strides}, expected {wanted} elements, "
            "one after the other; make a contiguous copy first: "
            ".contiguous() in PyTorch, ascontiguousarray in CuPy"
        )


def _dlpack_device(value: Any) -> tuple[int, int] | None:
    if not hasattr(type(value), "__dlpack_device__"):
        return None
    kind, index = _lent(value, value.__dlpack_device__)
    return int(kind), int(index)


def _cuda_array_interface(value: Any) -> dict[str, Any] | None:
    found: dict[str, Any] | None = _lent(value, lambda: getattr(value, "__cuda_array_interface__", None))
    return found


def _lent(value: object, ask: Callable[[], Any]) -> Any:
    """Ask for an array. What libraries raise when they refuse differs, their words help."""
    try:
        return ask()
    except (BufferError, RuntimeError, TypeError, ValueError) as problem:
        raise InputError(f"the {_name(value)} cannot be used where it is: {problem}") from problem


def _name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
