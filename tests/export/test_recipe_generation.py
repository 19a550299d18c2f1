"""Recipes of generators: what they mean, and what is said when one is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelrt.errors import RecipeError
from pixelrt_export.recipe import GenerationRecipe, read_recipe, without_gate

MINIMAL = """
task = "generation"
[model]
onnx = "net.onnx"
[latent]
size = [64]
[output]
range = "tanh"
"""
FULL = """
task = "generation"
[model]
entry = "nets.py:Painter"
checkpoint = "painter.safetensors"
args = { width = 16 }
part = "net.decoder"
as_in_training = ["dropout", "batch_norm"]
[latent]
size = [64, 1, 1]
distribution = "uniform"
input = "z"
[label]
names = ["cat", "dog"]
form = "one_hot"
input = 1
[mask]
size = [128, 192]
classes = "camvid11"
form = "index"
[image]
size = [256, 320]
mean = [0.5]
std = [0.5]
[output]
range = "sigmoid"
activation = "sigmoid"
output = "images.0"
color = "bgr"
frame_color = "bgr"
batch = 4
[precision]
type = "fp32"
[gate]
psnr = 30
ssim = 0.9
max_difference = 64
samples = 8
seed = 3
masks = "data/labels"
images = "test://drive"
max_images = 5
skip = true
[[target]]
flavour = "tensorrt_rtx"
sm = [86]
"""


def recipe(folder: Path, text: str, name: str = "net.toml") -> GenerationRecipe:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    read = read_recipe(folder / name)
    assert isinstance(read, GenerationRecipe)
    return read


def test_defaults(tmp_path: Path) -> None:
    read = recipe(tmp_path, MINIMAL)
    assert read.latent is not None
    assert (read.latent.size, read.latent.distribution, read.latent.input) == ((64,), "normal", None)
    assert (read.label, read.mask, read.image) == (None, None, None)
    assert (read.output.range, read.output.activation, read.output.batch) == ("tanh", "none", 16)
    assert (read.output.color, read.output.frame_color, read.output.output) == ("rgb", "rgb", None)
    gate = read.gate
    assert (gate.psnr, gate.ssim, gate.max_difference, gate.samples, gate.seed) == (40, 0.99, 32, 32, 0)
    assert (gate.masks, gate.images, gate.max_images, gate.skip) == (None, None, 64, False)
    assert (read.model.part, read.model.as_in_training, read.precision.type) == (None, (), "fp16")
    assert (read.name, read.text, read.images, read.target) == ("net", MINIMAL, "", ())


def test_everything(tmp_path: Path) -> None:
    read = recipe(tmp_path / "painter", FULL, "recipe.toml")
    assert read.name == "painter"
    assert read.model.entry == f"{tmp_path / 'painter' / 'nets.py'}:Painter"
    assert (read.model.part, read.model.as_in_training) == ("net.decoder", ("dropout", "batch_norm"))
    assert read.latent is not None
    assert read.label is not None
    assert read.mask is not None
    assert read.image is not None
    assert (read.latent.size, read.latent.distribution, read.latent.input) == ((64, 1, 1), "uniform", "z")
    assert (read.label.names, read.label.form, read.label.input) == (("cat", "dog"), "one_hot", 1)
    assert (read.mask.size, read.mask.classes, read.mask.form) == ((128, 192), "camvid11", "index")
    assert (read.image.size, read.image.channels) == ((256, 320), 1)
    assert (read.output.output, read.output.color, read.output.batch) == ("images.0", "bgr", 4)
    assert (read.gate.psnr, read.gate.samples, read.gate.seed, read.gate.max_images) == (30, 8, 3, 5)
    assert read.gate.masks == str(tmp_path / "painter" / "data" / "labels")
    assert (read.gate.images, read.images) == ("test://drive", "data/labels, test://drive")
    assert without_gate(recipe(tmp_path, MINIMAL)).gate.skip


LATENT, OUTPUT = "[latent]\nsize = [64]\n", '[output]\nrange = "tanh"\n'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"generation"', '"generate"', r"task is 'generate', expected one of .*did you mean 'generation'"),
        ("[model]", "[modle]", r"has no \[model\] section; every recipe of a generator needs one"),
        ("[output]", "[outputs]", r"has no \[output\] section; every recipe of a generator"),
        ("[latent]", "[latnet]", r"unknown key latnet \(did you mean 'latent'\?\)"),
        (LATENT, "", r"there is no input; one or more of \[latent\], \[label\], \[mask\] and \[image\] were"),
        (
            LATENT,
            LATENT + "[input]\nsize = [64, 64]\n",
            r'has \[input\], a section of task = "segmentation".*: what the network takes stands in',
        ),
        (OUTPUT, OUTPUT + '[[head]]\nclasses = ["a"]\n', r"has \[head\].*what the network gives stands in"),
        (
            'task = "generation"',
            "",
            r'has \[latent\], a section of task = "generation".*; or write task = "generation" at its top',
        ),
        ("size = [64]", "size = []", r"latent: size is \[\]; the length of a vector, as in \[64\]"),
        ("size = [64]", "size = [0]", r"latent: size is \[0\]"),
        ("size = [64]", "size = 64", r"latent.size is int '64', expected a list"),
        ("size = [64]", "size = [64]\ninput = -1", r"latent: input is -1; the name of a parameter"),
        ("size = [64]", 'size = [64]\ninput = ""', r"latent: input is ''; the name of a parameter"),
        ("size = [64]", 'size = [64]\ndistribution = "gaussian"', r"latent.distribution is 'gaussian'"),
        (LATENT, "[label]\nnames = []\n", r"label: names are \[\]; one or more names"),
        (LATENT, '[label]\nnames = ["a", ""]\n', r"label: names are \['a', ''\]"),
        (LATENT, '[label]\nnames = ["a"]\nform = "onehot"\n', r"label.form is 'onehot'.*'one_hot'"),
        (LATENT, '[mask]\nsize = [8, 8]\nclasses = "camvid"\n', r"mask: there is no palette 'camvid'"),
        (LATENT, '[mask]\nsize = [0, 8]\nclasses = ["a"]\n', r"mask: size is \[0, 8\]"),
        (LATENT, "[mask]\nsize = [8, 8]\n", "missing key mask.classes"),
        (
            LATENT,
            f"[mask]\nsize = [8, 8]\nclasses = {json.dumps([str(i) for i in range(257)])}\n",
            r"mask: 257 classes; a mask is made of bytes, at most 256",
        ),
        (
            LATENT,
            "[image]\nsize = [8, 8]\nmean = [127, 127, 127]\n",
            r"image: mean is .*divide mean and std by",
        ),
        ('range = "tanh"', 'range = "tahn"', r"output.range is 'tahn'.*did you mean 'tanh'"),
        ('range = "tanh"', "batch = 4", "missing key output.range"),
        ('range = "tanh"', 'range = "tanh"\nbatch = 0', "output: batch is 0"),
        (
            'range = "tanh"',
            'range = "none"\nactivation = "tanh"',
            r"output: activation = 'tanh' does not give the range 'none'; set range = 'tanh'",
        ),
        (OUTPUT, OUTPUT + "[gate]\npsnr = -3\n", "gate: psnr is -3"),
        (OUTPUT, OUTPUT + "[gate]\npsnr = inf\n", "gate: psnr is inf"),
        (OUTPUT, OUTPUT + "[gate]\nssim = 99\n", "gate: ssim is 99"),
        (OUTPUT, OUTPUT + "[gate]\nmax_difference = 256\n", "gate: max_difference is 256"),
        (OUTPUT, OUTPUT + "[gate]\nsamples = 0\n", "gate: samples is 0"),
        (OUTPUT, OUTPUT + "[gate]\nseed = -1\n", "gate: seed is -1"),
        (OUTPUT, OUTPUT + "[gate]\nagreement = 0.9\n", "unknown key gate.agreement; known here: psnr"),
        (OUTPUT, OUTPUT + '[gate]\nmasks = "m"\n', r"gate.masks is given, and there is no \[mask\] section"),
        (
            OUTPUT,
            OUTPUT + '[gate]\nimages = "m"\n',
            r"gate.images is given, and there is no \[image\] section",
        ),
        ('onnx = "net.onnx"', 'onnx = "net.onnx"\npart = "decoder"', "part goes with entry; a file of onnx"),
        ('onnx = "net.onnx"', 'entry = "a:b"\npart = "a..b"', r"part is 'a..b'; the name of a submodule or"),
        (
            'onnx = "net.onnx"',
            'entry = "a:b"\nas_in_training = ["dropout", "dropout"]',
            "each was expected once",
        ),
        (
            'onnx = "net.onnx"',
            'entry = "a:b"\nas_in_training = ["drop"]',
            r"as_in_training\[0\] is 'drop', expected one of 'dropout', 'batch_norm'",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in MINIMAL
    with pytest.raises(RecipeError, match=message) as caught:
        recipe(tmp_path, MINIMAL.replace(old, new))
    assert str(tmp_path / "net.toml") in str(caught.value)
    assert "expected nothing" not in str(caught.value)


def test_each_input_has_its_own_parameter(tmp_path: Path) -> None:
    text = (
        MINIMAL.replace("size = [64]", 'size = [64]\ninput = "z"') + '[label]\nnames = ["a"]\ninput = "z"\n'
    )
    with pytest.raises(RecipeError, match=r"\[latent\] and \[label\] both have input = 'z'; one parameter"):
        recipe(tmp_path, text)


_SECTIONS: dict[str, list[str]] = {
    "model": ["onnx", "entry", "part"],
    "latent": ["size", "distribution", "input"],
    "label": ["names", "form"],
    "mask": ["size", "classes", "form"],
    "image": ["size", "mean", "std"],
    "output": ["range", "activation", "batch"],
    "gate": ["psnr", "seed", "masks", "nonsense"],
    "input": ["size"],
}
_SCALARS = (
    st.booleans()
    | st.integers(-3, 300)
    | st.floats(-2, 2)
    | st.sampled_from(["tanh", "a:b", "camvid11", "", "ü"])
)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.dictionaries(st.sampled_from(keys), _SCALARS | st.lists(_SCALARS, max_size=4))
            for name, keys in _SECTIONS.items()
        },
    )
)
def test_any_file_is_a_recipe_or_a_message(
    tmp_path_factory: pytest.TempPathFactory, sections: dict[str, dict[str, Any]]
) -> None:
    lines = ['task = "generation"']
    for name, values in sections.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    try:
        read = read_recipe(path)
    except RecipeError as problem:
        assert str(path) in str(problem)
    else:
        assert isinstance(read, GenerationRecipe)
        assert {"model", "output"} <= set(sections)
