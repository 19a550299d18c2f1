"""ONNX Runtime as people write it: the bare network, NumPy arrays in and out, argmax in NumPy.

Per frame: cv2.resize, NumPy's normalisation, `session.run` (which copies the float32 tensor up and all
logits down), `argmax(1)` and the cast to uint8 on the host. The library's defaults are kept.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gpu.contender import Bytes, Contender, NotMeasuredError, SteppingContender
from gpu.host_side import to_tensor
from gpu.models import PRECISIONS, Prepared
from gpu.setting import Entry, Setting


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
    from pixelrt.backends.onnxruntime_errors import failures

    name = platform.providers[0][0]
    if name not in onnxruntime.get_available_providers():
        raise NotMeasuredError(
            f"ONNX Runtime {onnxruntime.__version__} here has no {name}: pip install onnxruntime-gpu"
        )
    if hasattr(onnxruntime, "preload_dlls") and name.startswith("CUDA"):
        onnxruntime.preload_dlls()
    try:
        session = onnxruntime.InferenceSession(prepared.bare[precision], providers=platform.providers)
        contender = _contender(session, prepared, f"onnxruntime {onnxruntime.__version__}", precision)
        contender.masks([np.zeros((*prepared.form.size, 3), np.uint8)])
    except failures(onnxruntime) as problem:
        said = str(problem).strip().splitlines() or [type(problem).__name__]
        raise NotMeasuredError(f"ONNX Runtime {onnxruntime.__version__}: {said[0]}") from problem
    if session.get_providers()[0] != name:
        raise NotMeasuredError(
            f"ONNX Runtime {onnxruntime.__version__} could not start its {name} and took "
            f"{session.get_providers()[0]}; it needs CUDA and cuDNN libraries of the version it was built for"
        )
    return contender


def _contender(session: Any, prepared: Prepared, library: str, precision: str) -> Contender:
    form = prepared.form

    def step(frame: Bytes) -> Bytes:
        (logits,) = session.run(None, {"image": to_tensor(frame, form)})
        mask: Bytes = logits.argmax(1)[0].astype(np.uint8)
        return mask

    provider = session.get_providers()[0]
    precisions = {"fp32": "float32 (TF32 where the library takes it)", "fp16": "float16"}
    about = {"library": library, "precision": precisions[precision], "how": f"{provider}, NumPy in and out"}
    return SteppingContender(step, about, lambda: None)
