"""Which engine of a bundle fits this machine, or that one must be built."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pixelrt.manifest import Artifact, Manifest
from pixelrt.trt.gpu import LocalGpu
from pixelrt.trt.library import FLAVOURS, Flavour
from pixelrt.trt.targets import LOCAL

PLATFORM = f"{sys.platform}-{platform.machine()}"
"""What engines of the regular TensorRT are bound to, beside the GPU: `linux-x86_64`, `linux-aarch64`."""

_AMPERE = 80
_JETSON = ("sm72", "sm87", "sm101", "sm110")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A TensorRT on this machine."""

    flavour: Flavour
    version: str
    builds_for_gpu: bool
    """Whether it supports the GPU at all: TensorRT-RTX knows neither Jetson nor Hopper."""

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{FLAVOURS[self.flavour]} {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """What shall run: an engine of the bundle, or one that is built here."""

    installed: Installed
    artifact: Artifact | None
    """None: build it."""
    target: str
    """What to build for."""
    reason: str


def choose_engine(
    manifest: Manifest, gpu: LocalGpu, installed: Sequence[Installed], dla_core: int | None = None
) -> EngineChoice | str:
    """Choose, without loading anything.

    Args:
        manifest: Lists the engines.
        gpu: The GPU of this machine.
        installed: The TensorRT libraries of this machine, at least one.
        dla_core: The accelerator that the engine shall be for; None for the GPU.

    Returns:
        The choice, or why there is none. An engine that is there wins over one that must be built, and the
        regular TensorRT over TensorRT-RTX.
    """
    engines = [artifact for artifact in manifest.artifacts if artifact.kind == "engine"]
    for library in installed:
        for artifact in engines:
            if not unfit(artifact, library, gpu, dla_core):
                return EngineChoice(
                    installed=library,
                    artifact=artifact,
                    target="",
                    reason=f"{artifact.file} is for {gpu.target} and {library.title}",
                )
    why = f"no engine of the bundle fits {gpu.name} ({gpu.target})"
    why += f": {_why(engines, installed[0], gpu, dla_core)}"
    if dla_core is not None:
        return f"{why}; build one with: pixelrt build --target {LOCAL} --useDLACore={dla_core}"
    for library in installed:
        if library.builds_for_gpu:
            return EngineChoice(
                installed=library,
                artifact=None,
                target=LOCAL if library.flavour == "tensorrt" else gpu.target,
                reason=why,
            )
    titles = " and ".join(library.title for library in installed)
    return (
        f"{titles} cannot run on {gpu.name} ({gpu.target}), and the bundle has no engine for it: "
        "install the regular TensorRT (pip install 'pixelrt[tensorrt]', or JetPack's python3-libnvinfer)"
    )


def brings_runtime(artifact: Artifact) -> bool:
    """Whether an engine carries the small runtime that newer versions run it with, which is native code."""
    built_with = artifact.options
    return bool(built_with.get("versionCompatible")) and not built_with.get("excludeLeanRuntime")


def accelerator_of(artifact: Artifact) -> int | None:
    """The accelerator of a Jetson that an engine was built for; None for the GPU alone."""
    core = artifact.options.get("useDLACore")
    return core if isinstance(core, int) else None


def unfit(artifact: Artifact, library: Installed, gpu: LocalGpu, dla_core: int | None = None) -> str:
    """Why an engine cannot run here; empty if it can, as far as the manifest tells."""
    built_with = artifact.options
    core = accelerator_of(artifact)
    if artifact.flavour != library.flavour:
        return f"it is for {FLAVOURS.get(artifact.flavour, artifact.flavour)}"  # type: ignore[call-overload]
    if artifact.version != library.version and not _version_compatible(artifact, library):
        return f"it is for version {artifact.version}"
    if core != dla_core:
        return f"it is for {'the GPU' if core is None else f'accelerator {core}'}"
    if built_with.get("platform", PLATFORM) != PLATFORM:
        return f"it is for {built_with['platform']}"
    if built_with.get("hardwareCompatibilityLevel") == "ampere+":
        return "" if _from_ampere_on(artifact, gpu) else "it is for discrete GPUs from Ampere on"
    if gpu.target not in artifact.targets:
        return f"it is for {' '.join(artifact.targets)}"
    return "" if built_with.get("hardwareCompatibilityLevel") else _other_model(artifact, gpu)


def _other_model(artifact: Artifact, gpu: LocalGpu) -> str:
    """Why it is for another GPU of the same capability: TensorRT itself would only warn."""
    name, processors = artifact.options.get("gpu"), artifact.options.get("multiprocessors")
    if name not in (None, gpu.name):
        return f"it was tuned on {name}"
    if processors and gpu.multiprocessors and processors != gpu.multiprocessors:
        return f"it was tuned on {name} with {processors} multiprocessors, this one has {gpu.multiprocessors}"
    return ""


def _version_compatible(artifact: Artifact, library: Installed) -> bool:
    """Whether it was built to run on newer versions too: up to the next major one (NVIDIA's matrix)."""
    built, here = _numbers(artifact.version), _numbers(library.version)
    return bool(artifact.options.get("versionCompatible")) and built <= here and here[0] - built[0] <= 1


def _from_ampere_on(artifact: Artifact, gpu: LocalGpu) -> bool:
    """Whether both are GPUs that `ampere+` covers, which no Jetson is."""
    return all(
        target not in _JETSON and int(target.removeprefix("sm")) >= _AMPERE
        for target in (gpu.target, *artifact.targets)
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit()) or (0,)


def _why(engines: Sequence[Artifact], library: Installed, gpu: LocalGpu, dla_core: int | None) -> str:
    if not engines:
        return "it has none"
    return "; ".join(f"{artifact.file}: {unfit(artifact, library, gpu, dla_core)}" for artifact in engines)
