"""Builds the deployed graph around a generator: latents, labels, masks or images in, bytes of an image out.

    latent float32[batch, *size], noise_k float32[batch, *size]: as they are
    label int32[batch] -> class ids or one-hot
    mask uint8[batch, mask_height, mask_width] -> float -> nearest neighbour -> class ids or one-hot
    image uint8[batch, height, width, C] -> as `fuse` prepares a frame
        -> network -> activation -> 0..255, rounded half to even -> generated uint8[batch, H, W, C]

What `fuse` says about types holds here too: float32 around the network, uint8 at the border only. Bytes hold
no NaN: where a network gives one, ONNX Runtime and OpenVINO write 0, and the gate is there to find it.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from pixelrt.manifest import Axis, Form, OutputActivation, Tensor, ValueRange
from pixelrt_export.generator_spec import (
    GENERATED,
    HEAD,
    IMAGE,
    LABEL,
    LATENT,
    MASK,
    MAX_BATCH,
    GeneratorSpec,
    check_generator,
    generator_axes,
    pixels_of,
)
from pixelrt_export.graph import (
    Nodes,
    attribute_of,
    checked,
    copy_of,
    drop_unused,
    opset_of,
    replace_nodes,
    value_types,
)
from pixelrt_export.pixels import (
    exchanged,
    fixed_dims,
    fold_color_swap,
    prepare,
    swapped_order,
    without_clashes,
)

__all__ = [
    "GENERATED",
    "HEAD",
    "IMAGE",
    "LABEL",
    "LATENT",
    "MASK",
    "MAX_BATCH",
    "GeneratorSpec",
    "fold_output_swap",
    "fuse_generator",
    "generator_axes",
]

_MADE = frozenset({LABEL, MASK, IMAGE})
"""Inputs that come in another form than the network takes them."""

_SCALES: dict[ValueRange, tuple[float, float]] = {
    "tanh": (127.5, 127.5),
    "sigmoid": (255.0, 0.0),
    "none": (1.0, 0.0),
}
"""By which values are multiplied, and what is added, to have 0..255."""
_ACTIVATIONS: dict[OutputActivation, str] = {"tanh": "Tanh", "sigmoid": "Sigmoid"}
_PER_VALUE = frozenset({"Cast", "Identity", "Tanh", "Sigmoid", "Clip", "Relu", "LeakyRelu", "HardSigmoid"})
"""Operators that do not care which channel a value belongs to."""


def fuse_generator(
    model: ModelProto, spec: GeneratorSpec
) -> tuple[ModelProto, tuple[Tensor, ...], tuple[Tensor, ...], dict[str, Axis]]:
    """Build the deployed graph of a generator.

    A mask is resized by nearest neighbour with half-pixel centres: row i of h rows is row
    floor((2i + 1) * mask_height / (2h)) of the mask, in whole numbers and so the same on every backend (a
    Resize computes it in float32, and misses by one where it falls between two rows). An id that is no class
    is all zeros where the network takes one-hot. Where it takes ids, the last class is taken for it, so that
    nothing is read beyond a table: refuse such masks and labels before.

    Args:
        model: The bare network, in any precision inside, its inputs and outputs as in the FP32 original: as
            `spec.network_inputs()` says, and `head_generated` float32[batch, 1 or 3, H, W].
        spec: What to build.

    Returns:
        The graph, its inputs, its output `generated` uint8[batch, H, W, C], the ranges of its dynamic axes.

    Raises:
        ExportError: If the specification does not fit the network; the message says how.
    """
    types = value_types(checked(model))
    check_generator(model, types, spec)
    channels, height, width = fixed_dims(types[HEAD].dims, HEAD)
    output = Tensor(name=GENERATED, dtype="uint8", shape=("batch", height, width, channels))
    inputs = spec.inputs()

    swap = spec.network_color != spec.frame_color
    inner, folded = fold_output_swap(model) if swap else (model, False)
    before, after = Nodes(opset_of(model)), Nodes(opset_of(model))
    if spec.image is not None:
        pixels = pixels_of(spec, spec.image)
        inner, image_folded = fold_color_swap(inner, IMAGE) if pixels.swapped else (inner, False)
        prepare(before, IMAGE, f"network/{IMAGE}", pixels, folded=image_folded)
    if spec.label is not None:
        _classes(before, LABEL, LABEL, len(spec.label.names), spec.label_form)
    if spec.mask is not None:
        ids = before.cast(MASK, TensorProto.FLOAT, f"{MASK}/to_float")
        for axis, size in enumerate(spec.mask.size, start=1):
            ids = _nearest(before, ids, axis, size)
        _classes(before, MASK, ids, len(spec.mask.classes), spec.mask.form)
    _to_bytes(after, spec, swap=swap and not folded)
    made = {tensor.name for tensor in inputs if tensor.name in _MADE}
    inner = without_clashes(inner, made | before.names() | after.names())
    fused = _assemble(inner, before, after, (*inputs, output))
    axes = {name: spec.axes[name] for tensor in inputs for name in tensor.shape if isinstance(name, str)}
    return fused, inputs, (output,), axes


# --- before the network ------------------------------------------------------------------------------


def _classes(build: Nodes, name: str, ids: str, count: int, form: Form) -> None:
    """From ids of any number type to `network/<name>`."""
    network = f"network/{name}"
    dtype = np.int32 if name == LABEL else np.float32
    if form == "index":
        last = build.constant(f"{name}/last", np.array(count - 1, dtype=dtype))
        known = build.add("Min", [ids, last], f"{name}/known")
        build.cast(known, TensorProto.INT64, f"{name}/to_index", network)
        return
    sides = (1, 1) if name == MASK else ()
    every = build.constant(f"{name}/classes", np.arange(count, dtype=dtype).reshape(1, count, *sides))
    axis = build.constant("axis_1", np.array([1], dtype=np.int64))
    plane = build.add("Unsqueeze", [ids, axis], f"{name}/unsqueeze")
    found = build.add("Equal", [plane, every], f"{name}/one_hot")
    build.cast(found, TensorProto.FLOAT, f"{name}/one_hot_to_float", network)


def _nearest(build: Nodes, ids: str, axis: int, size: int) -> str:
    """Take rows (axis 1) or columns (axis 2) of a mask, as many as the network wants."""
    name = f"{MASK}/{'rows' if axis == 1 else 'columns'}"
    shape = build.add("Shape", [MASK], f"{name}/shape")
    side = build.add(
        "Gather", [shape, build.constant(f"index_{axis}", np.array([axis], np.int64))], f"{name}/side", axis=0
    )
    centres = build.constant(f"{name}/centres", 2 * np.arange(size, dtype=np.int64) + 1)
    twice = build.constant(f"{name}/twice_size", np.array([2 * size], dtype=np.int64))
    indices = build.add("Mul", [centres, side], f"{name}/times_side")
    indices = build.add("Div", [indices, twice], f"{name}/indices")
    return build.add("Gather", [ids, indices], name, axis=axis)


# --- after the network -------------------------------------------------------------------------------


def fold_output_swap(model: ModelProto) -> tuple[ModelProto, bool]:
    """Make a network give its first and third channel exchanged, by exchanging weights of its last layer.

    Nothing changes if anything but operators on single values stands between an ordinary convolution with
    constant weights and the output, or if something else reads what is between.
    """
    nodes = list(model.graph.node)
    writers = {name: index for index, node in enumerate(nodes) for name in node.output}
    readers = [name for node in nodes for name in node.input]
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    tensor, num_readers = HEAD, 0
    while tensor in writers and readers.count(tensor) == num_readers:
        index = writers[tensor]
        node = nodes[index]
        if _gives_channels(node, set(constants)):
            return _exchange(model, index, constants), True
        if node.op_type not in _PER_VALUE:
            break
        tensor, num_readers = node.input[0], 1
    return model, False


def _gives_channels(node: NodeProto, constants: set[str]) -> bool:
    ordinary = node.op_type in ("Conv", "ConvTranspose") and attribute_of(node, "group", 1) == 1
    return ordinary and constants.issuperset(name for name in node.input[1:] if name)


def _exchange(model: ModelProto, index: int, constants: dict[str, TensorProto]) -> ModelProto:
    swapped = copy_of(model)
    node = swapped.graph.node[index]
    for slot in range(1, len(node.input)):
        if name := node.input[slot]:
            axis = 1 if slot == 1 and node.op_type == "ConvTranspose" else 0
            node.input[slot] = f"{name}/swapped_outputs"
            swapped.graph.initializer.append(exchanged(constants[name], node.input[slot], axis=axis))
    pruned, _ = drop_unused(swapped)
    return pruned


def _to_bytes(build: Nodes, spec: GeneratorSpec, *, swap: bool) -> None:
    """From `head_generated` to `generated`."""
    values = HEAD
    if spec.activation != "none":
        values = build.add(_ACTIVATIONS[spec.activation], [values], f"{GENERATED}/{spec.activation}")
    factor, offset = _SCALES[spec.range]
    if factor != 1:
        scale = build.constant(f"{GENERATED}/factor", np.array(factor, dtype=np.float32))
        values = build.add("Mul", [values, scale], f"{GENERATED}/times_factor")
    if offset:
        shift = build.constant(f"{GENERATED}/offset", np.array(offset, dtype=np.float32))
        values = build.add("Add", [values, shift], f"{GENERATED}/plus_offset")
    least = build.constant("byte_min", np.array(0, dtype=np.float32))
    most = build.constant("byte_max", np.array(255, dtype=np.float32))
    values = build.add("Clip", [values, least, most], f"{GENERATED}/clip")
    values = build.add("Round", [values], f"{GENERATED}/rounded")
    if swap:
        order = build.constant(f"{GENERATED}/order", swapped_order(3))
        values = build.add("Gather", [values, order], f"{GENERATED}/swap_color", axis=1)
    values = build.add("Transpose", [values], f"{GENERATED}/to_nhwc", perm=[0, 2, 3, 1])
    build.cast(values, TensorProto.UINT8, f"{GENERATED}/to_uint8", GENERATED)


# --- the whole ---------------------------------------------------------------------------------------


def _assemble(inner: ModelProto, before: Nodes, after: Nodes, border: tuple[Tensor, ...]) -> ModelProto:
    fused = copy_of(inner)
    graph = fused.graph
    replace_nodes(fused, [*before.nodes, *inner.graph.node, *after.nodes])
    graph.initializer.extend({**before.constants, **after.constants}.values())
    del graph.input[:], graph.output[:], graph.value_info[:]
    *inputs, output = (
        helper.make_tensor_value_info(
            tensor.name, helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)), list(tensor.shape)
        )
        for tensor in border
    )
    graph.input.extend(inputs)
    graph.output.append(output)
    fused, _ = drop_unused(fused)
    return checked(fused)
