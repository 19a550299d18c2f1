"""From an edited mask to the agreement of each class, with a painter and a segmenter that are palettes."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pixelrt.video.drive import CLASSES, scene
from pixelrt_export import export_recipe

SCRIPT = Path(__file__).parents[2] / "examples" / "paint_and_segment.py"
SIZE = (32, 48)
TREE, CAR = CLASSES.index("tree"), CLASSES.index("car")
COLORS = np.array([(r, g, b) for r in (40, 140, 240) for g in (60, 220) for b in (30, 200)][:11], np.float32)

PAINTER = f"""
task = "generation"
[model]
onnx = "net.onnx"
[mask]
size = {list(SIZE)}
classes = "camvid11"
[output]
range = "none"
"""
SEGMENTER = f"""
[model]
onnx = "net.onnx"
[input]
size = {list(SIZE)}
mean = [0, 0, 0]
std = [1, 1, 1]
[[head]]
classes = "camvid11"
"""
UNCHECKED = '[precision]\ntype = "fp32"\n[gate]\nskip = true\n'


def bundle(folder: Path, recipe: str, weights: NDArray[np.float32], bias: NDArray[np.float32]) -> Path:
    """A 1x1 convolution, deployed."""
    classes, channels = weights.shape
    name, out = ("mask", "image") if "generation" in recipe else ("image", "scores")
    shapes = {name: ["batch", channels, *SIZE], out: ["batch", classes, *SIZE]}
    values = [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in shapes.items()]
    constants = {"weights": weights[..., None, None], "bias": bias}
    graph = helper.make_graph(
        [helper.make_node("Conv", [name, "weights", "bias"], [out], name="colors")],
        "colors",
        values[:1],
        values[1:],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    folder.mkdir()
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
        folder / "net.onnx",
    )
    (folder / "recipe.toml").write_text(recipe + UNCHECKED)
    return export_recipe(folder / "recipe.toml", folder / "bundle", quiet=True).path


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A painter that paints every class in its colour, one that paints cars as trees, and a segmenter."""
    folder = tmp_path_factory.mktemp("palettes")
    wrong = COLORS.copy()
    wrong[CAR] = COLORS[TREE]
    of_one = COLORS / 255
    return {
        "right": bundle(folder / "right", PAINTER, COLORS.T.copy(), np.zeros(3, np.float32)),
        "wrong": bundle(folder / "wrong", PAINTER, wrong.T.copy(), np.zeros(3, np.float32)),
        "segmenter": bundle(folder / "segmenter", SEGMENTER, 2 * of_one, -np.square(of_one).sum(1)),
    }


def run(bundles: dict[str, Path], painter: str, out: Path, *arguments: str | Path) -> dict[str, Any]:
    places = ("--painter", bundles[painter], "--segmenter", bundles["segmenter"], "--out", out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [str(SCRIPT), *map(str, (*places, *arguments))])
        runpy.run_path(str(SCRIPT), run_name="__main__")
    figures: dict[str, Any] = json.loads((out / "street.json").read_text())
    return figures


def test_what_is_painted_right_is_seen_as_asked(bundles: dict[str, Path], tmp_path: Path) -> None:
    figures = run(bundles, "right", tmp_path, "--scenes", "2", "--replace", "fence=tree")
    assert figures["scenes"] == 2
    assert figures["miou_percent"] == 100
    assert figures["edited_pixels_as_asked_percent"] == 100
    assert figures["classes"]["fence"] == {"asked_percent": 0, "seen_percent": 0, "iou_percent": None}
    assert sum(row["asked_percent"] for row in figures["classes"].values()) == pytest.approx(100, abs=0.1)
    unedited = run(bundles, "right", tmp_path, "--scenes", "2", "--copy")
    assert unedited["edited_pixels_as_asked_percent"] is None
    assert figures["classes"]["car"]["asked_percent"] > unedited["classes"]["car"]["asked_percent"] + 0.2
    assert list(figures["ran_on"]) == ["right", "segmenter"]


def test_what_is_painted_wrong_shows_in_its_class_alone(bundles: dict[str, Path], tmp_path: Path) -> None:
    figures = run(bundles, "wrong", tmp_path)
    classes = figures["classes"]
    asked, seen = classes["car"]["asked_percent"], classes["tree"]["seen_percent"]
    assert classes["car"] == {"asked_percent": asked, "seen_percent": 0, "iou_percent": 0}
    assert seen == pytest.approx(classes["tree"]["asked_percent"] + asked, abs=0.02)
    assert classes["tree"]["iou_percent"] == pytest.approx(100 * (seen - asked) / seen, abs=0.1)
    assert classes["road"]["iou_percent"] == 100
    assert figures["pixels_as_asked_percent"] == pytest.approx(100 - asked, abs=0.02)
    assert figures["edited_pixels_as_asked_percent"] == 0


def test_a_mask_of_ones_own_is_painted_and_shown(bundles: dict[str, Path], tmp_path: Path) -> None:
    mask = scene(3, (64, 96))[1][::2, ::2]
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    figures = run(bundles, "right", tmp_path, "--mask", tmp_path / "mask.png")
    shares = np.bincount(mask[mask < 11].ravel(), minlength=11) / (mask < 11).sum()
    found = [row["asked_percent"] for row in figures["classes"].values()]
    assert found == pytest.approx(list(100 * shares), abs=0.01)
    board = cv2.imread(str(tmp_path / "street.png"), cv2.IMREAD_COLOR)
    assert board is not None
    board = cv2.cvtColor(board, cv2.COLOR_BGR2RGB)
    height, width = (side // 2 for side in board.shape[:2])
    painted = board[2 * height - 4 - 2 * SIZE[0] : 2 * height - 4 : 2, : 2 * SIZE[1] : 2]
    assert np.array_equal(painted, np.vstack([COLORS, np.zeros((1, 3))])[mask])
    assert width == 2 * SIZE[1] + 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--painter", "nowhere"], r"export it: pixelrt export recipe.toml -o nowhere"),
        (["--mask", "nowhere.png"], "nowhere.png cannot be read"),
        (["--device", "nowhere"], "device is 'nowhere', expected one of auto, cpu, cuda"),
        (["--copy", "car", "--move", "0", "1000"], "--move 0 1000 leaves nothing of what was copied in view"),
    ],
)
def test_what_cannot_be_done_is_explained(
    bundles: dict[str, Path], tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        run(bundles, "right", tmp_path, *arguments)
    assert not (tmp_path / "street.png").exists()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((*SIZE, 3), np.uint8), r"mask.png is uint8\[32, 48, 3\], .* must be turned into ids first"),
        (np.full(SIZE, 12, np.uint8), r"mask.png holds the ids 12, .* 0 to 10 for sky"),
        (255 * np.eye(*SIZE, dtype=np.uint8), r"no ids but 0 and 255, .* use the id 11 for it"),
    ],
)
def test_a_mask_of_something_else_is_refused(
    bundles: dict[str, Path], tmp_path: Path, mask: NDArray[np.uint8], message: str
) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    with pytest.raises(SystemExit, match=message):
        run(bundles, "right", tmp_path, "--mask", tmp_path / "mask.png")
