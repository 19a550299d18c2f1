"""The GPU of this machine, asked of the driver itself: TensorRT's Python interface does not tell."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from pixelrt.errors import DeviceError

_MULTIPROCESSORS, _MAJOR, _MINOR = 16, 75, 76
"""CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, _COMPUTE_CAPABILITY_MAJOR and _MINOR, of CUDA's driver API."""
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class LocalGpu:
    """A GPU that the driver sees."""

    name: str
    target: str
    """Its compute capability, `sm87`."""
    multiprocessors: int = 0
    """How many it has: Jetson modules of different size have one name. 0 where that was not asked."""


def local_gpu(index: int = 0) -> LocalGpu:
    """Ask the driver for a GPU, as CUDA_VISIBLE_DEVICES numbers them.

    Raises:
        DeviceError: If there is no driver, or no such GPU.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as problem:
        raise DeviceError(
            "no NVIDIA driver here (libcuda.so.1 cannot be loaded): the regular TensorRT builds on the "
            "machine that runs the engine; engines for GeForce and RTX cards are built anywhere with "
            "TensorRT-RTX"
        ) from problem
    device = ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    values = {attribute: ctypes.c_int() for attribute in (_MULTIPROCESSORS, _MAJOR, _MINOR)}
    _check(driver, "cuInit", driver.cuInit(0))
    _check(driver, "cuDeviceGet", driver.cuDeviceGet(ctypes.byref(device), index))
    _check(driver, "cuDeviceGetName", driver.cuDeviceGetName(name, _NAME_BYTES, device))
    for attribute, value in values.items():
        code = driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        _check(driver, "cuDeviceGetAttribute", code)
    return LocalGpu(
        name=name.value.decode(errors="replace"),
        target=f"sm{values[_MAJOR].value}{values[_MINOR].value}",
        multiprocessors=values[_MULTIPROCESSORS].value,
    )


def _check(driver: ctypes.CDLL, call: str, code: int) -> None:
    if code:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(code, ctypes.byref(text))
        said = text.value.decode(errors="replace") if text.value else "unknown"
        raise DeviceError(f"the NVIDIA driver answers {call} with error {code} ({said}); see: nvidia-smi")
