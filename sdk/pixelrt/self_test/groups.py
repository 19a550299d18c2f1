"""All groups of checks, and how their grounds are opened on this machine."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pixelrt.backends import BACKENDS
from pixelrt.bundle import Bundle, sha256, write_file
from pixelrt.cuda.opening import DriverName, count_devices, installed, open_driver
from pixelrt.cuda.protocol import Driver
from pixelrt.errors import DeviceError
from pixelrt.generation import Generator
from pixelrt.loading import load
from pixelrt.manifest import Artifact
from pixelrt.segmentation import Segmenter
from pixelrt.self_test.checks import Check, CheckFailedError, Group, ImpossibleError, expect
from pixelrt.self_test.cuda_checks import CUDA_CHECKS
from pixelrt.self_test.generator_checks import GENERATOR_CHECKS, GeneratorGround
from pixelrt.self_test.protocol import Figures, Order
from pixelrt.self_test.session_checks import BUNDLE_CHECKS, CPU_CHECKS, GPU_CHECKS, SessionGround
from pixelrt.self_test.tiny import tiny_bundle
from pixelrt.session import GpuOptions
from pixelrt.terminal import size_text
from pixelrt.trt import BuildOptions
from pixelrt.trt.cache import CachedEngine, cached_engine, find_engine
from pixelrt.trt.engine import supports
from pixelrt.trt.gpu import LocalGpu, local_gpu
from pixelrt.trt.library import FLAVOURS, Flavour, installed_flavours, load_library
from pixelrt.trt.targets import LOCAL

_CPU = ("openvino", "onnxruntime")
_BUILD_LIMIT_S = 600.0


def all_groups(order: Order) -> tuple[Group, ...]:
    """The groups in the order of the report; that of the user's bundle only if there is one."""
    drivers: tuple[DriverName, ...] = ("cuda-python", "pycuda")
    groups = [_driver_group(name) for name in drivers]
    groups += [_tensorrt_group(flavour) for flavour in FLAVOURS]
    groups.append(
        Group(
            name="onnxruntime-cuda",
            title="ONNX Runtime on the GPU, the tiny network",
            open=_open_onnxruntime,
            checks=GPU_CHECKS,
        )
    )
    groups += [_cpu_group(name) for name in _CPU]
    if order.bundle:
        groups.append(_bundle_group(Bundle.open(order.bundle)))
    return tuple(groups)


def _require_gpu(index: int) -> None:
    """Refuse a machine without a GPU; one whose driver fails is not without, and an error.

    Raises:
        ImpossibleError: If there is none.
        DeviceError: If the driver fails.
    """
    try:
        count = count_devices()
    except DeviceError as problem:
        if isinstance(problem.__cause__, OSError) or "CUDA_ERROR_NO_DEVICE" in str(problem):
            raise ImpossibleError(str(problem)) from problem
        raise
    if index >= count:
        raise ImpossibleError(f"this process sees {count} GPUs, and no GPU {index}")


# --- CUDA


def _driver_group(name: DriverName) -> Group:
    return Group(
        name=name,
        title=f"CUDA through {name}",
        open=functools.partial(_open_driver, name),
        checks=CUDA_CHECKS,
    )


def _open_driver(name: DriverName, order: Order) -> Driver:
    _require_gpu(order.index)
    if name not in installed():
        extra = "cuda" if name == "cuda-python" else name
        raise ImpossibleError(f"{name} is not installed (pip install 'pixelrt[{extra}]')")
    return open_driver(name, order.index)


# --- backends on the tiny bundle


def _references(bundle: Bundle, but: str = "") -> list[tuple[str, Callable[[], Segmenter]]]:
    """The backends of the CPU that can be loaded here, by name."""
    opened = functools.partial(load, bundle, task="segmentation")
    return [(name, functools.partial(opened, **options)) for name, options in _on_cpu(but)]


def _on_cpu(but: str = "") -> list[tuple[str, dict[str, Any]]]:
    """How `load` opens each backend of the CPU that is here, by a name for people."""
    return [
        (f"{name} float32", {"device": "cpu", "backend": name, "precision": "float32"})
        for name in _CPU
        if name != but and not BACKENDS[name].unusable("cpu")
    ]


def _cpu_group(name: str) -> Group:
    return Group(
        name=f"{name}-cpu",
        title=f"{'OpenVINO' if name == 'openvino' else 'ONNX Runtime'} on the CPU, the tiny network",
        open=functools.partial(_open_cpu, name),
        checks=CPU_CHECKS,
    )


def _open_cpu(name: str, order: Order) -> SessionGround:
    if problem := BACKENDS[name].unusable("cpu"):
        raise ImpossibleError(problem)
    bundle = tiny_bundle()

    def opened(options: GpuOptions) -> Segmenter:
        return load(bundle, task="segmentation", device="cpu", backend=name)

    return SessionGround(bundle, opened, _references(bundle, but=name))


def _open_onnxruntime(order: Order) -> SessionGround:
    _require_gpu(order.index)
    device = f"cuda:{order.index}"
    if problem := BACKENDS["onnxruntime"].unusable("cuda"):
        raise ImpossibleError(problem)
    bundle = tiny_bundle()

    def opened(options: GpuOptions) -> Segmenter:
        return load(bundle, task="segmentation", device=device, backend="onnxruntime", gpu=options)

    return SessionGround(bundle, opened, _references(bundle))


# --- the user's bundle


def _bundle_group(bundle: Bundle) -> Group:
    generates = bundle.manifest.task == "generation"
    return Group(
        name="bundle",
        title=f"{bundle.path}, as pixelrt.load opens it",
        open=functools.partial(_open_generator if generates else _open_segmenter, bundle),
        checks=GENERATOR_CHECKS if generates else BUNDLE_CHECKS,
    )


def _open_segmenter(bundle: Bundle, order: Order) -> SessionGround:
    def opened(options: GpuOptions) -> Segmenter:
        return load(bundle, task="segmentation", gpu=options)

    return SessionGround(bundle, opened, _references(bundle))


def _open_generator(bundle: Bundle, order: Order) -> GeneratorGround:
    def opened(**options: Any) -> Generator:
        return load(bundle, task="generation", **options)

    references = [(name, functools.partial(opened, **options)) for name, options in _on_cpu()]
    return GeneratorGround(bundle, opened, references)


# --- TensorRT


class TensorRTGround(SessionGround):
    """A TensorRT on this GPU, which builds an engine of the tiny bundle in a cache of its own."""

    def __init__(self, flavour: Flavour, order: Order) -> None:
        """Nothing is built yet.

        Raises:
            MissingDependency: If this TensorRT cannot be loaded.
            DeviceError: If the driver fails.
        """
        self.library = load_library(flavour)
        self.gpu: LocalGpu = local_gpu(order.index)
        self.index = order.index
        self.cache = Path(order.folder) / "cache"
        self.tiny = tiny_bundle()
        super().__init__(self.tiny, self._open, _references(self.tiny))

    @property
    def options(self) -> BuildOptions:
        """How the engine is built."""
        flavour = self.library.flavour
        target = LOCAL if flavour == "tensorrt" else self.gpu.target
        return BuildOptions(flavour=flavour, targets=(target,))

    def engine(self) -> CachedEngine:
        """The engine, built at the first call."""
        return cached_engine(
            self.tiny, self.options, version=self.library.version, gpu=self.gpu, folder=self.cache
        )

    def find(self) -> CachedEngine | None:
        """The engine, if it is in the cache."""
        return find_engine(
            self.tiny, self.options, version=self.library.version, gpu=self.gpu, folder=self.cache
        )

    def _open(self, options: GpuOptions) -> Segmenter:
        bundle = with_engine(self.tiny, self.engine())
        return load(
            bundle,
            task="segmentation",
            device=f"cuda:{self.index}",
            backend="tensorrt",
            build="never",
            gpu=options,
        )


def with_engine(bundle: Bundle, engine: CachedEngine) -> Bundle:
    """A bundle whose only engine is one of the cache, so that no other TensorRT is chosen.

    It lies where the engine does.

    Raises:
        CheckFailedError: If the engine is kept nowhere.
    """
    if engine.path is None:
        raise CheckFailedError("the engine was built and could not be kept in the temporary folder")
    model = bundle.read(bundle.model)
    write_file(engine.path.parent / bundle.model.file, model)
    content = engine.content
    artifact: Artifact = dataclasses.replace(
        engine.artifact, file=engine.path.name, sha256=sha256(content), size_bytes=len(content)
    )
    manifest = dataclasses.replace(bundle.manifest, artifacts=(bundle.model, artifact))
    return Bundle(engine.path.parent, manifest)


def supported(ground: TensorRTGround) -> Figures:
    """This TensorRT knows this GPU."""
    library, gpu = ground.library, ground.gpu
    if not supports(library, gpu.target):
        raise ImpossibleError(f"{library.title} does not support {gpu.name} ({gpu.target})")
    return {"library": library.title, "GPU": gpu.name, "target": gpu.target}


def builds(ground: TensorRTGround) -> Figures:
    """It builds an engine of the tiny network here."""
    engine = ground.engine()
    return {
        "built in, s": round(engine.seconds, 2),
        "size": size_text(len(engine.content)),
        "layers": engine.artifact.layers_text,
    }


def keeps(ground: TensorRTGround) -> Figures:
    """The engine is found again, and one that was damaged is not taken."""
    engine = ground.engine()
    expect(not engine.built and engine.path is not None, "the engine was not found in the cache again")
    assert engine.path is not None
    write_file(engine.path, engine.content[:-1] + bytes([engine.content[-1] ^ 1]))
    try:
        expect(ground.find() is None, "an engine with a changed byte was taken from the cache")
    finally:
        write_file(engine.path, engine.content)
    found = ground.find()
    expect(found is not None and found.content == engine.content, "the engine in the cache is another")
    return {"kept in": "a temporary folder"}


_TENSORRT_CHECKS = (
    Check(name="supports this GPU", run=supported, limit_s=120, needed=True),
    Check(name="builds an engine", run=builds, limit_s=_BUILD_LIMIT_S, needed=True),
    Check(name="keeps it", run=keeps, limit_s=60),
    *GPU_CHECKS,
)


def _tensorrt_group(flavour: Flavour) -> Group:
    return Group(
        name=flavour,
        title=f"{FLAVOURS[flavour]}, the tiny network",
        open=functools.partial(_open_tensorrt, flavour),
        checks=_TENSORRT_CHECKS,
    )


def _open_tensorrt(flavour: Flavour, order: Order) -> TensorRTGround:
    _require_gpu(order.index)
    if flavour not in installed_flavours():
        extra = "tensorrt" if flavour == "tensorrt" else "rtx"
        raise ImpossibleError(f"{FLAVOURS[flavour]} is not installed (pip install 'pixelrt[{extra}]')")
    return TensorRTGround(flavour, order)
