"""Turns a parsed network into an engine. It runs in the child process only; see `process`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pixelrt.errors import BuildError
from pixelrt.trt.library import Library, explain
from pixelrt.trt.network import Parsed
from pixelrt.trt.profiles import KINDS, Profile, shape_text
from pixelrt.trt.protocol import Request
from pixelrt.trt.settings import apply_options, check_accelerator
from pixelrt.trt.targets import LOCAL, compute_capabilities

Report = Callable[[str, int, int], None]
"""Called with a phase, the step that it reached, and its number of steps."""


_IMPOSSIBLE = "not self-consistent"
"""What TensorRT says of a profile whose shapes no tensor can have."""


def build_plan(library: Library, parsed: Parsed, config: Any, request: Request, report: Report) -> Any:
    """Build and serialise.

    Args:
        library: The TensorRT to build with.
        parsed: A network that was parsed without problems.
        config: What `configure` made of the request.
        request: Names the targets.
        report: Told of TensorRT's progress, possibly from a thread of TensorRT.

    Returns:
        TensorRT's own memory (`IHostMemory`) with the engine.

    Raises:
        BuildError: If TensorRT refuses anything of it.
    """
    monitor = _monitor(library.trt, report)
    config.progress_monitor = monitor
    library.take_warnings()
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    impossible = [text for text in library.take_warnings() if _IMPOSSIBLE in text]
    if plan is not None and impossible:  # it warns, and gives an engine that runs nothing
        raise BuildError(
            f"{library.title} cannot build for these shapes: {explain(impossible)}; see --maxShapes"
        )
    return library.check(plan, f"to build an engine for {', '.join(request.targets)}")


def configure(library: Library, parsed: Parsed, request: Request) -> Any:
    """The `IBuilderConfig` for a request, without a timing cache.

    Raises:
        BuildError: If TensorRT refuses anything of it.
    """
    config = library.check(parsed.builder.create_builder_config(), "to make a configuration")
    if request.targets != (LOCAL,):
        _set_targets(library, config, request)
    if request.options.dla_core is not None:
        check_accelerator(library, parsed, request.options)
        fix_shapes(library, parsed.network, request.profile)
    _add_profile(library, parsed, config, request.profile)
    apply_options(library, parsed, config, request.options)
    return config


def fix_shapes(library: Library, network: Any, shapes: Profile) -> None:
    """Make every dynamic axis of the inputs a number: accelerators run layers of one size alone.

    Raises:
        BuildError: If the profile has a range.
    """
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        limits = shapes.get(tensor.name)
        if limits is None:
            continue
        if limits.min != limits.max:
            raise BuildError(
                f"the deep learning accelerator runs layers of one size, the input {tensor.name!r} has "
                f"{shape_text(limits.min)} to {shape_text(limits.max)}: give the same --minShapes, "
                "--optShapes and --maxShapes"
            )
        tensor.shape = limits.opt  # returns nothing, so what holds is read back
        taken = tuple(tensor.shape)
        what = f"the shape {limits.opt} of input {tensor.name!r} (it says {taken})"
        library.check(taken == limits.opt, what)


def _set_targets(library: Library, config: Any, request: Request) -> None:
    capabilities = compute_capabilities(library, request.targets)
    config.num_compute_capabilities = len(capabilities)  # returns nothing, so what holds is read back
    taken = config.num_compute_capabilities
    library.check(taken == len(capabilities), f"{len(capabilities)} targets in one engine (it says {taken})")
    for index, (target, capability) in enumerate(zip(request.targets, capabilities, strict=True)):
        library.check(config.set_compute_capability(capability, index), f"the target {target}")


def _add_profile(library: Library, parsed: Parsed, config: Any, shapes: Profile) -> None:
    profile = library.check(parsed.builder.create_optimization_profile(), "to make a profile")
    for name, limits in shapes.items():
        wanted = [getattr(limits, kind) for kind in KINDS]
        profile.set_shape(name, *wanted)  # returns nothing, so what holds is read back
        taken = [tuple(shape) for shape in profile.get_shape(name)]
        library.check(taken == wanted, f"the shapes {wanted} of input {name!r} (it says {taken})")
    library.check(config.add_optimization_profile(profile), f"the profile {dict(shapes)}")


def _monitor(trt: Any, report: Report) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the class is known at run time only
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._num_steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._num_steps[phase_name] = num_steps
            report(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            report(phase_name, step + 1, self._num_steps[phase_name])
            return True

        def phase_finish(self, phase_name: str) -> None:
            num_steps = self._num_steps[phase_name]
            report(phase_name, num_steps, num_steps)

    return Monitor()
