"""The page of a network that writes images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pixelrt.manifest import GenerationManifest
from pixelrt.markup import Html, element, table
from pixelrt.metrics import psnr
from pixelrt_export.gate.generation import (
    GeneratorFigures,
    GeneratorSample,
    GeneratorVerification,
    byte_difference,
)
from pixelrt_export.gate.images import Bytes
from pixelrt_export.generator_spec import IMAGE, LABEL, MASK
from pixelrt_export.pictures import as_rgb, colored, drawing_uri, image_uri, photo_uri
from pixelrt_export.report.contents import GenerationReport
from pixelrt_export.report.page import (
    Fact,
    Parts,
    Row,
    banner,
    class_swatch,
    picture,
    pill,
    shot,
    stand_in_note,
    strip,
    strips,
)
from pixelrt_export.report.words import (
    TIMES,
    by,
    counted,
    decibels,
    frames_text,
    listed,
    original_of,
    runs_as,
    similarity,
)

_MOST_AMPLIFIED = 64
"""A difference of one byte can be seen, and does not look like one of sixty."""
_STRIP_DECIBELS = 80.0
"""Top of the bars: one byte of an ordinary image differs by one in about 1,500."""
_SMALL = 64
"""Width in pixels up to which an image is small."""
_RANGES = {"tanh": "-1 to 1", "sigmoid": "0 to 1", "none": "0 to 255"}


def generation_parts(report: GenerationReport) -> Parts:
    """What a report about generated images consists of."""
    manifest, verification = report.manifest, report.verification
    color = manifest.output.color.upper() if manifest.output.channels == 3 else "grey"
    return Parts(
        verdict=_verdict(report),
        figures=_figures(verification) if verification else [],
        size=("Images", by(manifest.output.size), f"height {TIMES} width, {color}"),
        sections=[_gate(report, verification), _images(report, verification)] if verification else [],
        deployed=_deployed(manifest),
    )


def _required(verification: GeneratorVerification) -> list[GeneratorFigures]:
    return [one for one in verification.figures if one.contender.required]


# --- the verdict --------------------------------------------------------------------------------------


def _worst(figures: Sequence[GeneratorFigures]) -> tuple[float, float, int]:
    """PSNR, SSIM and largest difference of the worst image of several contenders."""
    least = psnr(max(max(one.squares) for one in figures))
    return least, min(min(one.ssim) for one in figures), max(max(one.largest) for one in figures)


def _verdict(report: GenerationReport) -> Html:
    verification, original = report.verification, original_of(report.manifest)
    if verification is None:
        return banner(
            "warn",
            "The gate was skipped",
            f"Nobody has checked that this bundle gives the images of the {original} network.",
        )
    gate = verification.gate
    least, similar, most = _worst(_required(verification))
    near = "is the same, byte by byte" if math.isinf(least) else f"has a PSNR of {decibels(least)} dB"
    return banner(
        "good",
        "Passed its gate",
        f"Of {counted(gate.num_images, 'image')}, the one of the deployed graph that is farthest from "
        f"{original}'s in FP32 {near} ({gate.psnr:g} dB were demanded). The least SSIM is "
        f"{similarity(similar)} ({gate.ssim:g}), and no byte differs by more than {most} "
        f"({gate.max_difference} was allowed).",
    )


def _figures(verification: GeneratorVerification) -> list[Fact]:
    least, similar, most = _worst(_required(verification))
    return [
        ("PSNR", f"{decibels(least)}\u202fdB", "worst image of all required runs"),
        ("SSIM", similarity(similar), "worst image"),
        ("Largest difference", str(most), "of a byte, 0 to 255"),
    ]


# --- the gate -----------------------------------------------------------------------------------------


def _gate(report: GenerationReport, verification: GeneratorVerification) -> Html:
    gate = verification.gate
    columns = [
        "Runs as",
        "Verdict",
        f">PSNR dB, worst image\nat least {gate.psnr:g}",
        ">PSNR dB, all",
        f">SSIM, worst image\nat least {gate.ssim:g}",
        f">Largest difference\nat most {gate.max_difference}",
    ]
    return element(
        "section",
        element("h2", "Gate"),
        element("p", *_about(report, verification)),
        table(columns, [_gate_row(one) for one in verification.figures]),
        element("p", stand_in_note(one.contender for one in verification.figures), class_="soft"),
        _strips(verification),
    )


def _about(report: GenerationReport, verification: GeneratorVerification) -> list[str | Html]:
    gate = verification.gate
    images, inputs = counted(gate.num_images, "image"), ", ".join(one.name for one in report.manifest.inputs)
    made = f"{original_of(report.manifest)} in FP32 and the deployed graph made {images} from the same inputs"
    said: list[str | Html] = [f"{made}: {inputs}"]
    if gate.images:
        said += [", from ", element("code", gate.images)]
    if report.manifest.latent or report.manifest.noise:
        said.append(f"; what is random is drawn from seed {gate.seed}")
    return [*said, "."]


def _gate_row(one: GeneratorFigures) -> list[str | Html]:
    check = one.check
    assert check is not None  # of verify_generator
    return [
        runs_as(check),
        pill(check.passed, required=one.contender.required),
        decibels(check.psnr),
        decibels(check.mean_psnr),
        similarity(check.ssim),
        str(check.max_difference),
    ]


def _strips(verification: GeneratorVerification) -> Html | None:
    """Image by image, so that one bad image does not hide in the mean."""
    if verification.gate.num_images < 2:
        return None
    limit = verification.gate.psnr
    return strips(
        (_strip(one, limit) for one in verification.figures),
        f"A bar is an image, up to {_STRIP_DECIBELS:g} dB; the dashed line is the limit for each of them.",
    )


def _strip(one: GeneratorFigures, limit: float) -> tuple[Html, str]:
    values = [psnr(square) for square in one.squares]
    drawn = strip(
        [min(1.0, value / _STRIP_DECIBELS) for value in values],
        [value < limit for value in values],
        min(1.0, limit / _STRIP_DECIBELS),
        f"PSNR of {len(values)} images, at least {decibels(min(values))} dB",
    )
    return drawn, f"{runs_as(one.contender)}: PSNR per image, from {decibels(min(values))} dB"


# --- images -------------------------------------------------------------------------------------------


def _images(report: GenerationReport, verification: GeneratorVerification) -> Html:
    shown = _required(verification)[-1]
    times = _amplification(verification)
    order = sorted(shown.images, key=lambda index: (index != shown.worst, not _reasons(verification, index)))
    return element(
        "section",
        element("h2", "Images"),
        element(
            "p",
            "The worst images of each run, and others spread over the samples. Below each image is its "
            f"difference from {original_of(report.manifest)}'s, {times} times as large as it is.",
        ),
        *(_shot(report, verification, index, times) for index in order),
    )


def _amplification(verification: GeneratorVerification) -> int:
    """By which power of two differences are multiplied, so that the largest is not cut."""
    most = max(max(one.largest) for one in verification.figures if one.contender.required)
    return min(_MOST_AMPLIFIED, 1 << int(math.log2(255 / max(1, most))))


def _reasons(verification: GeneratorVerification, index: int) -> list[str]:
    """Of which runs an image is the worst, and by which measure."""
    reasons = []
    for one in verification.figures:
        measures = [measure for measure, worst in _worst_per_measure(one).items() if worst == index]
        if measures:
            reasons.append(f"worst {' and '.join(measures)} of {runs_as(one.contender)}")
    return reasons


def _worst_per_measure(one: GeneratorFigures) -> dict[str, int]:
    """Without measures by which no image is worse than all others."""
    per_image: dict[str, list[Any]] = {"PSNR": one.squares, "SSIM": one.ssim, "difference": one.largest}
    return {
        measure: worst
        for (measure, values), worst in zip(per_image.items(), one.worst_ones, strict=True)
        if len(values) > 1 and values.count(values[worst]) == 1
    }


def _shot(report: GenerationReport, verification: GeneratorVerification, index: int, times: int) -> Html:
    manifest, sample = report.manifest, report.samples[index]
    original = verification.reference.images[index]
    figures = [
        *_given(manifest, sample),
        picture(
            image_uri(as_rgb(original, manifest.output.color)), f"{original_of(manifest)}, FP32", sample.name
        ),
        *(
            _found(manifest, sample, one, index, byte_difference(original, one.images[index]), times)
            for one in verification.figures
        ),
    ]
    reasons = _reasons(verification, index)
    label = _label(manifest, sample)
    return shot(
        sample.name,
        [label] * bool(label) + reasons,
        figures,
        "shots made",
        style=f"--columns:{len(figures)};--widest:{_width(original)}",
    )


def _found(
    manifest: GenerationManifest,
    sample: GeneratorSample,
    one: GeneratorFigures,
    index: int,
    difference: Bytes,
    times: int,
) -> Html:
    """A contender's image over its difference from the original's."""
    name, color = runs_as(one.contender), manifest.output.color
    larger = np.minimum(255, difference.astype(np.int64) * times).astype(np.uint8)
    return element(
        "figure",
        element("img", src=image_uri(as_rgb(one.images[index], color)), alt=f"{name} of {sample.name}"),
        element("img", src=image_uri(as_rgb(larger, color)), alt=f"Difference of {name} of {sample.name}"),
        element(
            "figcaption",
            name,
            element("small", _nearness(one, index)),
        ),
    )


def _width(image: Bytes) -> str:
    """How wide an image may be on the page: small ones are not blown up."""
    return "8rem" if image.shape[1] <= _SMALL else "13rem"


def _nearness(one: GeneratorFigures, index: int) -> str:
    if not one.largest[index]:
        return "the same, byte by byte"
    return (
        f"PSNR {decibels(psnr(one.squares[index]))} dB, SSIM {similarity(one.ssim[index])}, up to "
        f"{one.largest[index]}"
    )


def _given(manifest: GenerationManifest, sample: GeneratorSample) -> list[Html]:
    """Pictures of the inputs that can be seen."""
    pictures = []
    if manifest.mask is not None:
        mask = colored(sample.feeds[MASK][0], manifest.mask.classes)
        pictures.append(picture(drawing_uri(mask), "Mask", sample.name))
    if manifest.image is not None:
        frame = as_rgb(sample.feeds[IMAGE][0], manifest.image.color)
        pictures.append(picture(photo_uri(frame), "Image given", sample.name))
    return pictures


def _label(manifest: GenerationManifest, sample: GeneratorSample) -> str:
    if manifest.label is None:
        return ""
    return f"“{manifest.label.names[int(sample.feeds[LABEL][0])]}”"


# --- what was made ------------------------------------------------------------------------------------


def _deployed(manifest: GenerationManifest) -> list[Row]:
    rows: list[Row] = []
    if (latent := manifest.latent) is not None:
        rows.append(("Latent", f"{by(latent.size)}, {_distribution(latent.distribution)}"))
    if (label := manifest.label) is not None:
        rows.append(("Label", f"{counted(len(label.names), 'name')}: {', '.join(label.names)}"))
    if (mask := manifest.mask) is not None:
        classes = (class_swatch(info.name, info.color) for info in mask.classes)
        rows.append((f"Mask, {by(mask.size)}", element("span", *classes, class_="classes")))
    if (image := manifest.image) is not None:
        normalised = f"mean {listed(image.mean)}, std {listed(image.std)} (of 0..1 pixels)"
        rows.append(("Image", f"{frames_text(image)}; normalised with {normalised}"))
    rows += [
        (f"Noise {noise.name}", f"{by(noise.size)}, {_distribution(noise.distribution)}: {noise.what}")
        for noise in manifest.noise
    ]
    output = manifest.output
    applied = "" if output.activation == "none" else f", after {output.activation} in the graph"
    rows.append(
        ("Bytes", f"0 to 255 stand for {_RANGES[output.range]}{applied}; rounded half to even, cut beyond")
    )
    return rows


def _distribution(name: str) -> str:
    return {"normal": "normal", "uniform": "uniform from -1 to 1", "unit": "uniform from 0 to 1"}[name]
