"""Generators for tests: real bundles of a network whose images NumPy computes too."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pixelrt.bundle import MANIFEST, MODEL, Bundle, sha256, write_folder
from pixelrt.manifest import (
    SCHEMA,
    Artifact,
    ClassInfo,
    GenerationCheck,
    GenerationGate,
    GenerationManifest,
    LabelInfo,
    LatentInfo,
    MaskInfo,
    NoiseInfo,
    OutputInfo,
    Precision,
    Preprocess,
    Source,
)
from pixelrt_export.fuse_generator import GeneratorSpec, fuse_generator, generator_axes

SIZE = (8, 12)
LABELS = ("cat", "dog", "3")
CLASSES = ("road", "car", "tree")
LARGEST_BATCH = 4

_RANDOM = np.random.default_rng(5)
BASE = _RANDOM.uniform(60, 190, (1, 3, *SIZE)).astype(np.float32)
FROM_LATENT = _RANDOM.uniform(-25, 25, (5, 3)).astype(np.float32)
FROM_LABEL = _RANDOM.uniform(-40, 40, (3, 3)).astype(np.float32)
FROM_MASK = _RANDOM.uniform(-50, 50, (3, 3, 1, 1)).astype(np.float32)
OF_IMAGE, OF_NOISE = np.float32(40), np.float32(20)


@dataclass(frozen=True)
class Kind:
    """Which inputs a generator has."""

    name: str
    latent: bool = False
    label: bool = False
    mask: bool = False
    image: bool = False
    noise: bool = False

    def manifest_parts(self) -> dict[str, Any]:
        classes = tuple(ClassInfo(name=name, color=(9 * i, 0, 0)) for i, name in enumerate(CLASSES))
        half = (0.5, 0.5, 0.5)
        noise = NoiseInfo(name="noise_0", size=(1, *SIZE), distribution="normal")
        return {
            "latent": LatentInfo(size=(5,), distribution="normal") if self.latent else None,
            "label": LabelInfo(names=LABELS) if self.label else None,
            "mask": MaskInfo(size=SIZE, classes=classes) if self.mask else None,
            "image": Preprocess(size=SIZE, channels=3, mean=half, std=half, color="rgb")
            if self.image
            else None,
            "noise": (noise,) if self.noise else (),
        }


GAN = Kind("gan", latent=True, label=True)
PAINTER = Kind("painter", mask=True, noise=True)
FILTER = Kind("filter", image=True)
ALL = Kind("all", latent=True, label=True, mask=True, image=True, noise=True)


def network(kind: Kind) -> onnx.ModelProto:
    """The bare network: a sum of a term for each input, values 0..255."""
    constants = {
        "base": BASE,
        "from_latent": FROM_LATENT,
        "from_label": FROM_LABEL,
        "from_mask": FROM_MASK,
        "of_image": OF_IMAGE,
        "of_noise": OF_NOISE,
        "to_plane": np.array([0, 3, 1, 1]),
    }
    terms: list[tuple[str, list[Any], list[tuple[str, list[str]]]]] = []
    if kind.latent:
        terms.append(("latent", [5], [("MatMul", ["latent", "from_latent"]), ("Reshape", ["", "to_plane"])]))
    if kind.label:
        terms.append(("label", [3], [("MatMul", ["label", "from_label"]), ("Reshape", ["", "to_plane"])]))
    if kind.mask:
        terms.append(("mask", [3, *SIZE], [("Conv", ["mask", "from_mask"])]))
    if kind.image:
        terms.append(("image", [3, *SIZE], [("Mul", ["image", "of_image"])]))
    if kind.noise:
        terms.append(("noise_0", [1, *SIZE], [("Mul", ["noise_0", "of_noise"])]))
    nodes, inputs, total = [], [], "base"
    for name, size, steps in terms:
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *size]))
        last = name
        for number, (operator, operands) in enumerate(steps):
            made = f"{name}_{number}"
            nodes.append(helper.make_node(operator, [each or last for each in operands], [made], name=made))
            last = made
        nodes.append(helper.make_node("Add", [total, last], [f"with_{name}"], name=f"with_{name}"))
        total = f"with_{name}"
    nodes[-1].output[0] = "head_generated"
    output = helper.make_tensor_value_info("head_generated", TensorProto.FLOAT, ["batch", 3, *SIZE])
    used = {operand for node in nodes for operand in node.input}
    stored = [
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used
    ]
    graph = helper.make_graph(nodes, kind.name, inputs, [output], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def reference(**feeds: NDArray[Any]) -> NDArray[np.float64]:
    """The images before rounding, from what the graph takes, masks and images at the network's size."""
    total = BASE.astype(np.float64)
    if "latent" in feeds:
        total = total + (feeds["latent"] @ FROM_LATENT.astype(np.float64))[..., None, None]
    if "label" in feeds:
        total = total + FROM_LABEL.astype(np.float64)[feeds["label"]][..., None, None]
    if "mask" in feeds:
        columns = np.concatenate([FROM_MASK[..., 0, 0].T, np.zeros((253, 3))])  # an id that is no class: 0
        total = total + columns[feeds["mask"]].transpose(0, 3, 1, 2)
    if "image" in feeds:
        total = total + OF_IMAGE * ((feeds["image"] / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2)
    if "noise_0" in feeds:
        total = total + OF_NOISE * feeds["noise_0"].astype(np.float64)
    values: NDArray[np.float64] = total.clip(0, 255).transpose(0, 2, 3, 1)
    return values


def expect_images(found: NDArray[np.uint8], values: NDArray[np.float64]) -> None:
    """Every byte is its value rounded; either way where float32 cannot tell the half."""
    assert found.dtype == np.uint8
    assert found.shape == values.shape
    assert np.abs(found - values).max() <= 0.5 + 1e-4


def make_generator_bundle(
    folder: Path, kind: Kind, passed: Mapping[tuple[str, str], bool] | None = None
) -> Bundle:
    """Write the bundle of a kind, with what its gate said of (backend, precision)."""
    parts = kind.manifest_parts()
    axes = {name: dataclasses.replace(axis, min=1) for name, axis in generator_axes(LARGEST_BATCH).items()}
    spec = GeneratorSpec(**parts, label_form="one_hot", range="none", axes=axes)
    output = OutputInfo(size=SIZE, channels=3, range="none")
    return write_generator(folder, kind.name, network(kind), spec, output, passed)


def write_generator(
    folder: Path,
    name: str,
    bare: onnx.ModelProto,
    spec: GeneratorSpec,
    output: OutputInfo,
    passed: Mapping[tuple[str, str], bool] | None = None,
) -> Bundle:
    """Write a bundle around a bare network, without its gate where `passed` is None."""
    model, inputs, outputs, axes = fuse_generator(bare, spec)
    content = model.SerializeToString()
    checks = [_check(backend, precision, good) for (backend, precision), good in (passed or {}).items()]
    manifest = GenerationManifest(
        schema=SCHEMA,
        name=name,
        created="2026-01-01T00:00:00Z",
        tools={"pixelrt": "0"},
        inputs=inputs,
        outputs=outputs,
        axes=axes,
        precision=Precision(requested="fp32", layers={"fp32": 2}),
        artifacts=(Artifact(file=MODEL, kind="onnx", sha256=sha256(content), size_bytes=len(content)),),
        source=Source(model=name),
        output=output,
        gate=GenerationGate(
            skipped=passed is None,
            psnr=40.0,
            ssim=0.99,
            max_difference=32,
            seed=0,
            images="",
            num_images=0,
            checks=tuple(checks),
        ),
        latent=spec.latent,
        label=spec.label,
        mask=spec.mask,
        image=spec.image,
        noise=spec.noise,
    )

    def fill(path: Path) -> None:
        (path / MODEL).write_bytes(content)
        (path / MANIFEST).write_text(manifest.to_json())

    write_folder(folder / name, fill)
    return Bundle.open(folder / name)


def _check(backend: str, precision: str, passed: bool) -> GenerationCheck:
    figures: dict[str, Any] = {"psnr": 50.0, "mean_psnr": 52.0, "ssim": 0.999, "max_difference": 2}
    return GenerationCheck(backend=backend, device="cpu", precision=precision, passed=passed, **figures)


def some_inputs(kind: Kind, count: int, seed: int = 0) -> Mapping[str, NDArray[Any]]:
    """Masks, images and labels, as the deployed graph takes them."""
    rng = np.random.default_rng(seed)
    made: dict[str, NDArray[Any]] = {}
    if kind.label:
        made["label"] = rng.integers(0, len(LABELS), count).astype(np.int32)
    if kind.mask:
        made["mask"] = rng.integers(0, len(CLASSES), (count, *SIZE)).astype(np.uint8)
    if kind.image:
        made["image"] = rng.integers(0, 256, (count, *SIZE, 3)).astype(np.uint8)
    return made
