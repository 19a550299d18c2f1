"""Builds engines: from ONNX to bytes, and from a bundle to a bundle with engines."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Literal

from pixelrt.bundle import Bundle
from pixelrt.errors import BuildError, InputError, MissingDependency
from pixelrt.manifest import Artifact, Tensor
from pixelrt.trt import process
from pixelrt.trt.choosing import PLATFORM
from pixelrt.trt.library import FLAVOURS, Flavour
from pixelrt.trt.network import NodeProblem, differences, named_axes
from pixelrt.trt.options import EngineOptions, check_flavour, engine_options
from pixelrt.trt.process import Progress
from pixelrt.trt.profiles import Profile, profile_of, profile_options
from pixelrt.trt.protocol import EngineFacts, Outcome, Request
from pixelrt.trt.targets import LOCAL, check_targets


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions(EngineOptions):
    """How to build."""

    flavour: Flavour
    targets: tuple[str, ...]
    """Compute capabilities (`sm86`) for TensorRT-RTX, ("local",) for the regular TensorRT."""
    timing_cache: str | bool = True
    """File with the times of kernels, which makes the next build quicker; True: one of this GPU and TensorRT
    in the user's cache, where TensorRT has such a thing; False: none."""
    device_index: int = 0
    """The GPU to build on, as CUDA_VISIBLE_DEVICES numbers them; only a local engine needs one."""
    verbose: bool = False
    """Whether TensorRT's most detailed messages go to `logging` too."""

    def __post_init__(self) -> None:
        EngineOptions.__post_init__(self)
        if self.flavour not in FLAVOURS:
            raise InputError(f"flavour {self.flavour!r}: one of {', '.join(FLAVOURS)} was expected")
        check_targets(self.flavour, self.targets)

    def request(self, action: Literal["build", "parse"], profile: Profile) -> Request:
        """The request for a child process, which runs in another folder."""
        file = self.timing_cache
        return Request(
            action=action,
            flavour=self.flavour,
            targets=self.targets,
            device_index=self.device_index,
            verbose=self.verbose,
            profile=dict(profile),
            options=engine_options(self),
            timing_cache=os.path.abspath(file) if isinstance(file, str) else file,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltEngine:
    """An engine, not yet anywhere."""

    content: bytes
    """Exactly what TensorRT returned."""
    flavour: Flavour
    version: str
    targets: tuple[str, ...]
    """Compute capabilities that it runs on; that of this machine's GPU after `local`."""
    seconds: float
    """How long TensorRT took to build it."""
    options: dict[str, str | int | float | bool]
    """What it was built with, for the manifest."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    facts: EngineFacts | None = None
    """What it says of itself, if it could be loaded on this machine."""
    silence: str = ""
    """Why it could not."""
    unfit: tuple[str, ...] = ()
    """Layers that TensorRT said an accelerator cannot run, before it built."""

    def __repr__(self) -> str:
        return f"BuiltEngine({self.file_name!r}, {len(self.content)} bytes, {self.seconds:.1f} s)"

    @property
    def file_name(self) -> str:
        """Its name in a bundle: flavour, version, targets, and what keeps others from taking its place."""
        parts = [self.flavour, self.version, *self.targets]
        if "useDLACore" in self.options:
            parts.append(f"dla{self.options['useDLACore']}")
        if self.options.get("stripWeights"):
            parts.append("stripped")
        return f"{'-'.join(parts)}.engine"

    @property
    def artifact(self) -> Artifact:
        """Its entry in a manifest; `Bundle.add_engine` fills in sum and size."""
        return Artifact(
            file=self.file_name,
            kind="engine",
            sha256="",
            size_bytes=0,
            flavour=self.flavour,
            version=self.version,
            targets=self.targets,
            options=self.options,
            build_seconds=round(self.seconds, 3),
            layers=self.facts.layers if self.facts else {},
            layers_from="engine" if self.facts and self.facts.layers else "",
            fallback=self.facts.fallback if self.facts and self.facts.layers else self.unfit,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What TensorRT makes of a model, without building anything."""

    flavour: Flavour
    version: str
    num_layers: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    profile: Profile
    problems: tuple[NodeProblem, ...]
    """What it refuses; empty if it can be built as far as parsing tells."""

    @property
    def unsupported(self) -> tuple[str, ...]:
        """The operators among the problems."""
        return tuple(dict.fromkeys(problem.operator for problem in self.problems if problem.operator))


def build_engine(
    onnx: bytes, profile: Profile, options: BuildOptions, progress: Progress | None = None
) -> BuiltEngine:
    """Build one engine for all targets of the options, in a child process.

    Args:
        onnx: A model whose tensors carry the types to compute in: typing is strong.
        profile: The shapes of every input with a dynamic axis.
        options: How.
        progress: Called with a phase, the step that it reached and its number of steps. If it raises, the
            build is abandoned.

    Raises:
        BuildError: If this TensorRT lacks an option, refuses the model, crashes or is killed; the message
            says which and why.
        MissingDependency: If this TensorRT is not installed.
        DeviceError: If a local engine is wanted and there is no GPU.
    """
    check_flavour(options.flavour, options)
    outcome, content = process.run(options.request("build", profile), onnx, progress)
    told: dict[str, str | int | float | bool] = {**profile_options(profile), **options.told}
    if outcome.timing_cache:
        told["timingCache"] = True
    if outcome.gpu:  # a local engine: what it was tuned on
        told |= {
            "gpu": outcome.gpu,
            "multiprocessors": outcome.multiprocessors,
            "platform": PLATFORM,
        }
    return BuiltEngine(
        content=content,
        flavour=options.flavour,
        version=outcome.version,
        targets=outcome.targets,
        seconds=outcome.seconds,
        options=told,
        inputs=outcome.inputs,
        outputs=outcome.outputs,
        facts=outcome.facts,
        silence=outcome.silence,
        unfit=outcome.unfit,
    )


def build_bundle(
    bundle: Bundle,
    options: BuildOptions,
    *,
    profile: Profile | None = None,
    together: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Build engines from a bundle's ONNX and add them to it.

    Every target gets an engine of its own. Measured with road-unet in FP16 (2.4 M parameters, TensorRT-RTX
    1.7.1, two busy cores): about 7 MB and 0.3 to 1 s each, and one engine for all targets is as large (7.5 MB
    with sm75 among them). So `together` stores the weights once instead of six times, and that is all it
    saves. Separate engines are worth that: each can use what its GPU alone has (TensorRT chooses among what
    all targets share), a target that refuses the model does not stop the others, and a vehicle gets the one
    file that it needs.

    Each engine is added as soon as it is built: what was added before an error or Ctrl-C is whole and stays.

    Args:
        bundle: Gets the engines; one of the same file name is replaced: flavour, version, targets,
            accelerator, and whether it is stripped.
        options: How.
        profile: The shapes; those of the manifest's axes if left out.
        together: Whether to build one engine for all targets.
        progress: As for `build_engine`, the phase with the target before it.

    Returns:
        The bundle with its engines.

    Raises:
        BuildError: If an engine could not be built; the others were built and added before it is raised.
        BundleError: If the ONNX is damaged, or an engine cannot be written.
        InputError: If the profile does not fit.
    """
    content = bundle.read(bundle.model)
    profile = profile_of(bundle.manifest) if profile is None else profile
    groups = [options.targets] if together else [(target,) for target in options.targets]
    failures: dict[str, BuildError] = {}
    for targets in groups:
        name = "+".join(targets)
        try:
            engine = build_engine(
                content, profile, dataclasses.replace(options, targets=targets), _prefixed(progress, name)
            )
            check_interface(bundle, engine)
            bundle = bundle.add_engine(engine.content, _counted(bundle, engine.artifact))
        except BuildError as problem:
            failures[name] = problem
    if failures:
        raise _summary(bundle, failures, len(groups))
    return bundle


def _prefixed(progress: Progress | None, name: str) -> Progress | None:
    if progress is None:
        return None
    return lambda phase, step, num_steps: progress(f"{name}: {phase}", step, num_steps)


def _counted(bundle: Bundle, artifact: Artifact) -> Artifact:
    """The entry with the layers of the ONNX, where the engine did not tell of its own."""
    if artifact.layers_from:
        return artifact
    return dataclasses.replace(artifact, layers=bundle.manifest.precision.layers, layers_from="onnx")


def check_interface(bundle: Bundle, engine: BuiltEngine) -> None:
    """Refuse an engine whose inputs and outputs are not those of its bundle.

    Raises:
        BuildError: If they are others; with the differences.
    """
    wrong = differences(bundle.manifest.inputs, engine.inputs)
    wrong += differences(bundle.manifest.outputs, engine.outputs)
    if wrong:
        raise BuildError(
            f"the engine's inputs and outputs are not those of {bundle.path}: {'; '.join(wrong)}; "
            "export the bundle again"
        )


def _summary(bundle: Bundle, failures: dict[str, BuildError], num_engines: int) -> BuildError:
    texts = {str(problem) for problem in failures.values()}
    if len(failures) == num_engines and len(texts) == 1:
        return next(iter(failures.values()))
    reasons = "".join(f"\n{name}: {problem}" for name, problem in failures.items())
    others = num_engines - len(failures)
    rest = f"; the other {others} are in {bundle.path}" if others else ""
    return BuildError(f"{len(failures)} of {num_engines} engines could not be built{rest}{reasons}")


def dry_run(bundle: Bundle, options: BuildOptions, *, profile: Profile | None = None) -> DryRun:
    """Let TensorRT parse a bundle's ONNX, in a child process, and build nothing.

    Args:
        bundle: Stays as it is.
        options: Checked as far as TensorRT tells; whether a target has every layer shows in a build.
        profile: The shapes; those of the manifest's axes if left out.

    Raises:
        BuildError: If TensorRT crashes, is killed, or refuses an option. What it refuses of the model is in
            the result.
        MissingDependency: If this TensorRT is not installed.
    """
    profile = profile_of(bundle.manifest) if profile is None else profile
    check_flavour(options.flavour, options)
    outcome, _ = process.run(options.request("parse", profile), bundle.read(bundle.model), None)
    manifest = bundle.manifest
    wrong = () if outcome.problems else _wrong_interface(outcome, manifest.inputs, manifest.outputs)
    return DryRun(
        flavour=options.flavour,
        version=outcome.version,
        num_layers=outcome.num_layers,
        inputs=named_axes(outcome.inputs, manifest.inputs),
        outputs=named_axes(outcome.outputs, manifest.outputs),
        profile=profile,
        problems=(*outcome.problems, *wrong),
    )


def _wrong_interface(
    outcome: Outcome, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> tuple[NodeProblem, ...]:
    wrong = differences(inputs, outcome.inputs) + differences(outputs, outcome.outputs)
    return tuple(NodeProblem(-1, "", "", "INTERFACE", f"unlike the manifest: {text}") for text in wrong)


def choose_flavour(targets: tuple[str, ...], installed: tuple[Flavour, ...]) -> Flavour:
    """The flavour to build with where nobody says.

    Named compute capabilities are TensorRT-RTX's, `local` is the regular TensorRT's; without targets it is
    the flavour that is installed.

    Raises:
        InputError: If both are installed and nothing tells them apart.
        MissingDependency: If none is installed.
    """
    if targets:
        return "tensorrt" if targets == (LOCAL,) else "tensorrt_rtx"
    if not installed:
        raise MissingDependency(
            "building engines needs TensorRT, and neither flavour is installed; on any machine, for GeForce "
            "and RTX cards: pip install 'pixelrt[rtx]'; on the machine that runs the engine: pip install "
            "'pixelrt[tensorrt]', or on a Jetson the package python3-libnvinfer of its JetPack"
        )
    if len(installed) > 1:
        raise InputError(
            "TensorRT and TensorRT-RTX are both installed; say which with --flavour tensorrt or --flavour "
            "tensorrt_rtx, or name a --target (sm86, ... or local)"
        )
    return installed[0]
