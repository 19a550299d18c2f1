"""What commands say about bundles that write images."""

from __future__ import annotations

from pixelrt.cli.wording import verdict
from pixelrt.manifest import ColorOrder, GenerationCheck, GenerationGate, GenerationManifest, Preprocess
from pixelrt.terminal import heading, say_pairs, say_table

SAME = "same bytes"
"""In the place of a PSNR, where no byte differs."""

CHECK_COLUMNS = (
    "backend",
    "device",
    "precision",
    ">PSNR, worst",
    ">of all",
    ">SSIM, worst",
    ">max diff",
    "verdict",
)

_RANGES = {"tanh": "-1..1", "sigmoid": "0..1", "none": "0..255"}


def preprocess_text(given: Preprocess) -> str:
    """Size, channels and scaling of the frames that a network sees."""
    height, width = given.size
    mean = ", ".join(f"{value:g}" for value in given.mean)
    std = ", ".join(f"{value:g}" for value in given.std)
    return f"{height}x{width} (HxW), {_channels_text(given.channels, given.color)}, mean {mean}, std {std}"


def _channels_text(channels: int, color: ColorOrder) -> str:
    return "1 channel (grey)" if channels == 1 else f"{channels} channels, {color}"


def show_generator(manifest: GenerationManifest) -> None:
    """Write what a generator takes and gives."""
    heading("What it takes")
    say_pairs(_input_pairs(manifest))
    heading("What it gives")
    given = manifest.output
    height, width = given.size
    activation = "" if given.activation == "none" else f", after a {given.activation} in the graph"
    say_pairs(
        [
            ("image", f"{height}x{width} (HxW), {_channels_text(given.channels, given.color)}"),
            ("values", f"{_RANGES[given.range]} made into bytes 0..255{activation}"),
        ]
    )
    if manifest.label is not None:
        heading("Labels")
        say_table((">id", "label"), [(str(index), name) for index, name in enumerate(manifest.label.names)])
    if manifest.mask is not None:
        heading("Classes of the mask")
        rows = [
            (str(index), info.name, "#{:02x}{:02x}{:02x}".format(*info.color))
            for index, info in enumerate(manifest.mask.classes)
        ]
        say_table((">id", "class", "colour"), rows)


def _input_pairs(manifest: GenerationManifest) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    if manifest.latent is not None:
        spread = "mean 0, variance 1" if manifest.latent.distribution == "normal" else "-1..1"
        size = "x".join(map(str, manifest.latent.size))
        pairs.append(("latent", f"{size} values, {manifest.latent.distribution} ({spread})"))
    if manifest.label is not None:
        pairs.append(("label", f"one of {len(manifest.label.names)} (below)"))
    if manifest.mask is not None:
        height, width = manifest.mask.size
        pairs.append(("mask", f"{height}x{width} (HxW), {len(manifest.mask.classes)} classes (below)"))
    if manifest.image is not None:
        pairs.append(("image", preprocess_text(manifest.image)))
    for noise in manifest.noise:
        what = f", in the place of {noise.what}" if noise.what else ""
        size = "x".join(map(str, noise.size))
        pairs.append((noise.name, f"{size} values, {noise.distribution}{what}; drawn from the seed"))
    return pairs


def demanded_text(gate: GenerationGate) -> str:
    """What a gate demands of the worst image."""
    return f"PSNR >= {gate.psnr:g} dB, SSIM >= {gate.ssim:g}, max difference <= {gate.max_difference} of 255"


def check_row(check: GenerationCheck) -> tuple[str, ...]:
    """A line of the gate's table, in `CHECK_COLUMNS`."""
    return (
        check.backend,
        check.device,
        check.precision,
        psnr_text(check.psnr),
        psnr_text(check.mean_psnr),
        f"{check.ssim:.5f}",
        str(check.max_difference),
        verdict(check),
    )


def psnr_text(psnr: float | None) -> str:
    """`52.1 dB`."""
    return SAME if psnr is None else f"{psnr:.1f} dB"
