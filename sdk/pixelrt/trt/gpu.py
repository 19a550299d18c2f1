"""The GPU of this machine, asked of the driver itself: TensorRT's Python interface does not tell."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from pixelrt.errors import DeviceError

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class LocalGpu:
    """A GPU that the driver sees."""

    name: str
    target: str
    """`sm87`"""


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
    version = {_MAJOR: ctypes.c_int(), _MINOR: ctypes.c_int()}
    _check(driver, "cuInit", driver.cuInit(0))
    _check(driver, "cuDeviceGet", driver.cuDeviceGet(ctypes.byref(device), index))
    _check(driver, "cuDeviceGetName", driver.cuDeviceGetName(name, _NAME_BYTES, device))
    for attribute, value in version.items():
        code = driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        _check(driver, "cuDeviceGetAttribute", code)
    return LocalGpu(name.value.decode(errors="replace"), f"sm{version[_MAJOR].value}{version[_MINOR].value}")


def _check(driver: ctypes.CDLL, call: str, code: int) -> None:
    if code:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(code, ctypes.byref(text))
        said = text.value.decode(errors="replace") if text.value else "unknown"
        raise DeviceError(f"the NVIDIA driver answers {call} with error {code} ({said}); see: nvidia-smi")
