"""The GPU that is measured, and how the contenders get at it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pixelrt
from gpu.contender import NotMeasuredError
from pixelrt.bundle import Bundle
from pixelrt.cuda.opening import open_driver, unavailable
from pixelrt.cuda.protocol import Driver
from pixelrt.segmentation import Segmenter
from pixelrt.session import GpuOptions

Providers = list[tuple[str, dict[str, str]]]
Timer = Callable[[Callable[[], Any]], float]
"""Runs work, waits for it, and gives the GPU's time for it in milliseconds."""


class Platform(Protocol):
    """What a machine offers. The tests have one without a GPU."""

    backends: Sequence[str]
    """PixelRT's backends to measure."""
    torch_device: str
    torch_dtype: str
    """In which PyTorch computes, by its own name: `float16`."""
    providers: Providers
    """ONNX Runtime's, with their options."""

    def driver(self) -> AbstractContextManager[Driver]:
        """CUDA on the GPU."""
        ...

    def segmenter(self, bundle: Bundle, backend: str, options: GpuOptions) -> Segmenter:
        """Open a bundle with a backend on the GPU, and nowhere else.

        Raises:
            PixelRTError: If that is impossible; the message says why.
        """
        ...

    def torch_timer(self) -> Timer:
        """Measures PyTorch's work on the GPU.

        Raises:
            NotMeasuredError: If PyTorch does not reach the GPU.
        """
        ...

    def versions(self) -> Mapping[str, str]:
        """Of CUDA and cuDNN, as the libraries here use them."""
        ...


class CudaPlatform:
    """An NVIDIA GPU, the first that CUDA_VISIBLE_DEVICES leaves."""

    def __init__(self) -> None:
        with contextlib.suppress(ImportError):
            import torch  # noqa: F401  # first: ONNX Runtime then takes PyTorch's cuDNN, not a second one
        self.backends: Sequence[str] = ("tensorrt", "onnxruntime")
        self.torch_device = "cuda"
        self.torch_dtype = "float16"
        self.providers: Providers = [("CUDAExecutionProvider", {"device_id": "0"})]

    @staticmethod
    def problem() -> str:
        """Why nothing can be measured here; empty if something can."""
        return unavailable()

    def driver(self) -> AbstractContextManager[Driver]:
        """See `Platform.driver`."""
        return open_driver()

    def segmenter(self, bundle: Bundle, backend: str, options: GpuOptions) -> Segmenter:
        """See `Platform.segmenter`."""
        return pixelrt.load(bundle, task="segmentation", device="cuda", backend=backend, gpu=options)

    def torch_timer(self) -> Timer:
        """CUDA events around the work, in PyTorch's stream; see `Platform.torch_timer`."""
        torch = torch_on("cuda")
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

        def measure(work: Callable[[], Any]) -> float:
            begin.record()
            work()
            end.record()
            end.synchronize()
            return float(begin.elapsed_time(end))

        return measure

    def versions(self) -> Mapping[str, str]:
        """See `Platform.versions`."""
        with self.driver() as driver:
            found = {
                "cuda_driver_api": ".".join(map(str, driver.device.driver_version)),
                "driver_library": f"{driver.name} {driver.version}",
            }
        try:
            torch = torch_on("cuda")
        except NotMeasuredError:
            return found
        return {
            **found,
            "torch_cuda": str(torch.version.cuda),
            "torch_cudnn": str(torch.backends.cudnn.version()),
        }


def torch_on(device: str) -> Any:
    """PyTorch, if it reaches a device.

    Raises:
        NotMeasuredError: If it is not installed, or has no CUDA while CUDA is asked for.
    """
    try:
        import torch
    except ImportError as problem:
        raise NotMeasuredError(f"PyTorch cannot be imported: {problem}") from problem
    if device == "cuda" and not torch.cuda.is_available():
        raise NotMeasuredError(
            f"PyTorch {torch.__version__} here reaches no GPU; install one that is built for CUDA"
        )
    return torch
