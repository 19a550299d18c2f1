"""The part of a report about precision, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pixelrt.markup import Html, element, join, table
from pixelrt_export.precision import ACTIVATION_LIMIT, FP16_MAX, LayerPrecision, PrecisionReport
from pixelrt_export.report.words import counted, magnitude

_SMALLEST_POWER, _LARGEST_POWER = -14, 16
"""Powers of two at the ends of the bars of magnitude: FP16's smallest and largest numbers."""


def mixture(precision: PrecisionReport) -> str:
    """`91 of 92 layers, 1 in FP32`."""
    total, kept = sum(precision.counts.values()), precision.counts.get("fp32", 0)
    if precision.requested == "fp32":
        return f"all {counted(total, 'layer')}"
    return f"{total - kept} of {counted(total, 'layer')}, {kept} in FP32"


def precision_section(precision: PrecisionReport) -> Html:
    """What type every layer has got, and why."""
    islands = [layer for layer in precision.layers if layer.type != precision.requested]
    counts = ", ".join(f"{number} {kind}" for kind, number in sorted(precision.counts.items()))
    if precision.requested == "fp32":
        said = f"FP32 was asked for: {counts}."
    else:
        said = (
            f"{precision.requested.upper()} was asked for. Layers per type, read from the ONNX: {counts}; "
            f"{counted(precision.num_casts, 'cast')} between them. "
            + ("These layers stay FP32:" if islands else "No layer had to stay FP32.")
        )
    shown = (
        element(
            "details",
            element("summary", f"All {counted(len(precision.layers), 'layer')}"),
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
            join(magnitude(layer.max_abs), _bar(layer.max_abs)),
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
