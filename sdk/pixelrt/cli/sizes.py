"""What the sizes of a bundle's input cost, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from pixelrt.bundle import Bundle
from pixelrt.manifest import size_name
from pixelrt.terminal import size_text


def sizes_table(largest: Bundle, smaller: Sequence[Bundle]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns (`>` in front of numbers) and rows: a size, what its gate measured, and its model.

    Figures are the lowest of all runs that passed. mIoU is measured at the size of the labels, so that it can
    be compared.
    """
    heads = [head.name for head in largest.segmentation.heads]
    labelled = any(largest.segmentation.gate.least(head, "miou") is not None for head in heads)
    columns = ["size"]
    for head in heads:
        named = f" {head}" if len(heads) > 1 else ""
        columns += [f">agreement{named}"]
        columns += [f">mIoU{named}", f">against the largest{named}"] if labelled else []
    rows = [_row(each, largest, labelled=labelled) for each in (largest, *smaller)]
    return (*columns, ">model"), rows


def _row(bundle: Bundle, largest: Bundle, *, labelled: bool) -> tuple[str, ...]:
    manifest = bundle.segmentation
    row = [size_name(manifest.preprocess.size)]
    for head in manifest.heads:
        row.append(_number(manifest.gate.least(head.name, "agreement"), ".5f"))
        if labelled:
            miou, of_largest = (one.segmentation.gate.least(head.name, "miou") for one in (bundle, largest))
            change = None if miou is None or of_largest is None or bundle is largest else miou - of_largest
            row += [_number(miou, ".4f"), _number(change, "+.4f")]
    return (*row, size_text(bundle.model.size_bytes))


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
