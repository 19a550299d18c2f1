"""The deployed graph of a generator, part by part, with networks whose values NumPy knows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import openvino_runs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from tests.support.generators import Kind, expect_images, network, reference, some_inputs

from pixelrt.errors import ExportError
from pixelrt.manifest import (
    ClassInfo,
    LabelInfo,
    LatentInfo,
    MaskInfo,
    NoiseInfo,
    OutputActivation,
    Preprocess,
    ValueRange,
)
from pixelrt_export.fuse_generator import GeneratorSpec, fold_output_swap, fuse_generator, generator_axes

SIZE = (4, 6)
LATENT = LatentInfo(size=(3, *SIZE), distribution="normal")
CLASSES = tuple(ClassInfo(name=str(index), color=(index, 0, 0)) for index in range(5))
Arrays = dict[str, NDArray[Any]]


def run(model: ModelProto, feeds: Arrays) -> NDArray[np.uint8]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (generated,) = session.run(["generated"], feeds)
    return generated


def run_openvino(model: ModelProto, feeds: Arrays) -> NDArray[np.uint8]:
    return openvino_runs.run_openvino(model, feeds)["generated"]


def spec(**changes: Any) -> GeneratorSpec:
    return GeneratorSpec(**{"range": "none", "axes": generator_axes(4), **changes})


def net(
    nodes: Sequence[NodeProto],
    constants: dict[str, NDArray[Any]] | None = None,
    *,
    inputs: dict[str, tuple[int, Sequence[Any]]] | None = None,
    opset: int = 20,
) -> ModelProto:
    """A network from `latent` (unless told otherwise) to `head_generated`."""
    given_inputs = inputs or {"latent": (TensorProto.FLOAT, ["batch", *LATENT.size])}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, *kind) for name, kind in given_inputs.items()],
        [helper.make_tensor_value_info("head_generated", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def identity() -> ModelProto:
    """The values that go in come out."""
    return net([helper.make_node("Identity", ["latent"], ["head_generated"], name="identity")])


def values_as_latent(values: Sequence[float] | NDArray[Any]) -> NDArray[np.float32]:
    wide = np.resize(np.asarray(values, np.float32), (-(-len(values) // 72) * 72,))
    return wide.reshape(-1, *LATENT.size)


# --- every combination of inputs ---------------------------------------------------------------------

NAMES = ("latent", "label", "mask", "image", "noise")
KINDS = [
    Kind("+".join(names), **dict.fromkeys(names, True))
    for count in range(1, 6)
    for names in itertools.combinations(NAMES, count)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_combination_of_inputs(kind: Kind) -> None:
    parts = kind.manifest_parts()
    fused, inputs, _, axes = fuse_generator(network(kind), spec(**parts, label_form="one_hot"))
    feeds: Arrays = dict(some_inputs(kind, 3))
    rng = np.random.default_rng(4)
    if kind.latent:
        feeds["latent"] = rng.normal(size=(3, 5)).astype(np.float32)
    if kind.noise:
        feeds["noise_0"] = rng.normal(size=(3, 1, 8, 12)).astype(np.float32)
    expect_images(run(fused, feeds), reference(**feeds))
    order = ("latent", "label", "mask", "image", "noise_0")
    assert [tensor.name for tensor in inputs] == [name for name in order if name in feeds]
    assert [value.name for value in fused.graph.input] == [tensor.name for tensor in inputs]
    expected = {"batch"}
    expected |= {"mask_height", "mask_width"} if kind.mask else set()
    expected |= {"height", "width"} if kind.image else set()
    assert set(axes) == expected


def test_labels_as_ids_pick_rows_of_a_table() -> None:
    table = np.arange(4 * 72, dtype=np.float32).reshape(4, *LATENT.size) % 256
    model = net(
        [helper.make_node("Gather", ["table", "label"], ["head_generated"], name="embed", axis=0)],
        {"table": table},
        inputs={"label": (TensorProto.INT64, ["batch"])},
    )
    fused, *_ = fuse_generator(model, spec(label=LabelInfo(names=("a", "b", "c", "d"))))
    labels = np.array([3, 0, 1], np.int32)
    np.testing.assert_array_equal(run(fused, {"label": labels}), table[labels].transpose(0, 2, 3, 1))


# --- masks -------------------------------------------------------------------------------------------


def mask_of(size: tuple[int, int], form: str) -> tuple[ModelProto, GeneratorSpec]:
    """A network that shows the ids of its mask, 10 times as bright; one-hot, 10 more."""
    if form == "index":
        kind = (TensorProto.INT64, ["batch", *size])
        nodes = [
            helper.make_node("Cast", ["mask"], ["ids"], name="cast", to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["ids", "axis"], ["plane"], name="plane"),
            helper.make_node("Mul", ["plane", "ten"], ["head_generated"], name="bright"),
        ]
        constants = {"axis": np.array([1]), "ten": np.float32(10)}
    else:
        kind = (TensorProto.FLOAT, ["batch", 5, *size])
        nodes = [helper.make_node("Conv", ["mask", "weight"], ["head_generated"], name="weigh")]
        constants = {"weight": np.arange(10, 60, 10, dtype=np.float32).reshape(1, 5, 1, 1)}
    info = MaskInfo(size=size, classes=CLASSES, form=form)
    return net(nodes, constants, inputs={"mask": kind}), spec(mask=info)


def nearest(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pixel by pixel: the one in which the centre of the new pixel lies."""
    height, width = mask.shape
    taken = np.zeros(size, np.uint8)
    for row, column in itertools.product(*map(range, size)):
        taken[row, column] = mask[
            (2 * row + 1) * height // (2 * size[0]), (2 * column + 1) * width // (2 * size[1])
        ]
    return taken


sides = st.integers(1, 70)


@given(new=st.tuples(sides, sides), old=st.tuples(sides, sides), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_masks_of_any_size_are_sampled_exactly(new: tuple[int, int], old: tuple[int, int], seed: int) -> None:
    mask = np.random.default_rng(seed).integers(0, 5, old).astype(np.uint8)
    fused, *_ = fuse_generator(*mask_of(new, "index"))
    (found,) = run(fused, {"mask": mask[None]})
    np.testing.assert_array_equal(found[..., 0], nearest(mask, new) * 10)


@pytest.mark.parametrize("form", ["index", "one_hot"])
@pytest.mark.parametrize("sizes", [((7, 50), (50, 7)), ((48, 48), (1, 3)), ((3, 5), (1080, 1920))])
def test_both_backends_sample_masks_alike(form: str, sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    new, old = sizes
    mask = np.random.default_rng(0).integers(0, 5, (2, *old)).astype(np.uint8)
    fused, *_ = fuse_generator(*mask_of(new, form))
    expected = np.stack([nearest(each, new) for each in mask])[..., None] * 10 + (form == "one_hot") * 10
    np.testing.assert_array_equal(run(fused, {"mask": mask}), expected)
    np.testing.assert_array_equal(run_openvino(fused, {"mask": mask}), expected)


@pytest.mark.parametrize("runner", [run, run_openvino])
def test_an_id_that_is_no_class_is_nothing(runner: Any) -> None:
    fused, *_ = fuse_generator(*mask_of(SIZE, "one_hot"))
    mask = np.array([[0, 4, 5, 254, 255, 1]] * 4, np.uint8)
    (found,) = runner(fused, {"mask": mask[None]})
    np.testing.assert_array_equal(found[0, :, 0], [10, 50, 0, 0, 0, 20])


# --- values to bytes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("runner", [run, run_openvino])
def test_halves_are_rounded_to_even(runner: Any) -> None:
    fused, *_ = fuse_generator(identity(), spec(latent=LATENT))
    halves = np.arange(-3, 258) + 0.5
    found = runner(fused, {"latent": values_as_latent(halves)}).transpose(0, 3, 1, 2).reshape(-1)
    np.testing.assert_array_equal(found[: len(halves)], np.clip(np.round(halves), 0, 255))
    assert found[3:7].tolist() == [0, 2, 2, 4]


@pytest.mark.parametrize("runner", [run, run_openvino])
@pytest.mark.parametrize("activation", ["none", "tanh"])
def test_tanh_to_bytes_is_what_pytorch_computes(activation: OutputActivation, runner: Any) -> None:
    """All of -1..1 in steps of a hundredth of a byte, and far into the saturation of tanh."""
    values = np.linspace(-1, 1, 25_501) if activation == "none" else np.linspace(-12, 12, 25_501)
    latent = values_as_latent(values)
    fused, *_ = fuse_generator(identity(), spec(latent=LATENT, range="tanh", activation=activation))
    found = runner(fused, {"latent": latent}).transpose(0, 3, 1, 2)
    tensor = torch.from_numpy(latent)
    tensor = torch.tanh(tensor) if activation == "tanh" else tensor
    expected = ((tensor + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1  # either way where float32 cannot tell the half
    assert (difference == 0).mean() > 0.995
    assert found.reshape(-1)[0] == 0
    assert found.reshape(-1)[25_500] == 255


@pytest.mark.parametrize(
    ("values", "value_range", "activation", "expected"),
    [
        ([-1.5, -1.0, 0.0, 0.5, 1.0, 9.0], "tanh", "none", [0, 0, 128, 191, 255, 255]),
        ([-0.5, 0.0, 0.25, 0.5, 1.0, 2.0], "sigmoid", "none", [0, 0, 64, 128, 255, 255]),
        ([-90.0, -1.0, 0.0, 1.0, 90.0, 0.0], "sigmoid", "sigmoid", [0, 69, 128, 186, 255, 128]),
        ([-90.0, -0.5, 0.0, 0.5, 90.0, 0.0], "tanh", "tanh", [0, 69, 128, 186, 255, 128]),
        ([-7.0, 0.0, 0.4, 99.6, 255.4, 1e9], "none", "none", [0, 0, 0, 100, 255, 255]),
        ([-np.inf, np.inf, 1.0, 2.0, 3.0, 4.0], "none", "none", [0, 255, 1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("runner", [run, run_openvino])
def test_every_range(
    values: list[float],
    value_range: ValueRange,
    activation: OutputActivation,
    expected: list[int],
    runner: Any,
) -> None:
    fused, _, outputs, _ = fuse_generator(
        identity(), spec(latent=LATENT, range=value_range, activation=activation)
    )
    found = runner(fused, {"latent": values_as_latent(values)})
    assert found[0, 0, :, 0].tolist() == expected
    assert outputs[0].shape == ("batch", *SIZE, 3)


def test_one_channel() -> None:
    model = net(
        [helper.make_node("ReduceMax", ["latent", "axis"], ["head_generated"], name="max")],
        {"axis": np.array([1])},
    )
    fused, _, (output,), _ = fuse_generator(model, spec(latent=LATENT))
    latent = np.random.default_rng(1).uniform(0, 255, (2, *LATENT.size)).astype(np.float32)
    assert output.shape == ("batch", *SIZE, 1)
    np.testing.assert_array_equal(run(fused, {"latent": latent})[..., 0], np.round(latent.max(1)))


# --- colours -----------------------------------------------------------------------------------------


def layers(kind: str) -> tuple[list[NodeProto], bool]:
    """The end of a network, and whether the exchange of colours goes into its weights."""
    conv = helper.make_node("Conv", ["latent", "w", "b"], ["a"], name="conv", pads=[1, 1, 1, 1])
    tail = {
        "conv": ([helper.make_node("Identity", ["a"], ["head_generated"], name="end")], True),
        "tanh": ([helper.make_node("Tanh", ["a"], ["head_generated"], name="end")], True),
        "slopes": ([helper.make_node("PRelu", ["a", "slopes"], ["head_generated"], name="end")], False),
        "twice": (
            [
                helper.make_node("Tanh", ["a"], ["t"], name="one"),
                helper.make_node("Mul", ["a", "t"], ["head_generated"], name="two"),
            ],
            False,
        ),
        "transposed": (
            [
                helper.make_node(
                    "ConvTranspose", ["a", "w", "b"], ["c"], name="transposed", pads=[1, 1, 1, 1]
                ),
                helper.make_node("LeakyRelu", ["c"], ["head_generated"], name="end"),
            ],
            True,
        ),
        "depthwise": (
            [
                helper.make_node(
                    "Conv", ["a", "d"], ["head_generated"], name="depthwise", pads=[1, 1, 1, 1], group=3
                )
            ],
            False,
        ),
    }[kind]
    return [conv, *tail[0]], tail[1]


@pytest.mark.parametrize("kind", ["conv", "tanh", "slopes", "twice", "transposed", "depthwise"])
def test_colours_are_exchanged(kind: str) -> None:
    rng = np.random.default_rng(2)
    constants = {
        "w": rng.normal(size=(3, 3, 3, 3)).astype(np.float32),
        "b": rng.normal(size=3).astype(np.float32),
        "d": rng.normal(size=(3, 1, 3, 3)).astype(np.float32),
        "slopes": np.array([0.1, 0.5, 0.9], np.float32).reshape(3, 1, 1),
    }
    nodes, folds = layers(kind)
    used = {name for node in nodes for name in node.input}
    model = net(nodes, {name: value for name, value in constants.items() if name in used})
    whole = {"latent": LATENT, "range": "tanh"}
    plain, *_ = fuse_generator(model, spec(**whole))
    swapped, *_ = fuse_generator(model, spec(**whole, frame_color="bgr"))
    both, *_ = fuse_generator(model, spec(**whole, network_color="bgr", frame_color="bgr"))
    feeds = {"latent": rng.normal(size=(2, *LATENT.size)).astype(np.float32)}
    expected = run(plain, feeds)
    assert len(np.unique(expected)) > 10
    np.testing.assert_array_equal(run(swapped, feeds), expected[..., ::-1])
    np.testing.assert_array_equal(run(both, feeds), expected)
    assert fold_output_swap(model)[1] == folds
    assert ("Gather" in {node.op_type for node in swapped.graph.node}) != folds


def test_one_weight_at_both_ends() -> None:
    """Exchanged along one axis for the image, along another for the output: not the same twice."""
    rng = np.random.default_rng(3)
    kind = (TensorProto.FLOAT, ["batch", 3, *SIZE])
    model = net(
        [
            helper.make_node("Conv", ["image", "w"], ["a"], name="first"),
            helper.make_node("Conv", ["a", "w"], ["head_generated"], name="last"),
        ],
        {"w": rng.normal(size=(3, 3, 1, 1)).astype(np.float32)},
        inputs={"image": kind},
    )
    image = Preprocess(size=SIZE, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3, color="rgb")
    frames = rng.integers(0, 256, (1, *SIZE, 3)).astype(np.uint8)
    plain, *_ = fuse_generator(model, spec(image=image, range="tanh"))
    other, *_ = fuse_generator(model, spec(image=image, image_color="bgr", range="tanh", network_color="bgr"))
    weight = numpy_helper.to_array(model.graph.initializer[0])[..., 0, 0]
    values = np.einsum("oc,cd,nhwd->nhwo", weight, weight, frames[..., ::-1] / 127.5 - 1)[..., ::-1]
    np.testing.assert_allclose(run(other, {"image": frames}), ((values + 1) * 127.5).clip(0, 255), atol=0.51)
    assert (run(plain, {"image": frames}) != run(other, {"image": frames})).any()


# --- names -------------------------------------------------------------------------------------------


def test_tensors_inside_may_be_called_like_the_outside() -> None:
    kind = (TensorProto.FLOAT, ["batch", 5, *SIZE])
    model = net(
        [
            helper.make_node("Conv", ["mask", "byte_max"], ["generated"], name="mask/to_float"),
            helper.make_node("Relu", ["generated"], ["head_generated"], name="generated/clip"),
        ],
        {"byte_max": np.full((3, 5, 1, 1), 7, np.float32)},
        inputs={"mask": kind},
    )
    fused, *_ = fuse_generator(model, spec(mask=MaskInfo(size=SIZE, classes=CLASSES)))
    assert (run(fused, {"mask": np.zeros((1, *SIZE), np.uint8)}) == 7).all()


@pytest.mark.parametrize("opset", [13, 17, 18, 22])
def test_operator_sets(opset: int) -> None:
    model = net([helper.make_node("Identity", ["latent"], ["head_generated"], name="i")], opset=opset)
    fused, *_ = fuse_generator(model, spec(latent=LATENT))
    assert run(fused, {"latent": np.full((1, *LATENT.size), 6, np.float32)}).max() == 6


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"latent": None, "label": LabelInfo(names=("a",))},
            r"has the inputs \['latent'\], \['label'\] were",
        ),
        (
            {"latent": LatentInfo(size=(4,), distribution="normal")},
            r"'latent' is float32\[batch, 3, 4, 6\], float32\[batch, 4\] was expected",
        ),
        ({"range": "tanh", "activation": "sigmoid"}, "activation 'sigmoid' does not give the range 'tanh'"),
        ({"activation": "tanh"}, "the range 'tanh' was expected"),
        ({"axes": {}}, r"axes \[\]: ranges for \['batch'\] are missing"),
    ],
)
def test_a_specification_that_does_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        fuse_generator(identity(), spec(**{"latent": LATENT, **changes}))


def unused(*, dead: bool) -> ModelProto:
    both = {
        "latent": (TensorProto.FLOAT, ["batch", *LATENT.size]),
        "noise_0": (TensorProto.FLOAT, ["batch", 2]),
    }
    nodes = [helper.make_node("Relu", ["latent"], ["head_generated"], name="r")]
    nodes += [helper.make_node("Relu", ["noise_0"], ["nowhere"], name="d")] if dead else []
    return net(nodes, inputs=both)


@pytest.mark.parametrize("dead", [False, True])
def test_an_input_without_effect(dead: bool) -> None:
    noise = NoiseInfo(name="noise_0", size=(2,), distribution="normal")
    with pytest.raises(ExportError, match="does not use its input 'noise_0'"):
        fuse_generator(unused(dead=dead), spec(latent=LATENT, noise=(noise,)))


@pytest.mark.parametrize(
    ("node", "changes", "message"),
    [
        (helper.make_node("Relu", ["latent"], ["other"]), {}, r"outputs \['other'\], 'head_generated' was"),
        (
            helper.make_node("Concat", ["latent", "latent"], ["head_generated"], axis=1),
            {},
            "gives 6 channels; an image has 1 or 3",
        ),
        (
            helper.make_node("ReduceMax", ["latent", "axis"], ["head_generated"]),
            {"frame_color": "bgr"},
            "one channel has no colour order to change",
        ),
        (
            helper.make_node("ReduceMax", ["latent", "axis"], ["head_generated"], keepdims=0),
            {},
            r"\[batch, channels, height, width\] with only batch dynamic was expected",
        ),
    ],
)
def test_an_output_that_is_no_image(node: NodeProto, changes: dict[str, Any], message: str) -> None:
    model = net([node], {"axis": np.array([1])} if "axis" in node.input else None)
    model.graph.output[0].name = node.output[0]
    with pytest.raises(ExportError, match=message):
        fuse_generator(model, spec(latent=LATENT, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": (0.5,)}, "mean has 1 values and std 3"),
        ({"std": (0.5, 0.0, 0.5)}, "finite numbers with std above 0"),
        ({"mean": (0.5, float("nan"), 0.5)}, "finite numbers"),
    ],
)
def test_an_image_that_cannot_be_prepared(changes: dict[str, Any], message: str) -> None:
    kind = (TensorProto.FLOAT, ["batch", 3, *SIZE])
    model = net([helper.make_node("Relu", ["image"], ["head_generated"], name="r")], inputs={"image": kind})
    whole = {"size": SIZE, "channels": 3, "mean": (0.5,) * 3, "std": (0.5,) * 3, "color": "rgb", **changes}
    with pytest.raises(ExportError, match=message):
        fuse_generator(model, spec(image=Preprocess(**whole)))
