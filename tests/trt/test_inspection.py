"""What engines say of themselves. Loading one needs a GPU, so TensorRT's answers are those of a fake here."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorrt_rtx as trt
from fake_tensorrt import Machine, engine_file, fake_library

from pixelrt.bundle import Bundle
from pixelrt.cli import main
from pixelrt.errors import BuildError, PixelRTError
from pixelrt.manifest import Artifact, Tensor
from pixelrt.testing import FakeCuda
from pixelrt.trt import (
    LOCAL,
    BuildOptions,
    EngineFacts,
    ShapeRange,
    build_bundle,
    examine_engine,
    process,
    refit,
    worker,
)
from pixelrt.trt.building import BuiltEngine
from pixelrt.trt.gpu import LocalGpu
from pixelrt.trt.inspection import describe
from pixelrt.trt.library import Library
from pixelrt.trt.protocol import MODEL, Outcome, Request

MakeBundle = Callable[..., Bundle]
SM86 = BuildOptions(flavour="tensorrt_rtx", targets=("sm86",))
HAS_GPU = Path("/dev/nvidiactl").exists()


def layer(name: str, kind: str, *formats: str) -> dict[str, Any]:
    """A layer as TensorRT's inspector tells it with ProfilingVerbosity.DETAILED."""
    outputs = [{"Name": "y", "Location": "Device", "Dimensions": [1], "Format/Datatype": f} for f in formats]
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": [],
        "Outputs": outputs,
        "TacticName": "",
        "StreamId": 0,
    }


class FakeEngine:
    """An engine of one input and one output, with TensorRT's names for what it is asked."""

    num_io_tensors = 2
    num_optimization_profiles = 1
    num_aux_streams = 1
    refittable = False
    device_memory_size_v2 = 5 << 20
    profiling_verbosity = trt.ProfilingVerbosity.DETAILED

    def __init__(self, told: object) -> None:
        self.told = told if isinstance(told, str) else json.dumps({"Layers": told, "Bindings": ["x", "y"]})
        self.num_layers = len(told) if isinstance(told, Sequence) else 0

    def get_tensor_name(self, index: int) -> str:
        return ("frame", "mask")[index]

    def get_tensor_mode(self, name: str) -> trt.TensorIOMode:
        return trt.TensorIOMode.INPUT if name == "frame" else trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> trt.DataType:
        return trt.DataType.UINT8

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 512, 1024, 3) if name == "frame" else (-1, 512, 1024)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert (name, profile) == ("frame", 0)
        return [(size, 512, 1024, 3) for size in (1, 2, 4)]

    def create_engine_inspector(self) -> FakeEngine:
        return self

    def get_engine_information(self, form: trt.LayerInformationFormat) -> str:
        assert form == trt.LayerInformationFormat.JSON
        return self.told


LIBRARY = Library("tensorrt", trt, "10.3.0", None)
LAYERS = [
    layer("cast", "Reformat", "Row major linear UINT8 format"),
    layer("conv1", "CaskConvolution", "Channel major FP16 format where channel % 8 == 0"),
    layer("conv2", "CaskConvolution", "Half"),
    layer("mean", "Reduce", "Float"),
    layer("rest", "kgen", "N/A due to dynamic shapes"),
    layer("none", "NoOp"),
]


class TestFacts:
    def test_all_of_them(self) -> None:
        facts = describe(LIBRARY, FakeEngine(LAYERS))
        assert facts == EngineFacts(
            inputs=(Tensor(name="frame", dtype="uint8", shape=("?", 512, 1024, 3)),),
            outputs=(Tensor(name="mask", dtype="uint8", shape=("?", 512, 1024)),),
            profiles=(
                {"frame": ShapeRange(min=(1, 512, 1024, 3), opt=(2, 512, 1024, 3), max=(4, 512, 1024, 3))},
            ),
            num_layers=6,
            layers={"fp16": 2, "unknown": 2, "uint8": 1, "fp32": 1},
            silence="",
            on_accelerator=0,
            fallback=(),
            device_memory_bytes=5 << 20,
            num_aux_streams=1,
            refittable=False,
            profiling_verbosity="detailed",
        )

    def test_layers_that_fell_back(self) -> None:
        told = [layer("{ForeignNode[conv1...conv9]}", "DLA", "DLA linear FP16 format"), *LAYERS]
        facts = describe(LIBRARY, FakeEngine(told))
        assert facts.on_accelerator == 1
        assert facts.fallback == ("conv1", "conv2", "mean", "rest", "none"), "copies fell back from nothing"

    def test_an_accelerator_that_took_nothing(self) -> None:
        facts = describe(LIBRARY, FakeEngine(LAYERS), accelerated=True)
        assert (facts.on_accelerator, len(facts.fallback)) == (0, 5)

    @pytest.mark.parametrize(
        ("told", "reason"),
        [
            (["conv1", "conv2"], "keep the details of its layers to itself"),
            ([], "keep the details of its layers to itself"),
            ('{"Layers": [{"Name": "a "quoted" name"}]}', "cannot be read"),
            ("no JSON", "cannot be read"),
            ('{"Bindings": []}', "cannot be read"),
        ],
    )
    def test_engines_that_do_not_tell(self, told: object, reason: str) -> None:
        facts = describe(LIBRARY, FakeEngine(told))
        assert facts.layers == {}
        assert reason in facts.silence

    def test_the_old_name_of_the_memory(self) -> None:
        class Old(FakeEngine):
            device_memory_size = 7

        del FakeEngine.device_memory_size_v2
        try:
            assert describe(LIBRARY, Old(LAYERS)).device_memory_bytes == 7
        finally:
            FakeEngine.device_memory_size_v2 = 5 << 20


def built(facts: EngineFacts | None, unfit: tuple[str, ...] = ()) -> Artifact:
    engine = BuiltEngine(
        content=b"",
        flavour="tensorrt",
        version="10.3.0",
        targets=("sm87",),
        seconds=1,
        options={},
        inputs=(),
        outputs=(),
        facts=facts,
        unfit=unfit,
    )
    return engine.artifact


class TestManifest:
    def test_the_engine_is_believed(self) -> None:
        told = [layer("dla", "DLA", "Half"), layer("resize", "Resize", "Half")]
        entry = built(describe(LIBRARY, FakeEngine(told)), unfit=("resize", "and what was fused away"))
        assert (entry.layers, entry.layers_from, entry.fallback) == ({"fp16": 2}, "engine", ("resize",))
        assert entry.layers_text == "2 fp16"

    def test_without_it_the_network_is(self) -> None:
        for facts in (None, describe(LIBRARY, FakeEngine(["a", "b"]))):
            entry = built(facts, unfit=("resize",))
            assert (entry.layers, entry.layers_from, entry.fallback) == ({}, "", ("resize",))


class TestInspect:
    @pytest.fixture
    def engine(self, make_bundle: MakeBundle) -> Path:
        bundle = build_bundle(make_bundle(emit=("mask",), precision="fp16"), SM86)
        return bundle.path / bundle.manifest.artifacts[-1].file

    @pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
    def test_the_real_refusal_without_a_gpu(self, engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["inspect", str(engine)]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "loaded no: TensorRT-RTX " in out
        assert "there is no NVIDIA driver here" in out
        assert "layers 2 fp16 in the ONNX, says the manifest" in out
        with pytest.raises(PixelRTError, match="no NVIDIA driver here"):
            examine_engine(engine.read_bytes(), "tensorrt_rtx")

    @pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
    def test_json(self, engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["inspect", str(engine), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["loaded"] is None
        assert told["not_loaded"].startswith("TensorRT-RTX ")
        assert told["manifest"]["layers_from"] == "onnx"

    def test_a_stranger_is_not_loaded(
        self,
        engine: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """An engine is native code."""
        loaded = self.loading(monkeypatch)
        copy = Path(shutil.copy(engine, tmp_path / "copy.engine"))
        assert main(["inspect", str(copy)]) == 0
        assert loaded == []
        assert "no bundle vouches for it; --load does it all the same" in capsys.readouterr().out
        engine.write_bytes(engine.read_bytes()[:-1] + b"x")
        assert main(["inspect", str(engine)]) == 1
        assert loaded == [], "a changed engine is a stranger too"

    def test_what_is_shown_of_a_loaded_engine(
        self,
        engine: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        told = [layer("{ForeignNode[conv1...conv9]}", "DLA", "Half"), *LAYERS]
        facts = describe(LIBRARY, FakeEngine(told))
        monkeypatch.setattr("pixelrt.cli.inspect_engine.examine_engine", lambda *_, **__: facts)
        copy = Path(shutil.copy(engine, tmp_path / "copy.engine"))
        assert main(["inspect", str(copy), "--load"]) == 0
        out = " ".join(capsys.readouterr().out.split())
        for part in (
            "layers 7: 3 fp16, 2 unknown, 1 uint8, 1 fp32",
            "5.2 MB per execution context",
            "streams 1",
            "refittable no",
            "verbosity detailed",
            "accelerator 1 layers; on the GPU: conv1, conv2, mean, rest, none",
            "in frame uint8 [?, 512, 1024, 3]",
            "profile 0",
            "frame 1x512x1024x3 2x512x1024x3 4x512x1024x3",
        ):
            assert part in out, out
        assert main(["inspect", str(copy), "--load", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["loaded"]["layers"]["fp16"] == 3

    def test_what_was_checked_is_what_is_loaded(self, engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not what lies there a moment later."""
        loaded, content, read = self.loading(monkeypatch), engine.read_bytes(), Bundle.read

        def read_and_change(bundle: Bundle, artifact: Artifact) -> bytes:
            checked = read(bundle, artifact)
            engine.write_bytes(checked[:-1] + b"x")
            return checked

        monkeypatch.setattr(Bundle, "read", read_and_change)
        assert main(["inspect", str(engine)]) == 0
        assert engine.read_bytes() != content
        assert [call[0] for call in loaded] == [content]

    @pytest.mark.parametrize(
        ("options", "keywords", "text"),
        [
            ({}, {"trust_host_code": False, "dla_core": None}, "which alone can load it runs on"),
            (
                {"versionCompatible": True},
                {"trust_host_code": True, "dla_core": None},
                "which can load it, and so can newer ones up to the next major version",
            ),
            (
                {"versionCompatible": True, "excludeLeanRuntime": True},
                {"trust_host_code": False, "dla_core": None},
                "which can load it, and so can newer ones",
            ),
            ({"useDLACore": 0}, {"trust_host_code": False, "dla_core": 0}, "which alone can load it runs on"),
        ],
    )
    def test_how_it_was_built_is_taken_into_account(
        self,
        engine: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        options: dict[str, Any],
        keywords: dict[str, Any],
        text: str,
    ) -> None:
        manifest = Bundle.open(engine.parent).manifest
        entry = dataclasses.replace(manifest.artifacts[-1], options=options)
        changed = dataclasses.replace(manifest, artifacts=(*manifest.artifacts[:-1], entry))
        (engine.parent / "manifest.json").write_text(changed.to_json())
        loaded = self.loading(monkeypatch)
        assert main(["inspect", str(engine)]) == 0
        assert [call[1] for call in loaded] == [keywords]
        assert text in " ".join(capsys.readouterr().out.split())

    def test_a_stranger_that_shall_be_loaded(
        self,
        engine: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Nobody knows how it was built, and who says --load has been told that it is code."""
        loaded = self.loading(monkeypatch)
        copy = Path(shutil.copy(engine, tmp_path / "copy.engine"))
        assert main(["inspect", str(copy), "--load"]) == 0
        assert loaded == [(copy.read_bytes(), {"trust_host_code": True, "dla_core": None})]
        assert "which alone can load it runs on" in " ".join(capsys.readouterr().out.split())

    def test_the_header_of_the_regular_tensorrt_does_not_tell_who_can_load_it(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "some.engine"
        file.write_bytes(b"ftrt" + bytes(20) + bytes((10, 3, 0, 26)) + bytes(100))
        assert main(["inspect", str(file)]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "TensorRT 10.3.0.26, which alone can load it, unless it was built with --versionComp" in out

    def loading(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, dict[str, Any]]]:
        """What is loaded from now on, and how."""
        loaded: list[tuple[bytes, dict[str, Any]]] = []
        facts = describe(LIBRARY, FakeEngine(LAYERS))

        def examine(content: bytes, _: str, **keywords: Any) -> EngineFacts:
            loaded.append((content, keywords))
            return facts

        monkeypatch.setattr("pixelrt.cli.inspect_engine.examine_engine", examine)
        return loaded


class TestWorker:
    """What the child process lets TensorRT load, here in this one."""

    @pytest.fixture
    def machine(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
        machine = Machine(FakeCuda())
        facts = describe(LIBRARY, FakeEngine(LAYERS))
        monkeypatch.setattr(worker, "load_library", lambda _: fake_library(machine))
        monkeypatch.setattr(worker, "local_gpu", lambda: LocalGpu("RTX 3090", "sm86"))
        monkeypatch.setattr(worker, "describe", lambda *_, **__: facts)
        with machine.cuda.current():  # the child has its first GPU's without asking
            yield machine

    def request(self, **changes: Any) -> Request:
        options = BuildOptions(flavour="tensorrt", targets=(LOCAL,), **changes)
        return dataclasses.replace(options.request("build", {}), action="inspect")

    @pytest.mark.parametrize("core", [None, 1])
    @pytest.mark.parametrize("compatible", [False, True])
    def test_an_engine_to_inspect(
        self, machine: Machine, tmp_path: Path, core: int | None, compatible: bool
    ) -> None:
        (tmp_path / MODEL).write_bytes(engine_file())
        request = self.request(dla_core=core, version_compatible=compatible)
        speaker: Any = SimpleNamespace(report=lambda *_: None)
        assert worker._answer(request, tmp_path, speaker).facts is not None
        assert machine.host_code_allowed == [compatible]
        assert machine.dla_core == (-1 if core is None else core)

    @pytest.mark.parametrize("core", [None, 1])
    def test_an_engine_that_was_just_built(self, machine: Machine, core: int | None) -> None:
        request = self.request(dla_core=core)
        facts, silence = worker._examined(fake_library(machine), memoryview(engine_file()), request)
        assert facts is not None and silence == ""
        assert machine.host_code_allowed == [True]
        assert machine.dla_core == (-1 if core is None else core)

    def test_what_is_asked_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[Request] = []

        def run(request: Request, *_: Any) -> tuple[Outcome, bytes]:
            asked.append(request)
            return Outcome(version="10.3.0", facts=describe(LIBRARY, FakeEngine(LAYERS))), b""

        monkeypatch.setattr(process, "run", run)
        examine_engine(b"", "tensorrt")
        examine_engine(b"", "tensorrt", trust_host_code=True, dla_core=1)
        found = [(request.options.version_compatible, request.options.dla_core) for request in asked]
        assert found == [(False, None), (True, 1)]


class FakeRefit:
    """TensorRT's two classes that refit, and the engine: what goes wrong is a field."""

    def __init__(self, *, refittable: bool = True, missing: tuple[str, ...] = (), taken: bool = True) -> None:
        self.refittable = refittable
        self.missing = missing
        self.taken = taken
        self.num_errors = 0
        self.content = b""
        self.refitted = False

    def refit_from_bytes(self, content: bytes) -> bool:
        self.content = content
        return content != b"no ONNX"

    def get_missing_weights(self) -> list[str]:
        return list(self.missing)

    def refit_cuda_engine(self) -> bool:
        self.refitted = self.taken
        return self.taken


class TestRefit:
    """The order of calls and every refusal, with fakes: a refittable engine needs a GPU to be built."""

    def refit(self, fake: FakeRefit, content: bytes = b"onnx") -> None:
        module = SimpleNamespace(Refitter=lambda *_: fake, OnnxParserRefitter=lambda *_: fake)
        refit(Library("tensorrt", module, "10.3.0", None), fake, content)

    def test_weights_arrive(self) -> None:
        fake = FakeRefit()
        self.refit(fake)
        assert (fake.content, fake.refitted) == (b"onnx", True)

    @pytest.mark.parametrize(
        ("fake", "content", "message"),
        [
            (FakeRefit(refittable=False), b"onnx", "has its weights and takes no others; .*--stripWeights"),
            (FakeRefit(), b"no ONNX", "cannot take the weights of the ONNX:\n  it gave no reason"),
            (FakeRefit(missing=("w1", "w2")), b"onnx", r"lacks 2 weights of the engine \(w1, w2\): give"),
            (FakeRefit(taken=False), b"onnx", "refused to put the weights into the engine"),
        ],
    )
    def test_refusals(self, fake: FakeRefit, content: bytes, message: str) -> None:
        with pytest.raises(BuildError, match=message):
            self.refit(fake, content)
        assert not fake.refitted

    def test_a_tensorrt_without_it(self) -> None:
        library = Library("tensorrt", SimpleNamespace(), "10.3.0", None)
        with pytest.raises(BuildError, match="cannot refit from ONNX: it has no OnnxParserRefitter"):
            refit(library, FakeRefit(), b"onnx")
