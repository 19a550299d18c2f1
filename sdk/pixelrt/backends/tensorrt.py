"""TensorRT in both flavours: runs the engine of the bundle that fits, or builds one for this machine."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass

from pixelrt.backends.base import TYPED_AS, Device, OpenOptions, Precision, Session, SessionInfo
from pixelrt.backends.gpu_session import GpuSession, Origin
from pixelrt.bundle import Bundle, sha256
from pixelrt.cuda.opening import open_driver, unavailable
from pixelrt.cuda.protocol import Driver
from pixelrt.errors import BuildError, DeviceError, MissingDependency, PixelRTError
from pixelrt.manifest import Artifact, Manifest
from pixelrt.pipeline.streams import Streams
from pixelrt.tensors import TensorSpec
from pixelrt.trt.building import BuildOptions, build_engine
from pixelrt.trt.cache import CachedEngine, cached_engine, find_engine, private_folder
from pixelrt.trt.choosing import EngineChoice, Installed, accelerator_of, brings_runtime, choose_engine
from pixelrt.trt.engine import LoadedEngine, TensorRTExecutor, load_engine, supports
from pixelrt.trt.gpu import LocalGpu, local_gpu
from pixelrt.trt.library import Flavour, Library, installed_flavours, load_library
from pixelrt.trt.profiles import profile_of
from pixelrt.trt.refitting import refit
from pixelrt.trt.runtime_cache import RuntimeCache

_LOG = logging.getLogger("pixelrt.backends")


@dataclass(frozen=True, slots=True)
class _Found:
    """An engine to run."""

    content: bytes
    artifact: Artifact
    name: str
    """File name, or where it was built to."""
    read_model: Callable[[], bytes]
    """The ONNX that it was built from, for an engine without weights."""


class TensorRTBackend:
    """Computes in the types of the graph: what the manifest says was found."""

    name = "tensorrt"

    def unusable(self, device: Device, options: OpenOptions | None = None) -> str:
        """Why it cannot run on this device; see `Backend`."""
        if device != "cuda":
            return "TensorRT runs on NVIDIA GPUs"
        index, driver = (options.device_index, options.gpu.driver) if options else (0, None)
        if problem := unavailable(driver, index):
            return problem
        if not installed_flavours():
            return (
                "TensorRT is not installed; on a Jetson it is JetPack's python3-libnvinfer, elsewhere: "
                "pip install 'pixelrt[tensorrt]', for GeForce and RTX cards also 'pixelrt[rtx]'"
            )
        return ""

    def unsuited(self, bundle: Bundle, options: OpenOptions) -> str:
        """Why there is no engine and none may be built; see `Backend`."""
        try:
            gpu = local_gpu(options.device_index)
            choice = choose_engine(bundle.manifest, gpu, _installed(gpu), options.gpu.dla_core)
            if isinstance(choice, str):
                return choice
            if (
                choice.artifact is not None
                or options.build == "auto"
                or _cached(bundle, choice, gpu, options)
            ):
                return ""
        except PixelRTError as problem:
            return str(problem)
        return f"{choice.reason}, and build='never' was asked for; build it with: {_command(bundle, choice)}"

    def precisions(self, device: Device, manifest: Manifest | None) -> tuple[Precision, ...]:
        """The types of the graph; see `Backend`."""
        return ("float16",) if manifest is None else (TYPED_AS[manifest.precision.requested],)

    def open(self, bundle: Bundle, options: OpenOptions) -> Session:
        """Run the bundle's engine for this GPU and TensorRT, or one built here and kept; see `Backend`.

        Raises:
            EngineMismatch: If TensorRT refuses the engine.
            BuildError: If one must be built and cannot be.
            DeviceError: If there is neither an engine nor leave to build one.
        """
        gpu = local_gpu(options.device_index)
        choice = choose_engine(bundle.manifest, gpu, _installed(gpu), options.gpu.dla_core)
        if isinstance(choice, str):
            raise DeviceError(f"{bundle.path}: {choice}")
        found = _engine(bundle, choice, gpu, options)
        return _open(found, bundle.manifest, gpu, choice.installed.flavour, options)

    def open_model(self, model: bytes, manifest: Manifest, options: OpenOptions) -> Session:
        """Build an engine for this GPU, keep it nowhere, and run it; see `Backend`."""
        gpu = local_gpu(options.device_index)
        choice = choose_engine(manifest, gpu, _installed(gpu), options.gpu.dla_core)
        if isinstance(choice, str):
            raise DeviceError(choice)
        build = _build_options(choice, options)
        engine = build_engine(model, profile_of(manifest), build, options.progress)
        found = _Found(engine.content, engine.artifact, engine.file_name, lambda: model)
        return _open(found, manifest, gpu, choice.installed.flavour, options)


def _installed(gpu: LocalGpu) -> tuple[Installed, ...]:
    """The TensorRT libraries that can be loaded here.

    Raises:
        MissingDependency: If none can.
    """
    found, problems = [], []
    for flavour in installed_flavours():
        try:
            library = load_library(flavour)
        except MissingDependency as problem:
            problems.append(str(problem))
            continue
        found.append(
            Installed(flavour=flavour, version=library.version, builds_for_gpu=supports(library, gpu.target))
        )
    if not found:
        raise MissingDependency("; ".join(problems) or "TensorRT is not installed")
    return tuple(found)


def _engine(bundle: Bundle, choice: EngineChoice, gpu: LocalGpu, options: OpenOptions) -> _Found:
    read_model = functools.partial(bundle.read, bundle.model)
    if choice.artifact is not None:
        return _Found(bundle.read(choice.artifact), choice.artifact, choice.artifact.file, read_model)
    build = _build_options(choice, options)
    version = choice.installed.version
    if options.build == "never":
        cached = find_engine(bundle, build, version=version, gpu=gpu)
        if cached is None:
            raise DeviceError(
                f"{choice.reason}, and build='never' was asked for; build it with: {_command(bundle, choice)}"
            )
    else:
        cached = _build(bundle, build, choice, gpu, options)
    name = str(cached.path or cached.artifact.file)
    return _Found(cached.content, cached.artifact, name, read_model)


def _build(
    bundle: Bundle, build: BuildOptions, choice: EngineChoice, gpu: LocalGpu, options: OpenOptions
) -> CachedEngine:
    """Find an engine in the user's cache or build it, and say so."""
    version = choice.installed.version
    try:
        cached = cached_engine(bundle, build, version=version, gpu=gpu, progress=options.progress)
    except BuildError as problem:
        raise BuildError(
            f"{choice.reason}, and none could be built: {problem}\nWithout TensorRT it may run with "
            "backend='onnxruntime' (CUDA), or device='cpu'"
        ) from problem
    if cached.built:
        place = cached.path or "nowhere (see the warning)"
        _LOG.warning("%s; built one in %.1f s, kept in %s", choice.reason, cached.seconds, place)
    return cached


def _cached(bundle: Bundle, choice: EngineChoice, gpu: LocalGpu, options: OpenOptions) -> bool:
    build = _build_options(choice, options)
    return find_engine(bundle, build, version=choice.installed.version, gpu=gpu) is not None


def _build_options(choice: EngineChoice, options: OpenOptions) -> BuildOptions:
    return BuildOptions(
        flavour=choice.installed.flavour, targets=(choice.target,), device_index=options.device_index
    )


def _command(bundle: Bundle, choice: EngineChoice) -> str:
    return f"pixelrt build {bundle.path} --target {choice.target}"


def _open(
    found: _Found, manifest: Manifest, gpu: LocalGpu, flavour: Flavour, options: OpenOptions
) -> Session:
    library = load_library(flavour)
    driver = open_driver(options.gpu.driver, options.device_index)
    info = SessionInfo(
        backend="tensorrt",
        device=f"cuda:{options.device_index}",
        precision=options.precision,
        version=f"{library.version}" if flavour == "tensorrt" else f"RTX {library.version}",
        why=options.why,
        gpu=gpu.name,
        driver=f"{driver.name} {driver.version}",
        engine=found.name,
    )
    with driver.current():
        engine = _Engine(_load(library, found, driver), _runtime_cache(found, library, gpu))
    specs = (tuple(map(TensorSpec.of, manifest.inputs)), tuple(map(TensorSpec.of, manifest.outputs)))
    make = functools.partial(_executor, engine, specs, options.gpu.graphs)
    return GpuSession(manifest, info, Origin.of(driver, make, options.gpu))


@dataclass(frozen=True, slots=True)
class _Engine:
    """What a session and its clones share."""

    loaded: LoadedEngine
    cache: RuntimeCache | None


def _executor(
    engine: _Engine,
    specs: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]],
    graphs: bool,
    driver: Driver,
    streams: Streams,
) -> TensorRTExecutor:
    return TensorRTExecutor(engine.loaded, specs, graphs=graphs, cache=engine.cache)


def _load(library: Library, found: _Found, driver: Driver) -> LoadedEngine:
    """Deserialise an engine as it was built."""
    loaded = load_engine(
        library,
        found.content,
        found.name,
        trust_host_code=brings_runtime(found.artifact),
        dla_core=accelerator_of(found.artifact),
        current=driver.current,
    )
    if found.artifact.options.get("stripWeights"):
        refit(library, loaded.engine, found.read_model())
    return loaded


def _runtime_cache(found: _Found, library: Library, gpu: LocalGpu) -> RuntimeCache | None:
    if library.flavour != "tensorrt_rtx":
        return None
    key = sha256(f"{sha256(found.content)} {library.version} {gpu}".encode())
    try:
        return RuntimeCache(private_folder("kernels") / f"{key}.bin")
    except (PixelRTError, OSError) as problem:
        _LOG.warning("kernels that TensorRT-RTX compiles here are not kept: %s", problem)
        return None
