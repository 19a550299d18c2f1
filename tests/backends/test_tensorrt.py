"""The TensorRT backend without a GPU: which engine is taken, what is asked of TensorRT, what refusals become.

The library is a stand-in that computes on a fake GPU; its names are checked against the real ones.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_tensorrt
import numpy as np
import pytest
import tensorrt_rtx
from fake_tensorrt import Machine, engine_file, fake_library

import pixelrt.backends.tensorrt as backend
from pixelrt.bundle import Bundle, sha256
from pixelrt.errors import (
    BuildError,
    DeviceError,
    EngineRefused,
    ExecutionFailed,
    HardwareMismatch,
    InputError,
    OutOfMemory,
    VersionMismatch,
)
from pixelrt.manifest import Artifact, Axis, Manifest, Tensor
from pixelrt.pipeline.options import GpuOptions
from pixelrt.segmentation import Segmenter, load
from pixelrt.session import SessionOptions, choices
from pixelrt.testing import FakeCuda, fake_segmenter
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


@pytest.fixture
def machine() -> Machine:
    return Machine(FakeCuda(order="eager"))


class TestLoading:
    @pytest.mark.parametrize("rtx", [False, True])
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
        self, machine: Machine, rtx: bool, content: bytes, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message) as caught:
            load_engine(fake_library(machine, rtx=rtx), content, "road.engine")
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


class TestStandIn:
    """The stand-in has nothing that TensorRT has not."""

    @pytest.mark.parametrize(
        "name",
        [
            *("Runtime", "ICudaEngine", "IExecutionContext", "IRuntimeConfig", "IRuntimeCache"),
            *("TensorIOMode", "DataType", "ExecutionContextAllocationStrategy", "CudaGraphStrategy"),
            *("DynamicShapesKernelSpecializationStrategy", "EngineValidity", "EngineInvalidityDiagnostics"),
        ],
    )
    def test_names_are_real(self, name: str) -> None:
        fake = {"Runtime": fake_tensorrt.RTXRuntime, "ICudaEngine": fake_tensorrt.RTXEngine}.get(
            name, getattr(fake_tensorrt, name)
        )
        real = getattr(tensorrt_rtx, name)
        own = {"version", "target", "engine"}  # what the stand-in's runtime is set to
        public = {attribute for attribute, _ in inspect.getmembers(fake) if not attribute.startswith("_")}
        instance = {
            "active_optimization_profile",
            "engine_host_code_allowed",
            "cuda_graph_strategy",
            "DLA_core",
        }
        missing = {attribute for attribute in public - own if not hasattr(real, attribute)}
        if not issubclass(fake, int):
            assert not missing
        assert all(hasattr(real, attribute) for attribute in instance if hasattr(fake, attribute))


MakeSegmenter = Callable[..., Segmenter]


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

    def put(machine: Machine, *, rtx: bool = False, gpu: LocalGpu = GPU) -> None:
        library = fake_library(machine, rtx=rtx)
        monkeypatch.setenv("PIXELRT_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(backend, "local_gpu", lambda index: gpu)
        monkeypatch.setattr(backend, "open_driver", lambda name, index: machine.cuda)
        monkeypatch.setattr(backend, "unavailable", lambda name, index: "")
        monkeypatch.setattr(backend, "installed_flavours", lambda: (library.flavour,))
        monkeypatch.setattr(backend, "load_library", lambda flavour: library)

    return put


FRAME = np.arange(16 * 20 * 3, dtype=np.uint32).reshape(16, 20, 3).astype(np.uint8)


class TestSession:
    @pytest.mark.parametrize("rtx", [False, True])
    @pytest.mark.parametrize("profile_after_first", [0, -1])
    def test_masks_are_those_of_the_engine(
        self,
        machine: Machine,
        on: Callable[..., None],
        make_bundle_with: Callable[..., Bundle],
        rtx: bool,
        profile_after_first: int,
    ) -> None:
        on(machine, rtx=rtx)
        machine.profile_after_first = profile_after_first
        bundle = make_bundle_with(engine_file(), flavour="tensorrt_rtx" if rtx else "tensorrt")
        with load(bundle, gpu=GpuOptions(graphs=rtx)) as segmenter:
            info = segmenter.session.info
            assert (info.backend, info.device, info.gpu) == ("tensorrt", "cuda:0", "RTX 3090")
            assert info.engine == "the.engine"
            assert info.driver == "fake 1"
            for shift in range(5):
                frame = np.roll(FRAME, shift, axis=0)[: 10 + shift]
                result = segmenter(frame)
                np.testing.assert_array_equal(result.mask, frame.max(axis=-1))
            if rtx:
                assert segmenter.session.graphs == "none: TensorRT-RTX captures by itself"
        assert not any(machine.cuda.live.values())

    def test_a_clone_shares_the_engine(
        self, machine: Machine, on: Callable[..., None], make_bundle_with: Callable[..., Bundle]
    ) -> None:
        on(machine)
        bundle = make_bundle_with(engine_file())
        with load(bundle, gpu=GpuOptions(graphs=False)) as segmenter, segmenter.clone() as clone:
            np.testing.assert_array_equal(clone(FRAME).mask, segmenter(FRAME).mask)
        assert len(machine.host_code_allowed) == 1
        assert machine.contexts == 4

    def test_refused_run(
        self, machine: Machine, on: Callable[..., None], make_bundle_with: Callable[..., Bundle]
    ) -> None:
        on(machine)
        with load(make_bundle_with(engine_file()), gpu=GpuOptions(graphs=False)) as segmenter:
            segmenter(FRAME)
            machine.refuse_enqueue = 1
            with pytest.raises(
                ExecutionFailed, match=r"TensorRT 10\.3\.0 refused to run a frame: .*enqueue was"
            ):
                segmenter(FRAME)
            np.testing.assert_array_equal(segmenter(FRAME).mask, FRAME.max(axis=-1))

    def test_frames_that_the_engine_does_not_take(
        self, machine: Machine, on: Callable[..., None], make_bundle_with: Callable[..., Bundle]
    ) -> None:
        on(machine)
        with load(make_bundle_with(engine_file()), gpu=GpuOptions(graphs=False)) as segmenter:
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
        load(make_bundle_with(engine_file(), options={"useDLACore": 1})).close()
        assert machine.dla_core == 1
        with pytest.raises(HardwareMismatch, match=r"is for accelerator 2, TensorRT .* finds 2 of them here"):
            load(make_bundle_with(engine_file(), options={"useDLACore": 2}))
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
        on(machine, rtx=True)
        bundle = make_bundle_with(engine_file(), flavour="tensorrt_rtx")
        load(bundle).close()
        (kept,) = (tmp_path / "cache" / "kernels").iterdir()
        assert kept.read_bytes().startswith(b"kernels")
        kept.write_bytes(b"damaged")
        with caplog.at_level(logging.WARNING):
            load(bundle).close()
        assert "damaged or of another version" in caplog.text
        assert kept.read_bytes().startswith(b"kernels")


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
        with caplog.at_level(logging.WARNING), load(bundle, gpu=GpuOptions(graphs=False)) as segmenter:
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
