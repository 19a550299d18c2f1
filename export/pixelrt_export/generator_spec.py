"""What goes into a generator and what comes out, and whether a network fits it."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto, TensorProto, helper

from pixelrt.errors import ExportError
from pixelrt.manifest import (
    Axis,
    ColorOrder,
    Form,
    LabelInfo,
    LatentInfo,
    MaskInfo,
    NoiseInfo,
    OutputActivation,
    Preprocess,
    Tensor,
    ValueRange,
)
from pixelrt_export.graph import ValueType, drop_unused
from pixelrt_export.pixels import PixelSpec, fixed_dims

LATENT = "latent"
LABEL = "label"
MASK = "mask"
IMAGE = "image"
GENERATED = "generated"
HEAD = "head_generated"
MAX_BATCH = 16


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
            wanted[MASK] = _of_classes(self.mask.form, len(self.mask.classes), self.mask.size)
        if self.image is not None:
            dims = ("batch", self.image.channels, *self.image.size)
            wanted[IMAGE] = ValueType(TensorProto.FLOAT, dims)
        return wanted


def _of_classes(form: Form, count: int, size: tuple[int, ...]) -> ValueType:
    if form == "index":
        return ValueType(TensorProto.INT64, ("batch", *size))
    return ValueType(TensorProto.FLOAT, ("batch", count, *size))


# --- checking a network ------------------------------------------------------------------------------


def check_generator(model: ModelProto, types: dict[str, ValueType], spec: GeneratorSpec) -> None:
    """Refuse a specification that does not fit a network.

    Args:
        model: The bare network.
        types: Those of its tensors.
        spec: What goes in and comes out.

    Raises:
        ExportError: Saying what was found and what was expected.
    """
    wanted = spec.network_inputs()
    found = [value.name for value in model.graph.input]
    if set(found) != set(wanted) or len(found) != len(wanted):
        raise ExportError(
            f"the network has the inputs {found}, {list(wanted)} were expected; export it with those names"
        )
    used = {name for node in drop_unused(model)[0].graph.node for name in node.input}
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
        pixels_of(spec, spec.image).check()
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


def pixels_of(spec: GeneratorSpec, image: Preprocess) -> PixelSpec:
    """How the graph prepares an image for the network."""
    return PixelSpec(
        channels=image.channels,
        size=image.size,
        mean=image.mean,
        std=image.std,
        network_color=spec.image_color,
        frame_color=image.color,
    )
