"""From CUDA's error codes to PixelRT's errors.

Codes, their names and what they mean for the process: CUDA Driver API, "Data types used by CUDA driver",
`CUresult` (also in `cuda.h`); their texts: `cuGetErrorString`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pixelrt.errors import ContextLost, DeviceError, DeviceLost, OutOfMemory


@dataclass(frozen=True, slots=True)
class Status:
    """What CUDA answered."""

    code: int
    name: str
    """`CUDA_ERROR_OUT_OF_MEMORY`"""
    text: str
    """`out of memory`"""


_TABLE: tuple[Status, ...] = (
    Status(1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"),
    Status(2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"),
    Status(3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"),
    Status(4, "CUDA_ERROR_DEINITIALIZED", "driver shutting down"),
    Status(34, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"),
    Status(46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"),
    Status(100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"),
    Status(101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"),
    Status(201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"),
    Status(214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"),
    Status(
        220, "CUDA_ERROR_NVLINK_UNCORRECTABLE", "uncorrectable NVLink error detected during the execution"
    ),
    Status(226, "CUDA_ERROR_CONTAINED", "Invalid access of peer GPU memory over nvlink or a hardware error"),
    Status(400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"),
    Status(600, "CUDA_ERROR_NOT_READY", "device not ready"),
    Status(700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"),
    Status(701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"),
    Status(702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"),
    Status(709, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"),
    Status(710, "CUDA_ERROR_ASSERT", "device-side assert triggered"),
    Status(714, "CUDA_ERROR_HARDWARE_STACK_ERROR", "hardware stack error"),
    Status(715, "CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered"),
    Status(716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"),
    Status(717, "CUDA_ERROR_INVALID_ADDRESS_SPACE", "operation not supported on global/shared address space"),
    Status(718, "CUDA_ERROR_INVALID_PC", "invalid program counter"),
    Status(719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"),
    Status(721, "CUDA_ERROR_TENSOR_MEMORY_LEAK", "tensor memory not completely freed"),
    Status(800, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"),
    Status(801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"),
    Status(802, "CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized"),
    Status(
        803,
        "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        "system has unsupported display driver / cuda driver combination",
    ),
    Status(
        804,
        "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
        "forward compatibility was attempted on non supported HW",
    ),
    Status(810, "CUDA_ERROR_MPS_CLIENT_TERMINATED", "the MPS client has been terminated by the server"),
    Status(900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"),
    Status(
        901,
        "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
        "operation failed due to a previous error during capture",
    ),
    Status(904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"),
    Status(
        905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"
    ),
    Status(
        908,
        "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
        "attempt to terminate a thread-local capture sequence from another thread",
    ),
    Status(
        911, "CUDA_ERROR_EXTERNAL_DEVICE", "an async error has occured in external entity outside of CUDA"
    ),
    Status(999, "CUDA_ERROR_UNKNOWN", "unknown error"),
)

STATUSES: dict[int, Status] = {status.code: status for status in _TABLE}
"""Those that PixelRT can meet. All others are a plain `DeviceError`."""

_BY_TEXT = {status.text: status for status in _TABLE}

_CONTEXT_LOST = frozenset(
    {3, 4, 201, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911, 999},
)
"""`cuda.h` says of most: "leaves the process in an inconsistent state and any further CUDA work will return
the same error. To continue using CUDA, the process must be terminated and relaunched". 710: "the context
cannot be used anymore, and must be destroyed", and the primary context cannot be while others hold it.
3, 201, 709: CUDA worked and the context was current, so other code took it away (cudaDeviceReset). 4: the
process ends. 999: an internal failure of the driver."""

_DEVICE_LOST = frozenset({46, 100, 101, 214, 220})
"""46, 100 and 101 mean it only where the GPU worked before."""

_TAKEN_AWAY = "other code of this process destroyed the CUDA context (cudaDeviceReset)"
_HINTS: dict[int, str] = {
    1: "an address, a size or a stream that does not belong together was given",
    2: "free memory on the GPU (other processes: nvidia-smi), use a smaller batch, or fewer slots",
    3: _TAKEN_AWAY,
    34: "a stub of the CUDA toolkit is loaded instead of the driver: take its folder out of LD_LIBRARY_PATH",
    46: "another process may hold it exclusively; see: nvidia-smi",
    201: _TAKEN_AWAY,
    400: "it was closed, or belongs to another GPU",
    600: "wait for it first",
    709: _TAKEN_AWAY,
    801: "this GPU or driver does not offer it",
    802: "start the driver's services (nvidia-persistenced, nvidia-fabricmanager), or restart the machine",
    803: "the driver was updated while it was loaded: restart the machine",
    804: "the CUDA compatibility package does not support this GPU: remove it from LD_LIBRARY_PATH",
    908: "end the capture in the thread that began it",
}
_HINT_CONTEXT_LOST = (
    "CUDA does not work any more in this process: start a new one (pixelrt.isolate does that for you)"
)
_HINT_DEVICE_LOST = (
    "the GPU is gone or broken: see nvidia-smi and dmesg (Xid), reset the GPU or restart the machine"
)


def find(text: str) -> Status | None:
    """The status that CUDA describes with this text, for libraries that pass on nothing else."""
    return _BY_TEXT.get(text.strip())


def error_of(call: str, status: Status, *, opening: bool = False) -> DeviceError:
    """The error to raise when CUDA answered a call with anything but success.

    Args:
        call: The function, `cuMemAlloc`.
        status: The answer.
        opening: The GPU has not worked yet in this process, so that it cannot have been lost.
    """
    code = status.code
    said = f"{call} failed: {status.text or 'no text'} ({status.name or 'CUresult'} {code})"
    if code in _CONTEXT_LOST and not opening:
        cause = f"{_HINTS[code]}; " if code in _HINTS else ""
        return ContextLost(f"{said}; {cause}{_HINT_CONTEXT_LOST}")
    if code in _DEVICE_LOST and not opening:
        return DeviceLost(f"{said}; {_HINT_DEVICE_LOST}")
    kind = OutOfMemory if code == 2 else DeviceError
    return kind(f"{said}; {_HINTS.get(code, 'see: nvidia-smi, dmesg')}")
