"""Builds the deployed graph around a network: bytes of a frame in, bytes of a mask out, ONNX operators only.

    frame uint8[batch, height, width, C] -> float -> NCHW -> resize -> normalise -> network
        -> per head: logits at the network's input size -> mask, confidence, grid, logits

float32 is the graph's type around the network; a backend may compute in less (OpenVINO in bfloat16 does, and
the probabilities of a grid's cell then sum to 1 +- 0.002). uint8 meets a Cast first and leaves through a Cast
last, because TensorRT knows it at the border only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from pixelrt.errors import ExportError
from pixelrt.manifest import Activation, Axis, ColorOrder, Emit, Tensor
from pixelrt_export.graph import Nodes, checked, copy_of, drop_unused, opset_of, replace_nodes, value_types
from pixelrt_export.pixels import PixelSpec, fixed_dims, fold_color_swap, prepare, resize, without_clashes

FRAME = "frame"
IMAGE = "image"
MAX_CLASSES = 256
"""A mask is made of bytes."""
DEFAULT_AXES: Mapping[str, Axis] = MappingProxyType(
    {
        "batch": Axis(min=1, opt=1, max=4),
        "height": Axis(min=16, opt=720, max=2160),
        "width": Axis(min=16, opt=1280, max=3840),
    }
)
"""Ranges of the dynamic axes: up to four frames at once, up to 4K."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """What to make of the network output `head_<name>`."""

    name: str
    activation: Activation = "softmax"
    """`softmax` (two classes or more), `sigmoid` (one channel), or `none` (already probabilities)."""
    emit: tuple[Emit, ...] = ("mask",)
    grid: tuple[int, int] | None = None
    """Rows and columns, where a grid is emitted."""
    threshold: float = 0.5
    """Probability from which a pixel of a one-channel head is class 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseSpec:
    """How frames become the network's input, and what comes out."""

    heads: tuple[HeadSpec, ...]
    mean: tuple[float, ...]
    """Per channel in the network's order, of 0..1 pixels."""
    std: tuple[float, ...]
    """Per channel in the network's order, of 0..1 pixels."""
    network_color: ColorOrder = "rgb"
    """Order in which the network was trained to see the first three channels."""
    frame_color: ColorOrder = "rgb"
    """Order in which frames arrive."""
    axes: dict[str, Axis] = field(default_factory=lambda: dict(DEFAULT_AXES))
    """Ranges of the dynamic axes `batch`, `height` and `width`."""


def output_name(head: str, kind: Emit, *, num_heads: int) -> str:
    """Name of a graph output: the kind alone with one head, `<head>.<kind>` with several."""
    return kind if num_heads == 1 else f"{head}.{kind}"


def fuse(
    model: ModelProto, spec: FuseSpec
) -> tuple[ModelProto, tuple[Tensor, ...], tuple[Tensor, ...], dict[str, Axis]]:
    """Build the deployed graph.

    The grid is the adaptive average pooling of the probabilities, as PyTorch defines it: cell (i, j) averages
    the rows from floor(i*h/rows) up to ceil((i+1)*h/rows) at the network's input size, columns alike. Cells
    overlap by a row or a column where rows and cols do not divide h and w. Confidence is the probability of
    the class in the mask.

    Args:
        model: Network with the input `image` float32[batch, C, h, w] (h, w fixed) and outputs `head_<name>`
            float32[batch, K, h', w'] with h' <= h and w' <= w; inside, any precision.
        spec: What to build.

    Returns:
        The graph, its inputs, its outputs in the order of heads and kinds, the ranges of its dynamic axes.

    Raises:
        ExportError: If the specification does not fit the network; the message says how.
    """
    network = _Shape.of(model, spec)
    plan = {head.name: _names(head, spec) for head in spec.heads}
    inner = without_clashes(model, {FRAME, *(name for names in plan.values() for name in names.values())})
    pixels = network.pixels(spec)
    inner, folded = fold_color_swap(inner, IMAGE) if pixels.swapped else (inner, False)

    before = Nodes(opset_of(model))
    prepare(before, FRAME, IMAGE, pixels, folded=folded)
    after = Nodes(opset_of(model))
    outputs: list[Tensor] = []
    for head in spec.heads:
        _Head(after, network, head, plan[head.name]).build(outputs)

    fused = _assemble(inner, before, after, network, outputs)
    frame = Tensor(name=FRAME, dtype="uint8", shape=("batch", "height", "width", network.channels))
    return fused, (frame,), tuple(outputs), dict(spec.axes)


# --- checking ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shape:
    channels: int
    size: tuple[int, int]
    heads: dict[str, tuple[int, int, int]]
    """Channels, height and width of each head."""

    @classmethod
    def of(cls, model: ModelProto, spec: FuseSpec) -> _Shape:
        types = value_types(checked(model))
        inputs = [value.name for value in model.graph.input]
        if inputs != [IMAGE]:
            raise ExportError(
                f"the network has the inputs {inputs}, ['{IMAGE}'] was expected; export it with that name"
            )
        channels, *size = fixed_dims(types[IMAGE].dims, IMAGE)
        found = {value.name for value in model.graph.output}
        heads: dict[str, tuple[int, int, int]] = {}
        for head in spec.heads:
            if f"head_{head.name}" not in found:
                raise ExportError(
                    f"head {head.name!r} needs the network output 'head_{head.name}', "
                    f"the network has {sorted(found)}"
                )
            heads[head.name] = fixed_dims(types[f"head_{head.name}"].dims, f"head_{head.name}")
        shape = cls(channels, (size[0], size[1]), heads)
        shape.pixels(spec).check()
        _check_names(spec)
        for head in spec.heads:
            _check_head(shape, head)
        return shape

    def pixels(self, spec: FuseSpec) -> PixelSpec:
        """What the network wants for an image."""
        return PixelSpec(
            channels=self.channels,
            size=self.size,
            mean=spec.mean,
            std=spec.std,
            network_color=spec.network_color,
            frame_color=spec.frame_color,
        )


def _check_names(spec: FuseSpec) -> None:
    if set(spec.axes) != {"batch", "height", "width"}:
        raise ExportError(f"axes {sorted(spec.axes)}: ranges for batch, height and width were expected")
    names = [head.name for head in spec.heads]
    if not names or len(set(names)) < len(names):
        raise ExportError(f"heads {names}: one or more, each with a name of its own, were expected")


def _check_head(shape: _Shape, head: HeadSpec) -> None:
    channels, height, width = shape.heads[head.name]
    if head.activation == "softmax" and channels < 2:
        raise ExportError(
            f"head {head.name!r} has 1 channel; softmax needs 2 or more: use activation 'sigmoid'"
        )
    if head.activation == "sigmoid" and channels != 1:
        raise ExportError(
            f"head {head.name!r} has {channels} channels; sigmoid takes 1: use activation 'softmax', "
            "or one head per channel"
        )
    if channels > MAX_CLASSES and {"mask", "confidence"} & set(head.emit):
        raise ExportError(
            f"head {head.name!r} has {channels} classes, a mask of bytes holds {MAX_CLASSES}; "
            "emit 'logits' or 'grid'"
        )
    if height > shape.size[0] or width > shape.size[1]:
        raise ExportError(
            f"head {head.name!r} is {height}x{width}, larger than the network's input "
            f"{shape.size[0]}x{shape.size[1]}; at most that size was expected"
        )
    if not head.emit or len(set(head.emit)) < len(head.emit):
        raise ExportError(
            f"head {head.name!r} emits {list(head.emit)}; one or more different kinds were expected"
        )
    if not 0 < head.threshold < 1:
        raise ExportError(
            f"head {head.name!r} has the threshold {head.threshold}; between 0 and 1 was expected"
        )
    if "grid" in head.emit:
        _check_grid(shape, head)


def _check_grid(shape: _Shape, head: HeadSpec) -> None:
    rows, cols = head.grid or (0, 0)
    if not (1 <= rows <= shape.size[0] and 1 <= cols <= shape.size[1]):
        raise ExportError(
            f"head {head.name!r} emits a grid of {head.grid}; rows and columns from 1x1 to "
            f"{shape.size[0]}x{shape.size[1]} were expected"
        )


def _names(head: HeadSpec, spec: FuseSpec) -> dict[Emit, str]:
    return {kind: output_name(head.name, kind, num_heads=len(spec.heads)) for kind in head.emit}


# --- after the network -------------------------------------------------------------------------------


def averaging_matrix(size: int, cells: int) -> NDArray[np.float32]:
    """The matrix [cells, size] whose product with a signal is its adaptive average pooling."""
    matrix = np.zeros((cells, size), dtype=np.float32)
    for cell in range(cells):
        start, stop = cell * size // cells, -(-(cell + 1) * size // cells)
        matrix[cell, start:stop] = 1 / (stop - start)
    return matrix


@dataclass(slots=True)
class _Head:
    """Builds the outputs of one head."""

    build_on: Nodes
    network: _Shape
    spec: HeadSpec
    names: dict[Emit, str]

    def build(self, outputs: list[Tensor]) -> None:
        """Add the nodes of every emitted output, and describe the outputs."""
        channels, *size = self.network.heads[self.spec.name]
        logits = f"head_{self.spec.name}"
        if tuple(size) != self.network.size:
            shape = (channels, *self.network.size)
            logits = resize(self.build_on, logits, shape, self._name("upsample"), batch_of=FRAME)
        if channels == 1:
            self._binary(logits)
        else:
            self._multiclass(logits)
        if "logits" in self.names:
            self.build_on.add("Identity", [logits], self._name("logits"), self.names["logits"])
        height, width = self.network.size
        rows, cols = self.spec.grid or (0, 0)
        shapes: dict[Emit, tuple[str, tuple[int | str, ...]]] = {
            "mask": ("uint8", ("batch", height, width)),
            "confidence": ("uint8", ("batch", height, width)),
            "grid": ("float32", ("batch", channels, rows, cols)),
            "logits": ("float32", ("batch", channels, height, width)),
        }
        outputs.extend(
            Tensor(name=name, dtype=shapes[kind][0], shape=shapes[kind][1]) for kind, name in self._items()
        )

    def _items(self) -> Iterable[tuple[Emit, str]]:
        return self.names.items()

    def _name(self, step: str) -> str:
        return f"head_{self.spec.name}/{step}"

    def _multiclass(self, logits: str) -> None:
        build, wanted = self.build_on, self.names
        probabilities = logits
        if self.spec.activation == "softmax" and {"grid", "confidence"} & set(wanted):
            probabilities = build.add("Softmax", [logits], self._name("softmax"), axis=1)
        if "mask" in wanted:
            # where there are probabilities, of those: OpenVINO has them in the layout ArgMax is fast in
            ids = build.add("ArgMax", [probabilities], self._name("argmax"), axis=1, keepdims=0)
            # through float: TensorRT documents conversions to uint8 from floating types only
            ids = build.cast(ids, TensorProto.FLOAT, self._name("mask_to_float"))
            build.cast(ids, TensorProto.UINT8, self._name("mask_to_uint8"), wanted["mask"])
        if "grid" in wanted:
            self._grid(probabilities)
        if "confidence" in wanted:
            # measured in OpenVINO: one Softmax and its maximum take less time than 1 / sum(exp(x - max))
            self._to_bytes(build.reduce("ReduceMax", probabilities, 1, self._name("winner")))

    def _binary(self, logits: str) -> None:
        build, wanted = self.build_on, self.names
        probability = logits
        if self.spec.activation == "sigmoid" and {"grid", "confidence"} & set(wanted):
            probability = build.add("Sigmoid", [logits], self._name("sigmoid"))
        if "grid" in wanted:
            self._grid(probability)
        if not {"mask", "confidence"} & set(wanted):
            return
        limit = self.spec.threshold
        if self.spec.activation == "sigmoid":
            limit = math.log(limit / (1 - limit))
        axis = build.constant("axis_1", np.array([1], dtype=np.int64))
        plane = build.add("Squeeze", [logits, axis], self._name("squeeze"))
        bound = build.constant(self._name("limit"), np.array(limit, dtype=np.float32))
        above = build.add("GreaterOrEqual", [plane, bound], self._name("from_threshold"))
        if "mask" in wanted:
            ids = build.cast(above, TensorProto.FLOAT, self._name("mask_to_float"))
            build.cast(ids, TensorProto.UINT8, self._name("mask_to_uint8"), wanted["mask"])
        if "confidence" in wanted:
            one = build.constant("one", np.array(1, dtype=np.float32))
            plane = build.add("Squeeze", [probability, axis], self._name("squeeze_probability"))
            other = build.add("Sub", [one, plane], self._name("other_probability"))
            self._to_bytes(build.add("Where", [above, plane, other], self._name("winner")))

    def _to_bytes(self, probability: str) -> None:
        build = self.build_on
        most = build.constant("byte_max", np.array(255, dtype=np.float32))
        scaled = build.add("Mul", [probability, most], self._name("confidence_times_255"))
        scaled = build.add("Round", [scaled], self._name("confidence_rounded"))
        build.cast(scaled, TensorProto.UINT8, self._name("confidence_to_uint8"), self.names["confidence"])

    def _grid(self, probabilities: str) -> None:
        """Average over cells. Not as matrix products: TensorRT-RTX has none in FP32 for Turing (sm75)."""
        build, (height, width) = self.build_on, self.network.size
        rows, cols = self.spec.grid or (0, 0)
        if height % rows or width % cols:
            self._uneven_grid(probabilities, rows, cols)
            return
        # measured in OpenVINO: two means over one axis each take less time than an AveragePool of cells
        split = build.constant(self._name("split_rows"), np.array([0, 0, rows, height // rows, width]))
        bands = build.add("Reshape", [probabilities, split], self._name("bands"))
        low = build.reduce("ReduceMean", bands, 3, self._name("average_rows"))
        split = build.constant(self._name("split_columns"), np.array([0, 0, rows, cols, width // cols]))
        cells = build.add("Reshape", [low, split], self._name("cells"))
        build.reduce("ReduceMean", cells, 4, self._name("average_columns"), self.names["grid"])

    def _uneven_grid(self, probabilities: str, rows: int, cols: int) -> None:
        """Cells that overlap: 1x1 convolutions, with rows and then columns in the place of channels."""
        build, (height, width) = self.build_on, self.network.size
        over_rows = averaging_matrix(height, rows)[..., None, None]
        over_cols = averaging_matrix(width, cols)[..., None, None]
        rows_first = build.add("Transpose", [probabilities], self._name("rows_first"), perm=[0, 2, 1, 3])
        narrow = build.constant(self._name("average_rows/matrix"), over_rows)
        low = build.add("Conv", [rows_first, narrow], self._name("average_rows"))
        cols_first = build.add("Transpose", [low], self._name("columns_first"), perm=[0, 3, 1, 2])
        narrow = build.constant(self._name("average_columns/matrix"), over_cols)
        cells = build.add("Conv", [cols_first, narrow], self._name("average_columns"))
        build.add("Transpose", [cells], self._name("classes_first"), self.names["grid"], perm=[0, 3, 2, 1])


# --- the whole ---------------------------------------------------------------------------------------


def _assemble(
    inner: ModelProto, before: Nodes, after: Nodes, network: _Shape, outputs: list[Tensor]
) -> ModelProto:
    fused = copy_of(inner)
    graph = fused.graph
    replace_nodes(fused, [*before.nodes, *inner.graph.node, *after.nodes])
    graph.initializer.extend({**before.constants, **after.constants}.values())
    del graph.input[:], graph.output[:], graph.value_info[:]
    shape: list[str | int | None] = ["batch", "height", "width", network.channels]
    graph.input.append(helper.make_tensor_value_info(FRAME, TensorProto.UINT8, shape))
    for tensor in outputs:
        elem_type = TensorProto.UINT8 if tensor.dtype == "uint8" else TensorProto.FLOAT
        graph.output.append(helper.make_tensor_value_info(tensor.name, elem_type, list(tensor.shape)))
    fused, _ = drop_unused(fused)
    return checked(fused)
