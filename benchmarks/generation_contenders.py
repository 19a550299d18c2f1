"""Who takes part in `generation.py`: from latents, labels and masks to images, or the bare network alone.

torch            PyTorch eager, float32, inference mode; one-hot before and bytes after it with PyTorch
torch-nhwc       the same with weights and inputs in channels_last
onnxruntime      the bare network, with NumPy before and after: what people do with an exported ONNX
bare             the bare network alone, from ready float32 tensors to float32, in OpenVINO as PixelRT sets
                 it up: one image after the other
bare-batch       the same compiled for the whole batch
pixelrt          generator(latent=..., label=..., mask=...), everything given
pixelrt-drawing  generator.sample(n, strategy=Random(seed)): latents, labels and noise are drawn, with another
                 seed each time
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pixelrt
from pixelrt.backends.openvino import core
from pixelrt.bundle import Bundle
from pixelrt.generation.inventing import invented_inputs
from pixelrt.manifest import GenerationManifest
from pixelrt_export.fuse_generator import GeneratorSpec
from pixelrt_export.gate.generation_original import image_bytes, network_feeds
from pixelrt_export.recipe import GenerationRecipe, read_recipe
from pixelrt_export.recipe.generation import INPUTS

BARE = "bare.onnx"
_SCALES = {"tanh": (127.5, 127.5), "sigmoid": (255.0, 0.0), "none": (1.0, 0.0)}
"""What makes 0..255 of a range: a factor and what is added."""

Feeds = dict[str, Any]
"""Arrays by the name of the input."""
Images = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a contender gets."""

    recipe: GenerationRecipe
    bundle: Bundle
    folder: Path
    """Holds the bare network, `bare.onnx`."""
    batch: int
    precision: str
    threads: int
    device: str
    """`cpu` or `cuda`."""

    @property
    def manifest(self) -> GenerationManifest:
        """Of the bundle."""
        return self.bundle.generation

    @property
    def spec(self) -> GeneratorSpec:
        """What stands around the bare network, as the export had it."""
        recipe, manifest = self.recipe, self.manifest
        return GeneratorSpec(
            latent=manifest.latent,
            label=manifest.label,
            label_form="index" if recipe.label is None else recipe.label.form,
            mask=manifest.mask,
            image=manifest.image,
            image_color="rgb" if recipe.image is None else recipe.image.color,
            noise=manifest.noise,
            range=manifest.output.range,
            activation=manifest.output.activation,
            network_color=recipe.output.color,
            frame_color=recipe.output.frame_color,
            axes=manifest.axes,
        )

    def feeds(self, seed: int) -> Feeds:
        """All that the deployed graph takes, for a whole batch."""
        given = invented_inputs(self.manifest, self.batch, seed)
        return {name: np.stack(value) for name, value in given.items()}


def read(recipe_file: Path) -> tuple[GenerationRecipe, Bundle]:
    """A recipe of generation and the bundle beside it.

    Raises:
        SystemExit: If the recipe is for another task, has no checkpoint, or was not exported.
    """
    recipe, folder = read_recipe(recipe_file), recipe_file.with_name("bundle")
    if not isinstance(recipe, GenerationRecipe):
        raise SystemExit(f"{recipe_file} is for segmentation, a recipe of generation was expected")
    if recipe.model.entry is not None and recipe.model.checkpoint is None:
        raise SystemExit(f"{recipe_file} names no checkpoint: its weights would be others in each process")
    if not folder.is_dir():
        raise SystemExit(f"{folder} does not exist; export it: pixelrt export {recipe_file}")
    return recipe, Bundle.open(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A way to make images."""

    step: Callable[[Any], Any]
    """What is measured: everything for one batch, until it is in main memory."""
    version: str
    precision: str
    """As the library says."""
    ready: Callable[[Feeds], Any] = dict
    """What is made of the inputs before the clock starts."""
    images: Callable[[Any], Images] | None
    """The images of what `ready` made, for comparison; None where a step draws its inputs."""


# ------------------------------------------------------------------------------------------------ PyTorch


def torch_eager(setting: Setting, *, channels_last: bool = False) -> Contender:
    """As most people run a network that they have trained."""
    import torch

    torch.set_num_threads(setting.threads)
    network = _module(setting.recipe).eval().to(setting.device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network.to(memory_format=layout)
    factor, offset = _SCALES[setting.manifest.output.range]
    activation = setting.manifest.output.activation

    @torch.inference_mode()
    def step(feeds: Feeds) -> Images:
        values = _call(
            network, setting, {name: torch.from_numpy(value) for name, value in feeds.items()}, layout
        )
        values = values if activation == "none" else getattr(torch, activation)(values)
        images = (values * factor + offset).clamp(0, 255).round().byte().permute(0, 2, 3, 1)
        return np.asarray(images.cpu().numpy())

    return Contender(step=step, images=step, version=f"torch {torch.__version__}", precision="float32")


def _module(recipe: GenerationRecipe) -> Any:
    from pixelrt_export.checkpoint import apply_state, load_state
    from pixelrt_export.entry import build_module
    from pixelrt_export.parts import part_of

    model = recipe.model
    if model.entry is None or model.as_in_training:
        raise SystemExit(f"{recipe.name} is no live module in eval mode; PyTorch's eager mode needs one")
    module = build_module(model.entry, model.args)
    if model.checkpoint is not None:
        apply_state(module, load_state(Path(model.checkpoint)), Path(model.checkpoint))
    return module if model.part is None else part_of(module, model.part, recipe.name)


def _call(network: Any, setting: Setting, given: Mapping[str, Any], layout: Any) -> Any:
    """The network's values for tensors of the deployed graph's inputs."""
    import torch
    from torch.nn import functional

    spec, made = setting.spec, {name: tensor.to(setting.device) for name, tensor in given.items()}
    for name, form, classes in (
        ("label", spec.label_form, len(spec.label.names) if spec.label else 0),
        ("mask", spec.mask.form if spec.mask else "index", len(spec.mask.classes) if spec.mask else 0),
    ):
        if classes:
            made[name] = made[name].long()
        if classes and form == "one_hot":
            made[name] = functional.one_hot(made[name], classes).movedim(-1, 1).float()
    if spec.image is not None:
        mean, std = (torch.tensor(each, device=setting.device) for each in (spec.image.mean, spec.image.std))
        made["image"] = ((made["image"].float() / 255 - mean) / std).movedim(-1, 1)
    positional, named = [], {}
    for name in INPUTS:
        if name in made:
            value = made[name].contiguous(memory_format=layout) if made[name].ndim == 4 else made[name]
            parameter = getattr(setting.recipe, name).input
            if isinstance(parameter, str):
                named[parameter] = value
            else:
                positional.append(value)
    return network(*positional, **named)


# ------------------------------------------------------------------------------------------- the bare network


def onnxruntime_bare(setting: Setting) -> Contender:
    """The exported ONNX in the library that most people take."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setting.threads
    providers = ["CUDAExecutionProvider"] if setting.device == "cuda" else ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(setting.folder / BARE, options, providers=providers)
    spec = setting.spec

    def step(feeds: Feeds) -> Images:
        return image_bytes(session.run(None, network_feeds(feeds, spec))[0], spec)

    version = f"onnxruntime {onnxruntime.__version__}, {session.get_providers()[0]}"
    return Contender(step=step, images=step, version=version, precision="float32")


def openvino_bare(setting: Setting, *, whole_batch: bool = False) -> Contender:
    """OpenVINO as PixelRT sets it up, without anything around the network and without copies."""
    import openvino

    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[setting.precision],
        "INFERENCE_NUM_THREADS": setting.threads,
    }
    model = core().read_model(setting.folder / BARE)
    at_once = setting.batch if whole_batch else 1
    model.reshape({port.any_name: [at_once, *list(port.partial_shape)[1:]] for port in model.inputs})
    compiled = core().compile_model(model, "CPU", config)
    request, spec = compiled.create_infer_request(), setting.spec

    def ready(feeds: Feeds) -> list[Feeds]:
        floats = network_feeds(feeds, spec)
        starts = range(0, setting.batch, at_once)
        return [{name: each[start : start + at_once] for name, each in floats.items()} for start in starts]

    def step(parts: list[Feeds]) -> list[NDArray[np.float32]]:
        values = []
        for part in parts:
            request.infer(part, share_inputs=True, share_outputs=True)
            values.append(request.get_output_tensor(0).data)
        return values

    def images(parts: list[Feeds]) -> Images:
        return np.concatenate([image_bytes(step([part])[0], spec) for part in parts])

    found = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    version = f"openvino {openvino.__version__.split('-')[0]}"
    return Contender(step=step, version=version, precision=found, ready=ready, images=images)


# ------------------------------------------------------------------------------------------------ PixelRT


def pixelrt_given(setting: Setting) -> Contender:
    """A call with all inputs."""
    generator = _generator(setting)

    def step(feeds: Feeds) -> Images:
        return generator(**feeds).images

    return _of(generator, step, step)


def pixelrt_drawing(setting: Setting) -> Contender:
    """A call that draws latents, labels and noise itself."""
    generator = _generator(setting)
    seeds = iter(range(1, 1_000_000_000))

    def step(given: Feeds) -> Images:
        return generator.sample(setting.batch, strategy=pixelrt.Random(seed=next(seeds)), **given).images

    def ready(feeds: Feeds) -> Feeds:
        return {name: feeds[name] for name in ("mask", "image") if name in feeds}

    return _of(generator, step, None, ready)


def _generator(setting: Setting) -> pixelrt.Generator:
    precision: Any = None if setting.precision == "default" else setting.precision
    return pixelrt.load(
        setting.bundle, task="generation", device=setting.device, precision=precision, threads=setting.threads
    )


def _of(
    generator: pixelrt.Generator,
    step: Callable[[Feeds], Images],
    images: Callable[[Feeds], Images] | None,
    ready: Callable[[Feeds], Feeds] = dict,
) -> Contender:
    info = generator.session.info
    version = f"pixelrt {pixelrt.__version__} on {info.backend} {info.version}"
    return Contender(step=step, images=images, ready=ready, version=version, precision=info.precision)


CONTENDERS: dict[str, Callable[[Setting], Contender]] = {
    "torch": torch_eager,
    "torch-nhwc": lambda setting: torch_eager(setting, channels_last=True),
    "onnxruntime": onnxruntime_bare,
    "bare": openvino_bare,
    "bare-batch": lambda setting: openvino_bare(setting, whole_batch=True),
    "pixelrt": pixelrt_given,
    "pixelrt-drawing": pixelrt_drawing,
}
