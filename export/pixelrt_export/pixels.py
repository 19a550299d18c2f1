"""What deployed graphs of every task do to pixels: bytes of a frame to a network's normalised image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from pixelrt.errors import ExportError
from pixelrt.manifest import ColorOrder
from pixelrt_export.graph import Nodes, attribute_of, copy_of, drop_unused, rename_tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSpec:
    """What a network wants for an image."""

    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    """Per channel in the network's order, of 0..1 pixels."""
    std: tuple[float, ...]
    """Per channel in the network's order, of 0..1 pixels."""
    network_color: ColorOrder
    frame_color: ColorOrder

    @property
    def swapped(self) -> bool:
        """Whether the network sees the first and the third channel of a frame exchanged."""
        return self.network_color != self.frame_color

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            ExportError: If mean, std or colours do not fit the channels.
        """
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ExportError(
                f"mean has {len(self.mean)} values and std {len(self.std)}, the network's input has "
                f"{self.channels} channels; give one value per channel"
            )
        finite = all(math.isfinite(mean) for mean in self.mean)
        if not finite or not all(0 < std < math.inf for std in self.std):
            raise ExportError(
                f"mean {self.mean} and std {self.std}: finite numbers with std above 0 were expected"
            )
        if self.swapped and self.channels < 3:
            raise ExportError(
                f"{self.channels} channels have no colour order to change; use one colour order for both"
            )


def fixed_dims(dims: tuple[int | str | None, ...] | None, name: str) -> tuple[int, int, int]:
    """Channels, height and width of a tensor [batch, channels, height, width].

    Raises:
        ExportError: If they are not fixed.
    """
    if dims is not None and len(dims) == 4:
        channels, height, width = dims[1:]
        if isinstance(channels, int) and isinstance(height, int) and isinstance(width, int):
            return channels, height, width
    raise ExportError(
        f"{name!r} has the shape {dims}, [batch, channels, height, width] with only batch dynamic was "
        "expected; export the network at a fixed height and width"
    )


def without_clashes(model: ModelProto, taken: set[str]) -> ModelProto:
    """Give another name to tensors and nodes of the network that are called like some of the whole."""
    ours = {name for node in model.graph.node for name in (*node.input, *node.output)}
    renamed, _ = rename_tensors(model, {name: f"network/{name}" for name in taken & ours})
    for node in renamed.graph.node:
        if node.name in taken:
            node.name = f"network/{node.name}"
    return renamed


def fold_color_swap(model: ModelProto, image: str) -> tuple[ModelProto, bool]:
    """Make a network read its first and third channel exchanged, by exchanging weights of its first layers.

    Nothing changes if anything but an ordinary convolution with constant weights reads the image.
    """
    nodes = list(model.graph.node)
    aliases = {image} | {
        node.output[0] for node in nodes if node.op_type == "Cast" and node.input[0] == image
    }
    readers = [node for node in nodes if aliases & set(node.input) and node.output[0] not in aliases]
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    if not readers or not all(_is_plain_conv(node, weights) for node in readers):
        return model, False
    swapped = copy_of(model)
    for index, node in enumerate(nodes):
        if node in readers:
            name = f"{node.input[1]}/swapped"
            swapped.graph.node[index].input[1] = name
            if name not in {tensor.name for tensor in swapped.graph.initializer}:
                swapped.graph.initializer.append(exchanged(weights[node.input[1]], name, axis=1))
    pruned, _ = drop_unused(swapped)
    return pruned, True


def _is_plain_conv(node: NodeProto, weights: dict[str, TensorProto]) -> bool:
    return node.op_type == "Conv" and attribute_of(node, "group", 1) == 1 and node.input[1] in weights


def exchanged(tensor: TensorProto, name: str, *, axis: int) -> TensorProto:
    """A constant with its first and third slice along an axis exchanged."""
    values = numpy_helper.to_array(tensor)
    taken = np.take(values, swapped_order(values.shape[axis]), axis)
    return numpy_helper.from_array(np.ascontiguousarray(taken), name)


def swapped_order(channels: int) -> NDArray[np.int64]:
    """Indices that exchange the first and the third channel."""
    order = np.arange(channels, dtype=np.int64)
    order[[0, 2]] = 2, 0
    return order


def prepare(build: Nodes, frame: str, image: str, spec: PixelSpec, *, folded: bool) -> None:
    """From `frame` uint8[batch, height, width, C] to `image` float32[batch, C, h, w], normalised.

    Args:
        build: Where the nodes go.
        frame: Name of the frame's tensor; the nodes are called after it.
        image: Name of the tensor that is made.
        spec: What the network wants.
        folded: Whether the network's weights exchange the colours already.
    """
    pixels = build.cast(frame, TensorProto.FLOAT, f"{frame}/to_float")
    pixels = build.add("Transpose", [pixels], f"{frame}/to_nchw", perm=[0, 3, 1, 2])
    pixels = resize(build, pixels, (spec.channels, *spec.size), f"{frame}/resize", batch_of=frame)
    if spec.swapped and not folded:
        order = build.constant(f"{frame}/order", swapped_order(spec.channels))
        pixels = build.add("Gather", [pixels, order], f"{frame}/swap_color", axis=1)
    mean, std = np.array(spec.mean, dtype=np.float64), np.array(spec.std, dtype=np.float64)
    if folded:
        mean[[0, 2]], std[[0, 2]] = mean[[2, 0]], std[[2, 0]]
    scale = build.constant(f"{frame}/scale", _per_channel(1 / (255 * std)))
    shift = build.constant(f"{frame}/shift", _per_channel(-mean / std))
    pixels = build.add("Mul", [pixels, scale], f"{frame}/times_scale")
    build.add("Add", [pixels, shift], f"{frame}/plus_shift", image)


def _per_channel(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32).reshape(1, -1, 1, 1)


def resize(build: Nodes, tensor: str, shape: tuple[int, int, int], name: str, *, batch_of: str) -> str:
    """Bilinear, half-pixel centres, no antialiasing: what PyTorch calls `bilinear`, `align_corners=False`.

    Args:
        build: Where the nodes go.
        tensor: float32[batch, C, height, width].
        shape: Channels, and the height and width to be.
        name: Of the node; others are called after it.
        batch_of: An input whose first axis is the batch.
    """
    frame_shape = build.add("Shape", [batch_of], f"{name}/frame_shape")
    first = build.constant("index_0", np.array([0], dtype=np.int64))
    batch = build.add("Gather", [frame_shape, first], f"{name}/batch", axis=0)
    sizes = build.constant(f"{name}/chw", np.array(shape, dtype=np.int64))
    sizes = build.add("Concat", [batch, sizes], f"{name}/sizes", axis=0)
    return build.add(
        "Resize", [tensor, "", "", sizes], name, mode="linear", coordinate_transformation_mode="half_pixel"
    )
