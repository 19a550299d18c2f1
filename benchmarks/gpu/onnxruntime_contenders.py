"""ONNX Runtime as people write it: the bare network, NumPy arrays in and out, argmax in NumPy.

Per frame: cv2.resize, NumPy's normalisation, `session.run` (which copies the float32 tensor up and all
logits down), `argmax(1)` and the cast to uint8 on the host. The library's defaults are kept.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from gpu.contender import Bytes, Contender, NotMeasuredError, SteppingContender
from gpu.host_side import to_tensor
from gpu.models import PRECISIONS
from gpu.setting import Entry, Setting
from pixelrt.backends.onnxruntime_errors import failures
from pixelrt.manifest import Preprocess


def entries() -> list[Entry]:
    """The network in FP32, as `torch.onnx.export` writes it, and typed FP16 as PixelRT's is."""
    return [
        Entry(f"onnxruntime/{precision}", functools.partial(_open, precision)) for precision in PRECISIONS
    ]


def _open(precision: str, setting: Setting) -> Contender:
    prepared, platform = setting.prepared, setting.platform
    try:
        import onnxruntime
    except ImportError as problem:
        raise NotMeasuredError(f"ONNX Runtime cannot be imported: {problem}") from problem
    name = platform.providers[0][0]
    if name not in onnxruntime.get_available_providers():
        raise NotMeasuredError(
            f"ONNX Runtime {onnxruntime.__version__} here has no {name}: pip install onnxruntime-gpu"
        )
    if hasattr(onnxruntime, "preload_dlls") and name.startswith("CUDA"):
        onnxruntime.preload_dlls()
    with _explained(onnxruntime):
        session = onnxruntime.InferenceSession(prepared.bare[precision], providers=platform.providers)
    contender = contender_of(onnxruntime, session, prepared.form, precision)
    contender.masks([np.zeros((*prepared.form.size, 3), np.uint8)])
    if session.get_providers()[0] != name:
        raise NotMeasuredError(
            f"ONNX Runtime {onnxruntime.__version__} could not start its {name} and took "
            f"{session.get_providers()[0]}; it needs CUDA and cuDNN libraries of the version it was built for"
        )
    return contender


@contextlib.contextmanager
def _explained(library: ModuleType) -> Iterator[None]:
    """ONNX Runtime's errors, which have no base of their own, as a reason not to be measured."""
    try:
        yield
    except failures(library) as problem:
        said = str(problem).strip().splitlines() or [type(problem).__name__]
        raise NotMeasuredError(f"ONNX Runtime {library.__version__}: {said[0]}") from problem


def contender_of(library: ModuleType, session: Any, form: Preprocess, precision: str) -> Contender:
    """A contender on an inference session of the bare network, as in the module's docstring."""

    def step(frame: Bytes) -> Bytes:
        with _explained(library):
            (logits,) = session.run(None, {"image": to_tensor(frame, form)})
        mask: Bytes = logits.argmax(1)[0].astype(np.uint8)
        return mask

    provider = session.get_providers()[0]
    precisions = {"fp32": "float32 (TF32 where the library takes it)", "fp16": "float16"}
    name = f"onnxruntime {library.__version__}"
    about = {"library": name, "precision": precisions[precision], "how": f"{provider}, NumPy in and out"}
    return SteppingContender(step, about, lambda: None)
