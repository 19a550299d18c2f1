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

from dataclasses import dataclass
from typing import Literal

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from pixelrt.errors import ExportError
from pixelrt.manifest import (
    Axis,
    ColorOrder,
    LabelInfo,
    LatentInfo,
    MaskInfo,
    NoiseInfo,
    OutputActivation,
    Preprocess,
    Tensor,
    ValueRange,
)
from pixelrt_export.graph import (
    Nodes,
    ValueType,
    attribute_of,
    checked,
    copy_of,
    drop_unused,
    opset_of,
    replace_nodes,
    value_types,
)
from pixelrt_export.pixels import (
    PixelSpec,
    exchanged,
    fixed_dims,
    fold_color_swap,
    prepare,
    swapped_order,
    without_clashes,
)

LATENT = "latent"
LABEL = "label"
MASK = "mask"
IMAGE = "image"
GENERATED = "generated"
HEAD = "head_generated"
MAX_BATCH = 16

_MADE = frozenset({LABEL, MASK, IMAGE})
"""Inputs that come in another form than the network takes them."""

Form = Literal["index", "one_hot"]
"""What a network wants for a label or a mask: ids int64, or float32 with a channel per class."""

_SCALES: dict[ValueRange, tuple[float, float]] = {
    "tanh": (127.5, 127.5),
    "sigmoid": (255.0, 0.0),
    "none": (1.0, 0.0),
}
"""By which values are multiplied, and what is added, to have 0..255."""
_ACTIVATIONS: dict[OutputActivation, str] = {"tanh": "Tanh", "sigmoid": "Sigmoid"}
_PER_VALUE = frozenset({"Cast", "Identity", "Tanh", "Sigmoid", "Clip", "Relu", "LeakyRelu", "HardSigmoid"})
"""Operators that do not care which channel a value belongs to."""


def generator_axes(batch: int = MAX_BATCH) -> dict[str, Axis]:
    """Ranges of all axes that a generator may have: `batch` images at once, masks and images up to 4K."""
    sides = {"height": Axis(min=16, opt=720, max=2160), "width": Axis(min=16, opt=1280, max=3840)}
    masks = {f"mask_{side}": axis for side, axis in sides.items()}
    return {"batch": Axis(min=1, opt=1, max=batch), **masks, **sides}


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorSpec:
    """What goes into a generator and what comes out."""

    latent: LatentInfo | None = None
    label: LabelInfo | None = None
    label_form: Form = "index"
    mask: MaskInfo | None = None
    mask_form: Form = "one_hot"
    image: Preprocess | None = None
    image_color: ColorOrder = "rgb"
    """Order in which the network was trained to see the image; `image.color` is that of the frames."""
    noise: tuple[NoiseInfo, ...] = ()
    range: ValueRange
    """Of the values after the activation: tanh -1..1, sigmoid 0..1, none 0..255."""
    activation: OutputActivation = "none"
    """What the network leaves out: applied in the graph, in float32."""
    network_color: ColorOrder = "rgb"
    """Order of the three channels that the network gives."""
    frame_color: ColorOrder = "rgb"
    """Order of the three channels of the images that come out."""
    axes: dict[str, Axis]
    """Ranges of `batch`, of `mask_height` and `mask_width` where there is a mask, of `height` and `width`
    where there is an image; others are left out."""

    def inputs(self) -> tuple[Tensor, ...]:
        """The inputs of the deployed graph, in their order."""
        found = []
        if self.latent is not None:
            found.append(Tensor(name=LATENT, dtype="float32", shape=("batch", *self.latent.size)))
        if self.label is not None:
            found.append(Tensor(name=LABEL, dtype="int32", shape=("batch",)))
        if self.mask is not None:
            found.append(Tensor(name=MASK, dtype="uint8", shape=("batch", "mask_height", "mask_width")))
        if self.image is not None:
            shape = ("batch", "height", "width", self.image.channels)
            found.append(Tensor(name=IMAGE, dtype="uint8", shape=shape))
        found.extend(
            Tensor(name=noise.name, dtype="float32", shape=("batch", *noise.size)) for noise in self.noise
        )
        return tuple(found)

    def network_inputs(self) -> dict[str, ValueType]:
        """What the bare network takes, by name, in the order of `inputs`."""
        wanted: dict[str, ValueType] = {
            tensor.name: ValueType(TensorProto.FLOAT, tensor.shape) for tensor in self.inputs()
        }
        if self.label is not None:
            wanted[LABEL] = _of_classes(self.label_form, len(self.label.names), ())
        if self.mask is not None:
            wanted[MASK] = _of_classes(self.mask_form, len(self.mask.classes), self.mask.size)
        if self.image is not None:
            dims = ("batch", self.image.channels, *self.image.size)
            wanted[IMAGE] = ValueType(TensorProto.FLOAT, dims)
        return wanted


def _of_classes(form: Form, count: int, size: tuple[int, ...]) -> ValueType:
    if form == "index":
        return ValueType(TensorProto.INT64, ("batch", *size))
    return ValueType(TensorProto.FLOAT, ("batch", count, *size))


def fuse_generator(
    model: ModelProto, spec: GeneratorSpec
) -> tuple[ModelProto, tuple[Tensor, ...], tuple[Tensor, ...], dict[str, Axis]]:
    """Build the deployed graph of a generator.

    A mask is resized by nearest neighbour with half-pixel centres: row i of h rows is row
    floor((2i + 1) * mask_height / (2h)) of the mask, in whole numbers and so the same on every backend (a
    Resize computes it in float32, and misses by one where it falls between two rows). An id that is no class
    is all zeros where the network takes one-hot; where it takes ids, it is handed on as it is, and what the
    network does with it is its own affair: refuse such masks and labels before.

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
    _check(model, types, spec)
    channels, height, width = fixed_dims(types[HEAD].dims, HEAD)
    output = Tensor(name=GENERATED, dtype="uint8", shape=("batch", height, width, channels))
    inputs = spec.inputs()

    swap = spec.network_color != spec.frame_color
    inner, folded = fold_output_swap(model) if swap else (model, False)
    before, after = Nodes(opset_of(model)), Nodes(opset_of(model))
    if spec.image is not None:
        pixels = _pixels(spec, spec.image)
        inner, image_folded = fold_color_swap(inner, IMAGE) if pixels.swapped else (inner, False)
        prepare(before, IMAGE, f"network/{IMAGE}", pixels, folded=image_folded)
    if spec.label is not None:
        _classes(before, LABEL, LABEL, len(spec.label.names), spec.label_form)
    if spec.mask is not None:
        ids = before.cast(MASK, TensorProto.FLOAT, f"{MASK}/to_float")
        for axis, size in enumerate(spec.mask.size, start=1):
            ids = _nearest(before, ids, axis, size)
        _classes(before, MASK, ids, len(spec.mask.classes), spec.mask_form)
    inner = without_clashes(inner, {tensor.name for tensor in inputs if tensor.name in _MADE} | {GENERATED})
    _to_bytes(after, spec, swap=swap and not folded)
    fused = _assemble(inner, before, after, (*inputs, output))
    axes = {name: spec.axes[name] for tensor in inputs for name in tensor.shape if isinstance(name, str)}
    return fused, inputs, (output,), axes


# --- checking ----------------------------------------------------------------------------------------


def _check(model: ModelProto, types: dict[str, ValueType], spec: GeneratorSpec) -> None:
    wanted = spec.network_inputs()
    found = [value.name for value in model.graph.input]
    if set(found) != set(wanted) or len(found) != len(wanted):
        raise ExportError(
            f"the network has the inputs {found}, {list(wanted)} were expected; export it with those names"
        )
    used = {name for node in model.graph.node for name in node.input}
    for name, kind in wanted.items():
        if not _fits(types[name], kind):
            raise ExportError(
                f"the network's input {name!r} is {_spelled(types[name])}, {_spelled(kind)} was expected; "
                "make the specification fit the network"
            )
        if name not in used:
            raise ExportError(
                f"the network does not use its input {name!r}: nothing would change with it; leave it out"
            )
    if HEAD not in {value.name for value in model.graph.output}:
        outputs = [value.name for value in model.graph.output]
        raise ExportError(f"the network has the outputs {outputs}, {HEAD!r} was expected")
    _check_output(types, spec)
    if spec.image is not None:
        _pixels(spec, spec.image).check()
    for tensor in spec.inputs():
        missing = [name for name in tensor.shape if isinstance(name, str) and name not in spec.axes]
        if missing:
            raise ExportError(f"axes {sorted(spec.axes)}: ranges for {missing} are missing")


def _check_output(types: dict[str, ValueType], spec: GeneratorSpec) -> None:
    channels, _, _ = fixed_dims(types[HEAD].dims, HEAD)
    if channels not in (1, 3):
        raise ExportError(
            f"the network gives {channels} channels; an image has 1 or 3: pick those in forward()"
        )
    if spec.network_color != spec.frame_color and channels == 1:
        raise ExportError("one channel has no colour order to change; use one colour order for both")
    if spec.activation not in ("none", spec.range):
        raise ExportError(
            f"activation {spec.activation!r} does not give the range {spec.range!r}; "
            f"the range {spec.activation!r} was expected"
        )


def _fits(found: ValueType, wanted: ValueType) -> bool:
    """Whether types and sizes are the same; the batch may be called as it likes, or be fixed."""
    if found.elem_type != wanted.elem_type or found.dims is None or wanted.dims is None:
        return False
    return found.dims[1:] == wanted.dims[1:]


def _spelled(kind: ValueType) -> str:
    dims = ", ".join(map(str, kind.dims or ()))
    return f"{helper.tensor_dtype_to_np_dtype(kind.elem_type)}[{dims}]"


def _pixels(spec: GeneratorSpec, image: Preprocess) -> PixelSpec:
    return PixelSpec(
        channels=image.channels,
        size=image.size,
        mean=image.mean,
        std=image.std,
        network_color=spec.image_color,
        frame_color=image.color,
    )


# --- before the network ------------------------------------------------------------------------------


def _classes(build: Nodes, name: str, ids: str, count: int, form: Form) -> None:
    """From ids of any number type to `network/<name>`."""
    network = f"network/{name}"
    if form == "index":
        build.cast(ids, TensorProto.INT64, f"{name}/to_index", network)
        return
    dtype = np.int32 if name == LABEL else np.float32
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
            node.input[slot] = f"{name}/swapped"
            swapped.graph.initializer.append(exchanged(constants[name], f"{name}/swapped", axis=axis))
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
