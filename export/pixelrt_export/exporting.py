"""From a trained network to a verified bundle: `export` for a live module, `carry_out` for a recipe."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from torch import nn

from pixelrt.bundle import Bundle, check_folder
from pixelrt.errors import InputError
from pixelrt.manifest import Task, ValueRange
from pixelrt_export.convert import generation as convert_generation
from pixelrt_export.convert import segmentation as convert_segmentation
from pixelrt_export.gate.generation import verify_generator
from pixelrt_export.gate.generation_original import GeneratorConversion
from pixelrt_export.gate.segmentation import verify
from pixelrt_export.gate.segmentation_original import Conversion
from pixelrt_export.network import Network, from_module, open_network
from pixelrt_export.options import generation as of_generation
from pixelrt_export.options import segmentation as of_segmentation
from pixelrt_export.options.common import Classes, check_names
from pixelrt_export.options.generation import GenerationOptions, OutputOptions
from pixelrt_export.options.segmentation import ExportOptions
from pixelrt_export.precision import PrecisionReport
from pixelrt_export.progress import Steps, about_size
from pixelrt_export.recipe import GenerationRecipe, ModelSection, SegmentationRecipe
from pixelrt_export.report import GenerationReport, SegmentationReport
from pixelrt_export.samples.common import Arrays, Images, arrays_of
from pixelrt_export.samples.generation import Given, read_material
from pixelrt_export.samples.segmentation import samples_for
from pixelrt_export.sizes import recipe_at, together
from pixelrt_export.write import Made, write_bundle

if TYPE_CHECKING:
    from typing_extensions import Unpack

R = TypeVar("R", SegmentationReport, GenerationReport)
_TASKS: dict[Task, Any] = {"segmentation": of_segmentation, "generation": of_generation}


@overload
def export(
    model: nn.Module,
    out: str | os.PathLike[str],
    *,
    task: Literal["segmentation"] = "segmentation",
    size: tuple[int, int],
    classes: Classes | Mapping[str, Classes],
    images: Images | None = None,
    **options: Unpack[ExportOptions],
) -> Bundle: ...
@overload
def export(
    model: nn.Module,
    out: str | os.PathLike[str],
    *,
    task: Literal["generation"],
    output: ValueRange | OutputOptions,
    **options: Unpack[GenerationOptions],
) -> Bundle: ...
def export(
    model: nn.Module, out: str | os.PathLike[str], *, task: Task = "segmentation", **options: Any
) -> Bundle:
    """Convert a trained module, prove that nothing was lost, and write a bundle.

    The module is left as it was, on its device and in its mode.

        export(unet, "out/road", size=(384, 640), classes=["road", "car"], images="val/")
        export(gan, "out/faces", task="generation", latent=64, output="tanh")
        export(painter, "out/street", task="generation", output="tanh", masks="test://drive",
               mask={"size": (128, 192), "classes": "camvid11"})

    Both tasks take, with these defaults:

        name            of the bundle: the name of the folder `out`
        precision       "fp16"; "fp32" or "bf16"
        images          what the network will see: a folder, a source such as "test://drive?frames=32", or
                        frames uint8[H, W, C]; they give the activation ranges and the gate, a few dozen are
                        enough
        max_images=64   how many of them are used, evenly spread
        gate=True       False skips the gate; the bundle records that
        part            the submodule or method that is exported, as in "decoder" or "decode"
        as_in_training  ["dropout"], ["batch_norm"] or both behave as in training: none
        quiet=False     True shows no progress bars and no warnings

    With task="segmentation":

        size            required: height and width of the network's input
        smaller         further inputs that the bundle shall have, as in [(256, 352), (176, 240)], for streams
                        that step down under load: none
        classes         required: name of a palette, or the classes in the order of their ids; with several
                        heads a mapping from the name of a head to its classes
        mean, std       per channel, of pixels from 0 to 1: ImageNet's
        color="rgb"     order of the channels in which the network was trained, or "bgr"
        frame_color     "rgb": the order in which frames arrive
        batch=4         the most frames at once
        output          index, key or attribute of what the network returns: the only one
        activation      "softmax"; "sigmoid" or "none"
        emit            ("mask", "confidence", "grid"); "logits" too
        grid            rows and columns: a cell per 32 pixels
        threshold=0.5   probability from which a pixel of a sigmoid head is of its class
        heads           from the name of a head to its own output, activation, emit, grid, threshold
        labels          folder of PNGs of class ids: `labels` beside the images
        agreement=0.999, miou_drop=0.002
                        least share of pixels of the original's class, largest loss of mIoU

    With task="generation", of which one or more inputs, that take the parameters of forward() in this order:

        latent          its size, as in 64; or {"size": (64, 1, 1), "distribution": "normal" or "uniform"}
        label           the names; or {"names": [...], "form": "index" or "one_hot"}
        mask            {"size": (H, W), "classes": ..., "form": "one_hot" or "index"}
        image           {"size": (H, W), "mean", "std", "color", "frame_color"} as for segmentation
                        each input may name its parameter of forward(), by name or position: {"input": "z"}
        output          required: range of the values, "tanh", "sigmoid" or "none" (0 to 255); or {"range":
                        ..., "activation": "none", "output": the only one, "color": "rgb", "frame_color":
                        "rgb", "batch": 16}, where batch is the most images at once
        masks           what is painted for the gate: a folder of PNGs of class ids, a source with ground
                        truth, or arrays uint8[H, W]; required with `mask`, as `images` is with `image`
        samples=32      images that are made where the network takes neither masks nor images
        seed=0          of latents and noise
        psnr=40, ssim=0.99, max_difference=32
                        least PSNR in dB, least SSIM, largest difference of a byte, each of the worst image

    Args:
        model: The trained network.
        out: Folder of the bundle; a bundle that is there already is replaced.
        task: `segmentation` for a network that reads frames into masks, `generation` for one that writes
            images.
        options: As above; each means what the recipe's key of the same name means (docs/recipe.md).

    Returns:
        The bundle.

    Raises:
        GateFailed: If the converted network does not do what the original does; nothing is written.
        ExportError: If the network cannot be converted.
        InputError: If an option is unknown, missing, of the other task, or makes no sense.
        SourceError: If images or masks cannot be read.
        BundleError: If the bundle cannot be written.
    """
    recipe = _recipe_of(model, Path(out), task, options)
    check_folder(Path(out))
    given = Given(masks=arrays_of(options.get("masks")), images=arrays_of(options.get("images")))
    with Steps(bool(options.get("quiet", False))) as steps:
        network = from_module(model, recipe.model.part, recipe.model.as_in_training)
        return _made(recipe, network, given, Path(out), steps, notes=())


def carry_out(recipe: SegmentationRecipe | GenerationRecipe, out: Path, steps: Steps) -> Bundle:
    """Open the network that a recipe names, and write the bundle; `export_recipe` says the rest."""
    with steps.step("opening the network"):
        network = open_network(recipe.model)
    return _made(recipe, network, Given(), out, steps, notes=_about_weights(recipe.model))


def _about_weights(model: ModelSection) -> tuple[str, ...]:
    if model.entry is None or model.checkpoint is not None:
        return ()
    note = (
        f"no checkpoint: the weights are what the entry point gives ({Path(model.entry).name}), random ones "
        "if it loads none; name the trained ones with checkpoint in [model]"
    )
    return (note,)


def _recipe_of(
    model: nn.Module, out: Path, task: Task, options: Mapping[str, Any]
) -> SegmentationRecipe | GenerationRecipe:
    """The recipe that the arguments of `export` amount to."""
    if task not in _TASKS:
        raise InputError(f"task is {task!r}, expected {' or '.join(map(repr, _TASKS))}")
    other = next(name for name in _TASKS if name != task)
    described = _TASKS[task]
    for name in options:
        if name in described.STRANGERS:
            raise InputError(
                f"{name} is an option of task={other!r}, and the task is {task!r}: "
                f"{described.STRANGERS[name]}"
            )
    check_names(options, described.KNOWN, "option")
    recipe: SegmentationRecipe | GenerationRecipe = described.recipe_of(model, out, options)
    return recipe


# --- the way of a model ---------------------------------------------------------------------------


def _made(
    recipe: SegmentationRecipe | GenerationRecipe,
    network: Network,
    given: Given,
    out: Path,
    steps: Steps,
    *,
    notes: tuple[str, ...],
) -> Bundle:
    """One export, whatever it started from; `notes` are about that."""
    made: Sequence[Made[Any]]
    if isinstance(recipe, GenerationRecipe):
        made = [_generator(recipe, network, given, steps)]
    else:
        made = _segmenters(recipe, network, given.images, steps)
    made = [each.noted(notes) for each in made]
    with steps.step("writing the bundle"):
        bundle = write_bundle(out, made)
    steps.notes = made[0].report.notes
    return bundle


def _segmenters(
    recipe: SegmentationRecipe, network: Network, images: Arrays | None, steps: Steps
) -> list[Made[SegmentationReport]]:
    """The network at each size of the recipe, the largest first."""
    if not recipe.input.smaller:
        return [_segmenter(recipe, network, images, steps)]
    made = []
    for size in (recipe.input.size, *recipe.input.smaller):
        with about_size(size, steps):
            made.append(_segmenter(recipe_at(recipe, size), network, images, steps))
    return together(made)


def _segmenter(
    recipe: SegmentationRecipe, network: Network, images: Arrays | None, steps: Steps
) -> Made[SegmentationReport]:
    samples = samples_for(recipe, images, steps)
    conversion, precision = convert_segmentation.convert(recipe, network, samples, steps)
    judge = None if recipe.gate.skip else verify
    return _judged(SegmentationReport, judge, conversion, precision, samples, steps)


def _generator(
    recipe: GenerationRecipe, network: Network, given: Given, steps: Steps
) -> Made[GenerationReport]:
    material = read_material(recipe, given, steps)
    conversion, precision, samples = convert_generation.convert(recipe, network, material, steps)
    judge = None if recipe.gate.skip else verify_generator
    return _judged(GenerationReport, judge, conversion, precision, samples, steps)


def _judged(
    report: Callable[..., R],
    judge: Callable[..., Any] | None,
    conversion: Conversion | GeneratorConversion,
    precision: PrecisionReport,
    samples: Sequence[Any],
    steps: Steps,
) -> Made[R]:
    """A converted network after its gate; `judge` measures it there, and is None where that is skipped."""
    verification = None
    manifest: Any = conversion.manifest
    if judge is not None:
        verification = judge(conversion, samples, manifest.gate, steps.track)
        manifest = dataclasses.replace(manifest, gate=verification.gate)
    made = report(
        manifest=manifest,
        precision=precision,
        verification=verification,
        samples=samples,
        notes=verification.notes if verification else (),
        seconds=steps.seconds,
    )
    return Made.of(conversion.fused, made)
