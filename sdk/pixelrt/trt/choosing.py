"""Which engine of a bundle fits this machine, or that one must be built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pixelrt.manifest import Artifact, Manifest
from pixelrt.trt.gpu import LocalGpu
from pixelrt.trt.library import FLAVOURS, Flavour
from pixelrt.trt.targets import LOCAL

AMPERE = 80


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


def choose_engine(manifest: Manifest, gpu: LocalGpu, installed: Sequence[Installed]) -> EngineChoice | str:
    """Choose, without loading anything.

    Args:
        manifest: Lists the engines.
        gpu: The GPU of this machine.
        installed: The TensorRT libraries of this machine, at least one.

    Returns:
        The choice, or why there is none. An engine that is there wins over one that must be built, and the
        regular TensorRT over TensorRT-RTX.
    """
    engines = [artifact for artifact in manifest.artifacts if artifact.kind == "engine"]
    for library in installed:
        for artifact in engines:
            if not unfit(artifact, library, gpu):
                return EngineChoice(
                    installed=library,
                    artifact=artifact,
                    target="",
                    reason=f"{artifact.file} is for {gpu.target} and {library.title}",
                )
    for library in installed:
        if library.builds_for_gpu:
            return EngineChoice(
                installed=library,
                artifact=None,
                target=LOCAL if library.flavour == "tensorrt" else gpu.target,
                reason=f"no engine of the bundle fits {gpu.name} ({gpu.target}): "
                f"{_why(engines, installed, gpu)}",
            )
    titles = " and ".join(library.title for library in installed)
    return (
        f"{titles} cannot run on {gpu.name} ({gpu.target}), and the bundle has no engine for it: "
        "install the regular TensorRT (pip install 'pixelrt[tensorrt]', or JetPack's python3-libnvinfer)"
    )


def unfit(artifact: Artifact, library: Installed, gpu: LocalGpu) -> str:
    """Why an engine cannot run here; empty if it can, as far as the manifest tells."""
    if artifact.flavour != library.flavour:
        return f"it is for {FLAVOURS.get(artifact.flavour, artifact.flavour)}"  # type: ignore[call-overload]
    if artifact.version != library.version and not _version_compatible(artifact, library):
        return f"it is for version {artifact.version}"
    if gpu.target not in artifact.targets and not _ampere_plus(artifact, gpu):
        return f"it is for {' '.join(artifact.targets)}"
    return ""


def _version_compatible(artifact: Artifact, library: Installed) -> bool:
    """Whether it was built to run on newer versions too: up to the next major one (NVIDIA's matrix)."""
    built, here = _numbers(artifact.version), _numbers(library.version)
    return bool(artifact.options.get("versionCompatible")) and built <= here and here[0] - built[0] <= 1


def _ampere_plus(artifact: Artifact, gpu: LocalGpu) -> bool:
    """Whether it was built for all GPUs from Ampere on."""
    if artifact.options.get("hardwareCompatibilityLevel") != "ampere+":
        return False
    return all(int(target.removeprefix("sm")) >= AMPERE for target in (gpu.target, *artifact.targets))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit()) or (0,)


def _why(engines: Sequence[Artifact], installed: Sequence[Installed], gpu: LocalGpu) -> str:
    if not engines:
        return "it has none"
    library = installed[0]
    return "; ".join(f"{artifact.file}: {unfit(artifact, library, gpu)}" for artifact in engines)
