"""The TensorRT backend without a GPU: which engine is taken, what is asked of TensorRT, what refusals become.

The library is a stand-in that computes on a fake GPU; its names are checked against the real ones.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import gc
import inspect
import itertools
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tensorrt_rtx
from fake_tensorrt import (
    VERSIONS,
    ExecutionContextAllocationStrategy,
    Kind,
    Machine,
    Network,
    engine_file,
    fake_library,
)
from numpy.typing import NDArray
from session_contract import SessionContract
from threads import in_threads

import pixelrt.backends.tensorrt as backend
from pixelrt.bundle import Bundle, sha256
from pixelrt.errors import (
    BuildError,
    ContextLost,
    DeviceError,
    EngineRefused,
    ExecutionFailed,
    HardwareMismatch,
    InputError,
    OutOfMemory,
    VersionMismatch,
)
from pixelrt.loading import load
from pixelrt.manifest import Artifact, Axis, Manifest, Tensor
from pixelrt.pipeline.options import GpuOptions
from pixelrt.segmentation import Segmenter
from pixelrt.self_test.tiny import tiny_bundle
from pixelrt.session import SessionOptions, choices
from pixelrt.testing import FakeCuda, fake_segmenter
from pixelrt.trt import engine as engine_module
from pixelrt.trt.cache import CachedEngine
from pixelrt.trt.choosing import EngineChoice, Installed, choose_engine
from pixelrt.trt.engine import load_engine
from pixelrt.trt.gpu import LocalGpu

GPU = LocalGpu("RTX 3090", "sm86")
ORIN = LocalGpu("Orin", "sm87")
REGULAR = Installed(flavour="tensorrt", version="10.3.0", builds_for_gpu=True)
RTX = Installed(flavour="tensorrt_rtx", version="10.3.0", builds_for_gpu=True)


def artifact(content: bytes = b"", **changes: Any) -> Artifact:
    values: dict[str, Any] = {
        "file": "the.engine",
        "kind": "engine",
        "sha256": sha256(content),
        "size_bytes": len(content),
        "flavour": "tensorrt",
        "version": "10.3.0",
        "targets": ("sm86",),
    }
    return Artifact(**{**values, **changes})


class TestChoice:
    """Which engine of a bundle fits, from the manifest alone."""

    def choose(
        self, *engines: Artifact, gpu: LocalGpu = GPU, installed: tuple[Installed, ...] = (REGULAR,)
    ) -> Any:
        manifest = fake_segmenter(lambda frame: frame[..., 0]).bundle.manifest
        return choose_engine(dataclasses.replace(manifest, artifacts=engines), gpu, installed)

    def test_exact_fit(self) -> None:
        fitting = artifact(file="fits.engine")
        choice = self.choose(artifact(targets=("sm87",)), artifact(version="10.4.0"), fitting)
        assert isinstance(choice, EngineChoice)
        assert choice.artifact is fitting

    def test_one_of_several_targets(self) -> None:
        choice = self.choose(artifact(flavour="tensorrt_rtx", targets=("sm80", "sm86")), installed=(RTX,))
        assert choice.artifact is not None

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"targets": ("sm87",)}, "it is for sm87"),
            ({"version": "10.4.0"}, "it is for version 10.4.0"),
            ({"flavour": "tensorrt_rtx"}, "it is for TensorRT-RTX"),
        ],
    )
    def test_no_fit_is_built(self, change: dict[str, Any], reason: str) -> None:
        choice = self.choose(artifact(**change))
        assert choice.artifact is None
        assert choice.target == "local"
        assert choice.reason == f"no engine of the bundle fits RTX 3090 (sm86): the.engine: {reason}"

    def test_rtx_is_built_for_the_gpu_by_name(self) -> None:
        assert self.choose(installed=(RTX,)).target == "sm86"

    def test_an_engine_that_is_there_wins_over_one_to_build(self) -> None:
        choice = self.choose(artifact(flavour="tensorrt_rtx"), installed=(REGULAR, RTX))
        assert choice.installed is RTX
        assert self.choose(installed=(REGULAR, RTX)).installed is REGULAR

    def test_gpu_that_rtx_does_not_know(self) -> None:
        choice = self.choose(gpu=ORIN, installed=(dataclasses.replace(RTX, builds_for_gpu=False),))
        assert "TensorRT-RTX 10.3.0 cannot run on Orin (sm87)" in choice
        assert "install the regular TensorRT" in choice

    @pytest.mark.parametrize(
        ("built", "here", "fits"),
        [
            ("10.3.0", "10.16.1", True),
            ("10.3.0", "11.1.0", True),
            ("8.6.2", "10.3.0", False),
            ("8.6.2", "11.1.0", False),
            ("11.0.0", "10.16.0", False),
        ],
    )
    def test_version_compatible(self, built: str, here: str, fits: bool) -> None:
        engine = artifact(version=built, options={"versionCompatible": True})
        choice = self.choose(engine, installed=(dataclasses.replace(REGULAR, version=here),))
        assert (choice.artifact is engine) is fits

    def test_ampere_plus(self) -> None:
        engine = artifact(options={"hardwareCompatibilityLevel": "ampere+"})
        assert self.choose(engine, gpu=LocalGpu("L4", "sm89")).artifact is engine
        assert self.choose(engine, gpu=LocalGpu("T4", "sm75")).artifact is None


KINDS: list[Kind] = ["10.3", "10.13", "rtx"]
CUDAS: dict[str, dict[str, Any]] = {
    "lazy": {"order": "lazy"},
    "eager": {"order": "eager"},
    "random": {"order": "random", "seed": 5},
    "random on a Jetson": {"order": "random", "seed": 6, "integrated": True},
    "lazy on a Jetson": {"order": "lazy", "integrated": True},
}
"""When a fake GPU does its work, and whether it works in the host's memory."""


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda(order="lazy")


@pytest.fixture
def machine(cuda: FakeCuda) -> Iterator[Machine]:
    machine = Machine(cuda)
    yield machine
    assert machine.mistakes == []


class TestLoading:
    @pytest.mark.parametrize("kind", ["10.3", "rtx"])
    @pytest.mark.parametrize(
        ("content", "error", "message"),
        [
            (engine_file("10.4.0"), VersionMismatch, "built by another version"),
            (engine_file(target="sm89"), HardwareMismatch, "other GPUs"),
            (engine_file(huge=True), OutOfMemory, "too little free memory"),
            (b"garbage", EngineRefused, "damaged"),
        ],
    )
    def test_each_refusal_is_an_error_of_its_own(
        self, machine: Machine, kind: Kind, content: bytes, error: type[Exception], message: str
    ) -> None:
        with machine.cuda.current(), pytest.raises(error, match=message) as caught:
            load_engine(fake_library(machine, kind), content, "road.engine")
        assert "road.engine" in str(caught.value)

    def test_the_real_library_without_a_gpu(self, make_bundle: Callable[..., Bundle]) -> None:
        """TensorRT-RTX itself, an engine that it built itself, and no driver."""
        from pixelrt.trt import BuildOptions, build_bundle
        from pixelrt.trt.library import load_library

        bundle = build_bundle(make_bundle(), BuildOptions(flavour="tensorrt_rtx", targets=("sm86",)))
        engine = bundle.manifest.artifacts[-1]
        library = load_library("tensorrt_rtx")
        with pytest.raises(DeviceError, match=r"TensorRT-RTX \d.* cannot run .*no NVIDIA driver|cudaError"):
            load_engine(library, bundle.read(engine), engine.file)
        with pytest.raises(EngineRefused, match="damaged, or no engine"):
            load_engine(library, b"no engine at all", "none.engine")


def objects(machine: Machine, kind: Kind) -> dict[str, Any]:
    """One of each of TensorRT's objects, by the names of their classes."""
    library = fake_library(machine, kind)
    runtime = library.trt.Runtime(machine)
    engine = runtime.deserialize_cuda_engine(engine_file(VERSIONS[kind]))
    found = {"Runtime": runtime, "ICudaEngine": engine}
    strategy: Any = ExecutionContextAllocationStrategy.USER_MANAGED
    if hasattr(engine, "create_runtime_config"):
        found["IRuntimeConfig"] = strategy = engine.create_runtime_config()
        strategy.set_execution_context_allocation_strategy(ExecutionContextAllocationStrategy.USER_MANAGED)
    if kind == "rtx":
        found["IRuntimeCache"] = strategy.create_runtime_cache()
    found["IExecutionContext"] = engine.create_execution_context(strategy)
    return dict(reversed(found.items()))  # a dict drops its first value first, and contexts must go first


def real_names(kind: Kind) -> Callable[[str], set[str]]:
    """The names that a class of the real library has; that of `` is the module."""
    if kind == "rtx":
        return lambda name: set(dir(getattr(tensorrt_rtx, name) if name else tensorrt_rtx))
    known = json.loads((Path(__file__).parents[1] / "trt" / "tensorrt_api.json").read_text())["stubs"]
    first, last = known.values()
    classes = first if kind == "10.3" else last
    return lambda name: set(classes[name])


def public(thing: Any) -> set[str]:
    return {name for name, _ in inspect.getmembers(thing) if not name.startswith("_")}


@pytest.mark.parametrize("kind", KINDS)
class TestNames:
    """The stand-in has nothing that TensorRT has not, and all that the code looks for."""

    def test_objects(self, machine: Machine, kind: Kind) -> None:
        real = real_names(kind)
        with machine.cuda.current():
            made = objects(machine, kind)
            assert "DLA_core" in public(made["Runtime"])  # what only an instance has
            assert "active_optimization_profile" in public(made["IExecutionContext"])
            unreal = {name: public(thing) - real(name) for name, thing in made.items()}
            made.clear()
        assert not any(unreal.values()), unreal

    def test_module(self, machine: Machine, kind: Kind) -> None:
        real, module = real_names(kind), fake_library(machine, kind).trt
        assert set(vars(module)) - real("") == set()
        enumerations = [value for value in vars(module).values() if isinstance(value, enum.EnumMeta)]
        assert len(enumerations) >= 2
        for enumeration in enumerations:
            assert set(enumeration.__members__) - real(enumeration.__name__) == set()

    def test_what_is_looked_for(self, machine: Machine, kind: Kind) -> None:
        """What `hasattr` asks for is there where the real library has it: no other path is taken."""
        real, module = real_names(kind), fake_library(machine, kind).trt
        classes = {
            "trt": "",
            "runtime": "Runtime",
            "engine": "ICudaEngine",
            "context": "IExecutionContext",
            "_config": "IRuntimeConfig",
            "config": "IRuntimeConfig",
        }
        with machine.cuda.current():
            made = {"": module, **objects(machine, kind)}
            looked_for = probes()
            assert len(looked_for) > 6
            for owner, name in looked_for:
                kind_of_object = classes[owner]
                if kind_of_object in made:
                    assert hasattr(made[kind_of_object], name) == (name in real(kind_of_object)), name
                else:
                    assert kind_of_object == "IRuntimeConfig" and kind == "10.3"
            made.pop("")
            del made


def probes() -> set[tuple[str, str]]:
    """What the code asks `hasattr` or `getattr` for: the variable, and the name."""
    tree = ast.parse(Path(engine_module.__file__).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {
        (ast.unparse(call.args[0]).split(".")[-1], call.args[1].value)
        for call in calls
        if ast.unparse(call.func) in ("hasattr", "getattr") and isinstance(call.args[1], ast.Constant)
    }


class Bare:
    """The stand-in without PixelRT, for what it must notice."""

    def __init__(self, machine: Machine) -> None:
        self.cuda = machine.cuda
        self.stream = self.cuda.stream()
        self.runtime = fake_library(machine).trt.Runtime(machine)
        self.engine = self.runtime.deserialize_cuda_engine(engine_file())
        self.context = self.engine.create_execution_context(ExecutionContextAllocationStrategy.USER_MANAGED)
        self.frame, self.mask, self.memory = (self.cuda.allocate(size) for size in (1200, 400, 4800))

    def prepare(self, size: tuple[int, int] = (20, 20)) -> None:
        assert self.context.set_input_shape("frame", (1, *size, 3))
        assert self.context.update_device_memory_size_for_shapes() == size[0] * size[1] * 12
        self.context.set_device_memory(self.memory.address, 4800)
        assert self.context.set_tensor_address("frame", self.frame.address)
        assert self.context.set_tensor_address("mask", self.mask.address)

    def run(self) -> bool:
        done: bool = self.context.execute_async_v3(self.stream.handle)
        return done

    def content(self) -> set[int]:
        self.stream.synchronize()
        return set(self.cuda.view(self.mask.address, 400).tolist())

    def close(self) -> None:
        self.context = None
        self.engine = None
        self.runtime = None


@pytest.fixture
def bare(cuda: FakeCuda) -> Iterator[tuple[Machine, Bare]]:
    machine = Machine(cuda)
    with cuda.current():
        bare = Bare(machine)
        yield machine, bare
        bare.close()


class TestStandIn:
    """It notices what a real TensorRT would crash at, or compute something else."""

    def test_works_in_its_stream(self, bare: tuple[Machine, Bare]) -> None:
        machine, own = bare
        own.prepare()
        own.cuda.view(own.frame.address, 1200)[:] = 7
        assert own.run()
        assert own.cuda.num_pending == 2
        assert own.content() == {7}
        own.close()
        assert not any(machine.alive.values())
        assert machine.mistakes == []

    def test_shapes_then_memory(self, bare: tuple[Machine, Bare]) -> None:
        machine, own = bare
        assert not own.run()
        own.prepare((10, 10))
        assert own.run()
        own.context.set_input_shape("frame", (1, 20, 20, 3))
        assert not own.run()
        own.context.set_device_memory(own.memory.address, 4800)  # nobody asked how much these shapes need
        assert not own.run()
        assert "are needed" in " ".join(machine.problems.take())
        own.context.update_device_memory_size_for_shapes()
        own.context.set_device_memory(own.memory.address, 4799)
        assert "device memory has 4799 bytes" in " ".join(machine.problems.take())
        assert not own.run()
        own.context.set_device_memory(own.memory.address, 4800)
        assert own.run()
        assert own.content() == {0xA5}

    def test_first_run_cannot_be_captured(self, bare: tuple[Machine, Bare]) -> None:
        _, own = bare
        own.prepare()
        own.stream.begin_capture()
        assert not own.run()
        with pytest.raises(DeviceError, match="capture"):
            own.stream.end_capture()
        assert own.run()
        own.stream.begin_capture()
        assert own.run()
        graph = own.stream.end_capture()
        own.cuda.synchronize()
        own.cuda.view(own.frame.address, 1200)[:] = 9
        own.context.set_tensor_address("mask", own.frame.address)  # the graph keeps the first address
        graph.launch(own.stream)
        assert own.content() == {9}
        own.prepare()
        own.stream.begin_capture()
        assert not own.run()
        with pytest.raises(DeviceError, match="capture"):
            own.stream.end_capture()

    def test_memory_that_is_used_elsewhere(self, bare: tuple[Machine, Bare]) -> None:
        machine, own = bare
        own.prepare()
        other = own.cuda.stream()
        assert own.run()
        with pytest.raises(AssertionError, match="neither waits"):
            other.run(lambda: None, writes=((own.memory.address, 1),))
        own.content()
        assert own.run()
        view = own.cuda.view(own.memory.address, 4800)
        own.stream.run(lambda: None, reads=((own.memory.address, 1),))
        own.content()
        assert len(set(view[:3600])) == 1 and machine.mistakes == []

    def test_freed_memory(self, bare: tuple[Machine, Bare]) -> None:
        _, own = bare
        own.prepare()
        assert own.run()
        own.memory.close()
        with pytest.raises(ContextLost, match="illegal address"):
            own.content()

    def test_order_of_deletion(self, bare: tuple[Machine, Bare]) -> None:
        machine, own = bare
        own.engine = None
        assert machine.mistakes == ["the engine was deleted before what was made with it: {'context': 1}"]
        own.runtime = None
        own.context = None
        assert len(machine.mistakes) == 1
        own.runtime = fake_library(machine).trt.Runtime(machine)
        own.engine = own.runtime.deserialize_cuda_engine(engine_file())
        own.runtime = None
        assert machine.mistakes[1:] == ["the runtime was deleted before what was made with it: {'engine': 1}"]

    def test_a_context_that_is_deleted_while_it_works(self, bare: tuple[Machine, Bare]) -> None:
        machine, own = bare
        own.prepare()
        assert own.run()
        own.context = None
        assert machine.mistakes == []
        own.content()
        assert set(machine.mistakes) == {"work of a context was done after the context was deleted"}

    def test_no_current_context(self, cuda: FakeCuda) -> None:
        machine = Machine(cuda)
        with pytest.raises(AssertionError, match="not current"):
            fake_library(machine).trt.Runtime(machine)
        with cuda.current():
            own = Bare(machine)
            own.prepare()
        for call in (
            own.run,
            own.prepare,
            lambda: own.engine.create_execution_context(None),
            lambda: own.runtime.deserialize_cuda_engine(engine_file()),
            lambda: own.context.set_device_memory(own.memory.address, 4800),
        ):
            with pytest.raises(AssertionError, match="not current"):
                call()
        own.close()
        assert machine.mistakes == [
            f"the {kind} was deleted while CUDA's context is not current" for kind in ("context", "engine")
        ]


@pytest.fixture
def make_bundle_with(tmp_path: Path) -> Callable[..., Bundle]:
    """Return a factory of bundles whose engine is the stand-in's: the strongest channel, as mask."""

    def make(content: bytes, **changes: Any) -> Bundle:
        base = fake_segmenter(
            lambda frame: frame[..., 0], classes=[str(i) for i in range(256)]
        ).bundle.manifest
        engine = artifact(content, **changes)
        (tmp_path / engine.file).write_bytes(content)
        (tmp_path / "model.onnx").write_bytes(b"onnx")
        model = Artifact(file="model.onnx", kind="onnx", sha256=sha256(b"onnx"), size_bytes=4)
        manifest: Manifest = dataclasses.replace(
            base,
            inputs=(Tensor(name="frame", dtype="uint8", shape=("batch", "height", "width", 3)),),
            outputs=(Tensor(name="mask", dtype="uint8", shape=("batch", "height", "width")),),
            axes={name: Axis(min=1, opt=1, max=64) for name in ("batch", "height", "width")},
            artifacts=(model, engine),
        )
        (tmp_path / "manifest.json").write_text(manifest.to_json())
        return Bundle.open(tmp_path)

    return make


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Return a function that puts a GPU and a TensorRT into this machine."""

    def put(machine: Machine, kind: Kind = "10.3", gpu: LocalGpu = GPU) -> None:
        library = fake_library(machine, kind)
        monkeypatch.setenv("PIXELRT_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(backend, "local_gpu", lambda index: gpu)
        monkeypatch.setattr(backend, "open_driver", lambda name, index: machine.cuda)
        monkeypatch.setattr(backend, "unavailable", lambda name, index: "")
        monkeypatch.setattr(backend, "installed_flavours", lambda: (library.flavour,))
        monkeypatch.setattr(backend, "load_library", lambda flavour: library)

    return put


FRAME = np.arange(16 * 20 * 3, dtype=np.uint32).reshape(16, 20, 3).astype(np.uint8)


class TestSession:
    def test_a_clone_shares_the_engine(
        self, machine: Machine, on: Callable[..., None], make_bundle_with: Callable[..., Bundle]
    ) -> None:
        on(machine)
        bundle = make_bundle_with(engine_file())
        with load(bundle) as segmenter, segmenter.clone() as clone:
            np.testing.assert_array_equal(clone(FRAME).mask, segmenter(FRAME).mask)
        assert len(machine.host_code_allowed) == 1
        assert machine.contexts == 4

    def test_frames_that_the_engine_does_not_take(
        self, machine: Machine, on: Callable[..., None], make_bundle_with: Callable[..., Bundle]
    ) -> None:
        on(machine)
        with load(make_bundle_with(engine_file())) as segmenter:
            with pytest.raises(
                InputError, match=r"\[1, 65, 8, 3\], the.engine takes \[1, 4, 4, 3\] to \[4, 64"
            ):
                segmenter(np.zeros((65, 8, 3), np.uint8))
            segmenter(FRAME)

    @pytest.mark.parametrize(
        ("content", "changes", "error", "message"),
        [
            (engine_file(outputs=["mask", "extra"]), {}, EngineRefused, "output extra float32, the manifest"),
            (engine_file(outputs=[]), {}, EngineRefused, "has input frame uint8, the manifest says input"),
            (engine_file("10.4.0"), {}, VersionMismatch, "another version"),
        ],
    )
    def test_refused_engines_free_what_was_taken(
        self,
        machine: Machine,
        on: Callable[..., None],
        make_bundle_with: Callable[..., Bundle],
        content: bytes,
        changes: dict[str, Any],
        error: type[Exception],
        message: str,
    ) -> None:
        on(machine)
        with pytest.raises(error, match=message):
            load(make_bundle_with(content, **changes))
        assert not any(machine.cuda.live.values())

    def test_no_memory_for_a_context(
        self, machine: Machine, on: Callable[..., None], make_bundle_with: Callable[..., Bundle]
    ) -> None:
        on(machine)
        machine.refuse_context = "Error Code 2: OutOfMemory (Requested size was 4096 bytes.)"
        with pytest.raises(OutOfMemory, match="no execution context"):
            load(make_bundle_with(engine_file()))
        assert not any(machine.cuda.live.values())

    @pytest.mark.parametrize(
        ("options", "allowed"),
        [
            ({}, False),
            ({"versionCompatible": True}, True),
            ({"versionCompatible": True, "excludeLeanRuntime": True}, False),
        ],
    )
    def test_native_code_in_an_engine(
        self,
        machine: Machine,
        on: Callable[..., None],
        make_bundle_with: Callable[..., Bundle],
        options: dict[str, Any],
        allowed: bool,
    ) -> None:
        on(machine)
        load(make_bundle_with(engine_file(), options=options)).close()
        assert machine.host_code_allowed == [allowed]

    def test_accelerator_of_a_jetson(
        self, machine: Machine, on: Callable[..., None], make_bundle_with: Callable[..., Bundle]
    ) -> None:
        on(machine)
        load(make_bundle_with(engine_file(), options={"useDLACore": 1}), gpu=GpuOptions(dla_core=1)).close()
        assert machine.dla_core == 1
        with pytest.raises(HardwareMismatch, match=r"is for accelerator 2, TensorRT .* finds 2 of them here"):
            load(make_bundle_with(engine_file(), options={"useDLACore": 2}), gpu=GpuOptions(dla_core=2))
        assert not any(machine.cuda.live.values())

    def test_stripped_weights_are_put_in(
        self,
        machine: Machine,
        on: Callable[..., None],
        make_bundle_with: Callable[..., Bundle],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        on(machine)
        given: list[bytes] = []
        monkeypatch.setattr(backend, "refit", lambda library, engine, onnx: given.append(onnx))
        load(make_bundle_with(engine_file(), options={"stripWeights": True})).close()
        assert given == [b"onnx"]

    def test_kernels_of_rtx_are_kept(
        self,
        machine: Machine,
        on: Callable[..., None],
        make_bundle_with: Callable[..., Bundle],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        on(machine, "rtx")
        bundle = make_bundle_with(engine_file(), flavour="tensorrt_rtx")
        load(bundle).close()
        (kept,) = (tmp_path / "cache" / "kernels").iterdir()
        assert kept.read_bytes().startswith(b"kernels")
        kept.write_bytes(b"damaged")
        with caplog.at_level(logging.WARNING):
            load(bundle).close()
        assert "damaged or of another version" in caplog.text
        assert kept.read_bytes().startswith(b"kernels")


def noise(seed: int, size: tuple[int, int] = (16, 20)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def expect(result: Any, frame: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(result.mask, frame.max(axis=-1))


def on_gpu(cuda: FakeCuda, frame: NDArray[np.uint8]) -> Any:
    """A frame that another library has put into the GPU's memory."""
    memory = cuda.allocate(frame.nbytes)
    cuda.view(memory.address, frame.nbytes)[:] = frame.ravel()

    class OnGpu:
        shape = frame.shape
        owner = memory
        __cuda_array_interface__ = {  # noqa: RUF012
            "shape": frame.shape,
            "typestr": "|u1",
            "data": (memory.address, False),
            "version": 3,
        }

    return OnGpu()


def tried(segmenter: Segmenter, frame: NDArray[np.uint8]) -> bool:
    """Whether there is memory for a frame; its mask is right then."""
    try:
        expect(segmenter(frame), frame)
    except OutOfMemory:
        return False
    return True


Open = Callable[..., Segmenter]


@pytest.fixture
def open_on(on: Callable[..., None], make_bundle_with: Callable[..., Bundle]) -> Open:
    """Return a function that loads the bundle whose engine fits."""

    def open_it(machine: Machine, kind: Kind, **gpu: Any) -> Segmenter:
        on(machine, kind)
        version = VERSIONS[kind]
        flavour = "tensorrt_rtx" if kind == "rtx" else "tensorrt"
        return load(
            make_bundle_with(engine_file(version), version=version, flavour=flavour), gpu=GpuOptions(**gpu)
        )

    return open_it


@pytest.mark.parametrize("how", CUDAS)
class TestOrders:
    """The engine's work comes when the GPU likes: what waits too little, or keeps too little alive, shows."""

    @pytest.fixture
    def cuda(self, how: str) -> FakeCuda:
        return FakeCuda(**CUDAS[how])

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("graphs", [False, True], ids=["enqueued", "graphs"])
    @pytest.mark.parametrize("slots", [1, 2, 3])
    def test_masks_are_those_of_the_engine(
        self, machine: Machine, open_on: Open, kind: Kind, graphs: bool, slots: int
    ) -> None:
        with open_on(machine, kind, graphs=graphs, slots=slots) as segmenter:
            for begin in range(0, 8 * slots, slots):
                frames = [noise(seed) for seed in range(begin, begin + slots)]
                for frame, ticket in zip(frames, [segmenter.submit(frame) for frame in frames], strict=True):
                    expect(ticket.result(), frame)
            text = segmenter.session.graphs
            if kind == "rtx":
                expected = "none: TensorRT-RTX captures by itself" if graphs else "none: switched off"
                assert text == expected
            else:
                assert text == (f"{slots} captured" if graphs else "none: switched off")
        assert not any(machine.cuda.live.values())

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("graphs", [False, True], ids=["enqueued", "graphs"])
    @pytest.mark.parametrize("slots", [1, 2, 3])
    def test_shapes_change(
        self, machine: Machine, open_on: Open, kind: Kind, graphs: bool, slots: int
    ) -> None:
        """While frames of other shapes are on their way too, and so that working memory moves."""
        sizes = [(8, 8), (16, 20), (64, 64), (8, 8), (16, 20), (30, 64), (64, 64), (8, 8)]
        with open_on(machine, kind, graphs=graphs, slots=slots) as segmenter:
            for repeats in (1, 2, 3 * slots):
                frames = [noise(i, size) for i, size in enumerate(np.repeat(sizes, repeats, axis=0).tolist())]
                tickets = [segmenter.submit(frame) for frame in frames]
                for frame, ticket in zip(frames, tickets, strict=True):
                    expect(ticket.result(), frame)
        assert not any(machine.cuda.live.values())

    def test_batches(self, machine: Machine, open_on: Open) -> None:
        with open_on(machine, "10.3") as segmenter:
            for count in (1, 4, 3, 9, 4, 4, 4):
                frames = [noise(seed) for seed in range(count)]
                for frame, result in zip(frames, segmenter.batch(frames), strict=True):
                    expect(result, frame)

    def test_addresses_change(self, machine: Machine, open_on: Open) -> None:
        """Frames at addresses of their own: each is in a graph of its own, and none is mixed up."""
        cuda = machine.cuda
        with open_on(machine, "10.3", slots=2) as segmenter:
            frames = [noise(seed) for seed in range(3)]
            there = [on_gpu(cuda, frame) for frame in frames]
            pinned = [segmenter.frame_buffer((16, 20)) for _ in range(3)]
            for place, frame in zip(pinned, frames, strict=True):
                place[:] = frame[::-1]
            for turn in range(24):
                index = turn % 3
                tickets = [segmenter.submit(there[index]), segmenter.submit(pinned[index])]
                expect(tickets[1].result(), frames[index][::-1])
                expect(tickets[0].result(), frames[index])
            assert int(segmenter.session.graphs.split()[0]) >= 4
            del pinned, place, there, tickets
        gc.collect()
        assert not any(cuda.live.values())

    def test_masks_that_stay_on_the_gpu(self, machine: Machine, open_on: Open) -> None:
        with open_on(machine, "10.3") as segmenter:
            frames = [noise(seed) for seed in range(6)]
            kept = [segmenter.submit(frame, on_device=True) for frame in frames]
            for seed in range(6, 12):
                expect(segmenter(noise(seed)), noise(seed))
            for frame, ticket in zip(frames, kept, strict=True):
                mask = ticket.result().device_mask
                assert mask is not None
                np.testing.assert_array_equal(mask.to_host(), frame.max(axis=-1))
                mask.close()

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("graphs", [False, True], ids=["enqueued", "graphs"])
    def test_clones_in_threads(self, machine: Machine, open_on: Open, kind: Kind, graphs: bool) -> None:
        sizes = [(8, 8), (16, 20), (64, 64)]
        with open_on(machine, kind, graphs=graphs) as segmenter:
            clones = [segmenter.clone() for _ in range(3)]

            def work(index: int) -> None:
                with clones[index] as clone:
                    for turn in range(20):
                        frames = [noise(turn + 99 * i, sizes[(turn // 5 + index) % 3]) for i in range(3)]
                        tickets = [clone.submit(frame) for frame in frames]
                        for frame, ticket in zip(frames, tickets, strict=True):
                            expect(ticket.result(), frame)

            in_threads(3, work)
            expect(segmenter(noise(1)), noise(1))
            assert (machine.alive["engine"], machine.alive["context"]) == (1, 2)
        assert machine.alive["context"] == 0
        assert not any(machine.cuda.live.values())

    @pytest.mark.parametrize("graphs", [False, True], ids=["enqueued", "graphs"])
    def test_a_run_refused_in_the_middle(self, machine: Machine, open_on: Open, graphs: bool) -> None:
        with open_on(machine, "10.3", graphs=graphs, slots=2) as segmenter:
            for turn in range(6):
                before = segmenter.submit(noise(turn))
                machine.refuse_enqueue = 1
                frame = noise(turn, (17 + turn, 20))  # at new shapes nothing is captured yet
                with pytest.raises(
                    ExecutionFailed, match=r"TensorRT 10\.3\.0 refused to run a frame: .*enqueue was refused"
                ):
                    segmenter.submit(frame)
                expect(before.result(), noise(turn))
                expect(segmenter(frame), frame)

    def test_a_refused_run_is_waited_for(self, machine: Machine, open_on: Open) -> None:
        """Its upload is on its way, and the next frame of its slot needs larger buffers."""
        large = noise(0, (64, 64))
        with open_on(machine, "10.3", slots=2) as segmenter:
            expect(segmenter(large), large)
            for turn in range(1, 6):
                before = segmenter.submit(large)
                machine.refuse_enqueue = 1
                with pytest.raises(ExecutionFailed):
                    segmenter.submit(noise(turn, (9 * turn, 20)))
                frame = noise(turn, (9 * turn + 4, 20))
                expect(segmenter(frame), frame)
                expect(before.result(), large)

    def test_memory_that_is_refused(self, machine: Machine, open_on: Open) -> None:
        """TensorRT returns nothing then and only logs it."""
        with open_on(machine, "10.3", slots=2) as segmenter:
            for turn in range(1, 4):
                machine.refuse_memory = 1
                frame = noise(turn, (16 * turn, 20))
                message = r"refuses \d+ bytes of working memory: device memory was refused"
                with pytest.raises(OutOfMemory, match=message):
                    segmenter(frame)
                expect(segmenter(frame), frame)

    def test_a_capture_that_is_refused(
        self, machine: Machine, open_on: Open, caplog: pytest.LogCaptureFixture
    ) -> None:
        with open_on(machine, "10.3", slots=1) as segmenter:
            expect(segmenter(noise(1)), noise(1))
            machine.refuse_enqueue = 1
            with caplog.at_level(logging.WARNING):
                expect(segmenter(noise(2)), noise(2))
            assert "CUDA graphs are not used: capture was refused" in caplog.text
            assert "enqueue was refused" in segmenter.session.graphs
            for seed in range(3, 8):
                expect(segmenter(noise(seed)), noise(seed))

    @pytest.mark.parametrize("graphs", [False, True], ids=["enqueued", "graphs"])
    def test_memory_runs_out_and_comes_back(self, how: str, open_on: Open, graphs: bool) -> None:
        """Wherever it runs out: at a slot's buffers, or at the working memory that both slots have used."""
        outcomes = []
        for free in (100, 9_000, 15_000, 20_000, 40_000, 60_000, 70_000, 300_000):
            machine = Machine(FakeCuda(**CUDAS[how], memory_bytes=1 << 20))
            cuda, large = machine.cuda, noise(free, (64, 64))
            with open_on(machine, "10.3", graphs=graphs, slots=2) as segmenter:
                for turn in range(6):
                    expect(segmenter(noise(turn)), noise(turn))
                filling = cuda.allocate(cuda.memory()[0] - free)
                for turn in range(3):
                    outcomes.append(tried(segmenter, large))
                    for _ in range(6):
                        expect(segmenter(noise(turn)), noise(turn))
                filling.close()
                for _ in range(6):
                    expect(segmenter(large), large)
            assert not any(cuda.live.values())
        assert outcomes[:3] == [False] * 3
        assert outcomes[-3:] == [True] * 3

    def test_the_gpu_is_lost(self, machine: Machine, open_on: Open) -> None:
        with open_on(machine, "10.3", slots=2) as segmenter:
            for turn in range(6):
                expect(segmenter(noise(turn)), noise(turn))
            machine.cuda.fail("Graph.launch", ContextLost("gone"))
            for _ in range(3):
                with pytest.raises(ContextLost, match="gone"):
                    segmenter(noise(1))
        assert not any(machine.alive.values())

    @pytest.mark.parametrize("profile_after_first", [0, -1])
    def test_contexts_after_the_first(
        self, machine: Machine, open_on: Open, profile_after_first: int
    ) -> None:
        machine.profile_after_first = profile_after_first
        with open_on(machine, "10.3", slots=3) as segmenter:
            tickets = [segmenter.submit(noise(turn)) for turn in range(9)]
            for turn, ticket in enumerate(tickets):
                expect(ticket.result(), noise(turn))


@pytest.mark.parametrize("kind", KINDS)
class TestLifetimes:
    """Nothing of TensorRT is left, and what there was went in order, with CUDA's context current."""

    def test_closing_frees_everything(self, machine: Machine, open_on: Open, kind: Kind) -> None:
        segmenter = open_on(machine, kind, slots=2)
        expect(segmenter(noise(1)), noise(1))
        ticket = segmenter.submit(noise(2))
        segmenter.close()
        expect(ticket.result(), noise(2))
        assert not any(machine.alive.values()), machine.alive
        assert not any(machine.cuda.live.values())

    def test_the_last_clone_frees_the_engine(self, machine: Machine, open_on: Open, kind: Kind) -> None:
        segmenter = open_on(machine, kind, slots=2)
        clones = [segmenter.clone(), segmenter.clone()]
        for last, one in enumerate((clones[0], segmenter, clones[1])):
            expect(one(noise(last)), noise(last))
            one.close()
            assert machine.alive["engine"] == machine.alive["runtime"] == (last < 2)
        assert not any(machine.alive.values()), machine.alive
        assert not any(machine.cuda.live.values())

    def test_an_error_that_is_kept_keeps_no_engine(self, machine: Machine, open_on: Open, kind: Kind) -> None:
        with open_on(machine, kind) as segmenter:
            machine.refuse_enqueue = 1
            with pytest.raises(ExecutionFailed) as kept:
                segmenter(noise(1))
        assert kept.value.__traceback__ is not None
        assert not any(machine.alive.values()), machine.alive

    def test_closed_in_another_thread(self, machine: Machine, open_on: Open, kind: Kind) -> None:
        segmenter = open_on(machine, kind)
        segmenter.submit(noise(1))
        thread = threading.Thread(target=segmenter.close)
        thread.start()
        thread.join()
        assert not any(machine.alive.values()), machine.alive

    def test_forgotten(self, machine: Machine, open_on: Open, kind: Kind) -> None:
        segmenter = open_on(machine, kind)
        expect(segmenter(noise(1)), noise(1))
        segmenter.submit(noise(2))
        del segmenter
        gc.collect()
        assert not any(machine.alive.values()), machine.alive
        assert not any(machine.cuda.live.values())


class OnTheStandIn(SessionContract):
    """The contract of GPU sessions: ONNX Runtime computes what the stand-in's engine does."""

    num_frames = 300
    kind: Kind
    cuda: dict[str, Any]

    def open(self, **options: Any) -> Segmenter:
        manifest = self.bundle.manifest
        names = [tensor.name for tensor in manifest.outputs]
        computing = onnxruntime.InferenceSession(
            self.bundle.read(self.bundle.model), providers=["CPUExecutionProvider"]
        )

        def compute(frame: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
            return dict(zip(names, computing.run(names, {"frame": frame}), strict=True))

        shapes = {tensor.name: tensor.shape for tensor in manifest.outputs}
        network = Network(compute, shapes, lowest=(1, 16, 16, 3), highest=(4, 256, 256, 3))
        self.machines.append(Machine(FakeCuda(**self.cuda), network))
        self.put(self.machines[-1], self.kind)
        return load(self.bundle, gpu=GpuOptions(**options))

    @pytest.fixture(autouse=True)
    def library(self, on: Callable[..., None], tmp_path: Path) -> Iterator[None]:
        """The self-test's bundle with an engine; and no mistakes."""
        tiny = tiny_bundle()
        content = engine_file(VERSIONS[self.kind], outputs=[tensor.name for tensor in tiny.manifest.outputs])
        flavour = "tensorrt_rtx" if self.kind == "rtx" else "tensorrt"
        engine = artifact(content, version=VERSIONS[self.kind], flavour=flavour)
        manifest = dataclasses.replace(tiny.manifest, artifacts=(tiny.model, engine))
        (tmp_path / tiny.model.file).write_bytes(tiny.read(tiny.model))
        (tmp_path / engine.file).write_bytes(content)
        (tmp_path / "manifest.json").write_text(manifest.to_json())
        self.bundle, self.put = Bundle.open(tmp_path), on
        self.machines: list[Machine] = []
        yield
        wrong = itertools.chain.from_iterable(machine.mistakes for machine in self.machines)
        assert list(wrong) == []


class TestContractLazily(OnTheStandIn):
    kind = "10.3"
    cuda = {"order": "lazy"}  # noqa: RUF012


class TestContractAtOnce(OnTheStandIn):
    kind = "10.13"
    cuda = {"order": "eager"}  # noqa: RUF012


class TestContractAtRandomOnAJetson(OnTheStandIn):
    kind = "10.3"
    cuda = {"order": "random", "seed": 3, "integrated": True}  # noqa: RUF012


class TestContractOfRTX(OnTheStandIn):
    kind = "rtx"
    why_no_graphs = "by itself"
    cuda = {"order": "lazy"}  # noqa: RUF012


class TestBuilding:
    def test_never(
        self, machine: Machine, on: Callable[..., None], make_bundle_with: Callable[..., Bundle]
    ) -> None:
        on(machine, gpu=ORIN)
        bundle = make_bundle_with(engine_file())
        judged = choices(bundle, SessionOptions(build="never"))[0]
        assert not judged.usable
        assert "build='never' was asked for; build it with: pixelrt build" in judged.reason
        with pytest.raises(
            DeviceError, match=r"fits Orin .sm87.: the\.engine: it is for sm86, and build='never'"
        ):
            load(bundle, device="cuda", build="never")

    def test_once_and_says_so(
        self,
        machine: Machine,
        on: Callable[..., None],
        make_bundle_with: Callable[..., Bundle],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        on(machine)
        bundle = make_bundle_with(engine_file(target="sm75"), targets=("sm75",))
        content = engine_file()

        def build(bundle: Bundle, options: Any, **facts: Any) -> CachedEngine:
            assert (facts["version"], facts["gpu"]) == ("10.3.0", GPU)
            assert options.targets == ("local",)
            return CachedEngine(
                content=content,
                artifact=artifact(content, build_seconds=75.0),
                path=Path("/cache/x.engine"),
                built=True,
            )

        monkeypatch.setattr(backend, "cached_engine", build)
        with caplog.at_level(logging.WARNING), load(bundle) as segmenter:
            np.testing.assert_array_equal(segmenter(FRAME).mask, FRAME.max(axis=-1))
            assert segmenter.session.info.engine == "/cache/x.engine"
        assert "built one in 75.0 s, kept in /cache/x.engine" in caplog.text

    def test_that_fails_says_what_else_there_is(
        self,
        machine: Machine,
        on: Callable[..., None],
        make_bundle_with: Callable[..., Bundle],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        on(machine)

        def build(bundle: Bundle, options: Any, **facts: Any) -> CachedEngine:
            raise BuildError("TensorRT 10.3.0 cannot parse the ONNX: node 3")

        monkeypatch.setattr(backend, "cached_engine", build)
        with pytest.raises(
            BuildError, match=r"none could be built: .* node 3\nWithout TensorRT .*onnxruntime"
        ):
            load(make_bundle_with(engine_file(), targets=("sm75",)))
        assert not any(machine.cuda.live.values())
