"""TensorRT's place among the backends: this version builds engines (`pixelrt.trt`) but cannot run them."""

from __future__ import annotations

from pathlib import Path

from pixelrt.backends.base import Device, OpenOptions, Precision, Session
from pixelrt.errors import DeviceError
from pixelrt.manifest import Manifest

_DRIVER_TRACES = ("/dev/nvidiactl", "/dev/nvgpu", "/dev/nvhost-gpu", "/proc/driver/nvidia/version")


class TensorRTBackend:
    """Never usable in this version, and says so."""

    name = "tensorrt"

    def unusable(self, device: Device) -> str:
        """Why it cannot run on this device; see `Backend`."""
        if device != "cuda":
            return "TensorRT runs on NVIDIA GPUs"
        if not any(Path(trace).exists() for trace in _DRIVER_TRACES):
            return "no NVIDIA driver on this machine"
        return "this version of PixelRT builds TensorRT engines and does not run them yet"

    def precisions(self, device: Device, manifest: Manifest | None) -> tuple[Precision, ...]:
        """The precision that the engine was typed in; see `Backend`."""
        return ("float16",)

    def open(self, model: bytes, manifest: Manifest, options: OpenOptions) -> Session:
        """Refuse; see `unusable`."""
        raise DeviceError(f"{self.unusable('cuda')}; use device='cpu'")
