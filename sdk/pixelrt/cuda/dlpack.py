"""DLPack: the memory of an array of one library, lent to another without a copy.

A lender gives a capsule that holds a C structure (address, shape, strides, type, device) and a function that
the borrower calls when it needs the memory no more. Two layouts are in use: the one of before DLPack 1.0
("dltensor") and the versioned one ("dltensor_versioned"). Layouts, names and duties are those of
https://dmlc.github.io/dlpack/latest/c_api.html and https://dmlc.github.io/dlpack/latest/python_spec.html.

`borrow` takes a capsule of any library. `lend` gives one, and lets NumPy make it: a capsule's destructor and
its deleter run wherever the last reference goes, also while an exception is under way, and a Python function
that ctypes calls there loses that exception. NumPy's are in C, and NumPy never looks at the memory.
"""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import InputError
from pixelrt.tensors import Shape

VERSION = (1, 0)
"""The newest layout that `borrow` understands, for `max_version`."""


class DeviceType(IntEnum):
    """Where memory lies, `DLDeviceType`. All others are of no use here."""

    CPU = 1
    CUDA = 2
    CUDA_HOST = 3
    """Page-locked memory of the host."""
    CUDA_MANAGED = 13
    """Memory that moves between host and GPU by itself."""


class _Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("index", ctypes.c_int32)]


class _DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    """`DLManagedTensor`."""

    _fields_ = [
        ("tensor", _Tensor),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    ]


class _ManagedVersioned(ctypes.Structure):
    """`DLManagedTensorVersioned`. All up to `flags` is the same in every version."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


def _immortal(name: bytes) -> bytes:
    """A name that is never freed: capsules keep its address, and may outlive this module."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(name))
    return name


_PLAIN, _PLAIN_USED = _immortal(b"dltensor"), _immortal(b"used_dltensor")
_VERSIONED, _VERSIONED_USED = _immortal(b"dltensor_versioned"), _immortal(b"used_dltensor_versioned")

# Prototypes of our own: argument types set on `ctypes.pythonapi` itself would be every library's.
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_set_name = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_SetName", ctypes.pythonapi)
)
_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_SIGNED, _UNSIGNED, _FLOAT, _BFLOAT, _COMPLEX, _BOOL = 0, 1, 2, 4, 5, 6
_DTYPES: dict[tuple[int, int], str] = {
    **{(_SIGNED, bits): f"int{bits}" for bits in (8, 16, 32, 64)},
    **{(_UNSIGNED, bits): f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{(_FLOAT, bits): f"float{bits}" for bits in (16, 32, 64)},
    **{(_COMPLEX, bits): f"complex{bits}" for bits in (64, 128)},
    (_BOOL, 8): "bool",
}
_READ_ONLY = 1


class Loan:
    """Memory that a library lends: given back by `release`, or when this is garbage, and once in any case."""

    __slots__ = ("__weakref__", "_give_back")

    def __init__(self, deleter: int | None, address: int) -> None:
        self._give_back = weakref.finalize(self, _call_deleter, deleter, address)

    def release(self) -> None:
        """Give it back. A second time does nothing."""
        self._give_back()


@dataclass(frozen=True, slots=True)
class Borrowed:
    """An array in the memory of another library."""

    device: tuple[int, int]
    """Type, a `DeviceType`, and index."""
    address: int
    """Of the first element; 0 for an empty array."""
    dtype: np.dtype[Any]
    shape: Shape
    strides: Shape
    """In elements."""
    read_only: bool
    """False too where the layout of before 1.0 cannot say it."""
    loan: Loan
    """Keeps the memory."""


def borrow(capsule: object) -> Borrowed:
    """Take what a capsule lends. The capsule is used up.

    Raises:
        InputError: If it is no capsule of DLPack, was used before, is of a layout after 1.x, or holds
            elements that NumPy has no type for. What it lends is then given back.
    """
    if _is_valid(capsule, _VERSIONED):
        address = _take(capsule, _VERSIONED, _VERSIONED_USED)
        versioned = _ManagedVersioned.from_address(address)
        loan = Loan(versioned.deleter, address)
        if versioned.major != VERSION[0]:
            found = f"{versioned.major}.{versioned.minor}"
            loan.release()
            raise InputError(
                f"an array came in version {found} of DLPack, expected 1.x; lend it in an older one"
            )
        return _describe(versioned.tensor, loan, read_only=bool(versioned.flags & _READ_ONLY))
    if _is_valid(capsule, _PLAIN):
        address = _take(capsule, _PLAIN, _PLAIN_USED)
        plain = _Managed.from_address(address)
        return _describe(plain.tensor, Loan(plain.deleter, address), read_only=False)
    raise InputError(
        f"expected a capsule of DLPack that nobody has used, found {capsule!r}; "
        "take a new one from `__dlpack__`"
    )


def lend(array: NDArray[Any], device: tuple[int, int], max_version: tuple[int, int] | None) -> object:
    """Make a capsule that lends the memory of an array, and holds the array until it is given back.

    Args:
        array: Its address may be one of the GPU: nobody reads it here.
        device: What the capsule shall say of where that is.
        max_version: The newest layout that the borrower knows. NumPy before 2.1 makes the one of before 1.0.
    """
    try:
        capsule: object = array.__dlpack__(max_version=max_version)  # type: ignore[call-arg,unused-ignore]
    except TypeError:
        capsule = array.__dlpack__()
    if _is_valid(capsule, _VERSIONED):
        tensor = _ManagedVersioned.from_address(_pointer(capsule, _VERSIONED)).tensor
    else:
        tensor = _Managed.from_address(_pointer(capsule, _PLAIN)).tensor
    tensor.device.type, tensor.device.index = device
    return capsule


def _pointer(capsule: object, name: bytes) -> int:
    address: int | None = _get_pointer(capsule, name)
    if not address:
        raise InputError(f"the capsule {capsule!r} is empty")
    return address


def _take(capsule: object, name: bytes, used: bytes) -> int:
    """From now on it is ours to call the deleter; the new name tells it the capsule."""
    address = _pointer(capsule, name)
    _set_name(capsule, used)
    return address


def _call_deleter(deleter: int | None, address: int) -> None:
    """Without the GIL, which a deleter takes if it needs it."""
    if deleter:
        _Deleter(deleter)(address)


def _describe(tensor: _Tensor, loan: Loan, *, read_only: bool) -> Borrowed:
    try:
        dtype = _dtype(tensor.dtype)
    except InputError:
        loan.release()
        raise
    shape = tuple(tensor.shape[: tensor.ndim]) if tensor.ndim else ()
    # Before DLPack 1.2 no strides said that the elements lie one after the other.
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.ndim and tensor.strides else contiguous(shape)
    return Borrowed(
        device=(tensor.device.type, tensor.device.index),
        address=(tensor.data or 0) + (tensor.byte_offset if tensor.data else 0),
        dtype=dtype,
        shape=shape,
        strides=strides,
        read_only=read_only,
        loan=loan,
    )


def contiguous(shape: Shape) -> Shape:
    """The strides, in elements, of an array in C order without gaps."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _dtype(found: _DataType) -> np.dtype[Any]:
    if found.lanes != 1:
        raise InputError(
            f"an array has elements of {found.lanes} values each, expected 1; view it as plain numbers"
        )
    name = _DTYPES.get((found.code, found.bits))
    if name is not None:
        return np.dtype(name)
    what = "bfloat16" if found.code == _BFLOAT else f"DLPack type {found.code}"
    known = ", ".join(_DTYPES.values())
    raise InputError(
        f"an array has elements of {found.bits} bits of {what}, expected one of {known}; convert it"
    )
