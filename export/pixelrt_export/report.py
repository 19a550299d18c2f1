"""What an export did and measured: report.json for programs, report.html for people."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle_report import files_section
from pixelrt.manifest import Head, Preprocess, SegmentationCheck, SegmentationManifest
from pixelrt.markup import Html, element, join, table
from pixelrt.metrics import ConfusionMatrix
from pixelrt.terminal import size_text
from pixelrt_export.gate.contenders import Contender
from pixelrt_export.gate.segmentation import Figures, Sample, Verification
from pixelrt_export.pictures import as_rgb, colored, difference, drawing_uri, photo_uri
from pixelrt_export.precision import ACTIVATION_LIMIT, FP16_MAX, LayerPrecision, PrecisionReport

SCHEMA = 1
"""Number of report.json's format."""

_TIMES, _NONE = "\u00d7", "\u2013"
_BACKENDS = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT"}
_SMALLEST_POWER, _LARGEST_POWER = -14, 16
"""Powers of two at the ends of the bars of magnitude: FP16's smallest and largest numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a report is made of."""

    manifest: SegmentationManifest
    precision: PrecisionReport
    verification: Verification | None
    """None where the gate was skipped."""
    samples: Sequence[Sample]
    seconds: dict[str, float]
    """Wall time per step."""


def to_json(report: Report) -> str:
    """The text of report.json."""
    verification = report.verification
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "name": report.manifest.name,
        "created": report.manifest.created,
        "gate": dataclasses.asdict(report.manifest.gate),
        "images": [sample.name for sample in report.samples],
        "original": _original_record(verification) if verification else {},
        "contenders": [_as_record(one) for one in verification.figures] if verification else [],
        "notes": list(verification.notes) if verification else [],
        "layers": [dataclasses.asdict(layer) for layer in report.precision.layers],
        "casts": report.precision.num_casts,
        "seconds": {name: round(value, 3) for name, value in report.seconds.items()},
    }
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def to_html(report: Report) -> str:
    """The text of report.html: one file that needs nothing else."""
    manifest = report.manifest
    style = resources.files("pixelrt_export").joinpath("assets/report.css").read_text(encoding="utf-8")
    head = join(
        element("meta", charset="utf-8"),
        element(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; img-src data:; style-src 'unsafe-inline'",
        ),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"pixelrt {manifest.tools.get('pixelrt', '')}"),
        element("title", f"{manifest.name}: export report"),
        element("style", Html(style)),
    )
    body = join(
        _header(report),
        _gate(report),
        _classes(report),
        _images(report),
        _precision(report),
        _deployed(manifest),
        files_section(manifest),
        _origin(report),
    )
    page = element("html", element("head", head), element("body", body), lang="en")
    return f"<!doctype html>\n{page}\n"


# --- words and numbers ----------------------------------------------------------------------------


def percent(share: float) -> str:
    """A share for people; it never says 100 % of what is not all."""
    for digits in (2, 4, 6):
        text = f"{100 * share:.{digits}f}"
        if share >= 1 or float(text) < 100:
            return f"{text}\u202f%"
    return "> 99.999999\u202f%"


def _backend(name: str) -> str:
    return _BACKENDS.get(name, name)


def _runs_as(ran: SegmentationCheck | Contender) -> str:
    return f"{_backend(ran.backend)}, {ran.precision}{' on the GPU' if ran.device == 'cuda' else ''}"


def _original(manifest: SegmentationManifest) -> str:
    """What the contenders were compared with."""
    return "original ONNX" if manifest.source.model.endswith(".onnx") else "PyTorch"


def _count(number: int, word: str) -> str:
    """`1 layer`, `2 layers`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _magnitude(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _points(share: float | None) -> str:
    """An IoU in percent."""
    return _NONE if share is None or not math.isfinite(share) else f"{100 * share:.2f}"


def _original_record(verification: Verification) -> dict[str, Any]:
    reference = verification.reference
    return {
        head: {
            "largest_logit": max((float(np.abs(one).max()) for one in reference.logits[head]), default=None),
            "miou": reference.truth[head].miou() if head in reference.truth else None,
        }
        for head in reference.masks
    }


def _as_record(figures: Figures) -> dict[str, Any]:
    """The figures of one contender at one head, for report.json."""
    return {
        "backend": figures.contender.backend,
        "device": figures.contender.device,
        "precision": figures.contender.precision,
        "required": figures.contender.required,
        "head": figures.head,
        "agreement": figures.share_equal,
        "agreement_per_image": figures.equal,
        "iou_against_original": _finite(figures.agreement.iou()),
        "iou_against_labels": None if figures.truth is None else _finite(figures.truth.iou()),
        "max_logit_difference": figures.check.max_logit_difference if figures.check else None,
        "logit_images": figures.num_logit_images,
    }


def _finite(values: NDArray[np.float64]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _required(verification: Verification) -> list[Figures]:
    return [one for one in verification.figures if one.contender.required]


def _shown(verification: Verification, head: str) -> Figures:
    """The contender whose masks are shown: the last that had to pass, which is nearest to the GPU."""
    return [one for one in _required(verification) if one.head == head][-1]


# --- tables ---------------------------------------------------------------------------------------


def _pairs(rows: Iterable[tuple[str, str | Html]]) -> Html:
    """Names and values."""
    lines = [element("tr", element("th", name, scope="row"), element("td", value)) for name, value in rows]
    return element("div", element("table", element("tbody", *lines), class_="pairs"), class_="scroll")


# --- the verdict ----------------------------------------------------------------------------------


def _header(report: Report) -> Html:
    manifest = report.manifest
    created = manifest.created.replace("T", " ").replace("+00:00", " UTC")
    return element(
        "header",
        element("p", f"PixelRT export report, {created}", class_="kicker"),
        element("h1", manifest.name),
        _verdict(report),
        _facts(report),
    )


def _verdict(report: Report) -> Html:
    manifest, verification = report.manifest, report.verification
    original = _original(manifest)
    if verification is None:
        return _banner(
            "warn",
            "The gate was skipped",
            f"Nobody has checked that this bundle gives the masks of the {original} network.",
        )
    checks = [one.check for one in _required(verification) if one.check is not None]
    least = min(check.agreement for check in checks)
    drops = [check.miou_drop for check in checks if check.miou_drop is not None]
    gate = verification.gate
    said = (
        f"On {_count(gate.num_images, 'image')}, the deployed graph puts {percent(least)} of the pixels into "
        f"the class that {original} gives them in FP32 ({percent(gate.agreement)} was demanded)"
    )
    if drops:
        said += f", and mIoU {_change(max(drops))} ({100 * gate.miou_drop:g} points were allowed)"
    return _banner("good", "Passed its gate", f"{said}.")


def _change(drop: float) -> str:
    if abs(drop) < 5e-5:
        return "does not change"
    return f"{'falls' if drop > 0 else 'rises'} by {abs(100 * drop):.2f} points"


def _banner(kind: str, title: str, text: str) -> Html:
    return element("div", element("strong", title), element("p", text), class_=f"verdict {kind}")


def _facts(report: Report) -> Html:
    manifest, precision = report.manifest, report.precision
    facts: list[tuple[str, str, str]] = []
    if report.verification is not None:
        checks = [one.check for one in _required(report.verification) if one.check is not None]
        facts.append(
            ("Agreement", percent(min(check.agreement for check in checks)), "least over all required runs")
        )
        mious = [check.miou for check in checks if check.miou is not None]
        if mious:
            facts.append(("mIoU", f"{100 * min(mious):.2f}\u202f%", "of the deployed graph, on the labels"))
    kept = precision.counts.get("fp32", 0)
    facts.append(("Precision", manifest.precision.requested.upper(), _mixture(precision, kept)))
    height, width = manifest.preprocess.size
    facts.append(
        ("Network input", f"{height} {_TIMES} {width}", f"height {_TIMES} width; frames of any size go in")
    )
    model = next((one for one in manifest.artifacts if one.kind == "onnx"), None)
    if model is not None:
        facts.append(("Model", size_text(model.size_bytes), model.file))
    cells = (
        element("div", element("dt", name), element("dd", value, element("small", more)))
        for name, value, more in facts
    )
    return element("dl", *cells, class_="facts")


def _mixture(precision: PrecisionReport, kept: int) -> str:
    total = sum(precision.counts.values())
    if precision.requested == "fp32":
        return f"all {_count(total, 'layer')}"
    return f"{total - kept} of {_count(total, 'layer')}, {kept} in FP32"


# --- the gate -------------------------------------------------------------------------------------


def _gate(report: Report) -> Html | None:
    verification = report.verification
    if verification is None:
        return None
    gate, original = verification.gate, _original(report.manifest)
    several = len(report.manifest.heads) > 1
    labelled = any(check.miou is not None for check in gate.checks)
    columns = ["Runs as", "Verdict", *(["Head"] if several else [])]
    columns.append(f">Agreement\nat least {percent(gate.agreement)}")
    if labelled:
        columns += [">mIoU %", f">mIoU lost\nat most {100 * gate.miou_drop:g} points"]
    columns.append(">Largest logit\ndifference")
    rows = [_gate_row(one, verification, several=several, labelled=labelled) for one in verification.figures]
    return element(
        "section",
        element("h2", "Gate"),
        element(
            "p",
            f"{original} in FP32 and the deployed graph got the same bytes: "
            f"{_count(gate.num_images, 'image')} from ",
            element("code", gate.images),
            ", at the network's size. Agreement is the share of pixels of equal class.",
        ),
        table(columns, rows),
        _logit_note(verification),
        _strips(verification),
        element("ul", *(element("li", note) for note in verification.notes), class_="notes")
        if verification.notes
        else None,
    )


def _gate_row(one: Figures, verification: Verification, *, several: bool, labelled: bool) -> list[str | Html]:
    check = one.check
    if check is None:
        return []
    row: list[str | Html] = [_runs_as(check), _pill(check.passed, required=one.contender.required)]
    row += [*([check.head] if several else []), percent(check.agreement)]
    if labelled:
        row += [_points(check.miou), _NONE if check.miou_drop is None else _signed(100 * check.miou_drop)]
    scale = max(
        (float(np.abs(values).max()) for values in verification.reference.logits[one.head]), default=0.0
    )
    found = check.max_logit_difference
    row.append("not finite" if found is None else f"{found:.3g} of {scale:.3g}")
    return row


def _signed(points: float) -> str:
    rounded = round(points, 2)
    return f"{rounded:+.2f}".replace("-", "\u2212") if rounded else "0.00"


def _pill(passed: bool, *, required: bool) -> Html:
    if passed:
        return element("span", "passed", class_="pill good")
    if required:
        return element("span", "failed", class_="pill bad")
    return element("span", "not used", class_="pill warn")


def _logit_note(verification: Verification) -> Html:
    measured = max(one.num_logit_images for one in verification.figures)
    share = "" if measured == verification.gate.num_images else f", on the first {_count(measured, 'image')}"
    return element(
        "p",
        f"Logits: the largest difference at any pixel and class, of the largest logit{share}. ",
        "In ONNX Runtime on the CPU, the result of every layer is rounded to the type that the ONNX gives "
        "it: it stands in for the GPU until an engine has run there."
        if any(one.contender.backend == "onnxruntime" for one in verification.figures)
        else None,
        class_="soft",
    )


def _strips(verification: Verification) -> Html | None:
    """Image by image, so that one bad scene does not hide in the mean."""
    if verification.gate.num_images < 2:
        return None
    limit = 1 - verification.gate.agreement
    top = 1.08 * max(limit, 1e-9, *(1 - min(one.equal) for one in verification.figures))
    drawn = (
        element(
            "figure",
            _strip([1 - share for share in one.equal], limit, top),
            element(
                "figcaption",
                f"{_runs_as(one.contender)}"
                f"{f', {one.head}' if len(verification.reference.masks) > 1 else ''}: "
                f"differing pixels per image, up to {percent(1 - min(one.equal))}",
            ),
        )
        for one in verification.figures
    )
    return join(
        element("div", *drawn, class_="strips"),
        element(
            "p", "A bar is an image; the dashed line is the limit for all of them together.", class_="soft"
        ),
    )


def _strip(shares: Sequence[float], limit: float, top: float) -> Html:
    width, height, gap = 360.0, 56.0, 1.0
    step = width / len(shares)
    bars = (
        element(
            "rect",
            x=f"{index * step + gap / 2:.2f}",
            y=f"{height - max(share / top * height, 0.6 if share else 0):.2f}",
            width=f"{min(step - gap, 22) if step > 2 * gap else step:.2f}",
            height=f"{max(share / top * height, 0.6 if share else 0):.2f}",
            class_="over" if share > limit else None,
        )
        for index, share in enumerate(shares)
    )
    y = f"{height - limit / top * height:.2f}"
    line = element("line", x1="0", x2=f"{width:g}", y1=y, y2=y)
    return element(
        "svg",
        *bars,
        line,
        viewBox=f"0 0 {width:g} {height:g}",
        class_="strip",
        role="img",
        aria_label=f"Differing pixels of {len(shares)} images, at most {percent(max(shares))}",
    )


# --- classes and images ---------------------------------------------------------------------------


def _classes(report: Report) -> Html | None:
    verification = report.verification
    if verification is None:
        return None
    return element(
        "section",
        element("h2", "Classes"),
        *(_class_table(report, verification, head) for head in report.manifest.heads),
    )


def _class_table(report: Report, verification: Verification, head: Head) -> Html:
    figures = [one for one in verification.figures if one.head == head.name]
    truth = verification.reference.truth.get(head.name)
    counts = figures[0].agreement.counts.sum(1)
    share = counts / max(1, counts.sum())
    matrices = [
        one.truth if truth is not None and one.truth is not None else one.agreement for one in figures
    ]
    columns = ["Class", ">Share of pixels %"]
    shown: list[ConfusionMatrix] = []
    if truth is not None:
        columns.append(f">{_original(report.manifest)}, FP32")
        shown.append(truth)
    columns += [f">{_runs_as(one.check)}" for one in figures if one.check is not None]
    shown += matrices
    ious = [matrix.iou() for matrix in shown]
    rows: list[list[str | Html]] = [
        [_class_name(head, index), f"{100 * share[index]:.2f}", *(_points(float(iou[index])) for iou in ious)]
        for index in range(len(head.classes))
    ]
    rows.append(["Mean", "", *(_points(matrix.miou()) for matrix in shown)])
    about = (
        f"IoU in percent against the labels. Share: of the pixels in {_original(report.manifest)}'s masks."
        if truth is not None
        else f"IoU in percent against {_original(report.manifest)}'s masks: no labels were given."
    )
    title = element("h3", f"Head “{head.name}”") if len(report.manifest.heads) > 1 else None
    return join(title, table(columns, rows, caption=about, total=True))


def _class_name(head: Head, index: int) -> Html:
    info = head.classes[index]
    swatch = element("span", class_="swatch", style=f"background:rgb{info.color}".replace(" ", ""))
    return element("span", swatch, element("span", info.name), class_="class")


def _images(report: Report) -> Html | None:
    verification = report.verification
    if verification is None:
        return None
    several = len(report.manifest.heads) > 1
    shots: list[Html] = []
    for head in report.manifest.heads:
        one = _shown(verification, head.name)
        if several:
            shots.append(element("h3", f"Head “{head.name}”"))
        order = sorted(one.masks, key=lambda index: (index != one.worst, index))
        shots.extend(_shot(report, verification, head, one, index) for index in order)
    return element(
        "section",
        element("h2", "Images"),
        element(
            "p",
            "The image with the most differing pixels, and others spread over the set. Differing pixels are "
            "magenta and drawn larger than they are.",
        ),
        *shots,
    )


def _shot(report: Report, verification: Verification, head: Head, one: Figures, index: int) -> Html:
    sample = report.samples[index]
    frame = as_rgb(sample.pixels, report.manifest.preprocess.color)
    expected, found = verification.reference.masks[head.name][index], one.masks[index]
    differing = int((expected != found).sum())
    engine = _runs_as(one.contender)
    original = _original(report.manifest)
    pictures = [
        ("Frame", photo_uri(frame)),
        (f"{original}, FP32", drawing_uri(colored(expected, head.classes))),
        (engine, drawing_uri(colored(found, head.classes))),
        ("Difference", photo_uri(difference(frame, expected, found))),
    ]
    line = f"{differing:,} of {expected.size:,} pixels differ" if differing else "no pixel differs"
    worst = " (the most of all images)" if index == one.worst and differing and len(one.equal) > 1 else ""
    figures = (
        element(
            "figure",
            element("img", src=uri, alt=f"{name} of {sample.name}"),
            element("figcaption", name),
        )
        for name, uri in pictures
    )
    return element(
        "div",
        element("p", element("code", sample.name), f": {line}{worst}"),
        element("div", *figures, class_="shots"),
        class_="shot",
    )


# --- precision ------------------------------------------------------------------------------------


def _precision(report: Report) -> Html:
    precision = report.precision
    islands = [layer for layer in precision.layers if layer.type != precision.requested]
    counts = ", ".join(f"{number} {kind}" for kind, number in sorted(precision.counts.items()))
    if precision.requested == "fp32":
        said = f"FP32 was asked for: {counts}."
    else:
        said = (
            f"{precision.requested.upper()} was asked for. Layers per type, read from the ONNX: {counts}; "
            f"{_count(precision.num_casts, 'cast')} between them. "
            + ("These layers stay FP32:" if islands else "No layer had to stay FP32.")
        )
    shown = (
        element(
            "details",
            element("summary", f"All {_count(len(precision.layers), 'layer')}"),
            _layer_table(precision.layers),
        )
        if precision.layers
        else element("p", "Activations were not measured: no images were given.", class_="soft")
    )
    return element(
        "section",
        element("h2", "Precision, layer by layer"),
        element("p", said),
        _layer_table(islands) if islands else None,
        shown,
    )


def _layer_table(layers: Sequence[LayerPrecision]) -> Html:
    rows = [
        [
            element("code", layer.layer, class_="layer"),
            layer.op,
            join(_magnitude(layer.max_abs), _bar(layer.max_abs)),
            layer.type,
            layer.why,
        ]
        for layer in layers
    ]
    caption = (
        "max |x|: the largest magnitude that the layer reads, holds or writes on the images. The bars are "
        f"logarithmic, from FP16's smallest normal number to its largest, {FP16_MAX:,.0f}; red above "
        f"{ACTIVATION_LIMIT:,.0f}, a quarter of it."
    )
    return table(["Layer", "Operator", ">max |x|", "Type", "Why"], rows, caption=caption)


def _bar(value: float) -> Html:
    power = math.log2(value) if value > 0 else _SMALLEST_POWER
    share = min(1.0, max(0.0, (power - _SMALLEST_POWER) / (_LARGEST_POWER - _SMALLEST_POWER)))
    hot = " hot" if value > ACTIVATION_LIMIT else ""
    return element(
        "span", element("i", style=f"width:{100 * share:.0f}%"), class_=f"range{hot}", aria_hidden="true"
    )


# --- what was made --------------------------------------------------------------------------------


def _deployed(manifest: SegmentationManifest) -> Html:
    prepared = manifest.preprocess
    axes = ", ".join(
        f"{name} {axis.min} to {axis.max} (tuned for {axis.opt})" for name, axis in manifest.axes.items()
    )
    tensors = [
        [element("code", tensor.name), role, tensor.dtype, f" {_TIMES} ".join(map(str, tensor.shape))]
        for role, group in (("in", manifest.inputs), ("out", manifest.outputs))
        for tensor in group
    ]
    return element(
        "section",
        element("h2", "What is deployed"),
        table(["Tensor", "", "Type", "Shape"], tensors),
        _pairs(
            [
                ("Dynamic axes", axes),
                (
                    "Frames",
                    _frames(prepared),
                ),
                (
                    "Normalised with",
                    f"mean {_numbers(prepared.mean)}; std {_numbers(prepared.std)} (of 0..1 pixels)",
                ),
                *((f"Head {head.name}", _head(head)) for head in manifest.heads),
            ]
        ),
    )


def _frames(prepared: Preprocess) -> str:
    colors = f", {prepared.color.upper()}" if prepared.channels >= 3 else ""
    return f"{_count(prepared.channels, 'channel')}{colors}, resized to {_by(prepared.size)}"


def _head(head: Head) -> str:
    said = f"{len(head.classes)} classes, activation {head.activation}"
    if head.activation == "sigmoid":
        said += f", threshold {head.threshold:g}"
    return f"{said}, grid {_by(head.grid)}" if head.grid else said


def _by(size: tuple[int, int]) -> str:
    """`352 x 480`, height first."""
    return f"{size[0]} {_TIMES} {size[1]}"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _origin(report: Report) -> Html:
    manifest = report.manifest
    source = manifest.source
    seconds = "; ".join(f"{name} {value:.1f} s" for name, value in report.seconds.items())
    rows: list[tuple[str, str | Html]] = [
        ("Network", source.model),
        ("Checkpoint", element("code", source.checkpoint_sha256) if source.checkpoint_sha256 else _NONE),
        ("Versions", ", ".join(f"{name} {version}" for name, version in manifest.tools.items())),
        ("Time", seconds),
    ]
    recipe = join(element("h3", "Recipe"), element("pre", source.recipe)) if source.recipe else None
    return join(
        element("section", element("h2", "Where it comes from"), _pairs(rows), recipe),
        element("footer", "Written by PixelRT. The same figures are in report.json."),
    )
