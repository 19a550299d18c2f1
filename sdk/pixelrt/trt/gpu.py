"""The GPU of this machine, asked of the driver itself: TensorRT's Python interface does not tell."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from pixelrt.cuda.opening import DriverLibrary

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
    driver = DriverLibrary(
        "build on the machine that runs the engine; engines for GeForce and RTX cards are built anywhere "
        "with TensorRT-RTX"
    )
    driver.check_index(index)
    device = ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    values = {attribute: ctypes.c_int() for attribute in (_MULTIPROCESSORS, _MAJOR, _MINOR)}
    driver.call("cuDeviceGet", ctypes.byref(device), index)
    driver.call("cuDeviceGetName", name, _NAME_BYTES, device)
    for attribute, value in values.items():
        driver.call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
    return LocalGpu(
        name=name.value.decode(errors="replace"),
        target=f"sm{values[_MAJOR].value}{values[_MINOR].value}",
        multiprocessors=values[_MULTIPROCESSORS].value,
    )
