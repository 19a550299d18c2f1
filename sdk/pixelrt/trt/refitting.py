"""Puts weights into an engine: those that were stripped from it, or other ones if it was built for that."""

from __future__ import annotations

from typing import Any

from pixelrt.errors import BuildError
from pixelrt.trt.library import Library
from pixelrt.trt.network import refusal_of

_MOST_SHOWN = 10


def refit(library: Library, engine: Any, onnx: bytes) -> None:
    """Put the weights of an ONNX into a loaded engine, before it runs for the first time.

    An engine that was built with `strip_weights` alone takes the very weights that it was built from, and
    what it computes with others is undefined; one that was built with `refit` takes any of the same shapes.

    Args:
        library: The TensorRT that loaded the engine. CUDA must be current on this thread.
        engine: `ICudaEngine`.
        onnx: The model that the engine was built from, such as `bundle.read(bundle.model)`.

    Raises:
        BuildError: If the engine is not open for weights, the ONNX is not the one it was built from, or
            TensorRT refuses.
    """
    trt = library.trt
    if not engine.refittable:
        raise BuildError(
            "the engine has its weights and takes no others; build it with --stripWeights or --refit"
        )
    if not hasattr(trt, "OnnxParserRefitter"):
        raise BuildError(f"{library.title} cannot refit from ONNX: it has no OnnxParserRefitter")
    library.take_problems()
    refitter = library.make(trt.Refitter, engine, library.logger)
    reader = library.make(trt.OnnxParserRefitter, refitter, library.logger)
    if not reader.refit_from_bytes(onnx):
        raise refusal_of(library, reader, "take the weights of the ONNX")
    missing = refitter.get_missing_weights()
    if missing:
        raise BuildError(
            f"the ONNX lacks {len(missing)} weights of the engine ({', '.join(missing[:_MOST_SHOWN])}): give "
            "the model that it was built from"
        )
    library.check(refitter.refit_cuda_engine(), "to put the weights into the engine")
