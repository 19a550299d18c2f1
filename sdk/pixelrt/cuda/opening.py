"""Chooses the library behind CUDA: what is installed, cuda-python first, since it captures graphs."""

from __future__ import annotations

import ctypes
import importlib.util
from typing import TYPE_CHECKING, Any, Literal, get_args

from pixelrt.cuda.status import STATUSES, Status, error_of
from pixelrt.errors import DeviceError, InputError, MissingDependency

if TYPE_CHECKING:  # it needs numpy, and asking the driver does not
    from pixelrt.cuda.protocol import Driver

DriverName = Literal["cuda-python", "pycuda"]

_MODULES: dict[DriverName, tuple[str, str]] = {
    "cuda-python": ("cuda.bindings", "cuda"),
    "pycuda": ("pycuda", "pycuda"),
}
"""What is imported, and the extra of `pixelrt` that installs it. The first that is there is taken."""


def open_driver(name: DriverName | None = None, index: int = 0) -> Driver:
    """Open a GPU.

    Args:
        name: The library; None for the first that is installed.
        index: The GPU, as CUDA_VISIBLE_DEVICES numbers them.

    Raises:
        InputError: If there is no library of that name.
        MissingDependency: If it is not installed, or none is.
        DeviceError: If there is no NVIDIA driver, no such GPU, or the GPU cannot be used.
    """
    chosen = choose(name)
    check_index(index)
    if chosen == "cuda-python":
        from pixelrt.cuda.cuda_python import open_cuda_python

        return open_cuda_python(index)
    from pixelrt.cuda.pycuda import open_pycuda

    return open_pycuda(index)


def unavailable(name: DriverName | None = None, index: int = 0) -> str:
    """Why CUDA cannot be used here, empty if it can. Neither library is imported, and no context is made."""
    try:
        choose(name)
        check_index(index)
    except (MissingDependency, DeviceError) as problem:
        return str(problem)
    return ""


def installed() -> tuple[DriverName, ...]:
    """The libraries that can be imported here, the preferred first; none is imported."""
    return tuple(name for name, (module, _) in _MODULES.items() if _exists(module))


def choose(name: DriverName | None = None) -> DriverName:
    """The library to take.

    Raises:
        InputError: If there is no library of that name.
        MissingDependency: If it is not installed, or none is.
    """
    if name is not None and name not in _MODULES:
        raise InputError(f"CUDA library {name!r}, expected one of {', '.join(get_args(DriverName))}")
    found = installed()
    if name is None and not found:
        raise MissingDependency(
            "using the GPU needs a CUDA library, and none is installed; "
            "install one with: pip install 'pixelrt[cuda]'"
        )
    if name is not None and name not in found:
        raise MissingDependency(
            f"using the GPU with {name} needs the library {_MODULES[name][0]!r}, which is not installed; "
            f"install it with: pip install 'pixelrt[{_MODULES[name][1]}]'"
        )
    return name or found[0]


def check_index(index: int) -> None:
    """Refuse a GPU that is not there.

    Raises:
        DeviceError: If there is no driver, or no such GPU; with the number of those that there are.
    """
    DriverLibrary().check_index(index)


def count_devices() -> int:
    """How many GPUs this process sees, asked of the driver itself; no library is needed.

    Raises:
        DeviceError: If there is no NVIDIA driver, or it does not work.
    """
    return DriverLibrary().count_devices()


class DriverLibrary:
    """The NVIDIA driver itself, for questions that need no library. No context is made."""

    def __init__(self, otherwise: str = "use device='cpu'") -> None:
        """Load and initialise it.

        Args:
            otherwise: What to do where there is none and none can be had, for the message.

        Raises:
            DeviceError: If there is no NVIDIA driver, or it does not work.
        """
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError as problem:
            raise DeviceError(
                "no NVIDIA driver here (libcuda.so.1 cannot be loaded): install it if this machine has an "
                "NVIDIA GPU, start a container with --gpus all (on a Jetson --runtime nvidia), or "
                f"{otherwise}"
            ) from problem
        self.call("cuInit", 0)

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function of the driver's API that leaves contexts alone.

        Raises:
            DeviceError: If it answers anything but success.
        """
        code = getattr(self._library, function)(*arguments)
        if code:
            raise error_of(function, STATUSES.get(code, Status(code, "", "")), opening=True)

    def count_devices(self) -> int:
        """How many GPUs this process sees."""
        count = ctypes.c_int()
        self.call("cuDeviceGetCount", ctypes.byref(count))
        return count.value

    def check_index(self, index: int) -> None:
        """Refuse a GPU that is not there; see the function of that name."""
        count = self.count_devices()
        if not 0 <= index < count:
            raise DeviceError(
                f"no GPU with index {index}: there {'is one, index 0' if count == 1 else f'are {count}'}; "
                "see: nvidia-smi --list-gpus, and the environment variable CUDA_VISIBLE_DEVICES"
            )


def _exists(module: str) -> bool:
    """Whether a module can be found. Its parent may be another library's: `cuda` belongs to several."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
