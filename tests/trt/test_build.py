"""Real engines, built by TensorRT-RTX without a GPU."""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tensorrt_rtx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pixelrt.bundle import Bundle
from pixelrt.errors import BuildError, BundleError, DeviceError, InputError, MissingDependency
from pixelrt.manifest import Tensor
from pixelrt.trt import (
    LOCAL,
    RTX_TARGETS,
    BuildOptions,
    BuiltEngine,
    Profile,
    ShapeRange,
    build_bundle,
    build_engine,
    choose_flavour,
    dry_run,
    inspect_engine,
    process,
    profile_of,
)
from pixelrt.trt.builder import _set_targets, build_plan, configure
from pixelrt.trt.gpu import local_gpu
from pixelrt.trt.library import explain, load_library
from pixelrt.trt.network import parse
from pixelrt.trt.protocol import Request

MakeBundle = Callable[..., Bundle]
MakeModel = Callable[..., bytes]
VERSION = str(tensorrt_rtx.__version__)
SM86 = BuildOptions(flavour="tensorrt_rtx", targets=("sm86",))
FIXED = (1, 4, 32, 48)
HAS_GPU = Path("/dev/nvidiactl").exists()
NO_PLUGIN = "unknown, and there is no plugin of that name"


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Bundle:
    return make_bundle(emit=("mask", "confidence"), precision="fp16")


def weights(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


class TestBundle:
    def test_an_engine_for_every_target(self, bundle: Bundle) -> None:
        built = build_bundle(bundle, dataclasses.replace(SM86, targets=RTX_TARGETS))
        engines = [artifact for artifact in built.manifest.artifacts if artifact.kind == "engine"]
        assert [engine.targets for engine in engines] == [(target,) for target in RTX_TARGETS]
        for engine in engines:
            assert engine.file == f"tensorrt_rtx-{VERSION}-{engine.targets[0]}.engine"
            content = built.read(engine)
            header = inspect_engine(built.path / engine.file)
            assert header.flavour == engine.flavour == "tensorrt_rtx"
            assert header.version == engine.version == VERSION
            assert header.targets == engine.targets
            assert header.size_bytes == engine.size_bytes == len(content)
            assert 0 < engine.build_seconds < 60
            assert engine.options == {
                "minShapes": "frame:1x16x16x3",
                "optShapes": "frame:1x720x1280x3",
                "maxShapes": "frame:4x2160x3840x3",
                "profilingVerbosity": "detailed",
            }
        assert Bundle.open(bundle.path).manifest == built.manifest

    def test_the_library_builds_for_exactly_these_targets(self) -> None:
        names = {name.lower() for name in tensorrt_rtx.ComputeCapability.__members__}
        assert names - {"none", "current"} == set(RTX_TARGETS)

    def test_one_engine_for_several_targets(self, bundle: Bundle) -> None:
        options = dataclasses.replace(SM86, targets=("sm75", "sm86", "sm120"), workspace_mib=512)
        built = build_bundle(bundle, options, together=True)
        engine = built.manifest.artifacts[-1]
        assert engine.file == f"tensorrt_rtx-{VERSION}-sm75-sm86-sm120.engine"
        assert engine.options["workspace_mib"] == 512
        assert inspect_engine(built.path / engine.file).targets == engine.targets == options.targets

    def test_building_again_replaces(self, bundle: Bundle) -> None:
        first = build_bundle(bundle, SM86)
        again = build_bundle(first, SM86)
        assert [artifact.file for artifact in again.manifest.artifacts] == [
            artifact.file for artifact in first.manifest.artifacts
        ]
        again.read(again.manifest.artifacts[-1])

    def test_a_truncated_engine_is_noticed(self, bundle: Bundle) -> None:
        built = build_bundle(bundle, SM86)
        engine = built.manifest.artifacts[-1]
        file = built.path / engine.file
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(BundleError, match="it was cut short or changed"):
            built.read(engine)

    def test_one_target_that_fails_does_not_stop_the_others(
        self, bundle: Bundle, make_model: MakeModel, replace_model: Callable[[Bundle, bytes], Bundle]
    ) -> None:
        node = helper.make_node("MatMul", ["x", "w"], ["y"], name="average")
        bundle = replace_model(bundle, make_model(node, constants={"w": weights(48, 5)}))
        options = dataclasses.replace(SM86, targets=("sm75", "sm86"))
        with pytest.raises(BuildError, match=r"1 of 2 engines could not be built; the other 1 ") as caught:
            build_bundle(bundle, options)
        assert "\nsm75: " in str(caught.value)
        assert "'average' for Turing" in str(caught.value)
        assert "Turing (sm75) has no FP32 matrix multiplication" in str(caught.value)
        assert "cudaError" not in str(caught.value)
        found = [artifact.targets for artifact in Bundle.open(bundle.path).manifest.artifacts]
        assert found == [(), ("sm86",)]

    def test_an_onnx_that_is_not_what_the_manifest_says(self, bundle: Bundle) -> None:
        mask, confidence = bundle.manifest.outputs
        wrong = (
            dataclasses.replace(mask, dtype="float32"),
            dataclasses.replace(confidence, name="certainty"),
        )
        other = Bundle(bundle.path, dataclasses.replace(bundle.manifest, outputs=wrong))
        with pytest.raises(BuildError, match=r"not those of .*no 'certainty'; an unexpected 'confidence'"):
            build_bundle(other, SM86)
        assert [artifact.kind for artifact in Bundle.open(bundle.path).manifest.artifacts] == ["onnx"]

    def test_changed_onnx(self, bundle: Bundle) -> None:
        file = bundle.path / bundle.model.file
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        with pytest.raises(BundleError, match="SHA-256"):
            build_bundle(bundle, SM86)


class TestBytes:
    def test_the_file_holds_what_the_builder_returned(self, bundle: Bundle) -> None:
        library = load_library("tensorrt_rtx")
        profile = profile_of(bundle.manifest)
        parsed, problems = parse(library, bundle.read(bundle.model))
        assert problems == ()
        request = SM86.request("build", profile)
        plan = build_plan(library, parsed, configure(library, parsed, request), request, lambda *_: None)
        engine = build_engine(bundle.read(bundle.model), profile, SM86)
        assert len(engine.content) == plan.nbytes
        # two builds differ in a few bytes, so what arrived is compared with the sum taken in the child
        built = bundle.add_engine(engine.content, engine.artifact)
        written = (built.path / engine.file_name).read_bytes()
        assert written == engine.content
        assert written[:4] == bytes(plan)[:4] == b"vtrt"

    def test_the_sum_is_taken_of_the_builders_memory(self, bundle: Bundle) -> None:
        request = SM86.request("build", profile_of(bundle.manifest))
        outcome, content = process.run(request, bundle.read(bundle.model), None)
        assert hashlib.sha256(content).hexdigest() == outcome.sha256
        assert outcome.size_bytes == len(content)

    def test_tensorrt_knows_its_own_file(self, bundle: Bundle) -> None:
        engine = build_engine(bundle.read(bundle.model), profile_of(bundle.manifest), SM86)
        runtime = tensorrt_rtx.Runtime(load_library("tensorrt_rtx").logger)
        malformed = int(tensorrt_rtx.EngineInvalidityDiagnostics.MALFORMED_ENGINE)
        header = engine.content[: runtime.engine_header_size]
        assert not runtime.get_engine_validity(header)[1] & malformed
        assert runtime.get_engine_validity(b"x" * len(header))[1] & malformed


class TestShapes:
    def test_dynamic_axes_need_a_profile(self, bundle: Bundle) -> None:
        with pytest.raises(BuildError, match="a dynamic axis has no range"):
            build_engine(bundle.read(bundle.model), {}, SM86)

    def test_a_network_without_dynamic_axes_needs_none(self, make_model: MakeModel) -> None:
        engine = build_engine(make_model(helper.make_node("Relu", ["x"], ["y"], name="relu")), {}, SM86)
        assert engine.inputs == (Tensor(name="x", dtype="float32", shape=FIXED),)
        assert engine.outputs == (Tensor(name="y", dtype="float32", shape=FIXED),)
        assert engine.options == {
            "minShapes": "",
            "optShapes": "",
            "maxShapes": "",
            "profilingVerbosity": "detailed",
        }

    def test_a_profile_that_does_not_fit_the_network(self, make_model: MakeModel) -> None:
        shapes = ShapeRange(min=(1, 4, 32, 48), opt=(1, 4, 32, 48), max=(1, 4, 64, 96))
        with pytest.raises(BuildError, match=r"(?i)profile"):
            build_engine(make_model(helper.make_node("Relu", ["x"], ["y"], name="relu")), {"x": shapes}, SM86)

    def test_changed_shapes_are_in_the_manifest(self, bundle: Bundle) -> None:
        profile = profile_of(bundle.manifest, {"max": {"frame": (1, 1080, 1920, 3)}})
        engine = build_bundle(bundle, SM86, profile=profile).manifest.artifacts[-1]
        assert engine.options["maxShapes"] == "frame:1x1080x1920x3"
        assert engine.options["minShapes"] == "frame:1x16x16x3"

    def test_names_of_axes(self, bundle: Bundle) -> None:
        engine = build_engine(bundle.read(bundle.model), profile_of(bundle.manifest), SM86)
        assert engine.inputs == bundle.manifest.inputs


class TestRefusals:
    def build(self, content: bytes) -> str:
        with pytest.raises(BuildError) as caught:
            build_engine(content, {}, SM86)
        text = str(caught.value)
        assert VERSION in text
        assert "cudaError" not in text
        return text

    @pytest.mark.parametrize("content", [b"", b"hello world" * 9, b"<html></html>"])
    def test_no_onnx(self, content: bytes) -> None:
        assert "an ONNX file was expected" in self.build(content) or "no ONNX file" in self.build(content)

    def test_truncated_onnx(self, bundle: Bundle) -> None:
        content = bundle.read(bundle.model)
        assert "it is cut short, or no ONNX file" in self.build(content[: len(content) // 2])

    def test_every_unsupported_operator_is_named(self, make_model: MakeModel) -> None:
        text = self.build(
            make_model(
                helper.make_node("Relu", ["x"], ["a"], name="first"),
                helper.make_node("Wobble", ["a"], ["b"], name="second"),
                helper.make_node("Det", ["b"], ["c"], name="third"),
                helper.make_node("Wobble", ["c"], ["y"], name="fourth", domain="my.ops"),
            )
        )
        assert f"node 1 'second' (Wobble): the operator Wobble is {NO_PLUGIN}" in text
        assert "node 2 'third' (Det): the operator Det is not supported" in text
        assert "node 3 'fourth' (Wobble)" in text
        assert text.count("\n") == 3

    def test_many_problems_are_not_all_shown(self, make_model: MakeModel) -> None:
        nodes = [helper.make_node("Wobble", ["x"], [f"y{i}" if i else "y"], name=f"n{i}") for i in range(30)]
        assert self.build(make_model(*nodes)).endswith("and 10 more")

    def test_uint8_must_meet_a_cast_first(self, make_model: MakeModel) -> None:
        content = make_model(
            helper.make_node("Transpose", ["x"], ["t"], name="layout", perm=[0, 2, 3, 1]),
            helper.make_node("Cast", ["t"], ["y"], name="cast", to=TensorProto.FLOAT),
            types=(TensorProto.UINT8, TensorProto.FLOAT),
        )
        text = self.build(content)
        assert "node 0 'layout' (Transpose): " in text
        assert "has type UInt8" in text
        assert "/_src/" not in text

    def test_uint8_must_leave_through_a_cast(self, make_model: MakeModel) -> None:
        content = make_model(
            helper.make_node("Cast", ["x"], ["t"], name="cast", to=TensorProto.UINT8),
            helper.make_node("Squeeze", ["t"], ["y"], name="squeeze"),
            types=(TensorProto.FLOAT, TensorProto.UINT8),
        )
        assert "node 0 'cast' (Cast): " in (text := self.build(content))
        assert "UINT8 types for intermediate tensors" in text

    def test_types_are_strong(self, make_model: MakeModel) -> None:
        content = make_model(
            helper.make_node("Cast", ["x"], ["t"], name="cast", to=TensorProto.FLOAT16),
            helper.make_node("Sub", ["x", "t"], ["y"], name="difference"),
        )
        assert "node 1 'difference' (Sub): " in (text := self.build(content))
        assert "must have same input types" in text

    def test_workspace_that_is_too_small(self, make_model: MakeModel) -> None:
        content = make_model(
            helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1] * 4),
            shape=(1, 8, 64, 64),
            constants={"w": weights(8, 8, 3, 3)},
        )
        build_engine(content, {}, dataclasses.replace(SM86, workspace_mib=64))
        with pytest.raises(BuildError, match="raise the limit, --memPoolSize=workspace:N"):
            build_engine(content, {}, dataclasses.replace(SM86, workspace_mib=0.5))

    def test_errors_that_are_only_about_the_missing_driver_are_kept(self) -> None:
        junk = "Error Code 1: Cuda Runtime (cudaError 35: CUDA driver version is insufficient)"
        assert explain(["real", junk, "real"]) == "real"
        assert explain([junk]) == junk
        assert explain([]) == "it gave no reason"


class TestTargets:
    @pytest.mark.parametrize(
        ("target", "message"),
        [
            (
                "sm87",
                "sm75, sm80, sm86, sm89, sm120, sm121; sm87 is Jetson Orin: build there, with the regular",
            ),
            ("sm90", "sm90 is Hopper"),
            ("sm88", r"it builds for sm75, .* \(did you mean 'sm8"),
        ],
    )
    def test_unknown_to_the_library(self, bundle: Bundle, target: str, message: str) -> None:
        with pytest.raises(BuildError, match=message):
            build_bundle(bundle, dataclasses.replace(SM86, targets=(target,)))

    @pytest.mark.parametrize(
        ("flavour", "targets", "message"),
        [
            ("tensorrt_rtx", ("8.6",), "did you mean 'sm86'"),
            ("tensorrt_rtx", ("86",), "did you mean 'sm86'"),
            ("tensorrt_rtx", ("SM86",), "did you mean 'sm86'"),
            ("tensorrt_rtx", (), "one or more"),
            ("tensorrt_rtx", ("sm86", "sm86"), "each once"),
            ("tensorrt_rtx", ("local",), "name one of sm75"),
            ("tensorrt", ("sm86",), "builds for the GPU of the machine it runs on; use 'local' there"),
            ("tensorrt", ("local", "sm86"), "use 'local' there"),
            ("openvino", ("sm86",), "one of tensorrt, tensorrt_rtx"),
        ],
    )
    def test_refused_at_once(self, flavour: str, targets: tuple[str, ...], message: str) -> None:
        with pytest.raises(InputError, match=message):
            BuildOptions(flavour=flavour, targets=targets)  # type: ignore[arg-type]

    @pytest.mark.parametrize("limit", [0, -1, float("inf"), float("nan")])
    def test_workspaces_that_make_no_sense(self, limit: float) -> None:
        with pytest.raises(InputError, match="above 0"):
            dataclasses.replace(SM86, workspace_mib=limit)

    def test_the_flavour_follows_from_targets_or_what_is_installed(self) -> None:
        assert choose_flavour(("sm86",), ()) == "tensorrt_rtx"
        assert choose_flavour(("local",), ()) == "tensorrt"
        assert choose_flavour((), ("tensorrt",)) == "tensorrt"
        with pytest.raises(InputError, match="--flavour tensorrt or --flavour tensorrt_rtx"):
            choose_flavour((), ("tensorrt", "tensorrt_rtx"))
        with pytest.raises(
            MissingDependency, match=r"pixelrt\[rtx\].*pixelrt\[tensorrt\].*python3-libnvinfer"
        ):
            choose_flavour((), ())

    @pytest.mark.skipif(
        importlib.util.find_spec("tensorrt") is not None, reason="the regular TensorRT is here"
    )
    def test_without_the_regular_tensorrt(self, bundle: Bundle) -> None:
        with pytest.raises(MissingDependency, match=r"pip install 'pixelrt\[tensorrt\]'"):
            build_bundle(bundle, BuildOptions(flavour="tensorrt", targets=("local",)))

    def test_the_gpu_of_this_machine(self) -> None:
        try:
            ctypes.CDLL("libcuda.so.1")
        except OSError:
            with pytest.raises(DeviceError, match=r"no NVIDIA driver here .*--gpus all .*or build on the"):
                local_gpu()
        else:
            assert local_gpu().target.startswith("sm")

    def test_what_the_driver_tells(self, small_driver: Path) -> None:
        """One door to the driver: the same refusals as where a GPU is opened."""
        program = (
            "from pixelrt.errors import DeviceError\n"
            "from pixelrt.trt.gpu import local_gpu\n"
            "print(local_gpu())\n"
            "try:\n"
            "    local_gpu(1)\n"
            "except DeviceError as problem:\n"
            "    print(problem)\n"
        )
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "LD_LIBRARY_PATH": str(small_driver)},
        )
        told, refused = done.stdout.splitlines()
        assert told == "LocalGpu(name='Orin', target='sm87', multiprocessors=8)"
        assert refused.startswith("no GPU with index 1: there is one, index 0; see: nvidia-smi")


def test_targets_that_tensorrt_does_not_take_are_not_passed_over(bundle: Bundle) -> None:
    class OnlyOne:
        """A configuration that holds a single target, whatever it is told."""

        def __setattr__(self, name: str, value: object) -> None: ...

        def __getattr__(self, name: str) -> int:
            assert name == "num_compute_capabilities"
            return 1

        def set_compute_capability(self, capability: object, index: int) -> bool:
            return True

    options = dataclasses.replace(SM86, targets=("sm86", "sm89"))
    request = options.request("build", profile_of(bundle.manifest))
    with pytest.raises(BuildError, match=r"2 targets in one engine \(it says 1\)"):
        _set_targets(load_library("tensorrt_rtx"), OnlyOne(), request)


class TestLocal:
    """The way of the regular TensorRT, as far as TensorRT-RTX and a machine without a GPU can go it."""

    def test_no_target_is_set(self, bundle: Bundle, tmp_path: Path) -> None:
        library = load_library("tensorrt_rtx")
        parsed, _ = parse(library, bundle.read(bundle.model))
        request = SM86.request("build", profile_of(bundle.manifest))
        request = dataclasses.replace(request, targets=(LOCAL,))
        plan = build_plan(library, parsed, configure(library, parsed, request), request, lambda *_: None)
        (tmp_path / "x.engine").write_bytes(plan)
        portable = ("sm80", "sm86", "sm89", "sm120", "sm121", "newer than sm121")
        assert inspect_engine(tmp_path / "x.engine").targets == portable

    @pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
    def test_without_a_gpu(self, bundle: Bundle) -> None:
        request = SM86.request("build", profile_of(bundle.manifest))
        with pytest.raises(DeviceError, match="no NVIDIA driver here"):
            process.run(dataclasses.replace(request, targets=(LOCAL,)), bundle.read(bundle.model), None)

    @pytest.mark.skipif(HAS_GPU, reason="there is a GPU, and its driver is not for this one")
    def test_what_it_was_tuned_on_is_recorded(
        self, bundle: Bundle, small_driver: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LD_LIBRARY_PATH", str(small_driver))
        options = LocalOptions(flavour="tensorrt_rtx", targets=("sm86",), timing_cache=False)
        engine = build_engine(bundle.read(bundle.model), profile_of(bundle.manifest), options)
        assert engine.targets == ("sm87",)
        found = {name: engine.options.get(name) for name in ("gpu", "multiprocessors", "platform")}
        machine = os.uname().machine
        assert found == {"gpu": "Orin", "multiprocessors": 8, "platform": f"linux-{machine}"}

    def test_nothing_of_the_kind_with_named_targets(self, bundle: Bundle) -> None:
        engine = build_engine(bundle.read(bundle.model), profile_of(bundle.manifest), SM86)
        assert not {"gpu", "multiprocessors", "platform"} & engine.options.keys()


class LocalOptions(BuildOptions):
    """Lets TensorRT-RTX build as the regular TensorRT does."""

    def request(self, action: Literal["build", "parse"], profile: Profile) -> Request:
        return dataclasses.replace(BuildOptions.request(self, action, profile), targets=(LOCAL,))


class TestNames:
    """Engines that cannot take each other's place have names of their own."""

    @pytest.mark.parametrize(
        ("options", "name"),
        [
            ({}, "tensorrt-10.3.0-sm87.engine"),
            ({"useDLACore": 0, "allowGPUFallback": True}, "tensorrt-10.3.0-sm87-dla0.engine"),
            ({"useDLACore": 1}, "tensorrt-10.3.0-sm87-dla1.engine"),
            ({"stripWeights": True}, "tensorrt-10.3.0-sm87-stripped.engine"),
            ({"stripWeights": True, "useDLACore": 1}, "tensorrt-10.3.0-sm87-dla1-stripped.engine"),
        ],
    )
    def test_file(self, options: dict[str, str | int | float | bool], name: str) -> None:
        engine = BuiltEngine(
            content=b"",
            flavour="tensorrt",
            version="10.3.0",
            targets=("sm87",),
            seconds=1,
            options=options,
            inputs=(),
            outputs=(),
        )
        assert engine.file_name == engine.artifact.file == name


class TestReports:
    def test_progress(self, bundle: Bundle) -> None:
        steps: dict[str, list[int]] = {}
        ends: dict[str, int] = {}

        def progress(phase: str, step: int, num_steps: int) -> None:
            steps.setdefault(phase, []).append(step)
            ends[phase] = num_steps

        build_bundle(bundle, SM86, progress=progress)
        assert {"sm86: Loading TensorRT", "sm86: Parsing the ONNX", "sm86: Building engine"} <= set(steps)
        assert all(reached[0] == 0 and reached[-1] == ends[phase] for phase, reached in steps.items())

    def test_messages_go_to_logging(self, bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
        content, profile = bundle.read(bundle.model), profile_of(bundle.manifest)
        with caplog.at_level(logging.DEBUG, "pixelrt.trt"):
            build_engine(content, profile, SM86)
            assert caplog.records
            assert all(record.levelno >= logging.INFO for record in caplog.records)
            build_engine(content, profile, dataclasses.replace(SM86, verbose=True))
        assert any(record.levelno == logging.DEBUG for record in caplog.records)

    def test_engine_shows_no_bytes(self, bundle: Bundle) -> None:
        engine = build_engine(bundle.read(bundle.model), profile_of(bundle.manifest), SM86)
        assert repr(engine).startswith(f"BuiltEngine('tensorrt_rtx-{VERSION}-sm86.engine', ")
        assert len(repr(engine)) < 100


class TestDryRun:
    def test_what_goes_in_and_out(self, bundle: Bundle) -> None:
        found = dry_run(bundle, SM86)
        assert found.problems == found.unsupported == ()
        assert found.version == VERSION
        assert found.num_layers > 3
        assert found.inputs == bundle.manifest.inputs
        assert found.outputs == bundle.manifest.outputs
        assert found.profile["frame"].max == (4, 2160, 3840, 3)
        assert Bundle.open(bundle.path).manifest == bundle.manifest

    def test_what_is_refused(
        self, bundle: Bundle, make_model: MakeModel, replace_model: Callable[[Bundle, bytes], Bundle]
    ) -> None:
        nodes = [
            helper.make_node("Det", ["x"], ["a"], name="a"),
            helper.make_node("Wobble", ["a"], ["b"], name="b"),
            helper.make_node("Det", ["b"], ["y"], name="c"),
        ]
        found = dry_run(replace_model(bundle, make_model(*nodes)), SM86)
        assert [(problem.index, problem.operator) for problem in found.problems] == [
            (0, "Det"),
            (1, "Wobble"),
            (2, "Det"),
        ]
        assert found.unsupported == ("Det", "Wobble")

    def test_unlike_the_manifest(
        self, bundle: Bundle, make_model: MakeModel, replace_model: Callable[[Bundle, bytes], Bundle]
    ) -> None:
        content = make_model(helper.make_node("Relu", ["x"], ["y"], name="relu"))
        found = dry_run(replace_model(bundle, content), SM86)
        assert [str(problem) for problem in found.problems] == [
            "unlike the manifest: 'y' is float32[1, 4, 32, 48], float32[1, 4, 32, 5] was expected"
        ]
