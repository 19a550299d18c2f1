"""Randomness inside a network: what becomes an input, with which distribution, and what is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bare_networks import assert_same, feeds_of, image, latent, run, spec_of
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional

from pixelrt.errors import ExportError
from pixelrt_export.network import HeadOutput, NetworkSpec, from_module, open_network
from pixelrt_export.quiet import quiet
from pixelrt_export.randomness import GivenNoise, drawn_by
from pixelrt_export.recipe import ModelSection

SHAPE = (3, 4, 4)
SPEC = spec_of(image(*SHAPE))


class Draws(nn.Module):
    """An image plus whatever `draw` makes of it."""

    def __init__(self, *draws: Callable[[Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.draws = draws
        self.body = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        for draw in self.draws:
            out = out + draw(out)
        return out


# --- what becomes an input ---------------------------------------------------------------------------

EVERY_KIND: dict[str, tuple[Callable[[Tensor], Any], tuple[int, ...], str]] = {
    "randn": (lambda x: torch.randn(x.shape[0], 1, 4, 4), (1, 4, 4), "normal"),
    "randn of a tuple": (lambda x: torch.randn((x.shape[0], 3, 1, 1)), (3, 1, 1), "normal"),
    "randn size": (lambda x: torch.randn(size=x.shape, dtype=torch.float64).float(), SHAPE, "normal"),
    "rand": (lambda x: torch.rand(x.shape), SHAPE, "unit"),
    "randn_like": (torch.randn_like, SHAPE, "normal"),
    "rand_like": (torch.rand_like, SHAPE, "unit"),
    "normal": (lambda x: torch.normal(x, 2.0), SHAPE, "normal"),
    "normal of tensors": (lambda x: torch.normal(torch.zeros_like(x), x.abs()), SHAPE, "normal"),
    "normal of numbers": (lambda x: torch.normal(1.0, 2.0, (x.shape[0], 3, 4, 4)), SHAPE, "normal"),
    "normal_": (lambda x: torch.empty_like(x).normal_(1, 2), SHAPE, "normal"),
    "uniform_": (lambda x: torch.empty_like(x).uniform_(-1, 3), SHAPE, "unit"),
    "uniform_ by name": (lambda x: x.new_empty(x.shape).uniform_(to=3), SHAPE, "unit"),
    "bernoulli": (lambda x: torch.bernoulli(x.sigmoid()), SHAPE, "unit"),
    "bernoulli p": (lambda x: x.bernoulli(0.3), SHAPE, "unit"),
    "bernoulli_": (lambda x: torch.empty_like(x).bernoulli_(0.3), SHAPE, "unit"),
    "dropout": (lambda x: functional.dropout(x, 0.3), SHAPE, "unit"),
    "dropout in place": (lambda x: functional.dropout(x.clone(), 0.3, True, True), SHAPE, "unit"),
    "torch.dropout": (lambda x: torch.dropout(x, p=0.3, train=True), SHAPE, "unit"),
    "native_dropout": (lambda x: torch.native_dropout(x, 0.3, True)[0], SHAPE, "unit"),
    "dropout2d": (lambda x: functional.dropout2d(x, 0.3), (3, 1, 1), "unit"),
    "distribution": (lambda x: torch.distributions.Normal(x, 2.0).rsample(), SHAPE, "normal"),
    "sample": (lambda x: torch.distributions.Uniform(-x.abs() - 1, x.abs()).sample(), SHAPE, "unit"),
    "rows of samples": (lambda x: torch.rand(x.shape[0] * 3, 4, 4).reshape(x.shape), SHAPE, "unit"),
    "batch last": (lambda x: torch.randn(3, 4, 4, x.shape[0]).movedim(3, 0), SHAPE, "normal"),
    "batch second": (
        lambda x: torch.randn(3, 4 * x.shape[0]).reshape(3, -1, 4).movedim(1, 0)[..., None],
        (4, 3),
        "normal",
    ),
    "one for all": (lambda x: torch.rand(1, 3, 4, 4), SHAPE, "unit"),
    "a number each": (lambda x: torch.rand(x.shape[0])[:, None, None, None], (1,), "unit"),
}


def test_every_kind_becomes_an_input_of_noise() -> None:
    network = from_module(Draws(*(draw for draw, *_ in EVERY_KIND.values())))
    model = assert_same(network, SPEC)
    found = [(info.size, info.distribution) for info in network.noise]
    assert found == [(size, distribution) for _, size, distribution in EVERY_KIND.values()]
    assert [info.name for info in network.noise] == [f"noise_{index}" for index in range(len(found))]
    feeds = feeds_of(SPEC, network.noise, 2)
    before = run(model, feeds)
    for info in network.noise:  # each one matters, and those of a sample to this sample alone
        other = feeds[info.name].copy()
        other[1] = other[1] + 1 if info.distribution == "normal" else 1 - other[1]
        after = run(model, {**feeds, info.name: other})
        np.testing.assert_array_equal(after[0], before[0])
        assert np.abs(after[1] - before[1]).max() > 1e-3, info


@pytest.mark.parametrize("kind", [kind for kind in EVERY_KIND if kind != "one for all"])
def test_the_numbers_are_distributed_as_those_of_pytorch(kind: str) -> None:
    draw = EVERY_KIND[kind][0]
    generator = np.random.default_rng(1)

    def take(distribution: str, shape: Any, what: str) -> Tensor:
        fill = generator.standard_normal if distribution == "normal" else generator.random
        return torch.from_numpy(fill(tuple(shape), np.float32))

    torch.manual_seed(2)
    x = torch.linspace(-1, 1, 48).reshape(1, *SHAPE).expand(4000, *SHAPE)
    with GivenNoise(take):
        ours = draw(x)
    theirs = draw(x)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    mean, spread = theirs.mean(0), theirs.std(0)
    tolerance = 0.1 * float(spread.max())  # of 4000 samples; five times the standard error
    np.testing.assert_allclose(ours.mean(0), mean, atol=tolerance)
    np.testing.assert_allclose(ours.std(0), spread, atol=tolerance)


def test_what_was_drawn_is_told() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(0.25))

        def forward(self, x: Tensor) -> Tensor:
            return self.up(x) + torch.randn_like(x)

    network = from_module(nn.Sequential(Block(), Block()), as_in_training=["dropout"])
    assert network.noise == ()
    network.to_onnx(SPEC)
    assert [info.what for info in network.noise] == [
        "dropout (p = 0.25) in 0.up.1",
        "randn_like in 0",
        "dropout (p = 0.25) in 1.up.1",
        "randn_like in 1",
    ]


def test_dropout_that_drops_nothing_needs_no_noise() -> None:
    def draw(x: Tensor) -> Tensor:
        everything = functional.dropout(x, 1.0, True)
        return functional.dropout(x, 0.0, True) + functional.dropout(x, 0.5, False) + everything

    network = from_module(Draws(draw))
    assert_same(network, SPEC, (2,))
    assert network.noise == ()


def test_numbers_for_the_whole_batch() -> None:
    network = from_module(Draws(lambda x: torch.randn(4, 4)))
    with pytest.raises(
        ExportError,
        match=r"draws random numbers that are the same for the whole batch: randn, \[4, 4\] for a batch "
        r"of one and \[4, 4\] for a batch of two \(at test_randomness.py:\d+\).*x.shape\[0\].*batch = 1 in "
        r"\[output\]",
    ):
        network.to_onnx(SPEC)
    alone = spec_of(image(*SHAPE), max_batch=1)
    assert_same(network, alone, (1,))
    assert [info.size for info in network.noise] == [(4, 4)]


def test_reference_wants_the_noise() -> None:
    network = from_module(Draws(torch.randn_like))
    network.to_onnx(SPEC)
    feeds = feeds_of(SPEC, network.noise, 2)
    first = network.reference(feeds)["generated"]
    torch.manual_seed(5)
    np.testing.assert_array_equal(network.reference(feeds)["generated"], first)
    with pytest.raises(
        ValueError, match=r"nothing came for the input 'noise_0'; float32\[N, \*\[3, 4, 4\]\]"
    ):
        network.reference({"image": feeds["image"]})


# --- what is refused -----------------------------------------------------------------------------------


def in_a_loop(x: Tensor) -> Tensor:
    return torch.stack([torch.randn(3, 4, 4) for _ in range(x.shape[0])])


def once() -> Callable[[Tensor], Any]:
    kept: list[Tensor] = []

    def draw(x: Tensor) -> Tensor:
        kept.append(kept[0] if kept else torch.randn_like(x))
        return kept[0]

    return draw


def by_value(x: Tensor) -> Tensor:
    return torch.randn_like(x) if x.mean() > 0 else torch.rand_like(x)


def seeded(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return torch.zeros_like(x)


def seeded_for_itself(x: Tensor) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.randn_like(x)


def attention(x: Tensor) -> Tensor:
    flat = x.flatten(2).movedim(1, 2)
    return (
        functional.scaled_dot_product_attention(flat, flat, flat, dropout_p=0.5)
        .movedim(1, 2)
        .reshape(x.shape)
    )


REFUSED: list[tuple[Callable[[Tensor], Any], str]] = [
    (
        lambda x: torch.randint(0, 9, x.shape),
        r"by randint \(at test_randomness.py:\d+\).*draw with torch.randn",
    ),
    (lambda x: torch.randperm(4), r"by randperm .*take the numbers as a latent"),
    (lambda x: torch.multinomial(torch.ones(4), 1), "by multinomial"),
    (lambda x: torch.empty_like(x).exponential_(), "by exponential_"),
    (lambda x: functional.alpha_dropout(x, 0.5, True), "by alpha_dropout"),
    (attention, "by .*which cannot become an input"),
    (lambda x: random.random(), "by Python's random, which cannot become an input"),
    (lambda x: float(np.random.rand()), r"by numpy\.random"),  # noqa: NPY002 - as networks do
    (seeded, "by torch.manual_seed, or a function that is not seen"),
    (seeded_for_itself, r"Draws seeds its random numbers itself \(randn_like, at test_randomness.py:\d+\)"),
    (
        lambda x: torch.randn(x.shape, generator=torch.Generator()),
        r"randn draws from a generator of its own.*in __init__",
    ),
    (lambda x: torch.randn(x.shape, out=torch.empty(x.shape)), "randn writes to out="),
    (
        in_a_loop,
        r"draws randn \[3, 4, 4\] for one sample and randn \[3, 4, 4\], randn \[3, 4, 4\] for two; the",
    ),
    (once(), r"draws randn_like \[1, 3, 4, 4\] for one sample and nothing for two; the same draws"),
    (
        lambda x: torch.randn(1),
        r"the same for the whole batch: randn, \[1\] for a batch of one and \[1\] for a batch of two",
    ),
    (
        lambda x: torch.randn(1, 4, 4),
        r"one sample at a time: .* or draws random numbers \(noise_0\) without the batch first",
    ),
    (by_value, r"draws rand(n)?_like \[1, 3, 4, 4\] for one sample and rand(n)?_like .*torch.where chooses"),
    (lambda x: functional.dropout1d(x[:, :, 0, 0], 0.5).sum(), r"dropout of channels got \[1, 3\]"),
    (lambda x: torch.randn(4, 4, dtype=torch.complex64).real, "random numbers of torch.complex64"),
]


@pytest.mark.parametrize(("draw", "message"), REFUSED)
def test_what_cannot_become_an_input_is_refused(draw: Callable[[Tensor], Any], message: str) -> None:
    state = random.getstate()
    try:
        with pytest.raises(ExportError, match=message):
            from_module(Draws(draw)).to_onnx(SPEC)
    finally:
        random.setstate(state)


def test_a_network_that_remembers_is_refused() -> None:
    class Remembers(Draws):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x) * self.calls

    with pytest.raises(
        ExportError, match=r"two results for the same inputs: .* keeps something from one call"
    ):
        from_module(Remembers()).to_onnx(SPEC)


def test_segmentation_names_what_is_random() -> None:
    network = from_module(Draws(lambda x: functional.dropout(x, 0.5)))
    with pytest.raises(
        ExportError,
        match=r"the same image: dropout \(p = 0.5\) \(at test_randomness.py:\d+\) is still active",
    ):
        network.to_onnx(NetworkSpec.of_image((4, 4), 3, (HeadOutput("scene"),)))
    assert network.noise == ()


def test_the_random_numbers_of_the_process_are_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    drawn_by(lambda: torch.randn(2), "net")
    torch.testing.assert_close(torch.rand(3), expected)


# --- files ----------------------------------------------------------------------------------------------


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(4, 48)

    def forward(self, z: Tensor) -> Tensor:
        x = self.body(z).reshape(z.shape[0], 3, 4, 4)
        x = functional.dropout(x + torch.randn(z.shape[0], 1, 4, 4), 0.3, True)
        x = x + torch.bernoulli(torch.sigmoid(x)) * torch.rand_like(x)
        return x * torch.rand(z.shape[0] * 3, 4, 4).reshape(z.shape[0], 3, 4, 4)


SIZES = [(1, 4, 4), SHAPE, SHAPE, SHAPE, SHAPE]


def test_exported_programs_and_onnx_give_their_noise(tmp_path: Path) -> None:
    with quiet():
        program = torch.export.export(
            Noisy(), (torch.zeros(2, 4),), dynamic_shapes=({0: torch.export.Dim("n")},)
        )
        torch.export.save(program, tmp_path / "net.pt2")
        torch.onnx.export(program, (), tmp_path / "net.onnx", dynamo=True, verbose=False)
    spec = spec_of(latent(4))
    program_network = open_network(ModelSection(exported=str(tmp_path / "net.pt2")))
    assert_same(program_network, spec)
    assert [info.size for info in program_network.noise] == SIZES
    onnx_network = open_network(ModelSection(onnx=str(tmp_path / "net.onnx")))
    assert_same(onnx_network, spec)
    assert [info.size for info in onnx_network.noise] == SIZES
    assert onnx_network.noise[1].what == "Dropout (p = 0.3)"
    feeds = feeds_of(spec, program_network.noise, 3)
    np.testing.assert_allclose(
        onnx_network.reference(feeds)["generated"], program_network.reference(feeds)["generated"], atol=1e-5
    )


def test_an_exported_segmentation_network_that_drops_is_refused(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Dropout(0.5))
    with quiet():
        torch.export.save(torch.export.export(net.train(), (torch.zeros(2, *SHAPE),)), tmp_path / "net.pt2")
    network = open_network(ModelSection(exported=str(tmp_path / "net.pt2")))
    with pytest.raises(
        ExportError, match=r"exported in training mode \(aten.dropout.default\); call model.eval"
    ):
        network.to_onnx(NetworkSpec.of_image((4, 4), 3, (HeadOutput("scene"),)))


def test_torchscript_that_draws_is_refused(tmp_path: Path) -> None:
    with quiet():
        torch.jit.save(torch.jit.script(Noisy().eval()), tmp_path / "net.pt")
    network = open_network(ModelSection(torchscript=str(tmp_path / "net.pt")))
    with pytest.raises(
        ExportError,
        match=r"net.pt draws random numbers by randn .*TorchScript calls it.*export the PyTorch module",
    ):
        network.to_onnx(spec_of(latent(4)))


def random_onnx(path: Path, *nodes: Any, shape: tuple[int | str, ...] = ("n", *SHAPE)) -> ModelSection:
    """A network of these nodes, from `x` to `y`."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    constants = [
        helper.make_tensor("ratio", TensorProto.FLOAT, [], [0.25]),
        helper.make_tensor("training", TensorProto.BOOL, [], [True]),
    ]
    graph = helper.make_graph(list(nodes), "random", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return ModelSection(onnx=str(path))


def test_onnx_with_parameters_and_a_mask(tmp_path: Path) -> None:
    section = random_onnx(
        tmp_path / "net.onnx",
        helper.make_node("RandomNormal", [], ["a"], shape=[1, *SHAPE], mean=2.0, scale=3.0, seed=4.0),
        helper.make_node("RandomUniformLike", ["x"], ["b"], low=-1.0, high=3.0),
        helper.make_node("Dropout", ["x", "ratio", "training"], ["c", "kept"]),
        helper.make_node("Cast", ["kept"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Sum", ["a", "b", "c", "mask"], ["y"]),
    )
    network = open_network(section)
    spec = spec_of(image(*SHAPE))
    assert_same(network, spec)
    feeds = feeds_of(spec, network.noise, 2)
    normal, uniform, kept = feeds["noise_0"], feeds["noise_1"], feeds["noise_2"] >= 0.25
    expected = 2 + 3 * normal - 1 + 4 * uniform + feeds["image"] * kept / 0.75 + kept
    np.testing.assert_allclose(network.reference(feeds)["generated"], expected, atol=1e-5)


def test_onnx_that_cannot_be_changed_is_refused(tmp_path: Path) -> None:
    spec = spec_of(image(*SHAPE))
    path = tmp_path / "net.onnx"
    chosen = helper.make_node("Multinomial", ["flat"], ["chosen"], "pick", sample_size=48)
    section = random_onnx(
        path,
        helper.make_node("Flatten", ["x"], ["flat"]),
        chosen,
        helper.make_node("Cast", ["chosen"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Reshape", ["cast", "shape"], ["y"]),
    )
    with pytest.raises(
        ExportError, match=r"node 'pick' is a Multinomial, whose numbers cannot be given.*model.eval"
    ):
        open_network(section).to_onnx(spec)
    computed = helper.make_node("Dropout", ["x", "share", "training"], ["y"], "drop")
    section = random_onnx(path, helper.make_node("ReduceMin", ["x"], ["share"], keepdims=0), computed)
    with pytest.raises(
        ExportError, match="node 'drop' is a Dropout, whose ratio or training mode is computed"
    ):
        open_network(section).to_onnx(spec)
    fixed = helper.make_node("RandomNormal", [], ["y"], "all", shape=[2, *SHAPE])
    with pytest.raises(ExportError, match="the same for the whole batch: RandomNormal"):
        open_network(random_onnx(path, fixed)).to_onnx(spec)
