"""Who is measured, who must pass, and what is said where one cannot run or falls short."""

from __future__ import annotations

from importlib import resources

import pytest

from pixelrt.backends import BACKENDS
from pixelrt.errors import DeviceError
from pixelrt.manifest import Manifest, manifest_from_json
from pixelrt_export.gate import contenders as gate
from pixelrt_export.gate.contenders import Contender, contenders, each_measured, failure

EXACT = Contender("openvino", "float32", required=True)
FAST = Contender("openvino", "bfloat16", required=False)
ON_GPU = Contender("tensorrt", "float16", required=False, device="cuda")


@pytest.fixture
def manifest() -> Manifest:
    tiny = resources.files("pixelrt").joinpath("self_test/tiny/manifest.json")
    return manifest_from_json(tiny.read_text(encoding="utf-8"))


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "contenders", lambda manifest: (EXACT, FAST, ON_GPU))


def fails(which: Contender) -> list[Contender]:
    raise DeviceError(f"no {which.backend} here")


@pytest.mark.usefixtures("three")
class TestMeasuring:
    def test_each_in_its_turn(self, manifest: Manifest) -> None:
        notes: list[str] = []
        assert each_measured(manifest, lambda one: [one, one], notes) == [
            EXACT, EXACT, FAST, FAST, ON_GPU, ON_GPU,
        ]  # fmt: skip
        assert notes == []

    def test_one_that_need_not_pass_and_cannot_run_is_noted(self, manifest: Manifest) -> None:
        notes: list[str] = []
        found = each_measured(manifest, lambda one: [one] if one.required else fails(one), notes)
        assert found == [EXACT]
        assert notes == [
            "openvino bfloat16 was not measured: no openvino here",
            "tensorrt float16 on the GPU was not measured: no tensorrt here",
        ]

    def test_one_that_must_pass_and_cannot_run_ends_the_export(self, manifest: Manifest) -> None:
        with pytest.raises(DeviceError, match="no openvino here"):
            each_measured(manifest, fails, [])


@pytest.mark.parametrize("gpu", [False, True])
def test_a_gpu_is_measured_where_there_is_one(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, gpu: bool
) -> None:
    for name in ("tensorrt", "onnxruntime"):
        backend = type(BACKENDS[name])
        monkeypatch.setattr(backend, "unusable", lambda self, device, options=None: "" if gpu else "no GPU")
    found = contenders(manifest)
    assert str(found[0]) == "openvino float32"
    assert {one.backend for one in found if one.device == "cuda"} == (
        {"tensorrt", "onnxruntime"} if gpu else set()
    )
    required = [one for one in found if one.required]
    assert [one.backend for one in required] == ["openvino", "onnxruntime"]
    assert all(one.device == "cpu" for one in required)


def test_the_message_of_a_failure(manifest: Manifest) -> None:
    error = failure(manifest, "4 samples", ["a: one", "b: two"], "it begins here")
    lines = str(error).splitlines()
    assert lines[0] == f"{manifest.name} did not pass its gate on 4 samples; no bundle was written"
    assert lines[1:4] == ["  a: one", "  b: two", "  it begins here"]
    assert lines[4].startswith("Try a more exact precision (fp32)")
