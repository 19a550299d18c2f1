"""A network with fixed weights paints as PyTorch does on every backend of the CPU; precisions by the gate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generators import GAN, make_generator_bundle, write_generator
from numpy.typing import NDArray
from torch import Tensor, nn

import pixelrt
from pixelrt import Conditional, Generator, Interpolate, Labels, Random
from pixelrt.backends import BACKENDS
from pixelrt.bundle import Bundle
from pixelrt.errors import DeviceError
from pixelrt.manifest import LabelInfo, LatentInfo, OutputInfo
from pixelrt_export.fuse_generator import GeneratorSpec, generator_axes
from pixelrt_export.inputs import NetworkInput, NetworkSpec
from pixelrt_export.network import HeadOutput, from_module

NAMES = ("circle", "square", "star")
SIZE = (24, 32)
PSNR_BFLOAT16 = 30.0
"""dB of the worst image: 8 bits of mantissa through four layers."""
HAS_BFLOAT16 = "bfloat16" in BACKENDS["openvino"].precisions("cpu", None)
needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="this CPU does not compute bfloat16")
Images = NDArray[np.uint8]


class Decoder(nn.Module):
    """What conditional GANs are made of, with fixed weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(NAMES), 4)
        self.project = nn.Linear(12, 16 * 6 * 8)
        self.enlarge = nn.Sequential(
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1),
            nn.InstanceNorm2d(8, affine=True),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(8, 3, 3, padding=1),
        )

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        hidden = self.project(torch.cat([latent, self.embed(label)], dim=1))
        image: Tensor = torch.tanh(2 * self.enlarge(hidden.reshape(-1, 16, 6, 8)))
        return image


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    torch.manual_seed(11)
    module = Decoder().eval()
    norm = module.enlarge[0]
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.uniform_(norm.running_mean, -0.3, 0.3)  # type: ignore[arg-type]
    nn.init.uniform_(norm.running_var, 0.2, 2.0)  # type: ignore[arg-type]
    return module


@pytest.fixture(scope="module")
def bundle(decoder: Decoder, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    latent, label = LatentInfo(size=(8,), distribution="normal"), LabelInfo(names=NAMES)
    inputs = (
        NetworkInput(name="latent", size=(8,)),
        NetworkInput(name="label", size=(), dtype="int64", range=(0, len(NAMES))),
    )
    spec = NetworkSpec(inputs=inputs, heads=(HeadOutput("generated"),), max_batch=16)
    bare = from_module(decoder).to_onnx(spec)
    deployed = GeneratorSpec(latent=latent, label=label, range="tanh", axes=generator_axes())
    output = OutputInfo(size=SIZE, channels=3, range="tanh")
    return write_generator(tmp_path_factory.mktemp("golden"), "decoder", bare, deployed, output)


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def generator(bundle: Bundle, request: pytest.FixtureRequest) -> Iterator[Generator]:
    options: dict[str, Any] = {"device": "cpu", "backend": request.param, "precision": "float32"}
    with pixelrt.load(bundle, task="generation", **options) as opened:
        yield opened


def painted(decoder: Decoder, latents: Any, labels: Any) -> NDArray[np.float64]:
    """PyTorch's images before rounding, 0..255, [N, H, W, 3]."""
    with torch.no_grad():
        values = decoder(torch.from_numpy(np.asarray(latents)), torch.from_numpy(np.asarray(labels)).long())
    scaled: NDArray[np.float64] = values.double().numpy().transpose(0, 2, 3, 1) * 127.5 + 127.5
    return scaled


def ids(labels: Any) -> NDArray[np.int64]:
    return np.array([NAMES.index(name) for name in labels], np.int64)


@pytest.mark.parametrize("count", [1, 5, 19])
def test_latents_of_pytorch(generator: Generator, decoder: Decoder, count: int) -> None:
    """The same numbers go into both; a byte is PyTorch's value, rounded."""
    latents = torch.randn(count, 8, generator=torch.Generator().manual_seed(count)).numpy()
    labels = np.arange(count) % len(NAMES)
    found = generator(latents, label=labels)
    expected = painted(decoder, latents, labels)
    assert np.ptp(expected) > 150, "a picture that says something"
    assert np.abs(found.images - expected).max() <= 0.5 + 5e-3


@pytest.mark.parametrize(
    ("strategy", "count"),
    [
        (Random(seed=5), 6),
        (Random(seed=5, truncation=0.7), 6),
        (Conditional("star", seed=1), 4),
        (Interpolate(1, 2, steps=7, label="square"), None),
        (Labels(2, seed=3), None),
    ],
    ids=repr,
)
def test_strategies_give_what_pytorch_paints(
    generator: Generator, decoder: Decoder, strategy: Any, count: int | None
) -> None:
    found = generator.sample(count, strategy=strategy)
    expected = painted(decoder, found.latents, ids(found.labels))
    assert np.abs(found.images - expected).max() <= 0.5 + 5e-3


@needs_bfloat16
def test_bfloat16_is_near(bundle: Bundle, decoder: Decoder) -> None:
    with pixelrt.load(bundle, task="generation", backend="openvino", precision="bfloat16") as generator:
        found = generator.sample(9, strategy=Random(seed=2))
    expected = painted(decoder, found.latents, ids(found.labels))
    difference = found.images - expected
    assert np.abs(difference).max() > 1, "float32 in disguise"
    assert 10 * np.log10(255**2 / (difference**2).mean(axis=(1, 2, 3)).max()) > PSNR_BFLOAT16


class TestPrecisionByTheGate:
    """What was measured of the images decides, as for masks."""

    BOTH = {("openvino", "bfloat16"): True, ("openvino", "float32"): True}  # noqa: RUF012

    @needs_bfloat16
    def test_the_fastest_that_passed(self, tmp_path: Path) -> None:
        bundle = make_generator_bundle(tmp_path, GAN, self.BOTH)
        with pixelrt.load(bundle, task="generation", device="cpu") as generator:
            assert generator.session.info.precision == "bfloat16"

    def test_one_that_failed_is_not_used(self, tmp_path: Path) -> None:
        bundle = make_generator_bundle(tmp_path, GAN, {**self.BOTH, ("openvino", "bfloat16"): False})
        with pixelrt.load(bundle, task="generation", device="cpu") as generator:
            info = generator.session.info
            assert (info.backend, info.precision) == ("openvino", "float32")

    def test_the_next_backend_where_none_passed(self, tmp_path: Path) -> None:
        verdicts = {**dict.fromkeys(self.BOTH, False), ("onnxruntime", "float32"): True}
        bundle = make_generator_bundle(tmp_path, GAN, verdicts)
        with pixelrt.load(bundle, task="generation", device="cpu") as generator:
            assert generator.session.info.backend == "onnxruntime"
        with pytest.raises(DeviceError, match="no precision of openvino passed the gate"):
            pixelrt.load(bundle, backend="openvino")

    def test_the_most_exact_without_a_gate(self, tmp_path: Path) -> None:
        bundle = make_generator_bundle(tmp_path, GAN)
        with pixelrt.load(bundle, task="generation", device="cpu") as generator:
            assert generator.session.info.precision == "float32"
            assert "the gate was skipped at the export" in generator.session.info.why
