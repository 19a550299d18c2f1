"""The networks: their weights for PyTorch, a bundle for PixelRT, and the bare ONNX for ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
import numpy as np

from gpu.contender import Bytes
from gpu.host_side import to_tensor
from pixelrt.bundle import Bundle, write_file
from pixelrt.errors import InputError
from pixelrt.manifest import Preprocess

if TYPE_CHECKING:
    from torch import nn

SIZE = (512, 1024)
"""Height and width of the networks."""
LARGEST_BATCH = 8
PRECISIONS = ("fp32", "fp16")
"""Of the bare networks."""

_SEED = 7
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CALIBRATION_FRAMES = 4


@dataclass(frozen=True, slots=True)
class Model:
    """A network that takes part."""

    name: str
    make: Callable[[], nn.Module]
    """On the CPU, in FP32 and eval mode; the same weights at every call."""
    options: dict[str, Any]
    """For `pixelrt_export.export`."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model with its files."""

    model: Model
    bundle: Bundle
    bare: dict[str, Path]
    """The bare network per precision, float32[batch, 3, h, w] to float32[batch, classes, h, w]."""

    @property
    def form(self) -> Preprocess:
        """What a frame goes through before the network."""
        return self.bundle.segmentation.preprocess


def road_unet() -> nn.Module:
    """The trained network of `engines/road-unet`."""
    from pixelrt_export import read_recipe
    from pixelrt_export.checkpoint import apply_state, load_state
    from pixelrt_export.entry import build_module

    section = read_recipe(harness.ROOT / "engines" / "road-unet" / "recipe.toml").model
    if section.entry is None or section.checkpoint is None:
        raise InputError("the recipe of road-unet names no entry or no checkpoint, expected both")
    module = build_module(section.entry, section.args)
    apply_state(module, load_state(Path(section.checkpoint)), Path(section.checkpoint))
    return module.eval()


def classic_unet() -> nn.Module:
    """The full-width U-Net (64, 128, 256, 512, 1024), untrained, seeded."""
    import torch

    from pixelrt_export.models import classic_unet as build

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return build(in_channels=3, num_classes=2).eval()


MODELS = {
    model.name: model
    for model in (
        Model("road-unet", road_unet, {"classes": "camvid11"}),
        Model("classic-unet", classic_unet, {"classes": ["background", "object"], "activation": "none"}),
    )
}


def prepare(model: Model, size: tuple[int, int], folder: Path) -> Prepared:
    """Export a network at a size without a gate (which measured it at its own size), or take what is there.

    The bundle emits the mask alone, since that is what the other contenders give.

    Args:
        model: The network.
        size: Height and width.
        folder: Holds `NAME/bundle` and `NAME/bare-*.onnx`; whatever is missing is written.

    Raises:
        InputError: If what is there is of another size.
        ExportError: If the network cannot be exported.
    """
    home = folder / model.name
    bare = {precision: home / f"bare-{precision}.onnx" for precision in PRECISIONS}
    if not all(file.is_file() for file in bare.values()):
        home.mkdir(parents=True, exist_ok=True)
        _export(model, size, home, bare)
    bundle = Bundle.open(home / "bundle")
    if bundle.segmentation.preprocess.size != size:
        raise InputError(
            f"{bundle.path} is for {list(bundle.segmentation.preprocess.size)}, expected {list(size)}; "
            "remove it, or name another folder"
        )
    return Prepared(model, bundle, bare)


def _export(model: Model, size: tuple[int, int], home: Path, bare: dict[str, Path]) -> None:
    from pixelrt_export import export
    from pixelrt_export.network import HeadOutput, NetworkSpec, from_module
    from pixelrt_export.precision import to_precision

    module = model.make()
    images = harness.drive(_CALIBRATION_FRAMES, size)
    bundle = export(
        module,
        home / "bundle",
        size=size,
        images=images,
        mean=_MEAN,
        std=_STD,
        emit=("mask",),
        batch=LARGEST_BATCH,
        gate=False,
        quiet=True,
        name=model.name,
        **model.options,
    )
    spec = NetworkSpec.of_image(size, 3, (HeadOutput(name="scene"),))
    plain = from_module(module).to_onnx(spec)
    feeds = [{"image": to_tensor(image, bundle.segmentation.preprocess)} for image in images]
    typed, _ = to_precision(plain, feeds, "fp16")
    for precision, network in zip(PRECISIONS, (plain, typed), strict=True):
        write_file(bare[precision], network.SerializeToString())


def frames_of(size: tuple[int, int], count: int) -> list[Bytes]:
    """Frames of the procedural drive, contiguous."""
    return [np.ascontiguousarray(frame) for frame in harness.drive(count, size)]
