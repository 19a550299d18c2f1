"""`benchmarks/gpu_pipeline.py` without a GPU: the whole run on the fake one, and each part on its own.

Networks, pre- and post-processing, files, rounds and figures are real; the GPU's times are simulated, the
speed of this machine is not judged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from pixelrt.backends.base import SessionInfo
from pixelrt.backends.gpu_session import GpuSession, Origin
from pixelrt.bundle import Bundle
from pixelrt.cuda.protocol import Driver
from pixelrt.errors import ContextLost, DeviceError, InputError, PixelRTError
from pixelrt.pipeline.streams import Streams
from pixelrt.segmentation import Segmenter
from pixelrt.session import GpuOptions, GpuTimes, open_model
from pixelrt.tensors import TensorSpec
from pixelrt.testing import FakeCuda, FakeExecutor, FakeNetwork

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gpu_pipeline  # noqa: E402  # from the line above
from gpu import bars, cameras, models, pixelrt_contenders, rounds, state, summary, table  # noqa: E402
from gpu.contender import NotMeasuredError, SteppingContender, Turn, cycle  # noqa: E402
from gpu.host_side import to_tensor  # noqa: E402
from gpu.onnxruntime_contenders import contender_of  # noqa: E402
from gpu.setting import Entry, Key, Setting  # noqa: E402
from gpu.torch_contenders import step_of  # noqa: E402

SIZE = (64, 96)
FRAME_SIZE = (270, 384)
COMPUTE_MS = 2.0
Bytes = NDArray[np.uint8]


@functools.cache
def loaded_from(model: bytes) -> onnxruntime.InferenceSession:
    """One for all contenders: threads may run it at once, and loading takes longer than all frames."""
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


class FakePlatform:
    """A GPU in main memory, on which ONNX Runtime's CPU provider computes."""

    def __init__(self) -> None:
        self.cuda = FakeCuda(order="eager")
        self.backends: Sequence[str] = ("tensorrt", "onnxruntime")
        self.torch_device = "cpu"
        self.torch_dtype = "float32"  # half precision is emulated there, a second per frame
        self.providers: list[tuple[str, dict[str, str]]] = [("CPUExecutionProvider", {})]

    def driver(self) -> AbstractContextManager[Driver]:
        return FakeCuda()

    def segmenter(self, bundle: Bundle, backend: str, options: GpuOptions) -> Segmenter:
        if backend == "tensorrt":
            raise DeviceError("TensorRT is not on the fake GPU")
        manifest = bundle.manifest
        loaded = loaded_from(bundle.read(bundle.model))
        names = [tensor.name for tensor in manifest.outputs]
        specs = tuple(tuple(map(TensorSpec.of, side)) for side in (manifest.inputs, manifest.outputs))

        def make(driver: Driver, streams: Streams) -> FakeExecutor:
            def compute(inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
                return dict(zip(names, loaded.run(names, inputs), strict=True))

            return FakeExecutor(self.cuda, *specs, compute, FakeNetwork(compute_ms=COMPUTE_MS))

        info = SessionInfo(backend=backend, device="cuda:0", precision="float16", version="1")
        return Segmenter(bundle, GpuSession(manifest, info, Origin.of(self.cuda, make, options)))

    def torch_timer(self) -> Callable[[Callable[[], Any]], float]:
        def measure(work: Callable[[], Any]) -> float:
            began = time.perf_counter()
            work()
            return (time.perf_counter() - began) * 1e3

        return measure

    def versions(self) -> Mapping[str, str]:
        return {"cuda": "none"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def prepared(folder: Path) -> models.Prepared:
    return models.prepare(models.MODELS["road-unet"], SIZE, folder)


@pytest.fixture(scope="module")
def frames() -> list[Bytes]:
    return models.frames_of(FRAME_SIZE, 3)


@pytest.fixture
def setting(prepared: models.Prepared) -> Iterator[Setting]:
    made = Setting(prepared, FakePlatform())
    yield made
    made.close()


def summarized(p50_ms: float = 1.0, **changes: Any) -> summary.Summary:
    """Figures of a contender that takes `p50_ms` per frame."""
    latency = summary.Percentiles(p50=p50_ms, p95=p50_ms, p99=1.2 * p50_ms, mean=p50_ms, max=2 * p50_ms)
    gpu = summary.GpuFigures(
        compute_ms=0.8, enqueue_ms=0.1, h2d_ms=0.1, d2h_ms=0.01, gpu_latency_ms=0.91, compute_variation=0.0
    )
    made = summary.Summary(
        frames=10, throughput_fps=1200, latency_ms=latency, gpu=gpu, round_p50_ms=(p50_ms,), remarks=()
    )
    return dataclasses.replace(made, **changes)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out") / "result.json"


@pytest.fixture(scope="module")
def shown(prepared: models.Prepared, folder: Path, out: Path) -> str:
    """What a run of everything but torch.compile prints."""
    everybody = [entry.name for entry in gpu_pipeline.entries(FakePlatform().backends)]
    task = gpu_pipeline.Task(
        models=(prepared.model,),
        plan=rounds.Plan(rounds=2, frames_per_turn=3, warmup_frames=1),
        patterns=tuple(name for name in everybody if name != "torch/compile-max-autotune"),
        frame_size=FRAME_SIZE,
        network_size=SIZE,
        num_frames=3,
        bundles=folder,
        out=out,
    )
    platform, said = FakePlatform(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(said):
        patched.setattr("sys.argv", ["gpu_pipeline.py", "--fake"])
        code = gpu_pipeline.measure(task, platform)
    missed = [bar for bar in json.loads(out.read_text())["bars"] if bar["verdict"] == "MISSED"]
    assert code == bool(missed)
    assert not any(platform.cuda.live.values())
    return said.getvalue()


@pytest.fixture(scope="module")
def found(shown: str, out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(out.read_text())
    return read


def contenders_of(found: dict[str, Any]) -> dict[str, Any]:
    model = found["models"]["road-unet"]
    contenders: dict[str, Any] = model["one_camera"]["contenders"] | model["several_cameras"]["contenders"]
    return contenders


class TestWholeRun:
    def test_says_what_ran(self, found: dict[str, Any]) -> None:
        assert found["benchmark"] == "gpu_pipeline-fake-gpu"
        assert found["command"] == ["gpu_pipeline.py", "--fake"]
        assert found["gpu"] == "fake GPU"
        assert found["bus"]["size_bytes"] == FRAME_SIZE[0] * FRAME_SIZE[1] * 3
        assert found["bus"]["up_gb_per_s"] == pytest.approx(12, rel=0.01)
        assert found["task"]["network_size"] == list(SIZE)
        assert found["task"]["rounds"] == 2
        assert found["gpu_state_before"].keys() == found["gpu_state_after"].keys() == {"gpus", "problem"}
        assert found["machine"]["libraries"]["torch"]
        assert found["models"]["road-unet"]["bundle"]["precision"] == "fp16"
        assert found["git"] == {} or len(found["git"]["commit"]) == 40

    def test_nobody_is_dropped(self, found: dict[str, Any]) -> None:
        one, several = (found["models"]["road-unet"][key] for key in ("one_camera", "several_cameras"))
        assert not any(name.startswith("cameras") for name in one["contenders"].keys() | one["not_measured"])
        model = {key: one[key] | several[key] for key in ("contenders", "not_measured")}
        everybody = {entry.name for entry in gpu_pipeline.entries(("tensorrt", "onnxruntime"))}
        everybody -= {"torch/compile-max-autotune"}
        assert model["contenders"].keys() | model["not_measured"].keys() == everybody
        assert set(model["not_measured"]) == {name for name in everybody if "/tensorrt/" in name}
        assert set(model["not_measured"].values()) == {"TensorRT is not on the fake GPU"}

    def test_all_do_the_same_work(self, found: dict[str, Any]) -> None:
        model = found["models"]["road-unet"]
        assert model["one_camera"]["masks_compared_with"] == "pixelrt/onnxruntime/call"
        assert model["several_cameras"]["masks_compared_with"] == "cameras/onnxruntime/2-slots"
        shares = {name: each["same_mask"] for name, each in contenders_of(found).items()}
        assert shares.pop("torch/network-alone") is None
        for name, share in shares.items():
            assert share == 1 if name.startswith(("pixelrt", "cameras")) else 0.985 < share < 1, name

    def test_figures(self, found: dict[str, Any]) -> None:
        for name, each in contenders_of(found).items():
            batch = each["about"].get("batch", 1)
            if name.startswith("cameras"):
                batch = each["about"]["cameras"]
            assert each["frames"] == 2 * -(-3 // batch) * batch, name
            assert len(each["round_p50_ms"]) == 2
            if name != "torch/network-alone":
                latency = each["latency_ms"]
                assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
                assert each["throughput_fps"] > 0
            if name.startswith(("pixelrt", "cameras")):
                compute_ms = each["gpu"]["compute_ms"]  # threads wait for each other on the one GPU
                assert (
                    compute_ms >= COMPUTE_MS if "threads" in name else compute_ms == pytest.approx(COMPUTE_MS)
                )
                assert each["gpu"]["h2d_ms"] > each["gpu"]["d2h_ms"] > 0

    def test_graphs(self, found: dict[str, Any]) -> None:
        """Captured where they shall be. 24 frames of warm-up would do it for eight slots; here are few."""
        contenders = contenders_of(found)
        assert contenders["pixelrt/onnxruntime/call-no-graph"]["about"]["graphs"] == "none: switched off"
        assert contenders["pixelrt/onnxruntime/call"]["about"]["graphs"] == "2 captured"
        assert contenders["pixelrt/onnxruntime/1-slot"]["about"]["graphs"] == "1 captured"

    def test_bars(self, found: dict[str, Any]) -> None:
        judged = {bar["name"]: bar for bar in found["bars"]}
        assert len(judged) == 8
        for name, bar in judged.items():
            if "tensorrt" in name:
                assert bar["verdict"] == "not measured"
                assert "TensorRT is not on the fake GPU" in bar["why_not"]
            else:
                assert bar["verdict"] in ("met", "MISSED")
        contenders = contenders_of(found)
        call = contenders["pixelrt/onnxruntime/call"]
        tail = judged["road-unet, onnxruntime: p99 / p50"]
        assert tail["value"] == pytest.approx(call["latency_ms"]["p99"] / call["latency_ms"]["p50"], abs=1e-3)

    def test_table(self, shown: str, found: dict[str, Any]) -> None:
        for name in contenders_of(found):
            assert f"  {name} " in shown
        for reason in ("one camera: not measured", "4-threads, ", ": TensorRT is not on the fake GPU"):
            assert reason in shown
        assert "GB/s up" in shown
        assert "written to" in shown


class TestContenders:
    def test_pytorch_in_float32_gives_the_masks_of_pixelrt(
        self, prepared: models.Prepared, frames: list[Bytes]
    ) -> None:
        """The host's side of the contenders is right: same weights, OpenCV and NumPy against the graph."""
        step = step_of(torch, prepared.model.make(), prepared, "cpu", torch.float32)
        content = prepared.bundle.read(prepared.bundle.model)
        session = open_model(
            content, prepared.bundle.manifest, backend="onnxruntime", precision="float32", threads=2
        )
        with Segmenter(prepared.bundle, session) as segmenter:
            for frame in frames:
                mask, ours = step(frame), segmenter(frame).mask
                assert mask.dtype == np.uint8
                assert mask.shape == SIZE
                assert len(np.unique(mask)) > 3
                assert (mask == ours).mean() >= 0.99

    def test_tensor(self, prepared: models.Prepared) -> None:
        frame = np.zeros((*FRAME_SIZE, 3), np.uint8)
        frame[..., 0] = 255
        tensor = to_tensor(frame, prepared.form)
        assert tensor.shape == (1, 3, *SIZE)
        assert tensor.dtype == np.float32
        mean, std = prepared.form.mean, prepared.form.std
        np.testing.assert_allclose(tensor[0, 0], (1 - mean[0]) / std[0], rtol=1e-5)
        np.testing.assert_allclose(tensor[0, 1], -mean[1] / std[1], rtol=1e-5)

    def test_bundles_are_taken_where_they_are(self, prepared: models.Prepared, folder: Path) -> None:
        broken = dataclasses.replace(prepared.model, make=lambda: pytest.fail("exported again"))
        again = models.prepare(broken, SIZE, folder)
        assert again.bundle.model.sha256 == prepared.bundle.model.sha256
        with pytest.raises(InputError, match=r"is for \[64, 96\], expected \[64, 64\]"):
            models.prepare(broken, (64, 64), folder)

    def test_the_classic_network_is_the_same_each_time(self) -> None:
        first = models.classic_unet().state_dict()
        torch.rand(1)
        state = torch.random.get_rng_state()
        second = models.classic_unet().state_dict()
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert first["down.4.0.weight"].shape == (1024, 512, 3, 3)
        assert torch.equal(torch.random.get_rng_state(), state)

    @pytest.mark.parametrize(("slots", "overlap"), [(1, False), (2, True)])
    def test_slots_overlap(
        self, prepared: models.Prepared, frames: list[Bytes], slots: int, overlap: bool
    ) -> None:
        """The upload of a frame begins while the one before is computed, if there are slots for it."""
        platform = FakePlatform()
        setting = Setting(prepared, platform)
        contender = pixelrt_contenders.Pipelined(setting, Key("onnxruntime", slots=slots))
        contender.turn(frames, 6)
        spans = platform.cuda.timeline
        ups = [span.start_ms for span in spans if span.engine == "up"]
        computes = [(span.start_ms, span.end_ms) for span in spans if span.engine == "compute"]
        assert len(ups) == len(computes) == 6
        inside = any(start <= up < end for up in ups for start, end in computes)
        assert inside == overlap
        setting.close()

    def test_frames_lie_where_the_name_says(self, setting: Setting, frames: list[Bytes]) -> None:
        key = Key("onnxruntime")
        assert pixelrt_contenders.CallOrdinary(setting, key).place(frames) is frames
        placed = pixelrt_contenders.Call(setting, key).place(frames)
        assert setting.pinned(key, frames) is placed
        for frame, copied in zip(frames, placed, strict=True):
            assert not np.shares_memory(frame, copied)
            np.testing.assert_array_equal(frame, copied)

    def test_every_thread_has_a_session_and_memory_of_its_own(
        self, setting: Setting, frames: list[Bytes]
    ) -> None:
        contender = cameras.ThreadPerCamera(setting, "onnxruntime", 2)
        (first, second), (third, _) = contender.ticks(frames, 4)
        for frame, clone in ((first, 0), (second, 1), (third, 0)):
            own = setting.pinned(Key("onnxruntime", slots=1, clone=clone), frames)
            assert any(frame is candidate for candidate in own)
        np.testing.assert_array_equal(second, frames[1])
        sessions = {
            id(setting.segmenter(Key("onnxruntime", slots=1, clone=clone)).session) for clone in (0, 1)
        }
        assert len(sessions) == 2
        turn = contender.turn(frames, 3)
        assert turn.frames == len(turn.latencies_ms) == 4
        contender.close()

    def test_onnx_runtime_errors_are_a_reason(self, prepared: models.Prepared, frames: list[Bytes]) -> None:
        session = onnxruntime.InferenceSession(prepared.bare["fp32"], providers=["CPUExecutionProvider"])
        form = dataclasses.replace(prepared.form, size=(64, 64))
        contender = contender_of(onnxruntime, session, form, "fp32")
        with pytest.raises(NotMeasuredError, match=r"ONNX Runtime .*invalid dimensions"):
            contender.turn(frames, 1)

    def test_batches_are_filled_up(self) -> None:
        assert pixelrt_contenders.batches_of([1, 2, 3], 2, 5) == [[1, 2], [3, 1], [2, 3]]
        assert list(cycle("ab", 3)) == ["a", "b", "a"]


class TestRace:
    PLAN = rounds.Plan(rounds=3, frames_per_turn=4, warmup_frames=2)

    def run(self, entries: list[Entry], setting: Setting) -> rounds.Race:
        return rounds.race(entries, setting, [np.zeros((2, 2, 3), np.uint8)], self.PLAN, lambda line: None)

    def test_every_round_is_begun_by_another(self) -> None:
        names = ["a", "b", "c", "d", "e"]
        for count in range(1, 6):
            orders = [rounds.rotated(names[:count], number) for number in range(count)]
            assert [order[0] for order in orders] == names[:count]
            assert all(sorted(order) == names[:count] for order in orders)
        followed = {after for order in orders for before, after in pairwise(order) if before == "a"}
        assert followed == {"b", "e"}
        assert rounds.rotated([], 4) == []

    def test_turns_are_taken_in_rounds_after_a_warm_up(self, setting: Setting) -> None:
        calls: list[str] = []

        def entry(name: str, shade: int) -> Entry:
            def step(frame: Bytes) -> Bytes:
                calls.append(name)
                return np.full((2, 2), shade, np.uint8)

            closing = SteppingContender(step, {"name": name}, lambda: calls.append(f"close {name}"))
            return Entry(name, lambda setting: closing)

        found = self.run([entry("a", 1), entry("b", 1), entry("c", 2)], setting)
        turn = lambda name: [name] * 6  # noqa: E731
        order = [*"abc", *"bac", *"cab"]
        assert calls == [*"abc", *(call for name in order for call in turn(name)), *_closings("abc")]
        assert found.measured["a"].all.frames == 12
        assert len(found.measured["a"].all.latencies_ms) == 12
        assert [found.measured[name].same_mask for name in "abc"] == [1.0, 1.0, 0.0]
        assert found.reference == "a"
        assert len(found.states) == 3

    def test_who_fails_is_named_and_the_others_go_on(self, setting: Setting) -> None:
        closed: list[str] = []

        def contender(name: str, fails_at: int) -> SteppingContender:
            numbers = iter(range(1000))

            def step(frame: Bytes) -> Bytes:
                if next(numbers) == fails_at:
                    raise RuntimeError("CUDA out\n of memory")
                return np.zeros((2, 2), np.uint8)

            return SteppingContender(step, {}, lambda: closed.append(name))

        def missing(setting: Setting) -> SteppingContender:
            raise NotMeasuredError("torch is not here")

        found = self.run(
            [
                Entry("missing", missing),
                Entry("at once", lambda setting: contender("at once", 0)),
                Entry("later", lambda setting: contender("later", 1 + 6)),
                Entry("fine", lambda setting: contender("fine", -1)),
            ],
            setting,
        )
        assert found.not_measured == {
            "missing": "torch is not here",
            "at once": "failed at its first frames: CUDA out of memory",
            "later": "failed in round 2: CUDA out of memory",
        }
        assert list(found.measured) == ["fine"]
        assert len(found.measured["fine"].turns) == 3
        assert closed == ["at once", "later", "fine"]

    def test_a_lost_gpu_ends_it(self, setting: Setting) -> None:
        closed = []

        def step(frame: Bytes) -> Bytes:
            raise ContextLost("an illegal memory access")

        contender = SteppingContender(step, {}, lambda: closed.append(True))
        with pytest.raises(ContextLost):
            self.run([Entry("a", lambda setting: contender)], setting)
        assert closed == [True]


def _closings(names: str) -> list[str]:
    return [f"close {name}" for name in names]


class TestFigures:
    def test_percentiles_pool_the_rounds(self) -> None:
        values = [float(value) for value in range(1, 101)]
        turns = [
            Turn(frames=50, wall_s=0.5, latencies_ms=values[:50]),
            Turn(frames=50, wall_s=1.5, latencies_ms=values[50:]),
        ]
        found = summary.summarize(turns)
        assert found.throughput_fps == 50
        assert found.latency_ms == summary.Percentiles(p50=50.5, p95=95.05, p99=99.01, mean=50.5, max=100)
        assert found.round_p50_ms == (25.5, 75.5)
        assert found.gpu is None

    def test_gpu_figures_are_medians_per_run(self) -> None:
        times = [
            GpuTimes(enqueue_ms=0.1 * i, upload_ms=0.2, compute_ms=1.0 * i, download_ms=0.05)
            for i in (1, 2, 3)
        ]
        gpu = summary.summarize([Turn(frames=3, wall_s=1, times=times)]).gpu
        assert gpu is not None
        assert (gpu.compute_ms, gpu.enqueue_ms, gpu.h2d_ms, gpu.d2h_ms) == (2.0, 0.2, 0.2, 0.05)
        assert gpu.gpu_latency_ms == 2.25
        assert gpu.compute_variation == pytest.approx(statistics.pstdev([1, 2, 3]) / 2, abs=1e-5)

    def test_a_network_alone_has_no_throughput(self) -> None:
        times = [GpuTimes(enqueue_ms=0.1, upload_ms=0.0, compute_ms=1.0, download_ms=0.0)]
        found = summary.summarize([Turn(frames=1, wall_s=1, times=times)])
        assert found.latency_ms is None
        assert found.throughput_fps is None
        assert found.round_p50_ms == (1.0,)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({}, None),
            ({"enqueue_ms": 0.7}, "bound by enqueuing"),
            ({"h2d_ms": 0.8}, "bound by a copy"),
            ({"compute_variation": 0.03}, "unsteady: the compute time varies by more than 2.5 %"),
        ],
    )
    def test_remarks(self, changes: dict[str, float], said: str | None) -> None:
        gpu = summarized().gpu
        assert gpu is not None
        remarks = summary.remarks(dataclasses.replace(gpu, **changes))
        assert [said in remark for remark in remarks] == [True] if said else remarks == ()

    def test_row(self) -> None:
        cells = table.row("a", summarized(), 0.99876)
        assert cells == (
            "a",
            "1200.0",
            "1.000",
            "1.000",
            "1.200",
            "0.800",
            "0.100",
            "0.100",
            "0.010",
            "0.9988",
        )
        empty = table.row("b", summarized(throughput_fps=None, latency_ms=None, gpu=None), None)
        assert empty == ("b", *"---------")


class TestBars:
    RATE = state.CopyRate(size_bytes=1, copies=1, up_gb_per_s=10, down_gb_per_s=5)

    def results(self, **summaries: summary.Summary) -> bars.Results:
        names = {
            "call": "pixelrt/x/call",
            "two": "pixelrt/x/2-slots",
            "eager": "torch/eager",
            "last": "torch/eager-channels-last",
        }
        return bars.Results(
            model="net",
            summaries={names[key]: value for key, value in summaries.items()},
            not_measured={"torch/eager": "no torch"},
            rate=self.RATE,
            frame_bytes=1_000_000,
            mask_bytes=500_000,
        )

    def values(self, **summaries: summary.Summary) -> list[tuple[float | None, str]]:
        return [(bar.value, bar.verdict) for bar in bars.bars(self.results(**summaries), "x")]

    def test_values(self) -> None:
        """Ideal: 0.8 ms computing, 0.1 ms up, 0.1 ms down."""
        given = {"call": summarized(1.2), "two": summarized(), "eager": summarized(3.0)}
        assert self.values(**given) == [(1.2, "met"), (0.96, "met"), (2.5, "met"), (1.2, "met")]

    def test_missed(self) -> None:
        slow = summarized(1.6)
        assert slow.latency_ms is not None
        tail = dataclasses.replace(slow, latency_ms=dataclasses.replace(slow.latency_ms, p99=3.2))
        given = {"call": tail, "two": summarized(throughput_fps=1000), "eager": summarized(3.0)}
        assert self.values(**given) == [(1.6, "MISSED"), (0.8, "MISSED"), (1.875, "MISSED"), (2.0, "MISSED")]

    def test_the_faster_eager_counts(self) -> None:
        given = {"call": summarized(1.0), "eager": summarized(3.0), "last": summarized(1.5)}
        bar = bars.bars(self.results(**given), "x")[2]
        assert (bar.value, bar.verdict) == (1.5, "MISSED")
        assert "torch/eager-channels-last" in bar.name

    def test_the_reason_is_given(self) -> None:
        end_to_end, throughput, speedup, _ = bars.bars(self.results(call=summarized(1.0)), "x")
        assert end_to_end.verdict == "met"
        assert (throughput.verdict, throughput.why_not) == (
            "not measured",
            "pixelrt/x/2-slots: it was not asked for",
        )
        assert (speedup.verdict, speedup.why_not) == ("not measured", "torch/eager: no torch")


class TestState:
    SMI = """#!/bin/sh
case "$1" in
  *clocks_event_reasons*) {new} ;;
  *clocks_throttle_reasons*) echo 0x0000000000000004 ;;
  *) echo "0, NVIDIA H100, 580.1, P0, Enabled, 40, 1980, 1980, 2619, 2619, 90.1, 700.0, 0, 3, 5, 16" ;;
esac
"""

    def smi(self, folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> dict[str, Any]:
        program = folder / "nvidia-smi"
        program.write_text(script)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        return state.gpu_state()

    @pytest.mark.parametrize(
        ("new", "mask"),
        [
            ("echo 0x0000000000000001", "0x0000000000000001"),
            ("echo 'Field is not a valid field to query.'; exit 2", "0x0000000000000004"),
        ],
    )
    def test_clocks_and_power(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: str, mask: str
    ) -> None:
        found = self.smi(tmp_path, monkeypatch, self.SMI.replace("{new}", new))
        (gpu,) = found["gpus"]
        assert gpu["clocks.sm"] == "1980"
        assert gpu["pcie.link.width.current"] == "16"
        assert gpu["slowed_by"] == mask
        assert state.state_text(found) == "P0, SM 1980 of 1980 MHz, memory 2619 MHz, 90.1 of 700.0 W, 40 C"

    def test_a_program_that_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.smi(tmp_path, monkeypatch, "#!/bin/sh\necho 'No devices were found'; exit 6\n")
        assert found == {"gpus": [], "problem": "nvidia-smi: No devices were found"}
        assert state.state_text(found) == "unknown: nvidia-smi: No devices were found"

    def test_no_program(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert state.gpu_state() == {"gpus": [], "problem": "nvidia-smi is not on the PATH"}
        assert state.git_state() == {}

    @pytest.mark.parametrize("order", ["lazy", "eager", "random"])
    def test_the_rate_of_the_bus(self, order: Any) -> None:
        with FakeCuda(order=order, copy_gb_per_s=25) as cuda:
            rate = state.copy_rate(cuda, 6_220_800, copies=3)
            assert not any(cuda.live.values())
        assert rate.up_gb_per_s == pytest.approx(25, rel=0.01)
        assert rate.down_gb_per_s == pytest.approx(25, rel=0.01)
        assert rate.ideal_ms(6_220_800, 524_288) == pytest.approx((6_220_800 + 524_288) / 25e6, rel=0.01)


class TestCommand:
    def test_without_a_gpu(self) -> None:
        done = subprocess.run(
            [sys.executable, str(BENCHMARKS / "gpu_pipeline.py"), "--quick"],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )
        assert done.returncode == 2
        assert done.stderr.startswith("gpu_pipeline.py measures on an NVIDIA GPU, and cannot use one here: ")
        assert done.stdout == ""

    def test_a_pattern_that_fits_nobody(self) -> None:
        everybody = gpu_pipeline.entries(("onnxruntime",))
        chosen = gpu_pipeline.select(everybody, ["torch/*", "pixelrt/*/call"])
        assert [entry.name for entry in chosen] == [
            "pixelrt/onnxruntime/call",
            "torch/eager",
            "torch/eager-channels-last",
            "torch/compile-max-autotune",
            "torch/network-alone",
        ]
        with pytest.raises(PixelRTError, match=r"no contender is called 'torch/eagre'; there are\n"):
            gpu_pipeline.select(everybody, ["torch/eagre"])

    def test_names_are_unique(self) -> None:
        names = [entry.name for entry in gpu_pipeline.entries(("tensorrt", "onnxruntime"))]
        assert len(set(names)) == len(names)
