"""Lets TensorRT load an engine in a child process and tell what it holds."""

from __future__ import annotations

from pixelrt.errors import BuildError
from pixelrt.trt import process
from pixelrt.trt.library import Flavour
from pixelrt.trt.options import EngineOptions
from pixelrt.trt.protocol import EngineFacts, Request


def examine_engine(content: bytes, flavour: Flavour) -> EngineFacts:
    """Load an engine and ask it.

    Loading an engine runs native code that is in it: only for engines whose origin is known.

    Args:
        content: The engine.
        flavour: The TensorRT that built it.

    Raises:
        MissingDependency: If that TensorRT is not installed.
        EngineMismatch: If it is of another version, for another GPU, or damaged.
        DeviceError: If there is no GPU or no driver.
        BuildError: If TensorRT refuses for another reason, or crashes.
    """
    request = Request(
        action="inspect",
        flavour=flavour,
        targets=(),
        device_index=0,
        verbose=False,
        profile={},
        options=EngineOptions(),
        timing_cache=False,
    )
    outcome, _ = process.run(request, content, None)
    if outcome.facts is None:
        raise BuildError("TensorRT loaded the engine and told nothing of it")
    return outcome.facts
