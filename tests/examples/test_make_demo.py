"""`make demo`, in a file of its own: it takes long, and files are what two workers share out."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from commands import BIN, ROOT, quick_recipe, run

pytestmark = pytest.mark.timeout(900)


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
