"""Options of a build: what TensorRT-RTX really does with them, and what is refused before it starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorrt_rtx as trt
from onnx import helper

from pixelrt.bundle import Bundle
from pixelrt.cli import main
from pixelrt.errors import BuildError, InputError
from pixelrt.trt import BuildOptions, ShapeRange, build_bundle, build_engine, process, profile_of
from pixelrt.trt.builder import build_plan, configure, fix_shapes
from pixelrt.trt.library import Library, load_library
from pixelrt.trt.network import Parsed, parse
from pixelrt.trt.options import EngineOptions
from pixelrt.trt.settings import apply_options

MakeBundle = Callable[..., Bundle]
SM86 = BuildOptions(flavour="tensorrt_rtx", targets=("sm86",))
LEAST = EngineOptions(profiling_verbosity="layer_names_only")
HAS_GPU = Path("/dev/nvidiactl").exists()


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Bundle:
    return make_bundle(emit=("mask", "confidence"), precision="fp16")


@pytest.fixture
def parsed(bundle: Bundle) -> Parsed:
    parsed, problems = parse(load_library("tensorrt_rtx"), bundle.read(bundle.model))
    assert problems == ()
    return parsed


def build(parsed: Parsed, bundle: Bundle, **changes: Any) -> bytes:
    """An engine built in this process, past every check of options."""
    library = load_library("tensorrt_rtx")
    options = dataclasses.replace(SM86, **changes)
    request = options.request("build", profile_of(bundle.manifest))
    return bytes(build_plan(library, parsed, configure(library, parsed, request), request, lambda *_: None))


class TestTensorRTRTX:
    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"max_aux_streams": 0}, {"maxAuxStreams": 0}),
            ({"tf32": False}, {"noTF32": True}),
            ({"profiling_verbosity": "none"}, {"profilingVerbosity": "none"}),
            ({"workspace_mib": 512}, {"workspace_mib": 512}),
        ],
    )
    def test_what_it_has(self, bundle: Bundle, changes: dict[str, Any], told: dict[str, Any]) -> None:
        built = build_bundle(bundle, dataclasses.replace(SM86, **changes))
        engine = built.manifest.artifacts[-1]
        expected = {"profilingVerbosity": "detailed", **told}
        assert {name: value for name, value in engine.options.items() if "Shapes" not in name} == expected

    @pytest.mark.parametrize("changes", [{"tf32": False}, {"profiling_verbosity": "none"}])
    def test_what_it_has_changes_the_engine(
        self, parsed: Parsed, bundle: Bundle, changes: dict[str, Any]
    ) -> None:
        """TensorRT-RTX builds one of very few variants of an engine each time."""
        usual = {build(parsed, bundle) for _ in range(5)}
        assert build(parsed, bundle, **changes) not in usual

    @pytest.mark.parametrize("changes", [{"builder_optimization_level": 5}, {"avg_timing_iterations": 8}])
    def test_what_has_no_effect(self, parsed: Parsed, bundle: Bundle, changes: dict[str, Any]) -> None:
        """If this fails, TensorRT-RTX has learnt something, and the list in `options` is out of date."""
        usual = {build(parsed, bundle, builder_optimization_level=0) for _ in range(5)}
        assert any(build(parsed, bundle, **changes) in usual for _ in range(20))

    def test_it_has_no_lean_runtime(self, parsed: Parsed, bundle: Bundle) -> None:
        with pytest.raises(BuildError, match="Unable to load library: libnvinfer_lean"):
            build(parsed, bundle, version_compatible=True)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"builder_optimization_level": 0},
                "TensorRT-RTX has no --builderOptimizationLevel: it takes any",
            ),
            ({"avg_timing_iterations": 8}, "TensorRT-RTX has no --avgTiming: it times nothing"),
            ({"version_compatible": True}, "TensorRT-RTX has no --versionCompatible: it has no lean runtime"),
        ],
    )
    def test_refused_before_a_process_is_started(
        self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
    ) -> None:
        monkeypatch.setattr(process, "run", None)
        with pytest.raises(BuildError, match=message):
            build_bundle(bundle, dataclasses.replace(SM86, **changes))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"hardware_compatibility": "ampere+"},
                r" does not take --hardwareCompatibilityLevel=ampere\+, it makes NONE of it: .*unsupported",
            ),
            (
                {"dla_core": 0},
                "^TensorRT-RTX .* finds no deep learning accelerator here, .*--useDLACore=0; J",
            ),
            (
                {"timing_cache": "x.cache"},
                "^TensorRT-RTX .* has no --timingCacheFile: its timing cache is without effect.*out$",
            ),
            ({"timing_cache": "/nowhere/x.cache"}, "there is no folder /nowhere; make it first"),
        ],
    )
    def test_refused_by_itself(
        self,
        bundle: Bundle,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        changes: dict[str, Any],
        message: str,
    ) -> None:
        caplog.set_level("DEBUG", "pixelrt.trt")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(BuildError, match=message) as caught:
            build_bundle(bundle, dataclasses.replace(SM86, targets=("sm86", "sm89"), **changes))
        assert str(caught.value).count("\n") == 0, "what holds for every target is said once"
        assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
        assert [entry.kind for entry in Bundle.open(bundle.path).manifest.artifacts] == ["onnx"]
        assert list(tmp_path.glob("*.cache")) == []

    @pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
    @pytest.mark.parametrize("changes", [{"strip_weights": True}, {"refit": True}])
    def test_refitting_needs_a_gpu(self, make_model: Callable[..., bytes], changes: dict[str, Any]) -> None:
        weights = np.random.default_rng(0).normal(size=(8, 4, 3, 3)).astype(np.float32)
        content = make_model(
            helper.make_node("Conv", ["x", "w"], ["y"], name="c", pads=[1] * 4), constants={"w": weights}
        )
        with pytest.raises(BuildError, match="this build needs a GPU: an engine that is stripped"):
            build_engine(content, {}, dataclasses.replace(SM86, **changes))

    def test_layers_are_those_of_the_onnx_where_the_engine_cannot_be_asked(self, bundle: Bundle) -> None:
        engine = build_engine(bundle.read(bundle.model), profile_of(bundle.manifest), SM86)
        built = build_bundle(bundle, SM86).manifest.artifacts[-1]
        if engine.facts is None:
            assert engine.silence
            assert (engine.artifact.layers, engine.artifact.layers_from) == ({}, "")
            assert (built.layers, built.layers_from) == (bundle.manifest.precision.layers, "onnx")
        else:
            assert (built.layers, built.layers_from) == (engine.facts.layers, "engine")


class TestFixedShapes:
    """What an accelerator needs, with TensorRT-RTX's own network."""

    def test_every_layer_gets_one(self, parsed: Parsed) -> None:
        shape = (1, 720, 1280, 3)
        before = [tuple(parsed.network.get_output(index).shape) for index in range(2)]
        profile = {"frame": ShapeRange(min=shape, opt=shape, max=shape)}
        fix_shapes(load_library("tensorrt_rtx"), parsed.network, profile)
        after = [tuple(parsed.network.get_output(index).shape) for index in range(2)]
        assert before == [(-1, 32, 48), (-1, 32, 48)]
        assert after == [(1, 32, 48), (1, 32, 48)]
        assert tuple(parsed.network.get_input(0).shape) == shape

    def test_ranges_are_refused(self, parsed: Parsed, bundle: Bundle) -> None:
        profile = profile_of(bundle.manifest)
        with pytest.raises(
            BuildError, match="one size, the input 'frame' has 1x16x16x3 to 4x2160x3840x3: give"
        ):
            fix_shapes(load_library("tensorrt_rtx"), parsed.network, profile)


class TestValues:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"builder_optimization_level": -1},
                "--builderOptimizationLevel=-1: a whole number of at least 0",
            ),
            ({"avg_timing_iterations": 0}, "--avgTiming=0: a whole number of at least 1"),
            ({"max_aux_streams": -1}, "--maxAuxStreams=-1"),
            ({"dla_core": -1}, "--useDLACore=-1"),
            ({"hardware_compatibility": "ampere"}, "=ampere: one of none, ampere"),
            ({"profiling_verbosity": "verbose"}, "one of detailed, layer_names_only, none"),
            ({"gpu_fallback": True}, "--allowGPUFallback means nothing without --useDLACore"),
            (
                {"exclude_lean_runtime": True},
                "--excludeLeanRuntime means nothing without --versionCompatible",
            ),
        ],
    )
    def test_that_make_no_sense(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            dataclasses.replace(SM86, **changes)

    def test_zero_is_a_value(self) -> None:
        options = EngineOptions(
            dla_core=0, gpu_fallback=True, max_aux_streams=0, builder_optimization_level=0
        )
        assert options.told == {
            "useDLACore": 0,
            "allowGPUFallback": True,
            "maxAuxStreams": 0,
            "builderOptimizationLevel": 0,
            "profilingVerbosity": "detailed",
        }

    def test_the_file_is_found_from_the_folder_of_the_caller(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        request = dataclasses.replace(SM86, timing_cache="x.cache").request("build", {})
        assert request.timing_cache == str(tmp_path / "x.cache")


class TestFlags:
    def test_all_of_them(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        words = (
            "--timingCacheFile t.cache --builderOptimizationLevel 4 --avgTiming 2 --maxAuxStreams 0 --noTF32 "
        )
        words += "--useDLACore 1 --allowGPUFallback --hardwareCompatibilityLevel sameComputeCapability "
        words += "--versionCompatible --excludeLeanRuntime --stripWeights --refit --profilingVerbosity none"
        seen: list[BuildOptions] = []
        monkeypatch.setattr("pixelrt.cli.build.build_bundle", lambda _, options, **__: seen.append(options))
        assert (
            main(["build", str(bundle.path), "--target=local", "--memPoolSize=workspace:1", *words.split()])
            == 0
        )
        assert seen == [
            BuildOptions(
                flavour="tensorrt",
                targets=("local",),
                workspace_mib=1,
                builder_optimization_level=4,
                avg_timing_iterations=2,
                max_aux_streams=0,
                tf32=False,
                hardware_compatibility="sameComputeCapability",
                version_compatible=True,
                exclude_lean_runtime=True,
                dla_core=1,
                gpu_fallback=True,
                strip_weights=True,
                refit=True,
                profiling_verbosity="none",
                timing_cache="t.cache",
            )
        ]

    def test_defaults_are_those_of_the_options(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[BuildOptions] = []
        monkeypatch.setattr("pixelrt.cli.build.build_bundle", lambda _, options, **__: seen.append(options))
        assert main(["build", str(bundle.path), "--target=sm86"]) == 0
        assert main(["build", str(bundle.path), "--target=sm86", "--noTimingCache"]) == 0
        assert seen == [SM86, dataclasses.replace(SM86, timing_cache=False)]

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            ("--builderOptimizationLevel x", 2, "--builderOptimizationLevel: 'x': expected a whole number"),
            ("--avgTiming=-1", 2, "--avgTiming: '-1': expected a whole number, 0 or more"),
            ("--avgTiming=0", 1, "--avgTiming=0: a whole number of at least 1 was expected"),
            (
                "--hardwareCompatibilityLevel=ampere",
                2,
                "(did you mean 'ampere+'?); choose from none, ampere+",
            ),
            ("--profilingVerbosity=all", 2, "choose from detailed, layer_names_only, none"),
            ("--noTimingCache --timingCacheFile=x", 2, "not allowed with argument --noTimingCache"),
            ("--allowGPUFallback", 1, "means nothing without --useDLACore"),
            ("--useDLACores=0", 2, "unknown option --useDLACores (did you mean '--useDLACore'?)"),
            ("--fp16", 2, "unknown option --fp16"),
        ],
    )
    def test_wrong_ones(
        self, bundle: Bundle, capsys: pytest.CaptureFixture[str], words: str, code: int, message: str
    ) -> None:
        assert main(["build", str(bundle.path), "--target", "sm86", *words.split()]) == code
        assert message in capsys.readouterr().err


class OldConfig:
    """A configuration of a TensorRT that lacks most things, and keeps what it has."""

    profiling_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY

    def __init__(self) -> None:
        self.flags: set[object] = set()

    def set_flag(self, flag: object) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: object) -> None:
        self.flags.discard(flag)

    def get_flag(self, flag: object) -> bool:
        return flag in self.flags


class OrinConfig(OldConfig):
    """The configuration of a TensorRT with accelerators, which run everything but what is called `resize`."""

    default_device_type = trt.DeviceType.GPU
    DLA_core = -1

    def can_run_on_DLA(self, layer: Any) -> bool:  # noqa: N802 - TensorRT's name
        return "resize" not in layer.name


class Orin:
    """The builder, and a network of three layers."""

    num_DLA_cores = 2  # noqa: N815 - TensorRT's name
    num_layers = 3

    def get_layer(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(name=("conv", "resize", "argmax")[index])


class TestOtherTensorRTs:
    """Versions that cannot be installed here, as fakes of the few calls that matter."""

    def library(self, **members: Any) -> Library:
        module = SimpleNamespace(
            BuilderFlag=SimpleNamespace(**members),
            ProfilingVerbosity=trt.ProfilingVerbosity,
            DeviceType=trt.DeviceType,
            HardwareCompatibilityLevel=SimpleNamespace(AMPERE_PLUS="AMPERE_PLUS"),
        )
        return Library("tensorrt", module, "10.3.0", None)

    def apply(self, config: Any, options: EngineOptions, **members: Any) -> None:
        parsed = Parsed(Orin(), Orin(), None)
        apply_options(self.library(**members), parsed, config, options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                dataclasses.replace(LEAST, builder_optimization_level=3),
                "TensorRT 10.3.0 has no --builderOptimizationLevel=3: its configuration has no builder_opt",
            ),
            (dataclasses.replace(LEAST, max_aux_streams=1), "has no --maxAuxStreams=1"),
            (
                dataclasses.replace(LEAST, version_compatible=True),
                "has no --versionCompatible: .* no VERSION_C",
            ),
            (dataclasses.replace(LEAST, strip_weights=True), "has no --stripWeights: .* no REFIT_IDENTICAL"),
            (
                dataclasses.replace(LEAST, hardware_compatibility="sameComputeCapability"),
                "has no --hardwareCompatibilityLevel=sameComputeCapability: its .* has no SAME_COMPUTE",
            ),
            (dataclasses.replace(LEAST, tf32=False), "has no --noTF32: its BuilderFlag has no TF32"),
        ],
    )
    def test_what_one_lacks(self, options: EngineOptions, message: str) -> None:
        with pytest.raises(BuildError, match=message):
            self.apply(OldConfig(), options, STRIP_PLAN="STRIP_PLAN")

    def test_stripped_engines_take_the_same_weights_unless_others_are_asked_for(self) -> None:
        members = {name: name for name in ("STRIP_PLAN", "REFIT_IDENTICAL", "REFIT")}
        for refit, expected in ((False, {"STRIP_PLAN", "REFIT_IDENTICAL"}), (True, {"STRIP_PLAN", "REFIT"})):
            config = OrinConfig()
            self.apply(config, dataclasses.replace(LEAST, strip_weights=True, refit=refit), **members)
            assert config.flags == expected

    def test_an_accelerator(self) -> None:
        config = OrinConfig()
        options = dataclasses.replace(LEAST, dla_core=1, gpu_fallback=True)
        self.apply(config, options, GPU_FALLBACK="GPU_FALLBACK")
        assert (config.default_device_type, config.DLA_core) == (trt.DeviceType.DLA, 1)
        assert config.flags == {"GPU_FALLBACK"}

    def test_layers_that_it_lacks_are_named_before_anything_is_built(self) -> None:
        with pytest.raises(BuildError, match=r"1 layers cannot run on .*--allowGPUFallback .*:\n  resize$"):
            self.apply(OrinConfig(), dataclasses.replace(LEAST, dla_core=0))

    def test_a_core_that_it_has_not(self) -> None:
        class Stubborn(OrinConfig):
            DLA_core = property(lambda _: -1, lambda _, __: None)  # type: ignore[assignment]

        with pytest.raises(BuildError, match=r"--useDLACore=7 \(it has 2 cores\), it makes -1 of it"):
            self.apply(Stubborn(), dataclasses.replace(LEAST, dla_core=7))
