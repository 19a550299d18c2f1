"""PyTorch in FP16, as people write it: OpenCV and NumPy before, argmax on the GPU after.

Per frame: cv2.resize, NumPy's normalisation, `.to(device)` from ordinary memory and to half precision there,
the network under `inference_mode`, argmax and the cast to uint8 on the GPU, `.cpu().numpy()`. The mask comes
back as bytes, since argmax on the host would copy every logit back: the better of the two usual ways. cuDNN
may try its algorithms (`cudnn.benchmark`), which the shapes here, that never change, reward.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpu.contender import Bytes, Contender, NotMeasuredError, Step, SteppingContender, Turn
from gpu.host_side import to_tensor
from gpu.models import Prepared
from gpu.platform import Platform, torch_on
from gpu.setting import Entry, Setting
from pixelrt.session import GpuTimes


def entries() -> list[Entry]:
    """Eager in both memory formats, compiled, and the network alone."""

    def opening(make: Callable[[Any, Prepared, Platform], Contender]) -> Callable[[Setting], Contender]:
        return lambda setting: _opened(make, setting.prepared, setting.platform)

    return [
        Entry("torch/eager", opening(_eager)),
        Entry("torch/eager-channels-last", opening(_eager_channels_last)),
        Entry("torch/compile-max-autotune", opening(_compiled)),
        Entry("torch/network-alone", opening(_alone)),
    ]


def _opened(
    make: Callable[[Any, Prepared, Platform], Contender], prepared: Prepared, platform: Platform
) -> Contender:
    torch = torch_on(platform.torch_device)
    try:
        return make(torch, prepared, platform)
    except RuntimeError as problem:  # of PyTorch: out of memory, or nothing here to compile with
        said = str(problem).strip().splitlines() or [type(problem).__name__]
        raise NotMeasuredError(f"PyTorch {torch.__version__}: {said[0]}") from problem


def _eager(torch: Any, prepared: Prepared, platform: Platform) -> Contender:
    return _stepping(torch, prepared, platform, _network(torch, prepared, platform), "eager")


def _eager_channels_last(torch: Any, prepared: Prepared, platform: Platform) -> Contender:
    network = _network(torch, prepared, platform).to(memory_format=torch.channels_last)
    return _stepping(torch, prepared, platform, network, "eager, channels_last")


def _compiled(torch: Any, prepared: Prepared, platform: Platform) -> Contender:
    network = torch.compile(_network(torch, prepared, platform), mode="max-autotune")

    def free() -> None:
        torch.compiler.reset()  # what was compiled holds the memory of its CUDA graphs
        _free(torch)

    return _stepping(torch, prepared, platform, network, "torch.compile(mode='max-autotune')", free)


def _network(torch: Any, prepared: Prepared, platform: Platform) -> Any:
    torch.backends.cudnn.benchmark = True
    return prepared.model.make().to(platform.torch_device, dtype=getattr(torch, platform.torch_dtype))


def step_of(torch: Any, network: Any, prepared: Prepared, device: str, dtype: Any) -> Step:
    """From a frame to its mask, as in the module's docstring."""
    form = prepared.form

    def step(frame: Bytes) -> Bytes:
        with torch.inference_mode():
            tensor = torch.from_numpy(to_tensor(frame, form)).to(device).to(dtype)
            mask: Bytes = network(tensor).argmax(1).to(torch.uint8).cpu().numpy()[0]
        return mask

    return step


def _stepping(
    torch: Any,
    prepared: Prepared,
    platform: Platform,
    network: Any,
    how: str,
    free: Callable[[], None] | None = None,
) -> Contender:
    dtype = getattr(torch, platform.torch_dtype)
    step = step_of(torch, network, prepared, platform.torch_device, dtype)
    step(np.zeros((*prepared.form.size, 3), np.uint8))
    return SteppingContender(step, _about(torch, platform, how), free or (lambda: _free(torch)))


def _about(torch: Any, platform: Platform, how: str) -> dict[str, Any]:
    return {"library": f"torch {torch.__version__}", "precision": platform.torch_dtype, "how": how}


def _free(torch: Any) -> None:
    """Give cached memory back to the GPU; what the contender holds goes with it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _alone(torch: Any, prepared: Prepared, platform: Platform) -> Contender:
    network = _network(torch, prepared, platform)
    shape = (1, prepared.form.channels, *prepared.form.size)
    ready = torch.zeros(shape, dtype=getattr(torch, platform.torch_dtype), device=platform.torch_device)
    contender = _Alone(torch, network, ready, platform)
    contender.turn((), 1)
    return contender


class _Alone:
    """The network alone on a ready tensor: GPU time, and nothing else that could be compared."""

    def __init__(self, torch: Any, network: Any, ready: Any, platform: Platform) -> None:
        self._platform = platform
        self._torch, self._network, self._ready, self._timer = torch, network, ready, platform.torch_timer()

    def about(self) -> dict[str, Any]:
        return _about(self._torch, self._platform, "eager, the network alone on a tensor that is on the GPU")

    def turn(self, frames: Sequence[Bytes], count: int) -> Turn:
        turn = Turn(frames=count)
        began = time.perf_counter()
        with self._torch.inference_mode():
            for _ in range(count):
                turn.times.append(self._time())
        turn.wall_s = time.perf_counter() - began
        return turn

    def _time(self) -> GpuTimes:
        enqueue_ms = 0.0

        def work() -> None:
            nonlocal enqueue_ms
            called = time.perf_counter()
            self._network(self._ready)
            enqueue_ms = (time.perf_counter() - called) * 1e3

        compute_ms = self._timer(work)
        return GpuTimes(enqueue_ms=enqueue_ms, upload_ms=0.0, compute_ms=compute_ms, download_ms=0.0)

    def masks(self, frames: Sequence[Bytes]) -> list[Bytes]:
        return []

    def close(self) -> None:
        self._network = self._ready = None
        _free(self._torch)
