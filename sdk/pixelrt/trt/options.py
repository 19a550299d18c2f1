"""What an engine is built with, beside its targets and shapes: plain data that a child process can read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pixelrt.errors import BuildError, InputError
from pixelrt.trt.library import FLAVOURS, Flavour

Value: TypeAlias = str | int | float | bool
HardwareCompatibility = Literal["none", "ampere+", "sameComputeCapability"]
Verbosity = Literal["detailed", "layer_names_only", "none"]

COMPATIBILITIES: tuple[HardwareCompatibility, ...] = ("none", "ampere+", "sameComputeCapability")
VERBOSITIES: tuple[Verbosity, ...] = ("detailed", "layer_names_only", "none")

OPTIONS = {
    "builder_optimization_level": "builderOptimizationLevel",
    "avg_timing_iterations": "avgTiming",
    "max_aux_streams": "maxAuxStreams",
    "hardware_compatibility": "hardwareCompatibilityLevel",
    "version_compatible": "versionCompatible",
    "exclude_lean_runtime": "excludeLeanRuntime",
    "dla_core": "useDLACore",
    "gpu_fallback": "allowGPUFallback",
    "strip_weights": "stripWeights",
    "refit": "refit",
    "profiling_verbosity": "profilingVerbosity",
}
"""From a field to trtexec's name for it, which is that of the command line and of the manifest."""

_WITHOUT_EFFECT: dict[Flavour, dict[str, str]] = {
    "tensorrt": {},
    "tensorrt_rtx": {
        "builder_optimization_level": "it takes any level and builds the same engine, byte for byte",
        "avg_timing_iterations": "it times nothing when it builds, and ignores the number",
        "version_compatible": (
            "it has no lean runtime, so only the version that built an engine can load it, whatever it is "
            "built with"
        ),
    },
}
"""What TensorRT takes without a word and without an effect. It reads back as if it held, so a list it has to
be; that it is still true is tested with the installed TensorRT-RTX. Everything else is asked at run time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What an engine is built with. None leaves a choice to TensorRT."""

    workspace_mib: float | None = None
    """Memory that the engine may use while it runs, beside weights and activations; None: TensorRT's default,
    which is as much as the GPU has."""
    builder_optimization_level: int | None = None
    """How hard to look for fast kernels, 0 (quick to build) to 5; TensorRT's default is 3."""
    avg_timing_iterations: int | None = None
    """Number of runs that the time of a kernel is the mean of; TensorRT's default is 1."""
    max_aux_streams: int | None = None
    """Most streams beside the caller's on which layers may run at the same time; 0: none, which needs the
    least memory."""
    tf32: bool = True
    """Whether layers in FP32 may multiply with 10 bits of mantissa on GPUs that can."""
    hardware_compatibility: HardwareCompatibility = "none"
    """`ampere+`: for every GPU since Ampere; `sameComputeCapability`: for other cards of this generation."""
    version_compatible: bool = False
    """Whether newer versions of TensorRT shall load the engine; see `exclude_lean_runtime`."""
    exclude_lean_runtime: bool = False
    """Leaves out the small runtime, native code, that a version compatible engine carries with it."""
    dla_core: int | None = None
    """Deep learning accelerator (of a Jetson) to run on."""
    gpu_fallback: bool = False
    """Whether layers that the accelerator lacks may run on the GPU."""
    strip_weights: bool = False
    """Leave out the weights; `refit` puts them in after loading, from the bundle's ONNX."""
    refit: bool = False
    """Keep the engine open for *other* weights, which costs speed. Stripping alone needs it not."""
    profiling_verbosity: Verbosity = "detailed"
    """What the engine tells of its layers. By default everything, since only that shows in which type each of
    them computes; it costs no time. It describes the network: use `none` for an engine that strangers get."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def told(self) -> dict[str, Value]:
        """What differs from TensorRT's own defaults, in trtexec's words, for the manifest."""
        told: dict[str, Value] = {}
        if self.workspace_mib is not None:
            told["workspace_mib"] = self.workspace_mib
        for name, word in OPTIONS.items():
            value = getattr(self, name)
            if _is_given(value) or name == "profiling_verbosity":
                told[word] = value
        if not self.tf32:
            told["noTF32"] = True
        return told


def engine_options(options: EngineOptions) -> EngineOptions:
    """Only what `EngineOptions` has, of options that have more."""
    fields = dataclasses.fields(EngineOptions)
    return EngineOptions(**{field.name: getattr(options, field.name) for field in fields})


def check(options: EngineOptions) -> None:
    """Refuse values that no TensorRT takes.

    Raises:
        InputError: If there is one.
    """
    if options.workspace_mib is not None and not 0 < options.workspace_mib < float("inf"):
        raise InputError(f"workspace of {options.workspace_mib} MiB: a number above 0 was expected")
    for name, least in _LEAST.items():
        number = getattr(options, name)
        if number is not None and number < least:
            raise InputError(f"--{OPTIONS[name]}={number}: a whole number of at least {least} was expected")
    for name, choices in _CHOICES.items():
        if getattr(options, name) not in choices:
            raise InputError(
                f"--{OPTIONS[name]}={getattr(options, name)}: one of {', '.join(choices)} was expected"
            )
    for name, needed in _NEEDS.items():
        if getattr(options, name) and not _is_given(getattr(options, needed)):
            raise InputError(f"--{OPTIONS[name]} means nothing without --{OPTIONS[needed]}")


def _is_given(value: Value | None) -> bool:
    return value is not None and value is not False and value != "none"


_LEAST = {"builder_optimization_level": 0, "avg_timing_iterations": 1, "max_aux_streams": 0, "dla_core": 0}
_CHOICES: dict[str, tuple[str, ...]] = {
    "hardware_compatibility": COMPATIBILITIES,
    "profiling_verbosity": VERBOSITIES,
}
_NEEDS = {"exclude_lean_runtime": "version_compatible", "gpu_fallback": "dla_core"}


def check_flavour(flavour: Flavour, options: EngineOptions) -> None:
    """Refuse options that a flavour takes without any effect.

    Raises:
        BuildError: If there is one.
    """
    for name, reason in _WITHOUT_EFFECT[flavour].items():
        if _is_given(getattr(options, name)):
            raise BuildError(f"{FLAVOURS[flavour]} has no --{OPTIONS[name]}: {reason}")
