"""The Python of docs/gpu.md, run on a simulated GPU where it needs one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import pixelrt
from pixelrt.backends.base import SessionInfo
from pixelrt.backends.gpu_session import GpuSession, Origin
from pixelrt.backends.onnxruntime_cuda import ONNXRuntimeExecutor, Provider
from pixelrt.bundle import Bundle
from pixelrt.testing import FakeCuda

PAGE = (Path(__file__).parents[2] / "docs" / "gpu.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ON_A_GPU = "torch"
"""Blocks with it need PyTorch on a GPU: tests/gpu/test_interop.py."""


@pytest.fixture
def names(make_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what the blocks take for granted."""
    bundle = make_bundle()

    def load(path: str, *, device: str) -> pixelrt.Segmenter:
        assert device == "cuda"
        provider = Provider("CPUExecutionProvider", {}, "cpu", 0)
        origin = Origin.of(
            FakeCuda(order="eager"),
            lambda cuda, streams: ONNXRuntimeExecutor(
                onnxruntime, bundle.read(bundle.model), bundle.manifest, provider
            ),
            pixelrt.GpuOptions(),
        )
        info = SessionInfo(backend="onnxruntime", device="cuda:0", precision="float32", version="1")
        session = GpuSession(bundle.manifest, info, origin)
        return pixelrt.Segmenter(bundle, session)

    isolate = pixelrt.isolate
    monkeypatch.setattr(pixelrt, "load", load)
    monkeypatch.setattr(
        pixelrt, "isolate", lambda path, *, device, restarts: isolate(bundle, device="cpu", restarts=restarts)
    )
    frames = [np.full((1080, 1920, 3), value, np.uint8) for value in (0, 90, 180)]
    shown: list[Any] = []
    return {"pixelrt": pixelrt, "frame": frames[0], "frames": frames, "show": shown.append, "shown": shown}


def test_the_blocks_run_in_their_order(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    ran = [block for block in BLOCKS if ON_A_GPU not in block]
    assert (len(ran), len(BLOCKS)) == (3, 4)
    namespace = {key: value for key, value in names.items() if key != "shown"}
    for block in ran:
        exec(block, namespace)
    assert "compute_ms" in capsys.readouterr().out
    assert len(names["shown"]) == len(names["frames"]) - 1
    assert namespace["result"].mask.shape == (32, 48)
    namespace["segmenter"].close()
