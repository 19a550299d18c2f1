"""The gate: what it measures, what it refuses, and where it says that the difference begins."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper
from torch import nn

from pixelrt.backends import BACKENDS, OpenOptions, SessionInfo
from pixelrt.backends.gpu_session import GpuSession, Origin
from pixelrt.backends.onnxruntime_cuda import ONNXRuntimeExecutor, Provider
from pixelrt.errors import ExportError, GateFailed
from pixelrt.manifest import Emit, SegmentationGate, SegmentationManifest
from pixelrt.pipeline.options import GpuOptions
from pixelrt.segmentation import Latency, Segmentation
from pixelrt.testing import FakeCuda
from pixelrt_export.convert.segmentation import convert
from pixelrt_export.fuse import FuseSpec, HeadSpec, fuse
from pixelrt_export.gate.contenders import contenders
from pixelrt_export.gate.segmentation import Conversion, Sample, normalised, verify
from pixelrt_export.gate.segmentation_original import at_size_of, class_ids, upsampled
from pixelrt_export.graph import copy_of
from pixelrt_export.network import NetworkSpec, from_module
from pixelrt_export.precision import to_precision
from pixelrt_export.progress import Steps
from pixelrt_export.recipe import (
    GateSection,
    HeadSection,
    InputSection,
    ModelSection,
    PrecisionSection,
    SegmentationRecipe,
)
from pixelrt_export.rounding import round_explicitly

SIZE = (32, 48)
T = TypeVar("T")


def untracked(items: Sequence[T], description: str) -> Iterator[T]:
    return iter(items)


def pixels(seed: int, channels: int = 3, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def samples(count: int = 3, **labels: NDArray[np.uint8]) -> list[Sample]:
    return [Sample(name=f"{index}.png", pixels=pixels(index), labels=labels) for index in range(count)]


class Colors(nn.Module):
    """Three classes, by the strongest colour, at half the resolution; well apart."""

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.lift = nn.Conv2d(3, 3, 3, padding=1, stride=2)
        self.lower = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            torch.manual_seed(1)
            self.lift.weight.normal_(0, 0.6)
            self.lift.bias.fill_(offset)
            self.lower.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
            self.lower.bias.fill_(-offset)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        lowered: torch.Tensor = self.lower(self.lift(image))
        return lowered


def recipe(
    *, precision: str = "fp16", emit: tuple[Emit, ...] = ("mask",), **changes: Any
) -> SegmentationRecipe:
    whole = SegmentationRecipe(
        model=ModelSection(entry="tests:Colors"),
        input=InputSection(size=SIZE),
        head=(HeadSection(classes=("a", "b", "c"), emit=emit),),
        precision=PrecisionSection(type=precision),  # type: ignore[arg-type]
        gate=GateSection(images="somewhere"),
        name="colors",
        text="",
    )
    return dataclasses.replace(whole, **changes)


def conversion(net: nn.Module, given: list[Sample] | None = None, **changes: Any) -> Conversion:
    return convert(recipe(**changes), from_module(net), given or samples(), Steps(quiet=True))[0]


def gate(agreement: float = 0.99, miou_drop: float = 0.01) -> SegmentationGate:
    return SegmentationGate(
        skipped=False, agreement=agreement, miou_drop=miou_drop, images="somewhere", num_images=0
    )


@pytest.fixture(scope="module")
def colors() -> Conversion:
    return conversion(Colors())


class TestParts:
    @pytest.mark.parametrize("activation", ["softmax", "none"])
    def test_a_mask_is_the_argmax_even_of_negative_numbers(self, activation: str) -> None:
        values = np.array([[[-3, -1]], [[-2, -5]]], np.float32)
        head = HeadSpec(name="x", activation=activation)  # type: ignore[arg-type]
        np.testing.assert_array_equal(class_ids(values, head), [[1, 0]])

    @pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
    def test_one_channel_takes_the_threshold(self, threshold: float) -> None:
        probabilities = np.linspace(0.05, 0.95, 19, dtype=np.float32).reshape(1, 1, -1)
        logits = np.log(probabilities / (1 - probabilities))
        expected = (probabilities[0] > threshold - 1e-4).astype(np.uint8)
        for activation, values in (("none", probabilities + 1e-6), ("sigmoid", logits + 1e-5)):
            head = HeadSpec(name="x", activation=activation, threshold=threshold)  # type: ignore[arg-type]
            np.testing.assert_array_equal(class_ids(values, head), expected)

    def test_more_than_256_classes_have_wider_ids(self) -> None:
        values = np.zeros((300, 1, 1), np.float32)
        values[299] = 1
        assert class_ids(values, HeadSpec(name="x"))[0, 0] == 299

    def test_upsampling_is_that_of_the_graph(self, colors: Conversion) -> None:
        raw = colors.network.reference({"image": normalised(pixels(3), colors.spec)})["scene"]
        assert raw.shape[2:] == (16, 24)
        emit = dataclasses.replace(colors.spec.heads[0], emit=("logits",))
        fused, *_ = fuse(colors.plain, dataclasses.replace(colors.spec, heads=(emit,)))
        (found,) = run(fused, {"frame": pixels(3)[None]})
        np.testing.assert_allclose(upsampled(raw, SIZE), found[0], atol=1e-4)

    @pytest.mark.parametrize(("frame", "network"), [("rgb", "rgb"), ("bgr", "rgb"), ("rgb", "bgr")])
    @pytest.mark.parametrize("channels", [3, 4])
    def test_normalising_is_that_of_the_graph(self, channels: int, frame: str, network: str) -> None:
        values = helper.make_tensor_value_info("image", 1, ["batch", channels, *SIZE])
        output = helper.make_tensor_value_info("head_x", 1, ["batch", channels, *SIZE])
        graph = helper.make_graph(
            [helper.make_node("Identity", ["image"], ["head_x"], name="same")], "g", [values], [output]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        spec = FuseSpec(
            heads=(HeadSpec(name="x", activation="none", emit=("logits",)),),
            mean=(0.4, 0.5, 0.6, 0.1)[:channels],
            std=(0.2, 0.3, 0.1, 0.9)[:channels],
            frame_color=frame,  # type: ignore[arg-type]
            network_color=network,  # type: ignore[arg-type]
        )
        fused, *_ = fuse(model, spec)
        (found,) = run(fused, {"frame": pixels(1, channels)[None]})
        np.testing.assert_allclose(normalised(pixels(1, channels), spec), found, atol=2e-6)

    def test_masks_are_compared_at_the_size_of_the_labels(self) -> None:
        mask = np.array([[0, 1], [2, 3]], np.uint8)
        labels = np.zeros((4, 6), np.uint8)
        np.testing.assert_array_equal(
            at_size_of(mask, labels), np.repeat(np.repeat(mask, 2, axis=0), 3, axis=1)
        )

    @pytest.mark.parametrize("size", [(25, 37), (720, 960), (31, 1000)])
    def test_masks_are_resized_as_the_runtime_resizes_them(self, size: tuple[int, int]) -> None:
        mask = np.random.default_rng(0).integers(0, 11, (512, 704), dtype=np.uint8)
        found = Segmentation(
            name="x", mask=mask, confidence=None, grid=None, logits=None, classes=(), frame_size=size,
            latency=Latency(prepare_ms=0, network_ms=0, total_ms=0),
        )  # fmt: skip
        np.testing.assert_array_equal(at_size_of(mask, np.zeros(size, np.uint8)), found.resized().mask)


def run(model: ModelProto, feeds: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, feeds)]


class TestRounding:
    """ONNX Runtime's CPU provider does not round activations by itself; a stand-in for a GPU must."""

    def typed(self, requested: str) -> tuple[ModelProto, NDArray[np.float32]]:
        plain = conversion(Colors(), precision="fp32").plain
        image = normalised(pixels(1), FuseSpec(heads=(), mean=(0.5,) * 3, std=(0.25,) * 3))
        return to_precision(plain, [{"image": image}], requested)[0], image  # type: ignore[arg-type]

    @pytest.mark.parametrize(("requested", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
    def test_every_result_is_rounded_as_pytorch_rounds_it(self, requested: str, dtype: torch.dtype) -> None:
        typed, image = self.typed(requested)
        rounded, changed = round_explicitly(typed)
        (found,) = run(rounded, {"image": image})
        net = Colors().eval().to(dtype)
        with torch.inference_mode():
            expected = net(torch.from_numpy(image).to(dtype)).float().numpy()
        assert changed
        assert np.mean(found == expected) > 0.99
        np.testing.assert_array_equal(found, torch.from_numpy(found).to(dtype).float().numpy())

    def test_activations_overflow_as_they_do_on_a_gpu(self) -> None:
        typed, image = self.typed("fp16")
        (alone,) = run(typed, {"image": image * 1e5})
        (rounded,) = run(round_explicitly(typed)[0], {"image": image * 1e5})
        assert np.isfinite(alone).sum() > np.isfinite(rounded).sum()
        assert not np.isfinite(rounded).all()

    def test_fp32_stays_as_it_is(self) -> None:
        typed, _ = self.typed("fp32")
        assert round_explicitly(typed) == (typed, False)


class TestPassing:
    def test_every_contender_is_measured(self, colors: Conversion) -> None:
        found = verify(colors, samples(), gate(0.98), untracked)
        runs = [(check.backend, check.precision) for check in found.gate.checks]
        expected = [("openvino", "float32"), ("openvino", "bfloat16"), ("onnxruntime", "float16")]
        if "bfloat16" not in BACKENDS["openvino"].precisions("cpu", colors.manifest):
            expected.remove(("openvino", "bfloat16"))
        assert runs == expected
        assert found.gate.num_images == 3
        exact, *_, half = found.gate.checks
        assert exact.passed
        assert half.passed
        assert exact.agreement >= half.agreement > 0.98
        assert exact.miou is exact.miou_drop is None
        assert 0 < (exact.max_logit_difference or 0) < (half.max_logit_difference or 0) < 0.05

    def test_fp32_is_measured_in_both_libraries(self) -> None:
        found = verify(conversion(Colors(), precision="fp32"), samples(), gate(), untracked)
        verdicts = {(check.backend, check.precision): check for check in found.gate.checks}
        for backend in ("openvino", "onnxruntime"):
            check = verdicts[backend, "float32"]
            assert check.agreement > 0.999
            assert (check.max_logit_difference or 1) < 1e-4

    def test_bf16_stands_for_what_a_gpu_computes(self) -> None:
        found = verify(conversion(Colors(), precision="bf16"), samples(), gate(0.9, 1), untracked)
        assert ("onnxruntime", "bfloat16") in {
            (check.backend, check.precision) for check in found.gate.checks
        }

    def test_without_a_mask_the_logits_are_judged(self) -> None:
        found = verify(conversion(Colors(), emit=("grid",)), samples(), gate(0.98), untracked)
        with_mask = verify(conversion(Colors()), samples(), gate(0.98), untracked)
        assert [check.agreement for check in found.gate.checks] == pytest.approx(
            [check.agreement for check in with_mask.gate.checks], abs=1e-3
        )

    def test_miou_is_that_of_the_labels(self, colors: Conversion) -> None:
        labels = np.random.default_rng(5).integers(0, 3, (64, 96), dtype=np.uint8)
        labels[:8] = 255
        given = samples(scene=labels)
        found = verify(colors, given, gate(0.98, 0.5), untracked)
        check = found.gate.checks[0]
        union, hits = np.zeros(3), np.zeros(3)
        for sample in given:
            raw = colors.network.reference({"image": normalised(sample.pixels, colors.spec)})["scene"]
            mask = cv2.resize(
                upsampled(raw, SIZE).argmax(0).astype(np.uint8),
                (96, 64),
                interpolation=cv2.INTER_NEAREST_EXACT,
            )
            for kind in range(3):
                known = labels != 255
                hits[kind] += ((mask == kind) & (labels == kind)).sum()
                union[kind] += (((mask == kind) | (labels == kind)) & known).sum()
        expected = float(np.mean(hits / union))
        assert found.reference.truth["scene"].miou() == pytest.approx(expected)
        assert check.miou == pytest.approx(expected, abs=0.01)
        assert check.miou_drop == pytest.approx(expected - (check.miou or 0))

    def test_the_worst_image_is_kept_for_the_report(self, colors: Conversion) -> None:
        found = verify(colors, samples(12), gate(0.9), untracked)
        for one in found.figures:
            assert len(one.equal) == 12
            assert one.worst in one.masks
            assert len(one.masks) <= 4


class TestFailing:
    def test_rounded_away_activations(self) -> None:
        """4000 + x: half precision has steps of 2 there, and what is left after - 4000 is noise."""
        lost = conversion(Colors(offset=4000.0))
        with pytest.raises(GateFailed) as failure:
            verify(lost, samples(), gate(0.95), untracked)
        message = str(failure.value)
        assert failure.value.exit_code == 3
        assert "colors did not pass its gate on 3 images; no bundle was written" in message
        assert "onnxruntime float16: head 'scene' has " in message
        assert "the gate demands agreement = 95.00 %" in message
        assert "(worst image: " in message
        assert "first differing layer: " in message
        assert "'node_conv2d_1' (Conv), relative difference" in message
        assert "openvino float32" not in message

    def test_a_loss_of_miou(self) -> None:
        lost = conversion(Colors(offset=4000.0))
        raw = lost.network.reference({"image": normalised(pixels(0), lost.spec)})["scene"]
        truth = upsampled(raw, SIZE).argmax(0).astype(np.uint8)
        given = [Sample(name="0.png", pixels=pixels(0), labels={"scene": truth})]
        with pytest.raises(GateFailed, match=r"loses 0\.\d+ of mIoU, the gate allows miou_drop = 0.01"):
            verify(lost, given, gate(0.0), untracked)

    def test_activations_that_overflow_without_islands(self) -> None:
        """Ranges measured on black images alone miss what a bright one does."""
        net = Colors()
        with torch.no_grad():
            net.lift.weight *= 1e5
            net.lift.bias.zero_()
        dark = [Sample(name="dark.png", pixels=np.full((*SIZE, 3), 120, np.uint8))]
        form = InputSection(size=SIZE, mean=(120 / 255,) * 3, std=(0.25,) * 3)
        blind = conversion(net, dark, input=form)
        with pytest.raises(GateFailed, match="gives logits that are not finite"):
            verify(blind, samples(), gate(), untracked)

    def test_a_wrong_conversion_to_onnx(self, colors: Conversion) -> None:
        wrong = copy_of(colors.plain)
        (weight,) = (tensor for tensor in wrong.graph.initializer if list(tensor.dims) == [3, 3, 1, 1])
        mixed = np.roll(numpy_helper.to_array(weight), 1, axis=0)
        weight.CopyFrom(numpy_helper.from_array(mixed, weight.name))
        fused, *_ = fuse(wrong, colors.spec)
        broken = dataclasses.replace(colors, plain=wrong, typed=wrong, fused=fused)
        with pytest.raises(GateFailed, match=r"the FP32 ONNX itself differs from the original at .*'scene'"):
            verify(broken, samples(), gate(), untracked)

    def test_something_wrong_around_the_network(self, colors: Conversion) -> None:
        spec = dataclasses.replace(colors.spec, mean=(0.0, 0.9, 0.4))
        fused, *_ = fuse(colors.plain, spec)
        broken = dataclasses.replace(colors, typed=colors.plain, fused=fused)
        with pytest.raises(GateFailed, match=r"no layer of the network differs: .* around the network"):
            verify(broken, samples(), gate(), untracked)

    def test_a_limit_that_was_just_missed_is_told_apart(self) -> None:
        check = verify(conversion(Colors()), samples(), gate(0.9), untracked).gate.checks[-1]
        limit = check.agreement + 1e-6
        with pytest.raises(GateFailed, match=r"onnxruntime float16: head 'scene' has (\S+) % ") as failure:
            verify(conversion(Colors()), samples(), gate(limit), untracked)
        has, demands = re.findall(r"(\d+\.\d+) %", str(failure.value))[:2]
        assert has != demands

    def test_bfloat16_alone_only_excludes_itself(self) -> None:
        """500 + x: half precision has steps of 1/4 there, bfloat16 of 2."""
        sensitive = conversion(Colors(offset=500.0))
        found = verify(sensitive, samples(), gate(0.97), untracked)
        assert found.gate.passed("openvino", "float32")
        assert found.gate.passed("onnxruntime", "float16")
        if "bfloat16" in BACKENDS["openvino"].precisions("cpu", sensitive.manifest):
            assert found.gate.passed("openvino", "bfloat16") is False
            assert "openvino bfloat16 is not used: head 'scene' has " in found.notes[0]


class TestRefusing:
    def test_no_images(self, colors: Conversion) -> None:
        with pytest.raises(ExportError, match="no images, at least one was expected"):
            verify(colors, [], gate(), untracked)

    @pytest.mark.parametrize(("value", "said"), [(255, "no class at all"), (0, "class 0 alone")])
    def test_labels_that_say_nothing(self, colors: Conversion, value: int, said: str) -> None:
        given = samples(scene=np.full(SIZE, value, np.uint8))
        with pytest.raises(
            ExportError, match=f"labels of head 'scene' hold {said}, ids from 0 to 2 were expected"
        ):
            verify(colors, given, gate(), untracked)

    @pytest.mark.parametrize(
        ("last", "channels", "activation", "message"),
        [
            (
                nn.Sigmoid(),
                1,
                "sigmoid",
                r"from \S+ to \S+ for head 'scene': these are probabilities already, and sigmoid .*'none'",
            ),
            (nn.Softmax(1), 3, "softmax", r"they sum to 1 .*: these are probabilities already.* = 'none'"),
            (nn.Identity(), 1, "none", r"these are logits, .* from 0 to 1 were expected; .* = 'sigmoid'"),
            (nn.Identity(), 3, "none", r"these are logits, .* from 0 to 1 were expected; .* = 'softmax'"),
            (nn.Sigmoid(), 3, "none", r"misses 1 by .* 'softmax'; independent classes .* are not supported"),
        ],
        ids=["sigmoid-twice", "softmax-twice", "sigmoid-missing", "softmax-missing", "independent"],
    )
    def test_another_activation_than_the_network_needs(
        self, last: nn.Module, channels: int, activation: str, message: str
    ) -> None:
        head = HeadSection(classes=("a", "b", "c")[: max(2, channels)], activation=activation)  # type: ignore[arg-type]
        made = conversion(self.network(last, channels), head=(head,))
        with pytest.raises(ExportError, match=message):
            verify(made, samples(), gate(0), untracked)

    @pytest.mark.parametrize(("last", "channels"), [(nn.Sigmoid(), 1), (nn.Softmax(1), 3)])
    def test_probabilities_are_said_to_be_so(self, last: nn.Module, channels: int) -> None:
        head = HeadSection(classes=("a", "b", "c")[: max(2, channels)], activation="none")
        made = conversion(self.network(last, channels), head=(head,))
        assert verify(made, samples(), gate(0.9), untracked).gate.checks[0].passed

    def network(self, last: nn.Module, channels: int) -> nn.Module:
        torch.manual_seed(0)
        lift = nn.Conv2d(3, channels, 3, padding=1)
        with torch.no_grad():
            lift.weight *= 5
        return nn.Sequential(lift, last)

    def test_an_original_that_gives_nan(self, colors: Conversion) -> None:
        class Broken:
            description, checkpoint_sha256 = "broken", ""

            def to_onnx(self, spec: NetworkSpec) -> ModelProto:
                raise NotImplementedError

            def reference(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
                return {"scene": np.full((1, 3, *SIZE), math.nan, np.float32)}

        broken = dataclasses.replace(colors, network=Broken())
        with pytest.raises(ExportError, match=r"of the original network is not finite on image 0\.png"):
            verify(broken, samples(), gate(), untracked)


def test_openvino_in_float32_comes_first_and_must_pass(colors: Conversion) -> None:
    first, *others = contenders(colors.manifest)
    assert (str(first), first.required) == ("openvino float32", True)
    assert {str(one) for one in others if one.required} == {"onnxruntime float16"}


class TestOnTheGpu:
    """The gate where there is a GPU: a fake one, whose ring runs ONNX Runtime's CPU provider."""

    @pytest.fixture
    def with_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put a GPU into this machine, for ONNX Runtime alone."""
        backend: Any = type(BACKENDS["onnxruntime"])
        module = sys.modules[backend.__module__]
        cpu = Provider("CPUExecutionProvider", {}, "cpu", 0)

        def open_cuda(
            read_model: Callable[[], bytes], manifest: SegmentationManifest, options: OpenOptions
        ) -> GpuSession:
            info = SessionInfo(
                backend="onnxruntime", device="cuda:0", precision=options.precision, version="1"
            )
            origin = Origin.of(
                FakeCuda(order="eager"),
                lambda cuda, streams: ONNXRuntimeExecutor(onnxruntime, read_model(), manifest, cpu),
                GpuOptions(),
            )
            return GpuSession(manifest, info, origin)

        monkeypatch.setattr(backend, "unusable", lambda self, device, options=None: "")
        monkeypatch.setattr(module, "_open_cuda", open_cuda)

    @pytest.mark.usefixtures("with_gpu")
    def test_is_measured_and_recorded(self, colors: Conversion) -> None:
        verification = verify(colors, samples(), gate(), untracked)
        (check,) = [check for check in verification.gate.checks if check.device == "cuda"]
        assert (check.backend, check.precision, check.passed) == ("onnxruntime", "float16", True)
        assert check.agreement > 0.99
        assert verification.gate.passed("onnxruntime", "float16", "cuda")

    @pytest.mark.usefixtures("with_gpu")
    def test_failing_there_excludes_it_there(
        self, colors: Conversion, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = GpuSession._run
        monkeypatch.setattr(
            GpuSession, "_run", lambda self, feeds: {k: v * 0 for k, v in original(self, feeds).items()}
        )
        verification = verify(colors, samples(), gate(), untracked)
        assert verification.gate.passed("onnxruntime", "float16", "cuda") is False
        assert verification.gate.passed("openvino", "float32")
        assert any("onnxruntime float16 on the GPU is not used" in note for note in verification.notes)
