"""Recipes: what they mean, and what is said when one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixelrt.errors import RecipeError
from pixelrt_export.palettes import ClassEntry
from pixelrt_export.recipe import SegmentationRecipe, read_recipe

ROOT = Path(__file__).parents[2]
MINIMAL = """
[model]
onnx = "net.onnx"
[input]
size = [352, 480]
[[head]]
classes = ["road", "car"]
"""
FULL = """
[model]
entry = "pixelrt_export.models:RoadUNet"
checkpoint = "weights/road.safetensors"
args = { in_channels = 4, num_classes = 11, width = 16 }
[input]
size = [352, 480]
mean = [0, 0.456, 0.406, 0.5]
std = [1, 0.224, 0.225, 0.25]
color = "bgr"
frame_color = "rgb"
batch = 2
[[head]]
name = "scene"
output = 0
classes = "camvid11"
activation = "softmax"
emit = ["mask", "confidence", "grid"]
grid = [11, 15]
[[head]]
name = "lanes"
output = "aux.lanes"
classes = ["none", { name = "lane", color = [255, 0, 0] }]
activation = "sigmoid"
emit = ["mask"]
threshold = 0.3
[precision]
type = "bf16"
[gate]
images = "../camvid/images"
labels = "/data/labels"
agreement = 0.99
miou_drop = 0.01
max_images = 8
[[target]]
flavour = "tensorrt_rtx"
sm = [75, 80]
"""


def recipe(folder: Path, text: str, name: str = "net.toml") -> SegmentationRecipe:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    read = read_recipe(path)
    assert isinstance(read, SegmentationRecipe)
    return read


def test_defaults(tmp_path: Path) -> None:
    read = recipe(tmp_path, MINIMAL)
    assert read.model.onnx == str(tmp_path / "net.onnx")
    assert (read.input.size, read.input.channels, read.input.batch) == ((352, 480), 3, 4)
    assert read.input.mean == (0.485, 0.456, 0.406)
    (head,) = read.head
    assert (head.name, head.output, head.activation, head.grid) == ("scene", None, "softmax", None)
    assert head.emit == ("mask", "confidence", "grid")
    assert read.precision.type == "fp16"
    assert (read.gate.images, read.gate.agreement, read.gate.skip) == (None, 0.999, False)
    assert (read.target, read.name, read.text) == ((), "net", MINIMAL)


def test_everything(tmp_path: Path) -> None:
    read = recipe(tmp_path / "road", FULL, "recipe.toml")
    assert read.name == "road"
    assert read.model.checkpoint == str(tmp_path / "road" / "weights" / "road.safetensors")
    assert read.model.args == {"in_channels": 4, "num_classes": 11, "width": 16}
    assert read.input.mean == (0.0, 0.456, 0.406, 0.5)
    assert (read.input.channels, read.input.color, read.input.batch) == (4, "bgr", 2)
    assert read.head[1].output == "aux.lanes"
    assert read.head[1].classes == ("none", ClassEntry(name="lane", color=(255, 0, 0)))
    assert read.gate.images == str(tmp_path / "camvid" / "images")
    assert read.gate.labels == "/data/labels"
    assert read.target[0].sm == (75, 80)


def test_the_images_keep_their_spelling_too(tmp_path: Path) -> None:
    read = recipe(tmp_path / "road", MINIMAL + '[gate]\nimages = "../val/images"\n')
    assert (read.images, read.gate.images) == ("../val/images", str(tmp_path / "val" / "images"))


def test_other_sources_of_images_are_no_paths(tmp_path: Path) -> None:
    address = "test://drive?frames=8&seed=1"
    read = recipe(tmp_path, MINIMAL + f'[gate]\nimages = "{address}"\n')
    assert (read.gate.images, read.gate.labels) == (address, None)


def test_a_file_beside_the_recipe_may_be_the_entry(tmp_path: Path) -> None:
    read = recipe(tmp_path, MINIMAL.replace('onnx = "net.onnx"', 'entry = "nets/my_model.py:Net"'))
    assert read.model.entry == f"{tmp_path / 'nets' / 'my_model.py'}:Net"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[model]", "[modle]", r"has no \[model\] section"),
        ("[[head]]", "[[heads]]", r"has no \[\[head\]\] section"),
        ("[input]", "[inputs]", r"has no \[input\] section"),
        ("size =", "sizes =", r"unknown key input.sizes \(did you mean 'size'\?\); known here: size, mean"),
        ("classes =", "classess =", r"unknown key head\[0\].classess \(did you mean 'classes'\?\)"),
        ("size = [352, 480]", "size = [352]", r"input.size has 1 values, expected 2"),
        ("size = [352, 480]", 'size = "352x480"', r"input.size is str '352x480', expected a list"),
        ("size = [352, 480]", "size = [352, 480.0]", r"input.size\[1\] is float '480.0', expected int"),
        (
            "size = [352, 480]",
            "size = [0, 480]",
            r"input: size is \[0, 480\], height and width of at least 1",
        ),
        ("size = [352, 480]", "size = [352, 480]\nmean = [0.5]", r"input: mean has 1 values and std 3"),
        ("size = [352, 480]", "size = [352, 480]\nstd = [0, 1, 1]", r"std above 0"),
        (
            "size = [352, 480]",
            "size = [352, 480]\ncolor = 'rbg'",
            r"input.color is 'rbg'.*did you mean 'rgb'",
        ),
        ("size = [352, 480]", "size = [352, 480]\nbatch = 0", r"batch is 0, at least 1"),
        ('onnx = "net.onnx"', "", r"model: exactly one of entry, onnx.*found none"),
        ('onnx = "net.onnx"', 'onnx = "a"\nentry = "b:c"', r"found entry, onnx"),
        (
            'onnx = "net.onnx"',
            'onnx = "a"\ncheckpoint = "b.pth"',
            r"checkpoint goes with entry; a file of onnx",
        ),
        ('onnx = "net.onnx"', 'onnx = "a"\nargs = { width = 3 }', r"args goes with entry"),
        ('onnx = "net.onnx"', 'entry = "nets.UNet"', r"entry is 'nets.UNet', 'module:callable' was expected"),
        (
            '["road", "car"]',
            '"camvid12"',
            r"head\[0\]: there is no palette 'camvid12' \(did you mean 'camvid11'",
        ),
        ('["road", "car"]', '["road", "road"]', r"head\[0\]: .*'road' stands there twice"),
        ('["road", "car"]', '[{ name = "a", colour = [1, 2, 3] }]', r"did you mean 'color'"),
        ('["road", "car"]', '[{ name = "a", color = [1, 2, 999] }]', r"color \[1, 2, 999\] of class 'a'"),
        (
            '["road", "car"]',
            '["a", "b"]\nemit = ["maks"]',
            r"head\[0\].emit\[0\] is 'maks'.*did you mean 'mask'",
        ),
        ('["road", "car"]', '["a", "b"]\nemit = []', r"emit is \[\]"),
        ('["road", "car"]', '["a", "b"]\ngrid = [0, 4]', r"grid is \[0, 4\]"),
        ('["road", "car"]', '["a", "b"]\nthreshold = 1.5', r"threshold is 1.5; between 0 and 1"),
        ('["road", "car"]', '["a", "b"]\nactivation = "argmax"', r"activation is 'argmax', expected one of"),
        ('["road", "car"]', '["a", "b"]\nname = "a/b"', r"name is 'a/b'"),
        (
            '["road", "car"]',
            '["a", "b"]\n[[head]]\nclasses = ["c"]',
            r"called \['scene', 'scene'\].*its own name",
        ),
        (
            '["road", "car"]',
            '["a", "b"]\n[precision]\ntype = "fp8"',
            r"precision.type is 'fp8', expected one of",
        ),
        (
            '["road", "car"]',
            '["a", "b"]\n[gate]\nagreement = 99.9',
            r"gate: agreement is 99.9; a share from 0 to 1",
        ),
        ('["road", "car"]', '["a", "b"]\n[gate]\nmax_images = 0', r"max_images is 0"),
        (
            '["road", "car"]',
            '["a", "b"]\n[[target]]\nflavour = "rtx"\nsm = [80]',
            r"target\[0\].flavour is 'rtx'",
        ),
        (
            '["road", "car"]',
            '["a", "b"]\n[[target]]\nflavour = "tensorrt_rtx"\nsm = [86, 86]',
            r"target\[0\]: targets .*each once",
        ),
        (
            '["road", "car"]',
            '["a", "b"]\n[[target]]\nflavour = "tensorrt_rtx"',
            r"target\[0\]: targets \[\]: one or more",
        ),
        (
            '["road", "car"]',
            '["a", "b"]\n[[target]]\nflavour = "tensorrt"\nsm = [86]',
            r"tensorrt builds for the GPU of the machine it runs on",
        ),
        (
            "size = [352, 480]",
            "size = [352, 480]\nmean = [123.0, 117.0, 104.0]",
            r"mean is .*divide mean and std",
        ),
        ("[model]", "[model", r"is not valid TOML: .*line 2"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in MINIMAL
    with pytest.raises(RecipeError, match=message) as caught:
        recipe(tmp_path, MINIMAL.replace(old, new))
    assert str(tmp_path / "net.toml") in str(caught.value)


def test_what_cannot_be_read_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot be read: No such file or directory; check the path"):
        read_recipe(tmp_path / "net.toml")
    recipe(tmp_path, MINIMAL, "recipe.toml")
    with pytest.raises(RecipeError, match=r"Is a directory; is it .*recipe.toml\?"):
        read_recipe(tmp_path)
    (tmp_path / "net.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="no text in UTF-8"):
        read_recipe(tmp_path / "net.toml")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "engines").glob("*/recipe.toml")), ids=lambda path: path.parent.name
)
def test_shipped_recipes_are_read(path: Path) -> None:
    read = read_recipe(path)
    assert read.name == path.parent.name
    assert read.model.checkpoint is None or Path(read.model.checkpoint).is_file()
