"""Everything that the README says to type, typed; and `make demo`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from pixelrt.bundle import Bundle
from pixelrt.trt import RTX_TARGETS, inspect_engine

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
GENERATION = ROOT / "docs" / "generation.md"
LIVE = ROOT / "docs" / "live.md"
BIN = Path(sys.executable).parent
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OPENINGS = ("pixelrt ", "make ")

pytestmark = pytest.mark.timeout(900)


def run(command: list[str], cwd: Path) -> str:
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def blocks(page: Path = README) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def quick_recipe(folder: Path, name: str = "road-unet", **changes: str) -> Path:
    """The folder of an engine where the README has it, with a gate on few images, or other changes."""
    copied = folder / "engines" / name
    shutil.copytree(ROOT / "engines" / name, copied, ignore=shutil.ignore_patterns("bundle"))
    recipe = copied / "recipe.toml"
    text = recipe.read_text(encoding="utf-8")
    for found, other in (changes or {r"frames=\d+": "frames=6"}).items():
        text, changed = re.subn(found, other, text)
        assert changed == 1
    recipe.write_text(text, encoding="utf-8")
    return recipe


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
    quick_recipe(tmp_path)
    one_engine = {r"sm = \[.*\]": "sm = [86]"}
    quick_recipe(tmp_path, "digits-cgan", **one_engine)
    quick_recipe(tmp_path, "street-painter", **one_engine, **{r"frames=\d+": "frames=4"})
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
    assert {entry.targets for entry in entries} == {(target,) for target in RTX_TARGETS}
    assert len(entries) == len(RTX_TARGETS)
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


def test_make_demo(tmp_path: Path) -> None:
    bundle, demo = tmp_path / "bundle", tmp_path / "demo"
    recipe = quick_recipe(tmp_path)
    settings = [f"BIN={BIN}", f"RECIPE={recipe}", f"BUNDLE={bundle}", f"DEMO={demo}", "FRAMES=12"]
    shown = run(["make", "--old-file=.venv/demo", "demo", *settings], ROOT)
    for name in ("drive.mp4", "drive.png", "drive.json"):
        assert str(demo / name) in shown
    assert len(list(bundle.glob("*.engine"))) == 6
    figures = json.loads((demo / "drive.json").read_text())
    assert figures["frames"] == 12
    video = cv2.VideoCapture(str(demo / "drive.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 12
    sheet = cv2.imread(str(demo / "drive.png"))
    assert sheet is not None and min(sheet.shape[:2]) > 500
