"""From live modules to FP32 ONNX: any output, nothing touched, and failures that say what to do."""

from __future__ import annotations

import logging
import warnings
from collections import Counter, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.nn import functional

from pixelrt.errors import ExportError
from pixelrt_export.network import HeadOutput, NetworkSpec, from_module
from pixelrt_export.outputs import locate, pick

SIZE = (16, 24)
SCENE = (HeadOutput("scene"),)


def spec(
    *heads: HeadOutput, channels: int = 3, size: tuple[int, int] = SIZE, max_batch: int = 4
) -> NetworkSpec:
    return NetworkSpec.of_image(size, channels, heads or SCENE, max_batch)


def run(model: ModelProto, images: np.ndarray[Any, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


def images(count: int = 2, channels: int = 3, size: tuple[int, int] = SIZE) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=(count, channels, *size)).astype(np.float32)


def shapes(model: ModelProto) -> dict[str, list[int | str]]:
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }


class Net(nn.Module):
    """A convolution with batch norm, down, up by a transposed convolution with batch norm, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5))
        self.up = nn.Sequential(nn.ConvTranspose2d(8, 8, 2, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 4, 1)
        for norm in (self.down[1], self.up[1]):
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.up(self.down(x)))


class Wrapped(nn.Module):
    """Runs a function of the image and one convolution."""

    def __init__(self, function: Callable[[Tensor, nn.Conv2d], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.conv = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Any:
        return self.function(x, self.conv)


def test_batch_norm_is_folded_and_the_batch_is_dynamic() -> None:
    network = from_module(Net())
    model = network.to_onnx(spec())
    assert shapes(model) == {"image": ["batch", 3, *SIZE], "head_scene": ["batch", 4, *SIZE]}
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators == {"Conv": 2, "ConvTranspose": 1, "Relu": 2}
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [20]
    assert (network.description, network.checkpoint_sha256) == ("Net", "")
    for count in (1, 3):
        found = run(model, images(count))["head_scene"]
        np.testing.assert_allclose(found, network.reference({"image": images(count)})["scene"], atol=1e-5)
        np.testing.assert_allclose(found, Net().eval()(torch.from_numpy(images(count))).detach(), atol=1e-5)


@pytest.mark.parametrize("fails", [False, True])
def test_the_module_stays_as_it_was(fails: bool) -> None:
    net = Net().train().half()
    net.up.eval()
    net.head.weight.requires_grad_(False)
    seen: list[int] = []
    net.head.register_forward_hook(lambda *_: seen.append(1))
    before = {name: (id(t), t.dtype, t.requires_grad, t.clone()) for name, t in all_tensors(net).items()}
    modes = [part.training for part in net.modules()]
    if fails:
        with pytest.raises(ExportError, match="does not run at 15x24"):
            from_module(Skips(net)).to_onnx(spec(size=(15, 24)))
    else:
        model = from_module(net).to_onnx(spec())
        assert run(model, images())["head_scene"].dtype == np.float32
    after = all_tensors(net)
    assert [part.training for part in net.modules()] == modes
    assert len(net.head._forward_hooks) == 1
    for name, (identity, dtype, requires_grad, value) in before.items():
        assert (id(after[name]), after[name].dtype, after[name].requires_grad) == (
            identity,
            dtype,
            requires_grad,
        )
        assert torch.equal(after[name], value)


class Skips(nn.Module):
    """A skip connection around a network that halves and doubles."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.net(x), x], 1)


def all_tensors(net: nn.Module) -> dict[str, Tensor]:
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}


def test_nothing_is_printed_and_nothing_stays_muted(capfd: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("torch.onnx").level
    from_module(Net()).to_onnx(spec())
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("torch.onnx").level == level
    with pytest.warns(UserWarning, match="still heard"):
        warnings.warn("still heard", stacklevel=1)


# --- outputs ---------------------------------------------------------------------------------------


@dataclass
class Outputs:
    logits: Tensor
    hidden: Any = None


Pair = namedtuple("Pair", ["near", "far"])
MAP, OTHER, FLAT = torch.zeros(1, 4, 8, 8), torch.ones(1, 2, 8, 8), torch.zeros(1, 10)


@pytest.mark.parametrize(
    ("outputs", "output", "path", "expected"),
    [
        (MAP, None, (), MAP),
        (MAP, 0, (), MAP),
        ((MAP, FLAT), None, (0,), MAP),
        ([FLAT, MAP], 1, (1,), MAP),
        ([FLAT, MAP], -1, (1,), MAP),
        ({"out": MAP, "aux": OTHER}, "aux", ("aux",), OTHER),
        ({"out": MAP, "aux": OTHER}, 0, ("out",), MAP),
        ({0: MAP, 1: OTHER}, 1, (1,), OTHER),
        (Outputs(MAP, (OTHER, FLAT)), "logits", ("logits",), MAP),
        (Outputs(MAP, (OTHER, FLAT)), "hidden.0", ("hidden", 0), OTHER),
        (Outputs(FLAT, [{"a.b": OTHER}]), None, ("hidden", 0, "a.b"), OTHER),
        (Pair(MAP, OTHER), "far", ("far",), OTHER),
        (Pair(MAP, OTHER), 1, ("far",), OTHER),
        ({"decoder": [FLAT, {"x": MAP}]}, "decoder.1.x", ("decoder", 1, "x"), MAP),
    ],
)
def test_an_output_is_found(outputs: object, output: Any, path: tuple[Any, ...], expected: Tensor) -> None:
    head = HeadOutput("scene", output)
    assert pick(outputs, head) is expected
    assert locate(outputs, head) == path


@pytest.mark.parametrize(
    ("outputs", "output", "message"),
    [
        ((MAP, OTHER), None, r"0: float32\[1, 4, 8, 8\]; 1: float32\[1, 2, 8, 8\].*output = 0"),
        ({"out": MAP, "aux": OTHER}, None, r'"out": float32.*in \[\[head\]\], as in: output = "out"'),
        ({"x": [MAP, OTHER]}, None, r'output = "x.0"'),
        ({"out": MAP, "aux": OTHER}, "auxx", r"did you mean 'aux'"),
        ((MAP, OTHER), 2, r"asks for output 2, and the network returned a tuple with"),
        (FLAT, None, r"returned one float32\[1, 10\]; a float tensor \[batch, classes"),
        ({"out": FLAT}, "out", r"'out', which is one float32\[1, 10\]; one float tensor"),
        (MAP.argmax(1, keepdim=True), None, r"one int64\[1, 1, 8, 8\]"),
        ((), None, r"a tuple with no tensors"),
        (None, None, r"a NoneType with no tensors"),
    ],
)
def test_an_output_that_is_not_there_is_explained(outputs: object, output: Any, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        pick(outputs, HeadOutput("scene", output))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, conv: {"out": conv(x), "aux": conv(x)[:, :1] * 2},
        lambda x, conv: Outputs(conv(x), (x.mean(), conv(x)[:, :1] * 2)),
    ],
)
def test_two_heads(function: Callable[..., Any]) -> None:
    keys = (
        ("out", "aux")
        if isinstance(function(torch.zeros(1, 3, 8, 8), nn.Conv2d(3, 2, 1)), dict)
        else (
            "logits",
            "hidden.1",
        )
    )
    heads = HeadOutput("scene", keys[0]), HeadOutput("lane", keys[1])
    network = from_module(Wrapped(function))
    found = run(network.to_onnx(spec(*heads)), images())
    assert list(found) == ["head_scene", "head_lane"]
    for name, value in network.reference({"image": images()}).items():
        np.testing.assert_allclose(found[f"head_{name}"], value, atol=1e-5)
    assert found["head_lane"].shape == (2, 1, *SIZE)


# --- failures ----------------------------------------------------------------------------------------


def skip_connection(x: Tensor, conv: nn.Conv2d) -> Tensor:
    y = functional.max_pool2d(functional.max_pool2d(conv(x), 2), 2)
    return torch.cat([conv(x), functional.interpolate(y, scale_factor=4.0)], 1)


def decides_by_values(x: Tensor, conv: nn.Conv2d) -> Tensor:
    return conv(x) * 2 if x.mean() > 0 else conv(x)


@pytest.mark.parametrize(
    ("function", "wanted", "message"),
    [
        (skip_connection, spec(size=(18, 24)), r"does not run at 18x24.*nearest that work: 16x24 or 20x24"),
        (skip_connection, spec(size=(3, 8)), r"nearest that work: 4x8\."),
        (lambda x, conv: conv(x), spec(channels=4), r"takes 3 channels, and mean and std are given for 4"),
        (lambda x, conv: conv(x)[:, 5], spec(), r"at no size near it.*index 5 is out of bounds"),
        (
            decides_by_values,
            spec(),
            r"by the values of a tensor; replace the if by torch.where.*in decides_by",
        ),
        (
            lambda x, conv: functional.dropout(conv(x)),
            spec(),
            r"two results for the same image.*self.training",
        ),
        (
            lambda x, conv: functional.batch_norm(conv(x), None, None, training=True),
            spec(),
            r"another result for an image when a second one is in the batch",
        ),
        (
            lambda x, conv: conv(x.reshape(1, 3, 16, 24)),
            spec(),
            r"one image at a time.*batch = 1 in \[input\]",
        ),
        (lambda x, conv: torch.linalg.svd(conv(x)).U, spec(), r"torch.onnx cannot express Wrapped: .*svd"),
    ],
)
def test_what_cannot_be_exported_says_what_to_do(
    function: Callable[..., Any], wanted: NetworkSpec, message: str
) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        from_module(Wrapped(function)).to_onnx(wanted)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_a_batch_of_one_is_exported_where_it_is_asked_for() -> None:
    network = from_module(Wrapped(lambda x, conv: conv(x.reshape(1, 3, 16, 24))))
    model = network.to_onnx(spec(max_batch=1))
    assert shapes(model) == {"image": [1, 3, *SIZE], "head_scene": [1, 2, *SIZE]}
    np.testing.assert_allclose(
        run(model, images(1))["head_scene"], network.reference({"image": images(1)})["scene"], atol=1e-5
    )


def test_a_batch_size_that_only_the_exporter_sees() -> None:
    network = from_module(Wrapped(lambda x, conv: conv(x) + torch.ones(int(x.shape[0]), 1, 1, 1)))
    with pytest.raises(ExportError, match=r"writes the batch size 2 into the network.*use image\.shape\[0\]"):
        network.to_onnx(spec())
    assert shapes(network.to_onnx(spec(max_batch=1)))["image"][0] == 1


class PixelNorm(nn.Module):
    """As in a StyleGAN: what is 0 in all channels stays 0, thanks to the epsilon."""

    def forward(self, x: Tensor) -> Tensor:
        return 3 * x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def test_a_tiny_epsilon_is_not_taken_for_nothing() -> None:
    network = from_module(PixelNorm())
    model = network.to_onnx(spec())
    given = images()
    given[0, :, 2] = 0
    given[1, :, :, 3] *= 1e-4
    expected = network.reference({"image": given})["scene"]
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(run(model, given)["head_scene"], expected, rtol=1e-5)


def test_modules_without_weights_are_refused() -> None:
    with torch.device("meta"):
        meta = nn.Conv2d(3, 2, 1)
    for module in (meta, nn.LazyConv2d(2, 1)):
        with pytest.raises(ExportError, match="weights without values"):
            from_module(module)
    with pytest.raises(ExportError, match=r"a function, a torch\.nn\.Module was expected"):
        from_module(functional.relu)  # type: ignore[arg-type]


def test_a_module_that_cannot_be_copied_is_explained() -> None:
    net = Wrapped(lambda x, conv: conv(x))
    net.file = (line for line in "abc")  # generators cannot be copied
    with pytest.raises(ExportError, match=r"cannot be copied \(TypeError: cannot pickle 'generator'"):
        from_module(net)


def test_weight_norm_and_plain_tensor_attributes_are_copied() -> None:
    class Old(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.conv = torch.nn.utils.weight_norm(nn.Conv2d(3, 2, 1))
            self.other = torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 1))
            self.scale = torch.tensor([2.0], dtype=torch.float64)

        def forward(self, x: Tensor) -> Tensor:
            return self.other(self.conv(x)) * self.scale.to(x.dtype)

    net = Old()
    net(torch.zeros(1, 3, 4, 4))
    network = from_module(nn.DataParallel(net))
    assert network.description == "Old"
    found = run(network.to_onnx(spec()), images())["head_scene"]
    with torch.no_grad():
        np.testing.assert_allclose(found, net(torch.from_numpy(images())), atol=1e-5)
    assert net.scale.dtype == torch.float64
