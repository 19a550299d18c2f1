"""The page of a report, and what pages of every task share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

from pixelrt.bundle_report import files_section
from pixelrt.manifest import Manifest
from pixelrt.markup import Html, element, join, table
from pixelrt.terminal import size_text
from pixelrt_export.gate.contenders import Contender
from pixelrt_export.report.contents import Report
from pixelrt_export.report.layers import mixture, precision_section
from pixelrt_export.report.words import NONE, TIMES

Fact = tuple[str, str, str]
"""Its name, its value, and what it is about."""
Row = tuple[str, str | Html]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a task puts on the page."""

    verdict: Html
    figures: Sequence[Fact]
    """What was measured, first among the facts at the top."""
    size: Fact
    """Of what goes in or comes out."""
    sections: Sequence[Html]
    """Between the facts and the precision."""
    deployed: Sequence[Row]
    """What there is to say about the deployed graph, besides its tensors."""


def whole_page(report: Report, parts: Parts) -> str:
    """The text of report.html."""
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
        _header(report, parts),
        *parts.sections,
        precision_section(report.precision),
        _deployed(manifest, parts.deployed),
        files_section(manifest),
        _origin(report),
    )
    page = element("html", element("head", head), element("body", body), lang="en")
    return f"<!doctype html>\n{page}\n"


# --- pieces -----------------------------------------------------------------------------------------


def pairs(rows: Iterable[Row]) -> Html:
    """Names and values."""
    lines = [element("tr", element("th", name, scope="row"), element("td", value)) for name, value in rows]
    return element("div", element("table", element("tbody", *lines), class_="pairs"), class_="scroll")


def banner(kind: str, title: str, text: str) -> Html:
    """The verdict; `kind` is good or warn."""
    return element("div", element("strong", title), element("p", text), class_=f"verdict {kind}")


def pill(passed: bool, *, required: bool) -> Html:
    """The verdict about one contender."""
    if passed:
        return element("span", "passed", class_="pill good")
    if required:
        return element("span", "failed", class_="pill bad")
    return element("span", "not used", class_="pill warn")


def stand_in_note(contenders: Iterable[Contender]) -> str | None:
    """What ONNX Runtime on the CPU is there for."""
    if not any((one.backend, one.device) == ("onnxruntime", "cpu") for one in contenders):
        return None
    return (
        "In ONNX Runtime on the CPU, the result of every layer is rounded to the type that the ONNX gives "
        "it: it stands in for the GPU until an engine has run there."
    )


def class_swatch(name: str, color: tuple[int, int, int]) -> Html:
    """A class with its colour in front."""
    swatch = element("span", class_="swatch", style=f"background:rgb{color}".replace(" ", ""))
    return element("span", swatch, element("span", name), class_="class")


def strip(heights: Sequence[float], over: Sequence[bool], limit: float, label: str) -> Html:
    """A bar per image and a dashed line at the limit.

    Args:
        heights: Of the bars, 0..1; what is not 0 can be seen.
        over: Which of them miss the limit.
        limit: Height of the line, 0..1.
        label: For those who cannot see it.
    """
    width, height, gap = 360.0, 56.0, 1.0
    step = width / len(heights)
    bars = (
        element(
            "rect",
            x=f"{index * step + gap / 2:.2f}",
            y=f"{height - max(share * height, 0.6 if share else 0):.2f}",
            width=f"{min(step - gap, 22) if step > 2 * gap else step:.2f}",
            height=f"{max(share * height, 0.6 if share else 0):.2f}",
            class_="over" if misses else None,
        )
        for index, (share, misses) in enumerate(zip(heights, over, strict=True))
    )
    y = f"{height - limit * height:.2f}"
    line = element("line", x1="0", x2=f"{width:g}", y1=y, y2=y)
    return element(
        "svg",
        *bars,
        line,
        viewBox=f"0 0 {width:g} {height:g}",
        class_="strip",
        role="img",
        aria_label=label,
    )


def strips(drawn: Iterable[tuple[Html, str]], about: str) -> Html:
    """Strips with their captions, and a line about all of them."""
    figures = (element("figure", svg, element("figcaption", caption)) for svg, caption in drawn)
    return join(element("div", *figures, class_="strips"), element("p", about, class_="soft"))


def picture(uri: str, name: str, sample: str) -> Html:
    """One picture of a sample with its name below."""
    return element("figure", element("img", src=uri, alt=f"{name} of {sample}"), element("figcaption", name))


def shot(
    sample: str,
    remarks: Sequence[str],
    figures: Iterable[Html],
    kind: str = "shots",
    style: str | None = None,
) -> Html:
    """The pictures of one sample under a line that says what they show."""
    line = f": {'; '.join(remarks)}" if remarks else None
    return element(
        "div",
        element("p", element("code", sample), line),
        element("div", *figures, class_=kind, style=style),
        class_="shot",
    )


# --- the page ---------------------------------------------------------------------------------------


def _header(report: Report, parts: Parts) -> Html:
    created = report.manifest.created.replace("T", " ").replace("+00:00", " UTC")
    return element(
        "header",
        element("p", f"PixelRT export report, {created}", class_="kicker"),
        element("h1", report.manifest.name),
        parts.verdict,
        _warnings(report.notes),
        _facts(report, parts),
    )


def _warnings(notes: Sequence[str]) -> Html | None:
    if not notes:
        return None
    title = "Warning" if len(notes) == 1 else f"{len(notes)} warnings"
    listed = element("ul", *(element("li", note) for note in notes))
    return element("div", element("strong", title), listed, class_="verdict warn notes")


def _facts(report: Report, parts: Parts) -> Html:
    requested = report.precision.requested.upper()
    facts = [*parts.figures, ("Precision", requested, mixture(report.precision)), parts.size]
    model = next((one for one in report.manifest.artifacts if one.kind == "onnx"), None)
    if model is not None:
        facts.append(("Model", size_text(model.size_bytes), model.file))
    cells = (
        element("div", element("dt", name), element("dd", value, element("small", more)))
        for name, value, more in facts
    )
    return element("dl", *cells, class_="facts")


def _deployed(manifest: Manifest, rows: Sequence[Row]) -> Html:
    axes = ", ".join(
        f"{name} {axis.min} to {axis.max} (tuned for {axis.opt})" for name, axis in manifest.axes.items()
    )
    tensors = [
        [element("code", tensor.name), role, tensor.dtype, f" {TIMES} ".join(map(str, tensor.shape))]
        for role, group in (("in", manifest.inputs), ("out", manifest.outputs))
        for tensor in group
    ]
    return element(
        "section",
        element("h2", "What is deployed"),
        table(["Tensor", "", "Type", "Shape"], tensors),
        pairs([("Dynamic axes", axes), *rows]),
    )


def _origin(report: Report) -> Html:
    manifest = report.manifest
    source = manifest.source
    seconds = "; ".join(f"{name} {value:.1f} s" for name, value in report.seconds.items())
    rows: list[Row] = [
        ("Network", source.model),
        ("Checkpoint", element("code", source.checkpoint_sha256) if source.checkpoint_sha256 else NONE),
        ("Versions", ", ".join(f"{name} {version}" for name, version in manifest.tools.items())),
        ("Time", seconds),
    ]
    recipe = join(element("h3", "Recipe"), element("pre", source.recipe)) if source.recipe else None
    return join(
        element("section", element("h2", "Where it comes from"), pairs(rows), recipe),
        element("footer", "Written by PixelRT. The same figures are in report.json."),
    )
