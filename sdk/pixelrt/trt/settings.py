"""Puts options into TensorRT's configuration, and reads back what it took. In the child process only.

What a TensorRT lacks shows here, before anything is built: an enumeration without the member, a value that
reads back as another, a warning while it is set.
"""

from __future__ import annotations

from typing import Any

from pixelrt.errors import BuildError
from pixelrt.trt.library import Library, explain
from pixelrt.trt.network import Parsed
from pixelrt.trt.options import OPTIONS, EngineOptions

MIB = 1 << 20
_MOST_SHOWN = 10

NUMBERS = {
    "builder_optimization_level": "builder_optimization_level",
    "avg_timing_iterations": "avg_timing_iterations",
    "max_aux_streams": "max_aux_streams",
}
"""From a field of `EngineOptions` to the property of TensorRT's configuration."""

FLAGS = {
    "version_compatible": "VERSION_COMPATIBLE",
    "exclude_lean_runtime": "EXCLUDE_LEAN_RUNTIME",
    "strip_weights": "STRIP_PLAN",
    "refit": "REFIT",
    "gpu_fallback": "GPU_FALLBACK",
}
"""From a field to the member of `BuilderFlag`, in an order in which TensorRT takes them."""

LEVELS = {"ampere+": "AMPERE_PLUS", "sameComputeCapability": "SAME_COMPUTE_CAPABILITY"}
VERBOSITIES = {"detailed": "DETAILED", "layer_names_only": "LAYER_NAMES_ONLY", "none": "NONE"}


def apply_options(library: Library, parsed: Parsed, config: Any, options: EngineOptions) -> None:
    """Set everything that is not left to TensorRT.

    Args:
        library: The TensorRT that builds.
        parsed: The network, whose layers are asked whether the accelerator has them.
        config: `IBuilderConfig`.
        options: What to set.

    Raises:
        BuildError: If this TensorRT has not, or does not take, one of them.
    """
    if options.workspace_mib is not None:
        _set_workspace(library, config, round(options.workspace_mib * MIB))
    for name, attribute in NUMBERS.items():
        number = getattr(options, name)
        if number is not None:
            _set(library, config, attribute, number, f"--{OPTIONS[name]}={number}")
    for name, flag in FLAGS.items():
        if getattr(options, name):
            _set_flag(library, config, flag, f"--{OPTIONS[name]}")
    if options.strip_weights and not options.refit:
        _set_flag(library, config, "REFIT_IDENTICAL", f"--{OPTIONS['strip_weights']}")
    if not options.tf32:
        _clear_tf32(library, config)
    _set_verbosity(library, config, options)
    if options.hardware_compatibility != "none":
        _set_compatibility(library, config, options)
    if options.dla_core is not None:
        _set_accelerator(library, parsed, config, options)


def _set(library: Library, config: Any, attribute: str, value: Any, option: str) -> None:
    """Set a property that returns nothing; what holds, and what TensorRT said, tells whether it was taken."""
    if not hasattr(type(config), attribute):
        raise BuildError(f"{library.title} has no {option}: its configuration has no {attribute}")
    library.take_messages()
    with library.quietly():
        setattr(config, attribute, value)
        said = library.take_messages()
        taken = getattr(config, attribute)
        repeated = library.take_messages()
    said = said or repeated
    if taken != value:
        reason = f": {explain(said)}" if said else ""
        held = getattr(taken, "name", taken)
        raise BuildError(f"{library.title} does not take {option}, it makes {held} of it{reason}")
    if said:
        raise BuildError(f"{library.title} does not take {option}: {explain(said)}")


def _member(library: Library, enumeration: str, name: str, option: str) -> Any:
    member = getattr(getattr(library.trt, enumeration, None), name, None)
    if member is None:
        raise BuildError(f"{library.title} has no {option}: its {enumeration} has no {name}")
    return member


def _set_flag(library: Library, config: Any, name: str, option: str) -> None:
    flag = _member(library, "BuilderFlag", name, option)
    config.set_flag(flag)  # returns nothing, so what holds is read back
    library.check(config.get_flag(flag), option)


def _clear_tf32(library: Library, config: Any) -> None:
    flag = _member(library, "BuilderFlag", "TF32", "--noTF32")
    config.clear_flag(flag)  # returns nothing, so what holds is read back
    library.check(not config.get_flag(flag), "--noTF32")


def _set_workspace(library: Library, config: Any, limit_bytes: int) -> None:
    pool = library.trt.MemoryPoolType.WORKSPACE
    config.set_memory_pool_limit(pool, limit_bytes)  # returns nothing, so what holds is read back
    taken = config.get_memory_pool_limit(pool)
    library.check(taken == limit_bytes, f"a workspace of {limit_bytes} bytes (it says {taken})")


def _set_verbosity(library: Library, config: Any, options: EngineOptions) -> None:
    option = f"--{OPTIONS['profiling_verbosity']}={options.profiling_verbosity}"
    name = VERBOSITIES[options.profiling_verbosity]
    verbosity = _member(library, "ProfilingVerbosity", name, option)
    _set(library, config, "profiling_verbosity", verbosity, option)


def _set_compatibility(library: Library, config: Any, options: EngineOptions) -> None:
    option = f"--{OPTIONS['hardware_compatibility']}={options.hardware_compatibility}"
    name = LEVELS[options.hardware_compatibility]
    level = _member(library, "HardwareCompatibilityLevel", name, option)
    _set(library, config, "hardware_compatibility_level", level, option)


def check_accelerator(library: Library, parsed: Parsed, options: EngineOptions) -> None:
    """Refuse an accelerator where there is none.

    Raises:
        BuildError: If TensorRT finds none, or knows none.
    """
    if parsed.builder.num_DLA_cores == 0:
        raise BuildError(
            f"{library.title} finds no deep learning accelerator here, so there is no "
            f"--{OPTIONS['dla_core']}={options.dla_core}; Jetson Orin (not Orin Nano) and Xavier have some, "
            "with a JetPack whose TensorRT supports them"
        )


def _set_accelerator(library: Library, parsed: Parsed, config: Any, options: EngineOptions) -> None:
    option = f"--{OPTIONS['dla_core']}={options.dla_core}"
    num_cores = parsed.builder.num_DLA_cores
    _set(library, config, "default_device_type", library.trt.DeviceType.DLA, option)
    _set(library, config, "DLA_core", options.dla_core, f"{option} (it has {num_cores} cores)")
    unfit = layers_without_accelerator(parsed.network, config)
    if unfit and not options.gpu_fallback:
        raise BuildError(_needs_gpu(unfit))


def layers_without_accelerator(network: Any, config: Any) -> list[str]:
    """Names of the network's layers that TensorRT says the accelerator cannot run."""
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return [layer.name for layer in layers if not config.can_run_on_DLA(layer)]


def _needs_gpu(unfit: list[str]) -> str:
    shown = "".join(f"\n  {name}" for name in unfit[:_MOST_SHOWN])
    more = f"\n  and {len(unfit) - _MOST_SHOWN} more" if len(unfit) > _MOST_SHOWN else ""
    return (
        f"{len(unfit)} layers cannot run on the deep learning accelerator; --allowGPUFallback runs them on "
        f"the GPU:{shown}{more}"
    )
