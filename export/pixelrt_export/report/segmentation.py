"""The page of a network that reads images into masks."""

from __future__ import annotations

import numpy as np

from pixelrt.manifest import Head, SegmentationManifest
from pixelrt.markup import Html, element, join, table
from pixelrt.metrics import ConfusionMatrix
from pixelrt_export.gate.segmentation import Figures, Verification
from pixelrt_export.pictures import as_rgb, colored, difference, drawing_uri, photo_uri
from pixelrt_export.report.contents import SegmentationReport
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
from pixelrt_export.report.sizes import sizes_section
from pixelrt_export.report.words import (
    NONE,
    TIMES,
    by,
    counted,
    frames_text,
    listed,
    original_of,
    percent,
    points,
    runs_as,
    signed,
)


def segmentation_parts(report: SegmentationReport) -> Parts:
    """What a report about masks consists of."""
    size = by(report.manifest.preprocess.size)
    return Parts(
        verdict=_verdict(report),
        figures=_figures(report),
        size=("Network input", size, f"height {TIMES} width; frames of any size go in"),
        sections=_sections(report),
        deployed=_deployed(report.manifest),
    )


def _sections(report: SegmentationReport) -> list[Html]:
    measured, smaller = report.verification, list(report.smaller)
    sizes = [sizes_section(report.manifest, smaller)] if smaller else []
    if measured is None:
        return sizes
    return [_gate(report, measured), *sizes, _classes(report, measured), _images(report, measured)]


def _required(verification: Verification) -> list[Figures]:
    return [one for one in verification.figures if one.contender.required]


def _shown(verification: Verification, head: str) -> Figures:
    """The contender whose masks are shown: the last that had to pass, which is nearest to the GPU."""
    return [one for one in _required(verification) if one.head == head][-1]


# --- the verdict ----------------------------------------------------------------------------------


def _verdict(report: SegmentationReport) -> Html:
    manifest, verification = report.manifest, report.verification
    original = original_of(manifest)
    if verification is None:
        return banner(
            "warn",
            "The gate was skipped",
            f"Nobody has checked that this bundle gives the masks of the {original} network.",
        )
    checks = [one.check for one in _required(verification) if one.check is not None]
    least = min(check.agreement for check in checks)
    drops = [check.miou_drop for check in checks if check.miou_drop is not None]
    gate = verification.gate
    said = (
        f"On {counted(gate.num_images, 'image')}, the deployed graph puts {percent(least)} of the pixels "
        f"into the class that {original} gives them in FP32 ({percent(gate.agreement)} was demanded)"
    )
    if drops:
        said += f", and mIoU {_change(max(drops))} ({100 * gate.miou_drop:g} points were allowed)"
    return banner("good", "Passed its gate", f"{said}.")


def _change(drop: float) -> str:
    if abs(drop) < 5e-5:
        return "does not change"
    return f"{'falls' if drop > 0 else 'rises'} by {abs(100 * drop):.2f} points"


def _figures(report: SegmentationReport) -> list[Fact]:
    if report.verification is None:
        return []
    checks = [one.check for one in _required(report.verification) if one.check is not None]
    least = min(check.agreement for check in checks)
    facts = [("Agreement", percent(least), "least over all required runs")]
    mious = [check.miou for check in checks if check.miou is not None]
    if mious:
        facts.append(("mIoU", f"{100 * min(mious):.2f}\u202f%", "of the deployed graph, on the labels"))
    return facts


# --- the gate -------------------------------------------------------------------------------------


def _gate(report: SegmentationReport, verification: Verification) -> Html:
    gate, original = verification.gate, original_of(report.manifest)
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
            f"{counted(gate.num_images, 'image')} from ",
            element("code", gate.images),
            ", at the network's size. Agreement is the share of pixels of equal class.",
        ),
        table(columns, rows),
        _logit_note(verification),
        _strips(verification),
    )


def _gate_row(one: Figures, verification: Verification, *, several: bool, labelled: bool) -> list[str | Html]:
    check = one.check
    if check is None:
        return []
    row: list[str | Html] = [runs_as(check), pill(check.passed, required=one.contender.required)]
    row += [*([check.head] if several else []), percent(check.agreement)]
    if labelled:
        row += [points(check.miou), NONE if check.miou_drop is None else signed(100 * check.miou_drop)]
    scale = max(
        (float(np.abs(values).max()) for values in verification.reference.logits[one.head]), default=0.0
    )
    found = check.max_logit_difference
    row.append("not finite" if found is None else f"{found:.3g} of {scale:.3g}")
    return row


def _logit_note(verification: Verification) -> Html:
    measured = max(one.num_logit_images for one in verification.figures)
    share = "" if measured == verification.gate.num_images else f", on the first {counted(measured, 'image')}"
    return element(
        "p",
        f"Logits: the largest difference at any pixel and class, of the largest logit{share}. ",
        stand_in_note(one.contender for one in verification.figures),
        class_="soft",
    )


def _strips(verification: Verification) -> Html | None:
    """Image by image, so that one bad scene does not hide in the mean."""
    if verification.gate.num_images < 2:
        return None
    limit = 1 - verification.gate.agreement
    top = 1.08 * max(limit, 1e-9, *(1 - min(one.equal) for one in verification.figures))
    return strips(
        (
            _strip(one, limit, top, several=len(verification.reference.masks) > 1)
            for one in verification.figures
        ),
        "A bar is an image; the dashed line is the limit for all of them together.",
    )


def _strip(one: Figures, limit: float, top: float, *, several: bool) -> tuple[Html, str]:
    differing = [1 - share for share in one.equal]
    most = percent(max(differing))
    drawn = strip(
        [share / top for share in differing],
        [share > limit for share in differing],
        limit / top,
        f"Differing pixels of {len(differing)} images, at most {most}",
    )
    head = f", {one.head}" if several else ""
    return drawn, f"{runs_as(one.contender)}{head}: differing pixels per image, up to {most}"


# --- classes and images ---------------------------------------------------------------------------


def _classes(report: SegmentationReport, verification: Verification) -> Html:
    return element(
        "section",
        element("h2", "Classes"),
        *(_class_table(report, verification, head) for head in report.manifest.heads),
    )


def _class_table(report: SegmentationReport, verification: Verification, head: Head) -> Html:
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
        columns.append(f">{original_of(report.manifest)}, FP32")
        shown.append(truth)
    columns += [f">{runs_as(one.check)}" for one in figures if one.check is not None]
    shown += matrices
    ious = [matrix.iou() for matrix in shown]
    rows: list[list[str | Html]] = [
        [
            class_swatch(head.classes[index].name, head.classes[index].color),
            f"{100 * share[index]:.2f}",
            *(points(float(iou[index])) for iou in ious),
        ]
        for index in range(len(head.classes))
    ]
    rows.append(["Mean", "", *(points(matrix.miou()) for matrix in shown)])
    about = (
        f"IoU in percent against the labels. Share: of the pixels in {original_of(report.manifest)}'s masks."
        if truth is not None
        else f"IoU in percent against {original_of(report.manifest)}'s masks: no labels were given."
    )
    title = element("h3", f"Head “{head.name}”") if len(report.manifest.heads) > 1 else None
    return join(title, table(columns, rows, caption=about, total=True))


def _images(report: SegmentationReport, verification: Verification) -> Html:
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


def _shot(
    report: SegmentationReport, verification: Verification, head: Head, one: Figures, index: int
) -> Html:
    sample = report.samples[index]
    frame = as_rgb(sample.pixels, report.manifest.preprocess.color)
    expected, found = verification.reference.masks[head.name][index], one.masks[index]
    differing = int((expected != found).sum())
    engine = runs_as(one.contender)
    original = original_of(report.manifest)
    pictures = [
        ("Frame", photo_uri(frame)),
        (f"{original}, FP32", drawing_uri(colored(expected, head.classes))),
        (engine, drawing_uri(colored(found, head.classes))),
        ("Difference", photo_uri(difference(frame, expected, found))),
    ]
    line = f"{differing:,} of {expected.size:,} pixels differ" if differing else "no pixel differs"
    worst = " (the most of all images)" if index == one.worst and differing and len(one.equal) > 1 else ""
    return shot(sample.name, [f"{line}{worst}"], (picture(uri, name, sample.name) for name, uri in pictures))


# --- what was made --------------------------------------------------------------------------------


def _deployed(manifest: SegmentationManifest) -> list[Row]:
    prepared = manifest.preprocess
    normalised = f"mean {listed(prepared.mean)}; std {listed(prepared.std)} (of 0..1 pixels)"
    return [
        ("Frames", frames_text(prepared)),
        ("Normalised with", normalised),
        *((f"Head {head.name}", _head(head)) for head in manifest.heads),
    ]


def _head(head: Head) -> str:
    said = f"{len(head.classes)} classes, activation {head.activation}"
    if head.activation == "sigmoid":
        said += f", threshold {head.threshold:g}"
    return f"{said}, grid {by(head.grid)}" if head.grid else said
