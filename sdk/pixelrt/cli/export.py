"""`pixelrt export`: a recipe becomes a verified bundle."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from pixelrt.bundle import Bundle
from pixelrt.cli.generators import psnr_text
from pixelrt.cli.sizes import sizes_table
from pixelrt.cli.wording import verdict
from pixelrt.dependency import require
from pixelrt.manifest import Check, GenerationGate, SegmentationCheck, SegmentationGate, size_name
from pixelrt.terminal import complain, console, say

_EPILOG = """\
examples:
  pixelrt export engines/road-unet/recipe.toml           writes engines/road-unet/bundle
  pixelrt export recipe.toml -o out/road --quiet         prints the bundle's path and nothing else
  pixelrt export recipe.toml --json | jq .gate           the figures of the gate

exits with 3 if the converted network does not do what the original does; no bundle is written then
"""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `pixelrt`."""
    parser = subparsers.add_parser(
        "export",
        help="convert a trained network into a verified bundle",
        description=(
            "Convert the network that a recipe names, prove on its images that nothing was lost, and write a "
            "bundle.\nThe bundle's path goes to standard output, everything else to standard error."
        ),
        epilog=_EPILOG,
    )
    parser.add_argument("recipe", metavar="RECIPE", help="the recipe, a TOML file")
    parser.add_argument(
        "-o", "--out", metavar="DIR", help="folder of the bundle (default: `bundle` beside the recipe)"
    )
    parser.add_argument(
        "--no-gate", action="store_true", help="do not compare with the original; the bundle records that"
    )
    parser.add_argument(
        "--no-engines",
        action="store_true",
        help="do not build the engines of the recipe's [[target]] sections",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars, warnings and table")
    parser.add_argument("--json", action="store_true", help="print path, gate and warnings as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Export, and print the bundle's path.

    Returns:
        0; a failed gate is raised as `GateFailed`, whose exit code is 3.
    """
    exporter = require("pixelrt_export", "export", "exporting a network")
    bundle: Bundle = exporter.export_recipe(
        arguments.recipe,
        arguments.out,
        gate=not arguments.no_gate,
        engines=not arguments.no_engines,
        quiet=arguments.quiet,
    )
    if not arguments.quiet:
        _show(bundle)
    if arguments.json:
        say(json.dumps(_record(bundle), indent=2))
    else:
        say(str(bundle.path))
    return 0


def _record(bundle: Bundle) -> dict[str, Any]:
    report = json.loads((bundle.path / "report.json").read_text(encoding="utf-8"))
    return {
        "bundle": str(bundle.path),
        "name": bundle.manifest.name,
        "gate": dataclasses.asdict(bundle.manifest.gate),
        **({"smaller": report["smaller"]} if report.get("smaller") else {}),
        "notes": report["notes"],
    }


def _show(bundle: Bundle) -> None:
    """The gate as a table on standard error."""
    gate, smaller = bundle.manifest.gate, bundle.smaller
    if gate.skipped:
        complain("the gate was skipped: nobody has checked that this bundle does what the original does")
    elif isinstance(gate, GenerationGate):
        console().print(_generation_table(gate))
    for each in (bundle, *smaller):
        if isinstance(each.manifest.gate, SegmentationGate) and not gate.skipped:
            size = size_name(each.segmentation.preprocess.size) if smaller else ""
            console().print(_table(each.manifest.gate, size))
    if smaller:
        console().print(_sizes_table(bundle, smaller))
    engines = [artifact for artifact in bundle.manifest.artifacts if artifact.kind == "engine"]
    if engines:
        complain(f"engines: {', '.join(' '.join(engine.targets) for engine in engines)}")
    complain(f"report: {bundle.path / 'report.html'}")


def _generation_table(gate: GenerationGate) -> Any:
    table = _empty_table()
    table.add_column("gate", no_wrap=True)
    table.add_column(f"worst PSNR\n>= {gate.psnr:g} dB", justify="right", no_wrap=True)
    table.add_column("PSNR\nof all", justify="right", no_wrap=True)
    table.add_column(f"worst SSIM\n>= {gate.ssim:g}", justify="right", no_wrap=True)
    table.add_column(f"max diff\n<= {gate.max_difference}", justify="right", no_wrap=True)
    table.add_column("verdict")
    for check in gate.checks:
        table.add_row(
            _contender(check),
            psnr_text(check.psnr),
            psnr_text(check.mean_psnr),
            f"{check.ssim:.5f}",
            str(check.max_difference),
            _verdict(check),
        )
    return table


def _empty_table() -> Any:
    box = require("rich.box", "cli", "showing tables").SIMPLE_HEAD
    return require("rich.table", "cli", "showing tables").Table(box=box)


def _contender(check: Check) -> str:
    on_gpu = " on the GPU" if check.device == "cuda" else ""
    return f"{check.backend} {check.precision}{on_gpu}"


def _verdict(check: Check) -> str:
    return f"[{'green' if check.passed else 'yellow'}]{verdict(check)}[/]"


def _sizes_table(bundle: Bundle, smaller: Sequence[Bundle]) -> Any:
    columns, rows = sizes_table(bundle, smaller)
    table = _empty_table()
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column[0] == ">" else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _table(gate: SegmentationGate, size: str) -> Any:
    """The gate of a size of the input, which is named where there are several."""
    table, checks = _empty_table(), gate.checks
    labelled = any(check.miou is not None for check in checks)
    several = len({check.head for check in checks}) > 1
    table.add_column(f"gate at\n{size}" if size else "gate", no_wrap=True)
    if several:
        table.add_column("head")
    table.add_column(f"agreement\n>= {100 * gate.agreement:g} %", justify="right", no_wrap=True)
    if labelled:
        table.add_column("mIoU", justify="right")
        table.add_column(f"mIoU lost\n<= {gate.miou_drop:g}", justify="right")
    table.add_column("largest logit\ndifference", justify="right")
    table.add_column("verdict")
    for check in checks:
        table.add_row(*_row(check, several=several, labelled=labelled))
    return table


def _row(check: SegmentationCheck, *, several: bool, labelled: bool) -> list[str]:
    row = [_contender(check), *([check.head] if several else [])]
    row.append(f"{100 * check.agreement:.4f} %")
    if labelled:
        row += [_number(check.miou, ".4f"), _number(check.miou_drop, "+.4f")]
    row.append(_number(check.max_logit_difference, ".3g"))
    row.append(_verdict(check))
    return row


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
