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
BIN = Path(sys.executable).parent
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OPENINGS = ("pixelrt ", "make ")

pytestmark = pytest.mark.timeout(900)


def run(command: list[str], cwd: Path) -> str:
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def blocks() -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def quick_recipe(folder: Path) -> Path:
    """The folder of road-unet where the README has it, with a gate on few images."""
    copied = folder / "engines" / "road-unet"
    shutil.copytree(ROOT / "engines" / "road-unet", copied, ignore=shutil.ignore_patterns("bundle"))
    recipe = copied / "recipe.toml"
    text, changed = re.subn(r"frames=\d+", "frames=6", recipe.read_text(encoding="utf-8"))
    assert changed == 1
    recipe.write_text(text, encoding="utf-8")
    return recipe


def test_no_figure_is_missing() -> None:
    for page in (ROOT / "README.md", ROOT / "engines" / "road-unet" / "README.md"):
        assert not re.search(r"@[A-Z]+@|TODO|TBD", page.read_text(encoding="utf-8")), page


def test_every_block_is_python_or_commands_that_are_tried() -> None:
    for language, text in blocks():
        assert language in ("", "python")
        if not language:
            assert all(line.startswith(OPENINGS) for line in text.splitlines()), text


def test_the_readme_from_top_to_bottom(tmp_path: Path) -> None:
    quick_recipe(tmp_path)
    for language, text in blocks():
        if language == "python":
            run([sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", text], tmp_path)
        else:
            for line in text.splitlines():
                if line.startswith("pixelrt "):
                    run(["bash", "-c", line], tmp_path)
    bundle = tmp_path / "engines" / "road-unet" / "bundle"
    entries = [entry for entry in Bundle.open(bundle).manifest.artifacts if entry.kind == "engine"]
    assert {entry.targets for entry in entries} == {(target,) for target in RTX_TARGETS}
    assert len(entries) == len(RTX_TARGETS)
    for entry in entries:
        found = inspect_engine(bundle / entry.file)
        assert (found.flavour, found.version, found.targets) == (entry.flavour, entry.version, entry.targets)
    assert (tmp_path / "out" / "my-unet" / "report.html").is_file()
    assert (tmp_path / "drive.mp4").stat().st_size > 10_000
    assert len(list((tmp_path / "masks").glob("*.png"))) == 25


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
