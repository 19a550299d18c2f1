"""The demo's network, from PyTorch to an engine for every card."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pixelrt.trt import RTX_TARGETS, BuildOptions, ShapeRange, build_engine
from pixelrt_export.fuse import FuseSpec, HeadSpec, fuse
from pixelrt_export.models import RoadUNet
from pixelrt_export.precision import to_precision

SIZE = (96, 128)
PROFILE = {
    "frame": ShapeRange(min=(1, 16, 16, 3), opt=(1, 720, 1280, 3), max=(4, 2160, 3840, 3)),
}


@pytest.fixture(scope="module")
def onnx() -> bytes:
    torch.manual_seed(0)
    program = torch.onnx.export(
        RoadUNet().eval(),
        (torch.zeros(2, 3, *SIZE),),
        dynamo=True,
        verbose=False,
        input_names=["image"],
        output_names=["head_scene"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    image = np.random.default_rng(0).normal(size=(1, 3, *SIZE)).astype(np.float32)
    half, _ = to_precision(program.model_proto, [{"image": image}], "fp16")
    head = HeadSpec(name="scene", emit=("mask", "confidence", "grid"), grid=(3, 4))
    fused, _, _, _ = fuse(half, FuseSpec(heads=(head,), mean=(0.5,) * 3, std=(0.25,) * 3))
    content: bytes = fused.SerializeToString()
    return content


@pytest.mark.parametrize("target", RTX_TARGETS)
def test_an_engine_for_every_card(onnx: bytes, target: str) -> None:
    engine = build_engine(onnx, PROFILE, BuildOptions(flavour="tensorrt_rtx", targets=(target,)))
    assert engine.inputs[0].dtype == "uint8"
    assert [(tensor.name, tensor.dtype) for tensor in engine.outputs] == [
        ("mask", "uint8"),
        ("confidence", "uint8"),
        ("grid", "float32"),
    ]
    # half-precision weights, and code for one GPU
    assert 0.9 * len(onnx) < len(engine.content) < 2 * len(onnx) + 4_000_000
