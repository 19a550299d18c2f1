"""The gate's default limits: broken conversions of generators fail, sound ones pass.

With `--log-cli-level=INFO` the figures of every contender are shown, which docs/generation.md lists.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx.version_converter
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from pixelrt.errors import GateFailed
from pixelrt.generation.drawing import draw_latents, draw_noise
from pixelrt.manifest import (
    SCHEMA,
    ClassInfo,
    GenerationGate,
    GenerationManifest,
    LatentInfo,
    MaskInfo,
    OutputInfo,
    Precision,
    PrecisionType,
    Preprocess,
    Source,
)
from pixelrt_export.fuse_generator import GeneratorSpec, fuse_generator, generator_axes
from pixelrt_export.gate.generation import (
    GeneratorConversion,
    GeneratorSample,
    GeneratorVerification,
    network_feeds,
    verify_generator,
)
from pixelrt_export.graph import checked, constants_to_initializers, opset_of, replace_nodes
from pixelrt_export.instance_norm import EPSILON_FLOOR
from pixelrt_export.models import DCGANGenerator, Pix2PixGenerator, SPADEGenerator
from pixelrt_export.network import HeadOutput, Network, NetworkInput, NetworkSpec, from_module
from pixelrt_export.precision import network as low
from pixelrt_export.precision import to_precision
from pixelrt_export.precision.retype import retype
from pixelrt_export.recipe.generation import GenerationGateSection

LOGGER = logging.getLogger(__name__)
T = TypeVar("T")
SIZE = (32, 48)
LATENT = LatentInfo(size=(8,), distribution="normal")
LATENTS = NetworkInput(name="latent", size=LATENT.size, parameter="latent", range=(-1, 1))
IMAGE = Preprocess(size=SIZE, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3, color="rgb")
CLASSES = tuple(ClassInfo(name=str(index), color=(index, 0, 0)) for index in range(4))
MASK = MaskInfo(size=SIZE, classes=CLASSES)
MASKS = NetworkInput(name="mask", size=(len(CLASSES), *SIZE), one_hot=True)


class Normalised(nn.Module):
    """Feature maps of a deviation of 1e-4 around 1, which an instance norm makes large."""

    def __init__(self, deviation: float, mean: float, epsilon: float) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.spread = nn.Linear(8, 8 * 4 * 6)
        self.enlarge = nn.Upsample(scale_factor=8, mode="bilinear")
        self.first = nn.Conv2d(8, 8, 3, padding=1, padding_mode="replicate")
        self.norm = nn.InstanceNorm2d(8, eps=epsilon, affine=True)
        self.last = nn.Conv2d(8, 3, 3, padding=1)
        with torch.no_grad():
            self.first.weight *= deviation
            self.first.bias.fill_(mean)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        x = self.enlarge(torch.relu(self.spread(latent)).view(-1, 8, 4, 6))
        return torch.tanh(self.last(self.norm(self.first(x))))


class Overflowing(nn.Module):
    """Inner values far above 65504, scaled down again at the end."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.spread = nn.Linear(8, 8 * 4 * 6)
        self.enlarge = nn.ConvTranspose2d(8, 8, 8, stride=8)
        self.last = nn.Conv2d(8, 3, 3, padding=1)
        with torch.no_grad():
            self.enlarge.weight *= 1e6
            self.last.weight *= 1e-6

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.last(torch.relu(self.enlarge(self.spread(latent).view(-1, 8, 4, 6)))))


@dataclass(frozen=True)
class Exported:
    """A network before its precision."""

    network: Network
    plain: ModelProto
    spec: GeneratorSpec
    samples: tuple[GeneratorSample, ...]

    def converted(self, precision: PrecisionType) -> GeneratorConversion:
        """As PixelRT does it."""
        calibration = [network_feeds(sample.feeds, self.spec) for sample in self.samples]
        typed, report = to_precision(self.plain, calibration, precision)
        return self.conversion(typed, report.to_manifest())

    def naive(self, precision: PrecisionType = "fp16") -> GeneratorConversion:
        """All of it in one type that the operators have, without a look at ranges."""
        plain, _ = constants_to_initializers(self.plain)
        if precision == "bf16":
            plain = onnx.version_converter.convert_version(plain, 22)
        plain = checked(plain)
        network = low.Network.of(plain, opset_of(plain))
        nodes = range(len(plain.graph.node))
        layers = [
            index for index in nodes if network.is_layer(index) and _has_form(network, index, precision)
        ]
        typed, _ = retype(network, dict.fromkeys(layers, precision), low.ELEM_TYPE[precision])
        return self.conversion(checked(typed), Precision(requested=precision, layers={precision: 1}))

    def conversion(self, typed: ModelProto, precision: Precision) -> GeneratorConversion:
        fused, inputs, outputs, axes = fuse_generator(typed, self.spec)
        manifest = GenerationManifest(
            schema=SCHEMA,
            name="tiny",
            created="2026-01-01T00:00:00Z",
            tools={"pixelrt": "0"},
            inputs=inputs,
            outputs=outputs,
            axes=axes,
            precision=precision,
            artifacts=(),
            source=Source(model="tiny"),
            latent=self.spec.latent,
            mask=self.spec.mask,
            image=self.spec.image,
            noise=self.spec.noise,
            output=OutputInfo(size=SIZE, channels=3, range="tanh"),
            gate=default_gate(),
        )
        return GeneratorConversion(
            network=self.network,
            plain=self.plain,
            typed=typed,
            fused=fused,
            spec=self.spec,
            manifest=manifest,
        )


def _has_form(network: low.Network, index: int, precision: PrecisionType) -> bool:
    node = network.model.graph.node[index]
    writes = [slot for slot, name in enumerate(node.output) if network.is_float(name)]
    kind = low.ELEM_TYPE[precision]
    return network.can_be(index, 0, kind) and all(
        network.can_be(index, slot, kind, output=True) for slot in writes
    )


def default_gate() -> GenerationGate:
    section = GenerationGateSection()
    return GenerationGate(
        skipped=False,
        psnr=section.psnr,
        ssim=section.ssim,
        max_difference=section.max_difference,
        seed=section.seed,
        images="",
        num_images=0,
    )


def export(
    module: nn.Module, inputs: tuple[NetworkInput, ...], *, training: Sequence[Any] = (), **parts: Any
) -> Exported:
    network = from_module(module, as_in_training=training)
    plain = network.to_onnx(NetworkSpec(inputs=inputs, heads=(HeadOutput("generated"),), max_batch=4))
    spec = GeneratorSpec(range="tanh", axes=generator_axes(4), noise=network.noise, **parts)
    return Exported(network, plain, spec, samples_of(spec))


def samples_of(spec: GeneratorSpec) -> tuple[GeneratorSample, ...]:
    made = []
    for index in range(4):
        rng = np.random.default_rng(index)
        feeds: dict[str, Any] = {}
        if spec.latent is not None:
            feeds["latent"] = draw_latents(spec.latent, 0, [index])
        if spec.mask is not None:
            feeds["mask"] = np.kron(rng.integers(0, 4, (1, 4, 6)), np.ones((1, 8, 8))).astype(np.uint8)
        if spec.image is not None:
            coarse = rng.integers(0, 256, (1, 4, 6, 3))
            feeds["image"] = np.kron(coarse, np.ones((1, 8, 8, 1))).astype(np.uint8)
        for noise in spec.noise:
            feeds[noise.name] = draw_noise(noise, 0, [index])
        made.append(GeneratorSample(name=str(index), feeds=feeds))
    return tuple(made)


def track(items: Sequence[T], description: str) -> Iterable[T]:
    return items


def judge(exported: Exported, conversion: GeneratorConversion) -> GeneratorVerification:
    if LOGGER.isEnabledFor(logging.INFO):
        nothing_fails = dataclasses.replace(default_gate(), psnr=0.0, ssim=-1.0, max_difference=255)
        for check in verify_generator(conversion, exported.samples, nothing_fails, track).gate.checks:
            LOGGER.info(
                "%s %s: PSNR %.1f dB, SSIM %.5f, largest difference %d",
                *(check.backend, check.precision, check.psnr or np.inf, check.ssim, check.max_difference),
            )
    return verify_generator(conversion, exported.samples, default_gate(), track)


def raised(conversion: GeneratorConversion) -> GeneratorConversion:
    """What a backend makes of the deployed graph that knows no epsilon below 1e-4."""
    fused = copy.deepcopy(conversion.fused)
    for node in fused.graph.node:
        for attribute in node.attribute:
            if attribute.name == "epsilon":
                attribute.f = max(attribute.f, EPSILON_FLOOR)
    return dataclasses.replace(conversion, fused=fused)


def added(
    conversion: GeneratorConversion,
    nodes: Sequence[NodeProto],
    term: str,
    constants: dict[str, NDArray[np.float32]],
) -> GeneratorConversion:
    """The deployed graph with a term added to the values that the network gives."""
    fused = copy.deepcopy(conversion.fused)
    graph = fused.graph
    index, reader = next((i, node) for i, node in enumerate(graph.node) if "head_generated" in node.input)
    reader.input[list(reader.input).index("head_generated")] = "with_term"
    add = helper.make_node("Add", ["head_generated", term], ["with_term"])
    replace_nodes(fused, [*graph.node[:index], *nodes, add, *graph.node[index:]])
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return dataclasses.replace(conversion, fused=fused)


@pytest.fixture(scope="module")
def normalised() -> Exported:
    return export(Normalised(3e-4, 1.0, 1e-8), (LATENTS,), latent=LATENT)


@pytest.fixture(scope="module")
def dropping() -> Exported:
    torch.manual_seed(3)
    module = Pix2PixGenerator(3, 3, (8, 16, 16), norm="instance")
    return export(module, (NetworkInput(name="image", size=(3, *SIZE)),), training=["dropout"], image=IMAGE)


@pytest.fixture(scope="module")
def overflowing() -> Exported:
    return export(Overflowing(), (LATENTS,), latent=LATENT)


@pytest.fixture(scope="module")
def painting() -> Exported:
    torch.manual_seed(4)
    module = SPADEGenerator(4, 3, (8, 8), hidden=8, latent=8, norm="instance")
    return export(module, (LATENTS, MASKS), latent=LATENT, mask=MASK)


@pytest.fixture(scope="module")
def plain_gan() -> Exported:
    torch.manual_seed(5)
    return export(DCGANGenerator(SIZE, 3, 8, 8), (LATENTS,), latent=LATENT)


class TestTinyVariance:
    def test_all_in_fp16_fails(self, normalised: Exported) -> None:
        with pytest.raises(GateFailed, match=r"PSNR is [\d.]+ dB on") as failure:
            judge(normalised, normalised.naive())
        assert "first differing layer: 'node_instance_norm'" in str(failure.value)

    def test_ours_passes(self, normalised: Exported) -> None:
        conversion = normalised.converted("fp16")
        checks = judge(normalised, conversion).gate.checks
        assert [check.passed for check in checks if check.precision != "bfloat16"] == [True, True]
        reasons = {island.layer: island.reason for island in conversion.manifest.precision.islands}
        assert any("instance norm: its statistics need FP32" in reason for reason in reasons.values())
        assert any("would enlarge its rounding" in reason for reason in reasons.values())

    def test_a_raised_epsilon_fails_and_ours_is_out_of_its_reach(self, normalised: Exported) -> None:
        plain = normalised.conversion(normalised.plain, Precision(requested="fp32", layers={"fp32": 1}))
        judge(normalised, plain)
        with pytest.raises(GateFailed, match=r"SSIM is"):
            judge(normalised, raised(plain))
        judge(normalised, raised(normalised.converted("fp32")))


class TestDropoutAtTestTime:
    def test_as_an_input_it_passes(self, dropping: Exported) -> None:
        assert len(dropping.spec.noise) == 2
        judge(dropping, dropping.converted("fp16"))

    @pytest.mark.parametrize("precision", ["fp16", "bf16"])
    def test_thresholds_of_noise_are_not_rounded(self, dropping: Exported, precision: PrecisionType) -> None:
        """A feature more or less is a large difference at one place."""
        conversion = dropping.converted(precision)
        reasons = [island.reason for island in conversion.manifest.precision.islands]
        assert sum("compares an input" in reason for reason in reasons) == 2
        if precision == "bf16":
            with pytest.raises(GateFailed, match=r"PSNR is 3[\d.]+ dB on"):
                judge(dropping, dropping.naive(precision))
        checks = judge(dropping, conversion).gate.checks
        assert max(check.max_difference for check in checks) <= 4

    def test_left_out_it_fails(self, dropping: Exported) -> None:
        """The export of eval(): the same image whatever the noise."""
        torch.manual_seed(3)
        module = Pix2PixGenerator(3, 3, (8, 16, 16), norm="instance")
        quiet = export(module, (NetworkInput(name="image", size=(3, *SIZE)),), image=IMAGE)
        wrong = quiet.converted("fp32")
        graph = copy.deepcopy(wrong.fused)
        for noise in dropping.spec.noise:
            graph.graph.input.append(
                helper.make_tensor_value_info(noise.name, TensorProto.FLOAT, ["batch", *noise.size])
            )
        nothing = [  # reads the noise, and makes 0 of it
            helper.make_node("ReduceMax", ["noise_0"], ["max_0"], keepdims=0),
            helper.make_node("ReduceMax", ["noise_1"], ["max_1"], keepdims=0),
            helper.make_node("Add", ["max_0", "max_1"], ["both"]),
            helper.make_node("Min", ["both", "zero"], ["nothing"]),
        ]
        conversion = dataclasses.replace(dropping.converted("fp32"), fused=graph)
        broken = added(conversion, nothing, "nothing", {"zero": np.zeros((), np.float32)})
        with pytest.raises(GateFailed, match=r"PSNR is [\d.]+ dB on"):
            judge(dropping, broken)


class TestOverflow:
    def test_all_in_fp16_fails(self, overflowing: Exported) -> None:
        with pytest.raises(GateFailed, match="a byte differs by"):
            judge(overflowing, overflowing.naive())

    def test_ours_passes(self, overflowing: Exported) -> None:
        conversion = overflowing.converted("fp16")
        judge(overflowing, conversion)
        assert max(island.max_abs for island in conversion.manifest.precision.islands) > 65504


class TestALocalDefect:
    @pytest.mark.parametrize("side", [1, 2])
    def test_a_spot_fails_on_the_largest_difference(self, plain_gan: Exported, side: int) -> None:
        """Too small for PSNR, which is a mean over the image."""
        conversion = plain_gan.converted("fp16")
        spot = np.zeros((1, 3, *SIZE), np.float32)
        spot[:, 1, 5 : 5 + side, 7 : 7 + side] = 0.5
        broken = added(conversion, [], "spot", {"spot": spot})
        with pytest.raises(GateFailed, match="the gate allows max_difference = 32") as failure:
            judge(plain_gan, broken)
        assert "PSNR" not in str(failure.value)


class TestSoundOnes:
    @pytest.mark.parametrize("precision", ["fp16", "bf16"])
    @pytest.mark.parametrize("name", ["plain_gan", "painting", "dropping"])
    def test_they_pass(self, name: str, precision: PrecisionType, request: pytest.FixtureRequest) -> None:
        exported = request.getfixturevalue(name)
        judged = judge(exported, exported.converted(precision))
        assert all(check.passed for check in judged.gate.checks)
