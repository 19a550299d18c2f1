"""Networks that others wrote, in every form that a recipe may name; and files that are no networks."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from monai.networks.nets import AttentionUnet
from monai.networks.nets import UNet as MonaiUNet
from onnx import ModelProto, TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from pixelrt.errors import CheckpointError, ExportError, RecipeError
from pixelrt_export.fuse import FuseSpec, HeadSpec, fuse
from pixelrt_export.models import UNet
from pixelrt_export.network import HeadOutput, Network, NetworkSpec, from_module, open_network
from pixelrt_export.precision import to_precision
from pixelrt_export.quiet import quiet
from pixelrt_export.recipe import ModelSection

SIZE = (32, 48)
SCENE = (HeadOutput("scene"),)


class Two(nn.Module):
    """Returns what `form` makes of two maps."""

    def __init__(self, form: str = "dict") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form = form
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.out, self.aux = nn.Conv2d(8, 5, 1), nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Any:
        features = self.body(x)
        out, aux = self.out(features), self.aux(features)
        return {"dict": {"out": out, "aux": aux}, "tuple": (out, (aux, out)), "one": out}[self.form]


def monai_unet() -> nn.Module:
    return MonaiUNet(2, 3, 4, channels=(8, 16, 32), strides=(2, 2), num_res_units=1)


def monai_attention() -> nn.Module:
    return AttentionUnet(2, 3, 4, channels=(8, 16, 32), strides=(2, 2))


def monai_binary() -> nn.Module:
    return MonaiUNet(2, 4, 1, channels=(8, 16, 32), strides=(2, 2), norm="batch", dropout=0.2)


def segformer() -> nn.Module:
    config = SegformerConfig(
        num_labels=5,
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 24, 32],
        num_attention_heads=[1, 2, 2, 4],
        decoder_hidden_size=32,
        initializer_range=0.3,
    )
    return SegformerForSemanticSegmentation(config)


def run(model: ModelProto, **feeds: np.ndarray[Any, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def images(count: int = 2, channels: int = 3, size: tuple[int, int] = SIZE) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=(count, channels, *size)).astype(np.float32)


def converted(
    network: Network, heads: tuple[HeadOutput, ...] = SCENE, channels: int = 3, max_batch: int = 4
) -> ModelProto:
    """Export, and compare with the original."""
    model = network.to_onnx(NetworkSpec.of_image(SIZE, channels, heads, max_batch))
    count = 3 if max_batch > 1 else 1
    found = run(model, image=images(count, channels))
    expected = network.reference({"image": images(count, channels)})
    assert list(found) == [f"head_{head.name}" for head in heads]
    for name, value in expected.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(found[f"head_{name}"], value, atol=1e-5 * np.abs(value).max() + 1e-6)
    first = model.graph.input[0].type.tensor_type.shape.dim[0]
    assert (first.dim_param or first.dim_value) == ("batch" if max_batch > 1 else 1)
    return model


# --- networks that others wrote ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "heads", "channels", "output_size"),
    [
        (monai_unet, SCENE, 3, SIZE),
        (monai_attention, SCENE, 3, SIZE),
        (monai_binary, SCENE, 4, SIZE),
        (segformer, SCENE, 3, (8, 12)),
        (Two, (HeadOutput("scene", "out"), HeadOutput("lane", "aux")), 3, SIZE),
    ],
    ids=["monai-unet", "monai-attention-unet", "4-channels-sigmoid", "segformer", "out-and-aux"],
)
def test_foreign_networks_become_deployed_graphs(
    make: Callable[[], nn.Module], heads: tuple[HeadOutput, ...], channels: int, output_size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    network = from_module(make())
    model = converted(network, heads, channels)
    assert "BatchNormalization" not in Counter(node.op_type for node in model.graph.node)
    calibration = [{"image": images(1, channels)}]
    typed, report = to_precision(model, calibration, "fp16")
    assert report.counts["fp16"] > report.counts.get("fp32", 0)
    frames = np.random.default_rng(2).integers(0, 256, (2, *SIZE, channels), dtype=np.uint8)
    normalised = ((frames.transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25).astype(np.float32)
    expected = network.reference({"image": normalised})
    specs = tuple(
        HeadSpec(
            name=name,
            activation="sigmoid" if value.shape[1] == 1 else "softmax",
            emit=("mask", "confidence", "logits"),
        )
        for name, value in expected.items()
    )
    fused, *_ = fuse(typed, FuseSpec(heads=specs, mean=(0.5,) * channels, std=(0.25,) * channels))
    found = run(fused, frame=frames)
    for name, value in expected.items():
        assert value.shape[2:] == output_size
        logits = functional.interpolate(torch.from_numpy(value), SIZE, mode="bilinear").numpy()
        prefix = f"{name}." if len(heads) > 1 else ""
        tolerance = 5e-3 * np.abs(logits).max()
        np.testing.assert_allclose(found[f"{prefix}logits"], logits, atol=tolerance)
        mask = logits[:, 0] >= 0 if logits.shape[1] == 1 else logits.argmax(1)
        assert (found[f"{prefix}mask"] == mask).mean() > 0.99


# --- files -------------------------------------------------------------------------------------------


def saved(net: nn.Module, path: Path, how: str, batch: int = 2, **dynamic: Any) -> ModelSection:
    """Save a network in one of the forms that a recipe may name."""
    image = torch.zeros(batch, 3, *SIZE)
    with quiet(), torch.no_grad():
        if how == "trace":
            torch.jit.save(torch.jit.trace(net.eval(), image, strict=False), path)
        elif how == "script":
            torch.jit.save(torch.jit.script(net.eval()), path)
        elif how == "exported":
            torch.export.save(torch.export.export(net.eval(), (image,), **dynamic), path)
    return ModelSection(**{"exported" if how == "exported" else "torchscript": str(path)})


DYNAMIC = {"dynamic_shapes": ({0: torch.export.Dim("n")},)}


@pytest.mark.parametrize(
    ("make", "how", "heads"),
    [
        (lambda: UNet(3, 2, (4, 8)), "trace", SCENE),
        (monai_unet, "script", SCENE),
        (lambda: Two("tuple"), "trace", (HeadOutput("scene", "1.1"), HeadOutput("lane", "1.0"))),
        (Two, "trace", (HeadOutput("scene", "out"), HeadOutput("lane", "aux"))),
    ],
    ids=["trace", "script-with-loops", "nested-tuple", "dict"],
)
def test_torchscript(
    tmp_path: Path, make: Callable[[], nn.Module], how: str, heads: tuple[HeadOutput, ...]
) -> None:
    torch.manual_seed(0)
    network = open_network(saved(make(), tmp_path / "net.pt", how))
    assert network.description == "net.pt"
    assert len(network.checkpoint_sha256) == 64
    model = converted(network, heads)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def test_an_exported_program_with_a_dynamic_batch(tmp_path: Path) -> None:
    section = saved(Two(), tmp_path / "net.pt2", "exported", **DYNAMIC)
    model = converted(open_network(section), (HeadOutput("scene", "out"), HeadOutput("lane", "aux")))
    assert Counter(node.op_type for node in model.graph.node) == {"Conv": 3, "Relu": 1}


def test_an_exported_program_for_one_image(tmp_path: Path) -> None:
    network = open_network(saved(Two("one"), tmp_path / "net.pt2", "exported", batch=1))
    with pytest.raises(ExportError, match=r"net.pt2 takes one image at a time.*batch = 1 in \[input\]"):
        converted(network)
    model = converted(network, max_batch=1)
    fused, *_ = fuse(model, FuseSpec(heads=(HeadSpec(name="scene"),), mean=(0.5,) * 3, std=(0.25,) * 3))
    assert run(fused, frame=np.zeros((1, 50, 60, 3), np.uint8))["mask"].shape == (1, *SIZE)


def test_an_exported_program_with_limits_of_its_batch(tmp_path: Path) -> None:
    def limited(**limits: int) -> Network:
        shapes = ({0: torch.export.Dim("n", **limits)},)
        section = saved(Two("one"), tmp_path / "net.pt2", "exported", batch=4, dynamic_shapes=shapes)
        return open_network(section)

    network = limited(max=8)
    for batch in (3, 8):
        converted(network, max_batch=batch)
    for task, option in (("segmentation", "batch=8"), ("generation", r'output=\{"range": ..., "batch": 8\}')):
        spec = dataclasses.replace(NetworkSpec.of_image(SIZE, 3, SCENE, 9), task=task)
        message = rf"a batch of at most 8, and batch is 9; set batch = 8 in \[.*\] \(in Python {option}\), or"
        with pytest.raises(ExportError, match=message):
            network.to_onnx(spec)
    with pytest.raises(ExportError, match=r"a batch of at least 3, and it must take 1; .*Dim\.AUTO"):
        limited(min=3).to_onnx(NetworkSpec.of_image(SIZE, 3, SCENE))


def test_an_exported_program_with_a_keyword(tmp_path: Path) -> None:
    class Keyword(Two):
        def forward(self, *, pixel_values: Tensor) -> Any:
            return super().forward(pixel_values)

    image = {"pixel_values": torch.zeros(2, 3, *SIZE)}
    with quiet():
        program = torch.export.export(
            Keyword("one").eval(), (), image, dynamic_shapes={"pixel_values": {0: torch.export.Dim("n")}}
        )
        torch.export.save(program, tmp_path / "net.pt2")
    converted(open_network(ModelSection(exported=str(tmp_path / "net.pt2"))))


def test_an_exported_program_that_does_not_fit_is_explained(tmp_path: Path) -> None:
    network = open_network(saved(Two("one"), tmp_path / "net.pt2", "exported", **DYNAMIC))
    with pytest.raises(ExportError, match=r"for 32x48 \(H x W\), and 40x48 is wanted; set size = \[32, 48\]"):
        network.to_onnx(NetworkSpec.of_image((40, 48), 3, SCENE))
    with pytest.raises(ExportError, match=r"takes 3 channels, and mean and std are given for 4"):
        network.to_onnx(NetworkSpec.of_image(SIZE, 4, SCENE))
    with quiet():
        torch.export.save(
            torch.export.export(monai_binary().train(), (torch.zeros(2, 4, *SIZE),)), tmp_path / "net.pt2"
        )
    with pytest.raises(
        ExportError, match=r"exported in training mode \(aten\.\w+\.default\); call model.eval"
    ):
        open_network(ModelSection(exported=str(tmp_path / "net.pt2")))
    with quiet():
        half = torch.zeros(1, 3, *SIZE, dtype=torch.bfloat16)
        program = torch.export.export(nn.Conv2d(3, 2, 1).to(torch.bfloat16), (half,))
        torch.export.save(program, tmp_path / "net.pt2")
    with pytest.raises(ExportError, match=r"takes torch.bfloat16, float32 was expected"):
        open_network(ModelSection(exported=str(tmp_path / "net.pt2")))


# --- ONNX --------------------------------------------------------------------------------------------


def small_onnx(
    dims: tuple[int | str, ...] = ("N", 3, "H", "W"),
    *,
    opset: int = 13,
    kind: int = TensorProto.FLOAT,
    extra: bool = False,
) -> ModelProto:
    """ONNX as another tool writes it: an inner tensor is called `head_scene`, and there are two outputs."""
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(size=(4, 3, 3, 3)),
        "gamma": rng.normal(size=4),
        "beta": rng.normal(size=4),
        "mean": rng.normal(size=4),
        "var": rng.uniform(1, 2, size=4),
    }
    nodes = [
        helper.make_node("Conv", ["data", "w"], ["head_scene"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["head_scene", "gamma", "beta", "mean", "var"], ["bn"]),
        helper.make_node("Relu", ["bn"], ["logits"]),
        helper.make_node("MaxPool", ["logits"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["logits"], ["pooled"]),
    ]
    inputs = [helper.make_tensor_value_info("data", kind, dims)]
    if extra:
        inputs.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1]))
    graph = helper.make_graph(
        nodes,
        "net",
        inputs,
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4, "H", "W"]),
            helper.make_tensor_value_info("half", TensorProto.FLOAT, ["N", 4, "h", "w"]),
        ],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def opened(model: ModelProto, folder: Path) -> Network:
    onnx.save(model, folder / "net.onnx")
    return open_network(ModelSection(onnx=str(folder / "net.onnx")))


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("dims", [("N", 3, "H", "W"), (1, 3, *SIZE), ("N", "C", "H", "W")])
def test_onnx_of_other_tools(tmp_path: Path, opset: int, dims: tuple[int | str, ...]) -> None:
    network = opened(small_onnx(dims, opset=opset), tmp_path)
    heads = (HeadOutput("scene", "logits"), HeadOutput("small", 1))
    model = converted(network, heads)
    assert [value.name for value in model.graph.input] == ["image"]
    assert Counter(node.op_type for node in model.graph.node) == {"Conv": 1, "Relu": 1, "MaxPool": 1}
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [opset]
    small = model.graph.output[1].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in small] == ["batch", 4, 16, 24]


def test_onnx_with_its_weights_in_another_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(small_onnx(), path, save_as_external_data=True, location="net.bin", size_threshold=0)
    converted(open_network(ModelSection(onnx=str(path))), (HeadOutput("scene", "logits"),))
    (tmp_path / "net.bin").unlink()
    with pytest.raises(CheckpointError, match=r"keeps its weights in another file that cannot be read"):
        open_network(ModelSection(onnx=str(path)))


def half_weights(model: ModelProto) -> ModelProto:
    weight = numpy_helper.to_array(model.graph.initializer[0]).astype(np.float16)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    return model


@pytest.mark.parametrize(
    ("model", "head", "message"),
    [
        (small_onnx(("N", "H", "W", 3)), "logits", r"has the shape \['N', 'H', 'W', 3\], channels last"),
        (small_onnx(("N", 32, 48, 3)), "logits", r"'data' has the shape \['N', 32, 48, 3\], channels last"),
        (
            small_onnx(("N", 3, 64, 96)),
            "logits",
            r"for 64x96 \(H x W\), .*32x48 is wanted; set size = \[64, 96\]",
        ),
        (small_onnx(("N", 4, "H", "W")), "logits", r"takes 4 channels, and mean and std are given for 3"),
        (small_onnx(("N", 3, "H")), "logits", r"has the shape \['N', 3, 'H'\], \[batch, channels, height"),
        (small_onnx(kind=TensorProto.UINT8), "logits", r"the input 'data' is uint8, float32 was expected"),
        (
            small_onnx(kind=TensorProto.FLOAT16),
            "logits",
            r"the input 'data' is float16, float32 was expected",
        ),
        (small_onnx(extra=True), "logits", r"has 2 inputs \(data, scale\), one image was expected"),
        (half_weights(small_onnx()), "logits", r"holds 1 half-precision tensors \(w, ...\), FP32"),
        (small_onnx(opset=11), "logits", r"operator set 11, 13 or newer was expected"),
        (small_onnx(), None, r"has 'logits' \['N', 4, 'H', 'W'\]; 'half' .*output = \"logits\""),
        (small_onnx(), "logit", r"output 'logit' \(did you mean 'logits'\?\), and net.onnx has"),
        (small_onnx(), 2, r"output 2, and net.onnx has \['logits', 'half'\]"),
    ],
)
def test_onnx_that_does_not_fit_is_explained(
    tmp_path: Path, model: ModelProto, head: str | int | None, message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        opened(model, tmp_path).to_onnx(NetworkSpec.of_image(SIZE, 3, (HeadOutput("scene", head),)))


def test_onnx_that_takes_one_image_only(tmp_path: Path) -> None:
    model = small_onnx((1, 3, *SIZE))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 4, *SIZE]), "shape"))
    model.graph.node.append(helper.make_node("Reshape", ["logits", "shape"], ["fixed"]))
    model.graph.output.append(helper.make_tensor_value_info("fixed", TensorProto.FLOAT, [1, 4, *SIZE]))
    network = opened(model, tmp_path)
    with pytest.raises(ExportError, match=r"takes one image at a time"):
        converted(network, (HeadOutput("scene", "fixed"),))
    converted(network, (HeadOutput("scene", "fixed"),), max_batch=1)


def test_onnx_of_a_network_with_a_stride_names_the_sizes_that_work(tmp_path: Path) -> None:
    model = small_onnx()
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"))
    model.graph.node.append(helper.make_node("Resize", ["half", "", "scales"], ["double"], mode="nearest"))
    model.graph.node.append(helper.make_node("Concat", ["double", "logits"], ["joined"], axis=1))
    model.graph.output.append(helper.make_tensor_value_info("joined", TensorProto.FLOAT, ["N", 8, "H", "W"]))
    network = opened(model, tmp_path)
    heads = (HeadOutput("scene", "joined"),)
    converted(network, heads)
    with pytest.raises(ExportError, match=r"does not run at 33x48.*nearest that work: 32x48 or 34x48"):
        network.to_onnx(NetworkSpec.of_image((33, 48), 3, heads))


# --- files that are no networks ----------------------------------------------------------------------


class Mine(nn.Conv2d):
    """A class that only the one who pickled it has."""


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["PIXELRT_TEST_EVIL"],)


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


FORMS = {"onnx": "net.onnx", "torchscript": "net.pt", "exported": "net.pt2", "checkpoint": "net.pth"}


def section_of(form: str, path: Path) -> ModelSection:
    if form == "checkpoint":
        return ModelSection(
            entry="torch.nn:Conv2d",
            args={"in_channels": 3, "out_channels": 2, "kernel_size": 1},
            checkpoint=str(path),
        )
    return ModelSection(**{form: str(path)})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", r"Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>please sign in</html>", r"is a web page, not a model"),
        (b"\xef\xbb\xbf<!-- proxy --><html>please sign in</html>", r"is a web page, not a model"),
        (b"vtrt" + bytes(99), r"is a TensorRT engine, from which nothing can be exported"),
        (b"something else entirely" * 50, r"something else|was cut short|holds more than tensors"),
    ],
    ids=["empty", "lfs-pointer", "web-page", "web-page-behind-a-comment", "engine", "nonsense"],
)
def test_what_is_no_model_is_refused(tmp_path: Path, form: str, content: bytes, message: str) -> None:
    path = tmp_path / FORMS[form]
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        open_network(section_of(form, path))
    path.unlink()
    with pytest.raises(CheckpointError, match=r"does not exist"):
        open_network(section_of(form, path))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("state", r"net.onnx is a PyTorch file, ONNX was expected; for weights use entry and checkpoint"),
        ("old", r"net.onnx is a PyTorch file, ONNX was expected"),
        ("trace", r"net.onnx is a PyTorch file, .* for TorchScript torchscript"),
        ("exported", r"net.onnx is a PyTorch file, .* for a .pt2 exported"),
        ("safetensors", r"net.onnx is safetensors, weights alone; use entry and checkpoint"),
        ("zip", r"net.onnx is a zip archive, ONNX was expected; unpack it"),
    ],
)
def test_what_is_called_onnx_and_is_something_else(tmp_path: Path, what: str, message: str) -> None:
    path = tmp_path / "net.onnx"
    state = nn.Conv2d(3, 2, 1).state_dict()
    if what in ("state", "old"):
        torch.save(state, path, _use_new_zipfile_serialization=what == "state")
    elif what == "safetensors":
        save_file(state, path)
    elif what == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inner.onnx", small_onnx().SerializeToString())
    else:
        saved(Two("one"), path, what)
    with pytest.raises(CheckpointError, match=message):
        open_network(ModelSection(onnx=str(path)))


def test_onnx_is_loaded_once_and_not_for_every_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    session = onnxruntime.InferenceSession
    network = opened(small_onnx(), tmp_path)
    with pytest.raises(RuntimeError, match=r"call to_onnx\(\) first"):
        network.reference({"image": images()})
    network.to_onnx(NetworkSpec.of_image(SIZE, 3, (HeadOutput("scene", "logits"),)))
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda *given, **named: made.append(given) or session(*given, **named),
    )
    assert [network.reference({"image": images()})["scene"].shape for _ in range(3)] == [(2, 4, *SIZE)] * 3
    assert made == []


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, form: str) -> None:
    path = tmp_path / FORMS[form]
    if form == "onnx":
        onnx.save(small_onnx(), path)
    elif form == "checkpoint":
        torch.save(nn.Conv2d(3, 2, 1).state_dict(), path)
    else:
        saved(Two("one"), path, "trace" if form == "torchscript" else "exported")
    path.write_bytes(truncated(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"was cut short or is something else"):
        open_network(section_of(form, path))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", ["module", "evil"])
def test_a_pickled_module_is_refused_and_not_run(
    tmp_path: Path, form: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "ran"
    monkeypatch.setenv("PIXELRT_TEST_EVIL", str(trace))
    path = tmp_path / FORMS[form]
    torch.save(Mine(3, 2, 1) if what == "module" else {"weight": Evil()}, path)
    message = {
        "onnx": r"is a PyTorch file, ONNX was expected; for weights use entry and checkpoint",
        "torchscript": r"weights or a pickled module, not TorchScript; for weights use entry and checkpoint",
        "exported": r"holds no program of torch.export; for weights use entry and checkpoint",
        "checkpoint": r"holds more than tensors.*would run code; save the weights alone",
    }[form]
    with pytest.raises(CheckpointError, match=message):
        open_network(section_of(form, path))
    assert not trace.exists()


def replaced(path: Path, member: str, content: bytes) -> None:
    """Replace a member of a zip file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in members if name.endswith(member))
    members[name] = content
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_code_inside_an_exported_program_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace, path = tmp_path / "ran", tmp_path / "net.pt2"
    monkeypatch.setenv("PIXELRT_TEST_EVIL", str(trace))
    section = saved(Two("one"), path, "exported", **DYNAMIC)
    good = path.read_bytes()
    buffer = io.BytesIO()
    torch.save((Evil(),), buffer)
    with zipfile.ZipFile(path) as archive:
        model = archive.read(
            next(name for name in archive.namelist() if name.endswith("models/model.json"))
        ).decode()
    call = f"__import__('os').mkdir('{trace}')"
    cases = {
        "sample_inputs/model.pt": (
            buffer.getvalue(),
            r"holds more than tensors \(.*model.pt: .*would run code",
        ),
        "models/model.json": (
            model.replace("Symbol('s", f"{call} or Symbol('s", 1).encode(),
            r"shape expression .*would run it as code",
        ),
    }
    for member, (content, message) in cases.items():
        path.write_bytes(good)
        replaced(path, member, content)
        with pytest.raises(CheckpointError, match=message):
            open_network(section)
    path.write_bytes(good)
    replaced(
        path, "models/model.json", model.replace("torch.ops.aten.relu.default", "torch.os.getcwd").encode()
    )
    with pytest.raises(CheckpointError, match=r"calls 'torch.os.getcwd', which is no tensor operator"):
        open_network(section)
    path.write_bytes(good)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/data/aotinductor/model/net.so", pickle.dumps(1))
    with pytest.raises(CheckpointError, match=r"holds compiled code"):
        open_network(section)
    assert not trace.exists()


def test_a_program_saved_on_cuda_opens_on_a_cpu(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    section = saved(Two("one"), path, "exported", **DYNAMIC)
    for member in ("models/model.json", "weights/model_weights_config.json"):
        with zipfile.ZipFile(path) as archive:
            text = archive.read(next(name for name in archive.namelist() if name.endswith(member))).decode()
        assert '"type": "cpu", "index": null' in text
        replaced(
            path, member, text.replace('"type": "cpu", "index": null', '"type": "cuda", "index": 0').encode()
        )
    converted(open_network(section))


@pytest.mark.parametrize("form", ["checkpoint", "torchscript"])
def test_what_was_saved_on_cuda_opens_on_a_cpu(tmp_path: Path, form: str) -> None:
    """The place of a storage is a string in the pickle, with its length before it."""
    path = tmp_path / FORMS[form]
    if form == "checkpoint":
        torch.save(nn.Conv2d(3, 2, 1).state_dict(), path)
    else:
        saved(Two("one"), path, "trace")
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))
    moved = pickled.replace(b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:0")
    assert moved != pickled
    replaced(path, "/data.pkl", moved)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"), quiet():
            torch.load(path, weights_only=True) if form == "checkpoint" else torch.jit.load(path)
    converted(open_network(section_of(form, path)))


@pytest.mark.parametrize(
    "members",
    [
        ("version", "serialized_exported_program.json", "serialized_state_dict.pt"),
        ("net/archive_format", "net/archive_version", "net/programs/forward.json"),
    ],
    ids=["older", "newer"],
)
def test_an_exported_program_of_another_pytorch_is_told_apart(
    tmp_path: Path, members: tuple[str, ...]
) -> None:
    path = tmp_path / "net.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        for name in members:
            archive.writestr(name, "{}")
    with pytest.raises(CheckpointError, match=r"saved by another PyTorch version, .*save it again with this"):
        open_network(ModelSection(exported=str(path)))


@pytest.mark.parametrize(
    ("form", "other"), [("torchscript", "exported"), ("exported", "trace"), ("checkpoint", "trace")]
)
def test_one_form_named_as_another_is_explained(tmp_path: Path, form: str, other: str) -> None:
    path = tmp_path / FORMS[form]
    saved(Two("one"), path, other)
    message = r"is a .pt2, not TorchScript|for TorchScript use torchscript|is TorchScript, weights were"
    with pytest.raises(CheckpointError, match=message):
        open_network(section_of(form, path))


# --- entry points --------------------------------------------------------------------------------------


def test_an_entry_point_with_its_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(5)
    net, path = UNet(3, 2, (4, 8)), tmp_path / "net.pth"
    torch.save({"model": {f"module.{name}": tensor for name, tensor in net.state_dict().items()}}, path)
    args = {"num_classes": 2, "widths": [4, 8]}
    section = ModelSection(entry="pixelrt_export.models:UNet", args=args, checkpoint=str(path))
    network = open_network(section)
    assert network.description == "pixelrt_export.models:UNet"
    assert len(network.checkpoint_sha256) == 64
    converted(network)
    with torch.no_grad():
        np.testing.assert_allclose(
            network.reference({"image": images()})["scene"], net.eval()(torch.from_numpy(images())), atol=1e-5
        )
    wrong = ModelSection(entry="pixelrt_export.models:UNet", args={"widths": [4, 9]}, checkpoint=str(path))
    with pytest.raises(CheckpointError, match=r"checkpoint of another architecture than UNet"):
        open_network(wrong)


def test_a_file_beside_the_recipe_is_imported_with_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "my_layers_of_this_test.py").write_text("from torch.nn import Conv2d as Layer\n")
    (tmp_path / "model.py").write_text(
        "from my_layers_of_this_test import Layer\ndef build(classes):\n    return Layer(3, classes, 1)\n"
    )
    before = list(sys.path)
    network = open_network(ModelSection(entry=f"{tmp_path / 'model.py'}:build", args={"classes": 6}))
    assert sys.path == before
    assert converted(network).graph.output[0].type.tensor_type.shape.dim[1].dim_value == 6
    with pytest.raises(RecipeError, match=r"no file .*modle.py \(did you mean 'model.py'\?\)"):
        open_network(ModelSection(entry=f"{tmp_path / 'modle.py'}:build"))


@pytest.mark.parametrize(
    ("entry", "args", "message"),
    [
        (
            "my_missing_model:Net",
            {},
            r"no module 'my_missing_model'; .*relative to the recipe: my_missing_model.py:",
        ),
        ("pixelrt_export.model:UNet", {}, r"no module 'pixelrt_export.model' \(did you mean 'models'\?\)"),
        (
            "pixelrt_export.models:unet",
            {},
            r"is a module, a class or function .* was expected \(did you mean 'UNet'\?\)",
        ),
        (
            "pixelrt_export.models:RoadUNet.forwards",
            {},
            r"RoadUNet has no 'forwards' \(did you mean 'forward'\?\)",
        ),
        ("pixelrt_export.models:__all__", {}, r"is a list, a class or function"),
        (
            "pixelrt_export.models:UNet",
            {"num_clases": 3},
            r"did you mean 'num_classes'\?\); it accepts \(in_channels",
        ),
        (
            "pixelrt_export.models:UNet",
            {"num_classes": 0},
            r"failed with args \{'num_classes': 0\}: ValueError: num",
        ),
        ("torch.nn:Conv2d", {}, r"missing a required argument: 'in_channels'; it accepts"),
        ("builtins:dict", {}, r"returned a dict, a torch.nn.Module was expected"),
    ],
)
def test_a_wrong_entry_point_is_explained(entry: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        open_network(ModelSection(entry=entry, args=args))


def test_an_entry_point_whose_import_fails_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import a_library_nobody_has\n")
    with pytest.raises(
        RecipeError, match=r"importing .*broken.py failed: ModuleNotFoundError: No module named"
    ):
        open_network(ModelSection(entry=f"{path}:Net"))
