"""Everything that the README says to type, typed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import cv2
import pytest
from commands import ROOT, quick_recipe, run

from pixelrt.bundle import Bundle
from pixelrt.trt import inspect_engine

README = ROOT / "README.md"
GENERATION = ROOT / "docs" / "generation.md"
LIVE = ROOT / "docs" / "live.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OPENINGS = ("pixelrt ", "make ")

pytestmark = pytest.mark.timeout(900)


def blocks(page: Path = README) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def type_commands(text: str, folder: Path) -> None:
    for line in text.splitlines():
        if line.startswith("pixelrt "):
            run(["bash", "-c", line], folder)


def test_no_figure_is_missing() -> None:
    for page in (README, GENERATION, LIVE, *ROOT.glob("engines/*/README.md")):
        assert not re.search(r"@[A-Z]+@|TODO|TBD", page.read_text(encoding="utf-8")), page


def test_every_block_is_python_or_commands_that_are_tried() -> None:
    for language, text in blocks() + blocks(GENERATION) + blocks(LIVE):
        assert language in ("", "python")
        if not language:
            assert all(line.startswith(OPENINGS) for line in text.splitlines()), text


def test_the_readme_from_top_to_bottom(tmp_path: Path) -> None:
    one_engine = {r"sm = \[.*\]": "sm = [86]"}
    quick_recipe(tmp_path, **one_engine, **{r"frames=\d+": "frames=3"})
    quick_recipe(tmp_path, "digits-cgan", **one_engine)
    quick_recipe(tmp_path, "street-painter", **one_engine, **{r"frames=\d+": "frames=2"})
    quick_recipe(tmp_path, "digits-vae", **one_engine)
    for language, text in blocks():
        if language == "python":
            run([sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", text], tmp_path)
        else:
            type_commands(text, tmp_path)
    check_segmentation(tmp_path)
    check_live(tmp_path)
    check_generation(tmp_path)


def check_segmentation(folder: Path) -> None:
    bundle = folder / "engines" / "road-unet" / "bundle"
    entries = [entry for entry in Bundle.open(bundle).manifest.artifacts if entry.kind == "engine"]
    assert sorted(entry.targets for entry in entries) == [("sm120",), ("sm86",)]  # the second was added
    for entry in entries:
        found = inspect_engine(bundle / entry.file)
        assert (found.flavour, found.version, found.targets) == (entry.flavour, entry.version, entry.targets)
    assert (folder / "out" / "my-unet" / "report.html").is_file()
    assert (folder / "drive.mp4").stat().st_size > 10_000
    assert len(list((folder / "masks").glob("*.png"))) == 25


def check_live(folder: Path) -> None:
    """The README's recordings, then the page on live video, with the same bundle."""
    lines = [json.loads(line) for line in (folder / "drive.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["index"] for line in lines] == list(range(25))
    assert (folder / "drive.mcap").stat().st_size > 10_000
    pieces = [text for language, text in blocks(LIVE) if language == "python"]
    run([sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", "\n".join(pieces)], folder)
    for language, text in blocks(LIVE):
        if not language:
            type_commands(text, folder)


def check_generation(folder: Path) -> None:
    """The README's files, then the page on generators, in the same folder: it needs the same bundles."""
    sheet, painted = cv2.imread(str(folder / "sheet.png")), cv2.imread(str(folder / "painted.png"))
    assert sheet is not None and min(sheet.shape[:2]) >= 8 * 28
    assert painted is not None and painted.std() > 20
    walk = cv2.VideoCapture(str(folder / "walk.gif"))
    assert int(walk.get(cv2.CAP_PROP_FRAME_COUNT)) == 30
    pieces = [text for language, text in blocks(GENERATION) if language == "python"]
    run([sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", "\n".join(pieces)], folder)
    assert Bundle.open(folder / "out" / "my-gan").generation.gate.num_images == 32
    for language, text in blocks(GENERATION):
        if not language:
            type_commands(text, folder)
    assert (folder / "labels.png").is_file()
    assert (folder / "again.png").is_file()
