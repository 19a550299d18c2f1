"""Generators that others wrote, with random weights: exported, and compared with their original."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bare_networks import assert_same, feeds_of, image, label, latent, run, spec_of
from monai.networks.nets import Generator, VarAutoEncoder
from torch import Tensor, nn
from torch.nn import functional

import pixelrt
import pixelrt_export
from pixelrt.errors import ExportError
from pixelrt_export.inputs import NetworkInput
from pixelrt_export.models import Pix2PixGenerator
from pixelrt_export.network import Network, from_module, open_network
from pixelrt_export.quiet import quiet
from pixelrt_export.recipe import ModelSection

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# --- MONAI ---------------------------------------------------------------------------------------------


class SamplingVAE(VarAutoEncoder):
    """MONAI's samples in training mode alone."""

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)


def monai_vae() -> SamplingVAE:
    return SamplingVAE(2, (1, 16, 16), 1, latent_size=4, channels=(4, 8), strides=(2, 2))


@pytest.mark.parametrize(
    ("part", "given"),
    [("decode_forward", latent(4)), ("decode", latent(8, 4, 4)), ("decode.decode_0", latent(8, 4, 4))],
    ids=["method", "submodule", "nested"],
)
def test_the_decoder_of_monais_variational_autoencoder(part: str, given: NetworkInput) -> None:
    network = from_module(monai_vae(), part)
    assert network.description == f"SamplingVAE.{part}"
    spec = spec_of(given)
    if part == "decode.decode_0":
        with pytest.raises(
            ExportError, match=r"output has 4 channels \(float32\[1, 4, 8, 8\]\), an image of 1"
        ):
            network.to_onnx(spec)
        return
    model = assert_same(network, spec)
    assert run(model, feeds_of(spec, (), 2)).shape == (2, 1, 16, 16)


def test_the_whole_of_monais_variational_autoencoder_takes_noise() -> None:
    network = from_module(monai_vae())
    assert_same(network, spec_of(image(1, 16, 16)))
    ((size, distribution, what),) = [(info.size, info.distribution, info.what) for info in network.noise]
    assert (size, distribution, what) == ((4,), "normal", "randn_like")


def test_monais_generator() -> None:
    net = Generator((6, 2), (8, 4, 4), (8, 1), (2, 2), num_res_units=1)
    assert_same(from_module(net), spec_of(latent(6, 2)))


# --- as they are written everywhere ----------------------------------------------------------------------


class Dcgan(nn.Module):
    """Transposed convolutions from a latent; `flat` takes [N, z], otherwise [N, z, 1, 1]."""

    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.flat = flat
        self.main = nn.Sequential(
            nn.ConvTranspose2d(8, 16, 4, 1, 0, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(True),
            nn.ConvTranspose2d(16, 8, 4, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(True),
            nn.ConvTranspose2d(8, 3, 4, 2, 1, bias=False),
            nn.Tanh(),
        )
        for layer in self.main:
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.running_mean, 0, 0.5)
                nn.init.uniform_(layer.running_var, 0.5, 2)

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.main(z.view(z.size(0), -1, 1, 1) if self.flat else z)
        return out


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.body(x), inplace=True)


def resnet_decoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, 8, 1),
        Residual(8),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        Residual(8),
        nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1, output_padding=1),
        nn.Conv2d(8, 12, 3, padding=1, padding_mode="reflect"),
        nn.PixelShuffle(2),
        nn.Sigmoid(),
    )


class StyleBlock(nn.Module):
    """Adaptive instance norm and noise with a weight per channel, as in StyleGAN."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.strength = nn.Parameter(torch.rand(1, channels, 1, 1))
        self.style = nn.Linear(8, 2 * channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = functional.interpolate(x, scale_factor=2, mode="nearest")
        x = self.conv(x)
        x = x + self.strength * torch.randn(x.shape[0], 1, x.shape[2], x.shape[3], device=x.device)
        x = functional.instance_norm(functional.leaky_relu(x, 0.2))
        scale, shift = self.style(w)[:, :, None, None].chunk(2, dim=1)
        return x * (1 + scale) + shift


class StyleGan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mapping = nn.Sequential(nn.Linear(8, 8), nn.LeakyReLU(0.2), nn.Linear(8, 8))
        self.constant = nn.Parameter(torch.randn(1, 6, 4, 4))
        self.blocks = nn.ModuleList([StyleBlock(6), StyleBlock(6)])
        self.to_rgb = nn.Conv2d(6, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        w = self.mapping(z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8))
        x = self.constant.repeat(z.shape[0], 1, 1, 1)
        for block in self.blocks:
            x = block(x, w)
        return torch.tanh(self.to_rgb(x))


class ModulatedConv(nn.Module):
    """Weights for each sample in one convolution with as many groups as samples, as in StyleGAN2."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, 3, 3))
        self.style = nn.Linear(8, 4)
        self.constant = nn.Parameter(torch.randn(1, 4, 6, 6))

    def forward(self, z: Tensor) -> Tensor:
        weight = self.weight[None] * self.style(z)[:, None, :, None, None]
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        features = self.constant.repeat(z.shape[0], 1, 1, 1).reshape(1, -1, 6, 6)
        out = functional.conv2d(features, weight.reshape(-1, 4, 3, 3), padding=1, groups=z.shape[0])
        return out.reshape(z.shape[0], 3, 6, 6)


def test_modulated_convolutions_take_one_sample() -> None:
    network = from_module(ModulatedConv())
    with pytest.raises(
        ExportError, match=r"depends on the batch \(groups=batch, say\), set batch = 1 in \[output\]"
    ):
        network.to_onnx(spec_of(latent(8)))
    assert_same(network, spec_of(latent(8), max_batch=1), (1,))


@pytest.mark.parametrize(
    ("make", "given"),
    [
        (lambda: Dcgan(flat=True), latent(8)),
        (lambda: Dcgan(flat=False), latent(8, 1, 1)),
        (resnet_decoder, latent(4, 2, 3)),
        (StyleGan, latent(8)),
    ],
    ids=["dcgan-flat", "dcgan", "resnet-decoder", "stylegan"],
)
def test_generators_of_a_latent(make: Callable[[], nn.Module], given: NetworkInput) -> None:
    network = from_module(make())
    assert_same(network, spec_of(given))
    sizes = [info.size for info in network.noise]
    assert sizes == ([(1, 8, 8), (1, 16, 16)] if make is StyleGan else [])


def test_dataparallel_is_taken_off() -> None:
    network = from_module(nn.DataParallel(Dcgan(flat=True)), part="main")
    assert network.description == "Dcgan.main"
    assert_same(network, spec_of(latent(8, 1, 1)), (2,))


# --- pix2pix: as in training -----------------------------------------------------------------------------


def pix2pix(norm: str) -> Pix2PixGenerator:
    net = Pix2PixGenerator(3, 3, (4, 6, 8), norm=norm)  # type: ignore[arg-type]
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.2)
            nn.init.normal_(layer.bias, 0, 0.2)
    return net


def test_dropout_and_instance_norm_as_in_training() -> None:
    network = from_module(pix2pix("instance"), as_in_training=["dropout"])
    assert_same(network, spec_of(image(3, 16, 16)))
    assert [(info.size, info.distribution) for info in network.noise] == [
        ((6, 4, 4), "unit"),
        ((4, 8, 8), "unit"),
    ]


def test_batch_norm_as_in_training_is_that_of_a_batch_of_one() -> None:
    net = pix2pix("batch")
    network = from_module(net, as_in_training=("batch_norm",))
    spec = spec_of(image(3, 16, 16))
    assert_same(network, spec)
    assert network.noise == ()
    feeds = feeds_of(spec, (), 3)
    net.eval()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.train()
    with torch.no_grad():
        original = torch.cat([net(torch.from_numpy(one)[None]) for one in feeds["image"]])
    np.testing.assert_allclose(network.reference(feeds)["generated"], original, atol=1e-5)
    with torch.no_grad():
        eval_mode = net.eval()(torch.from_numpy(feeds["image"]))
    assert (eval_mode - original).abs().max() > 0.01


def test_a_layer_in_two_places_is_as_in_training_in_both() -> None:
    net = nn.ModuleDict({"net": nn.Sequential(norm := nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), norm)})
    net["averaged"] = net["net"]
    network = from_module(net, "averaged", ["batch_norm"])
    spec = spec_of(image(3, 4, 4))
    network.to_onnx(spec)
    feeds = feeds_of(spec, (), 1)
    with torch.no_grad():
        expected = net["net"].train()(torch.from_numpy(feeds["image"]))
    np.testing.assert_allclose(network.reference(feeds)["generated"], expected, atol=1e-5)


def test_pix2pix_as_in_training_runs_from_its_bundle(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    net = pix2pix("batch")
    bundle = pixelrt_export.export(
        net,
        tmp_path / "painter",
        task="generation",
        image={"size": (16, 16), "mean": (0.5,) * 3, "std": (0.5,) * 3},
        images=list(pictures),
        output="tanh",
        as_in_training=["dropout", "batch_norm"],
    )
    with pixelrt.load(bundle.path, device="cpu") as painter:
        first = painter(pictures[0], seed=1).image
        assert np.array_equal(painter(pictures[0], seed=1).image, first)
        assert not np.array_equal(painter(pictures[0], seed=2).image, first)
        noise = {info.name: np.full(info.size, 0.75, np.float32) for info in bundle.generation.noise}
        found = painter(pictures[0], **noise).image
    for layer in net.eval().modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.train()
        if isinstance(layer, nn.Dropout):  # all are kept, and twice as large
            layer.register_forward_hook(lambda *given: given[2] * 2)
    with torch.no_grad():
        expected = net(torch.from_numpy(pictures[:1]).permute(0, 3, 1, 2) / 127.5 - 1)
    bytes_ = ((expected[0].permute(1, 2, 0) + 1) * 127.5).round()
    np.testing.assert_allclose(found.astype(int), bytes_, atol=2)


# --- several inputs -------------------------------------------------------------------------------------


class Conditional(nn.Module):
    """Takes the label first, and returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 6)
        self.body = nn.Linear(10, 3 * 16)

    def forward(self, label: Tensor, z: Tensor) -> Any:
        hidden = torch.cat([z, self.embedding(label)], dim=1)
        return {"hidden": hidden, "image": torch.tanh(self.body(hidden)).reshape(-1, 3, 4, 4)}


class OneHot(Conditional):
    """Takes the label as a keyword, float32[N, K], and returns a tuple of two images."""

    def forward(self, z: Tensor, *, scale: float = 2.0, condition: Tensor) -> Any:  # type: ignore[override]
        generated = super().forward(condition.argmax(1), z)["image"]
        return generated, (generated * scale,)


def test_a_label_before_the_latent() -> None:
    network = from_module(Conditional())
    by_name = spec_of(latent(4, parameter="z"), label(5))
    assert_same(network, by_name)
    by_position = spec_of(latent(4, parameter=1), label(5, parameter=0), output="image")
    assert_same(network, by_position, (2,))


def test_keywords_and_tuples() -> None:
    condition = NetworkInput(name="label", size=(5,), parameter="condition", one_hot=True)
    network = from_module(OneHot())
    with pytest.raises(ExportError, match=r"\[output\] does not say .* in \[output\], as in: output = 0"):
        network.to_onnx(spec_of(latent(4), condition))
    assert_same(network, spec_of(latent(4), condition, output="1.0"), (2,))


def saved(net: nn.Module, examples: tuple[Tensor, ...], path: Path, how: str) -> ModelSection:
    batch = {0: torch.export.Dim("n")}
    with quiet(), torch.no_grad():
        if how == "torchscript":
            torch.jit.save(torch.jit.script(net.eval()), path)
            return ModelSection(torchscript=str(path))
        shapes = tuple(batch for _ in examples)
        program = torch.export.export(net.eval(), examples, dynamic_shapes=shapes)
        if how == "exported":
            torch.export.save(program, path)
            return ModelSection(exported=str(path))
        torch.onnx.export(program, (), path, dynamo=True, verbose=False)
        return ModelSection(onnx=str(path))


class Scriptable(Conditional):
    def forward(self, label: Tensor, z: Tensor) -> Tensor:
        hidden = torch.cat([z, self.embedding(label)], dim=1)
        return torch.tanh(self.body(hidden)).reshape(-1, 3, 4, 4)


@pytest.mark.parametrize("how", ["torchscript", "exported", "onnx"])
def test_saved_networks_of_two_inputs(tmp_path: Path, how: str) -> None:
    net = Scriptable()
    examples = (torch.zeros(2, dtype=torch.int64), torch.zeros(2, 4))
    network: Network = open_network(saved(net, examples, tmp_path / "net", how))
    spec = spec_of(latent(4, parameter="z"), label(5))
    assert_same(network, spec)
    feeds = feeds_of(spec, (), 3)
    with torch.no_grad():
        original = net(torch.from_numpy(feeds["label"]), torch.from_numpy(feeds["latent"]))
    np.testing.assert_allclose(network.reference(feeds)["generated"], original, atol=1e-6)
    with pytest.raises(ExportError, match=r"needs? '?label'?, and nothing feeds it: 'latent' goes to 'z'"):
        network.to_onnx(spec_of(latent(4, parameter="z")))
    with pytest.raises(ExportError, match=r"net"):
        network.to_onnx(spec_of(latent(7, parameter="z"), label(5)))


def test_an_entry_point_with_a_part(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "def vae():\n"
        "    decoder = nn.Sequential(nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5))\n"
        "    return nn.ModuleDict({'encoder': nn.Conv2d(3, 4, 1), 'decoder': decoder})\n"
    )
    section = ModelSection(
        entry=f"{tmp_path}/nets.py:vae", part="decoder", as_in_training=("dropout", "batch_norm")
    )
    network = open_network(section)
    assert network.description == "nets.py:vae.decoder"
    assert_same(network, spec_of(latent(4, 5, 6)))
    assert [info.what for info in network.noise] == ["dropout (p = 0.5) in 2"]


# --- what a new user does wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            "decod",
            r"part: SamplingVAE has no submodule or method 'decod' \(did you mean 'decode'\?\); it has the ",
        ),
        (
            "decode.up",
            r"part: SamplingVAE.decode has no submodule or method 'up'.*submodules decode_0, decode_1",
        ),
        ("mu.weight", r"SamplingVAE.mu has no submodule or method 'weight'; it has the submodules \(none\)"),
    ],
)
def test_a_part_that_is_not_there(part: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        from_module(monai_vae(), part)


def test_layers_that_are_not_there_cannot_behave_as_in_training() -> None:
    with pytest.raises(ExportError, match=r'names "dropout", and StyleGan has no such layers; leave it out'):
        from_module(StyleGan(), as_in_training=["dropout"])


class Idle(nn.Module):
    """Drops in a layer, and in a function that is told to by `training`."""

    def __init__(self, p: float, *, training: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(0.5))
        self.p = p
        self.always = training

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout2d(self.body(x), self.p, self.training or self.always)


def test_dropout_that_stays_off_as_in_training_is_refused() -> None:
    spec = spec_of(image(3, 4, 4))
    network = from_module(Idle(0.25, training=False), as_in_training=["dropout"])
    with pytest.raises(
        ExportError,
        match=r"functional dropout \(p = 0.25, at test_foreign_generators.py:\d+\) is switched off",
    ):
        network.to_onnx(spec)
    for p, training, as_in_training, count in (
        (0.25, True, ["dropout"], 2),
        (0.0, False, ["dropout"], 1),
        (0.25, False, [], 0),
    ):
        network = from_module(Idle(p, training=training), as_in_training=as_in_training)
        network.to_onnx(spec)
        assert len(network.noise) == count


def test_statistics_of_one_value_are_refused() -> None:
    net = nn.Sequential(nn.Linear(4, 48), nn.BatchNorm1d(48), nn.Unflatten(1, (3, 4, 4)))
    network = from_module(net, as_in_training=["batch_norm"])
    with pytest.raises(
        ExportError, match=r"batch_norm.*: 1 normalises \[48\], one value per channel of an image"
    ):
        network.to_onnx(spec_of(latent(4)))


class Returns(nn.Module):
    """Returns what `form` makes of an image of `channels`."""

    def __init__(self, channels: int, form: Callable[[Tensor], Any] = lambda x: x) -> None:
        super().__init__()
        self.body = nn.Linear(4, channels * 16)
        self.channels = channels
        self.form = form

    def forward(self, z: Tensor) -> Any:
        return self.form(self.body(z).reshape(-1, self.channels, 4, 4))


WRONG: dict[str, tuple[nn.Module, tuple[NetworkInput, ...], str]] = {
    "ids instead of one-hot": (
        OneHot(),
        (latent(4), label(5, parameter="condition")),
        (
            r"OneHot does not run on latent float32\[1, 4\], label int64\[1\] \(form = .index., ids 0 to 4; "
            r"the other form is .one_hot.\); check size, form and input in \[latent\], \[label\].*IndexError"
        ),
    ),
    "one-hot instead of ids": (
        Conditional(),
        (NetworkInput(name="label", size=(5,), one_hot=True), latent(4)),
        r"label float32\[1, 5\] \(form = .one_hot.; the other form is .index.\), latent float32\[1, 4\];",
    ),
    "more names than classes": (
        Conditional(),
        (latent(4, parameter="z"), label(7)),
        r"does not run on .*label int64\[1\] \(form = .index., ids 0 to 6; .*IndexError: index out of range",
    ),
    "latent of another size": (
        Dcgan(flat=True),
        (latent(9),),
        r"Dcgan does not run on latent float32\[1, 9\]; check size, .*\[1, 9, 1, 1\] to have 8 channels",
    ),
    "latent without a second input": (
        Conditional(),
        (latent(4, parameter="z"),),
        r"Conditional.forward\(label, z\) needs 'label', and nothing feeds it: 'latent' goes to 'z'",
    ),
    "an input too many": (
        StyleGan(),
        (latent(8), label(5)),
        r"no parameter left for the input 'label'; the network accepts StyleGan.forward\(z\). Leave",
    ),
    "a parameter that is misspelt": (
        Conditional(),
        (latent(4, parameter="zz"), label(5)),
        r"'latent' is for the parameter 'zz', which is not there \(did you mean 'z'\?\); the network",
    ),
    "four channels": (
        Returns(4),
        (latent(4),),
        r"output has 4 channels \(float32\[1, 4, 4, 4\]\), an image of 1 \(grey\) or 3.*image\[:, :3\]",
    ),
    "a flat vector": (
        Returns(3, lambda x: x.flatten(1)),
        (latent(4),),
        (
            r"returned one float32\[1, 48\]; a float tensor \[batch, 1 or 3, height, width\] was "
            r"expected for \[output\]; give it that shape in forward\(\), as in: image.reshape"
        ),
    ),
    "bytes": (
        Returns(3, lambda x: x.to(torch.uint8)),
        (latent(4),),
        r"returned one uint8\[1, 3, 4, 4\]; a float tensor \[batch, 1 or 3, height, width\] was expected",
    ),
    "a list of images": (
        Returns(3, lambda x: [x, x]),
        (latent(4),),
        r"\[output\] does not say which output .* 0: float32\[1, 3, 4, 4\]; 1: float32.*output = 0",
    ),
    "batch norm over the batch": (
        nn.Sequential(Returns(3), nn.BatchNorm2d(3, track_running_stats=False)),
        (latent(4),),
        r"another result for a sample when a second one is in the batch.*as_in_training = \[\"batch_norm\"\]",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_explained(mistake: str) -> None:
    net, inputs, message = WRONG[mistake]
    with pytest.raises(ExportError, match=message):
        from_module(net).to_onnx(spec_of(*inputs))
