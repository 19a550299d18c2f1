"""Lets TensorRT load an engine in a child process and tell what it holds."""

from __future__ import annotations

from pixelrt.errors import BuildError
from pixelrt.trt import process
from pixelrt.trt.library import Flavour
from pixelrt.trt.options import EngineOptions
from pixelrt.trt.protocol import EngineFacts, Request


def examine_engine(
    content: bytes, flavour: Flavour, *, trust_host_code: bool = False, dla_core: int | None = None
) -> EngineFacts:
    """Load an engine and ask it.

    Loading an engine runs native code that is in it: only for engines whose origin is known.

    Args:
        content: The engine.
        flavour: The TensorRT that built it.
        trust_host_code: Allow an engine of a version compatible build to bring its own runtime.
        dla_core: The accelerator of a Jetson that it was built for; None for the GPU alone.

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
        options=EngineOptions(version_compatible=trust_host_code, dla_core=dla_core),
        timing_cache=False,
    )
    outcome, _ = process.run(request, content, None)
    if outcome.facts is None:
        raise BuildError("TensorRT loaded the engine and told nothing of it")
    return outcome.facts
