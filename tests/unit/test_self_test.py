"""`pixelrt doctor --self-test`: every check passes on what works, and fails on what does not."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import mmap
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import broken_groups
import numpy as np
import pytest
import self_test_bundle
from numpy.typing import NDArray

from pixelrt.backends.base import SessionInfo
from pixelrt.backends.gpu_session import GpuSession, Origin
from pixelrt.cuda.protocol import Driver
from pixelrt.errors import DeviceError, OutOfMemory
from pixelrt.loading import load
from pixelrt.pipeline.executor import Executor
from pixelrt.pipeline.options import GpuOptions
from pixelrt.pipeline.streams import Streams
from pixelrt.segmentation import Segmenter
from pixelrt.self_test import Order, Result, groups, plain, report_lines, run_self_test, summary
from pixelrt.self_test import cuda_checks as cuda
from pixelrt.self_test import session_checks as session
from pixelrt.self_test.checks import CheckFailedError, Group, ImpossibleError, run_group
from pixelrt.self_test.session_checks import SessionGround
from pixelrt.self_test.tiny import FOLDER, block_frames, golden, smooth_frames, tiny_bundle
from pixelrt.tensors import TensorSpec
from pixelrt.testing import FakeCuda, FakeExecutor, FakeNetwork
from pixelrt.trt.gpu import LocalGpu

CHECKS = {check.name: check for check in cuda.CUDA_CHECKS}
Arrays = Mapping[str, NDArray[Any]]


class TestTinyBundle:
    def test_the_files_are_those_of_the_script(self) -> None:
        made = self_test_bundle.files()
        assert {file.name for file in FOLDER.iterdir()} == set(made)
        for name, content in made.items():
            assert (FOLDER / name).read_bytes() == content, name

    def test_no_rounding_can_change_a_mask(self) -> None:
        """The largest value on the way is 17, and classes are a third apart, in every frame of this kind."""
        for seed in range(5):
            logits, largest = self_test_bundle.logits_of(self_test_bundle.weights(), block_frames(3, seed))
            ordered = np.sort(logits, axis=1)
            assert (ordered[:, -1] - ordered[:, -2]).min() > 0.3
            assert largest < 30

    def test_frames_and_masks_tell_each_other_apart(self) -> None:
        _, masks = golden()
        for mask, other in zip(masks, np.roll(masks, 1, axis=0), strict=True):
            assert (mask != other).mean() > 0.25
            assert np.bincount(mask.ravel(), minlength=3).min() > 0.1 * mask.size

    def test_frames_of_any_size(self) -> None:
        frames = smooth_frames(2, 0, (48, 70), channels=4)
        assert (frames.dtype, frames.shape) == (np.uint8, (2, 48, 70, 4))
        assert (frames[0] != frames[1]).mean() > 0.9


# --- CUDA


class Broken:
    """A fake GPU, one of whose methods does something else."""

    def __init__(self, **replaced: Callable[..., Any]) -> None:
        self._cuda = FakeCuda(order="eager", check_races=False)
        self._replaced = {name: functools.partial(call, self._cuda) for name, call in replaced.items()}

    def __getattr__(self, name: str) -> Any:
        return self._replaced[name] if name in self._replaced else getattr(self._cuda, name)


class Wrapped:
    """Something of CUDA, one of whose methods or values is another."""

    def __init__(self, real: Any, **replaced: Any) -> None:
        self._real = real
        self._replaced = replaced

    def __enter__(self) -> Wrapped:
        return self

    def __exit__(self, *problem: object) -> None:
        self._real.close()

    def __getattr__(self, name: str) -> Any:
        return self._replaced[name] if name in self._replaced else getattr(self._real, name)


def corrupting(cuda: FakeCuda, **options: Any) -> Any:
    """A stream that loses the last byte of what it copies down."""
    stream = cuda.stream(**options)

    def copy_to_host(target: NDArray[np.uint8], source: int) -> None:
        if target.size > 1:
            stream.copy_to_host(target[:-1], source)

    return Wrapped(stream, copy_to_host=copy_to_host)


def not_waiting(cuda: FakeCuda, **options: Any) -> Any:
    """A stream that does not wait for events; the work comes last first."""
    stream = cuda.stream(**options)
    return Wrapped(stream, wait=lambda event: None, record=lambda event: None)


def timeless(cuda: FakeCuda, **options: Any) -> Any:
    """An event between which no time passes."""
    return Wrapped(cuda.event(**options), elapsed_ms=lambda since: 0.0)


def unwrapping(cuda: FakeCuda, **options: Any) -> Any:
    """A stream for the events of `timeless`."""
    stream = cuda.stream(**options)

    def record(event: Any) -> None:
        stream.record(event._real if isinstance(event, Wrapped) else event)

    return Wrapped(stream, record=record)


def never_done(cuda: FakeCuda, **options: Any) -> Any:
    return Wrapped(cuda.event(**options), done=False)


def unmapped(cuda: FakeCuda, size_bytes: int, *, mapped: bool = False) -> Any:
    return Wrapped(cuda.allocate_host(size_bytes), device_address=None)


def stale_graphs(cuda: FakeCuda, **options: Any) -> Any:
    """A stream whose graphs do nothing when they are launched."""
    stream = cuda.stream(**options)
    return Wrapped(stream, end_capture=lambda: Wrapped(stream.end_capture(), launch=lambda stream: None))


def running_captures(cuda: FakeCuda, **options: Any) -> Any:
    """A stream that does at once what is captured."""
    stream = cuda.stream(**options)
    graph = Wrapped(cuda.event(), launch=lambda stream: None)
    return Wrapped(stream, begin_capture=lambda: None, end_capture=lambda: graph)


KEPT: list[Any] = []


def leaking(cuda: FakeCuda, size_bytes: int) -> Any:
    """Memory, and as much again that nobody frees."""
    KEPT.append(cuda.allocate(size_bytes))
    return cuda.allocate(size_bytes)


@contextmanager
def forgetting() -> Iterator[None]:
    yield
    KEPT.clear()


def shrinking(cuda: FakeCuda) -> tuple[int, int]:
    """Less free memory each time, although nothing is live."""
    KEPT.append(64 << 20)
    free, total = cuda.memory()
    return free - sum(KEPT), total


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    with forgetting():
        yield


class TestCudaChecks:
    @pytest.mark.parametrize("name", list(CHECKS))
    @pytest.mark.parametrize(
        "options",
        [
            {"order": "lazy"},
            {"order": "eager"},
            {"order": "random", "seed": 5},
            {"integrated": True},
        ],
    )
    def test_a_gpu_that_works(self, name: str, options: dict[str, Any]) -> None:
        cuda = FakeCuda(**options)
        figures = CHECKS[name].run(cuda)
        assert figures and all(isinstance(value, (str, int, float)) for value in figures.values())
        assert not any(cuda.live.values())

    @pytest.mark.parametrize(
        ("name", "broken", "message"),
        [
            ("opens", Broken(memory=lambda cuda: (9, 8)), "9 of 8 bytes are free"),
            ("memory", Broken(stream=corrupting), "1 bytes after a round trip: 1 of 1 values differ"),
            ("memory", Broken(allocate_host=unmapped), "no address on the GPU"),
            ("memory", Broken(allocate=leaking), r"not freed at the end: \{'device memory': 4\}"),
            ("events", Broken(event=timeless, stream=unwrapping), "16 MiB took 0.0 ms by the events"),
            ("events", Broken(event=never_done, stream=unwrapping), "waited for is not done"),
            ("streams", Broken(stream=corrupting), "turn 0 of two streams on one buffer: 1 of"),
            ("graphs", Broken(stream=stale_graphs), "launch 0 of a graph: .* of 5000 values differ"),
            ("graphs", Broken(stream=running_captures), "the work ran while it was captured"),
            ("threads", Broken(stream=corrupting), "turn 0 in thread .: 1 of 5000"),
            ("leaks", Broken(allocate=leaking), "after 300 frames there is .*before them"),
            ("leaks", Broken(memory=shrinking), "64.0 MiB of the GPU's memory are gone after 300 frames"),
            ("copy rates", Broken(stream=corrupting), "32 MiB after a round trip: 1 of"),
            ("copy rates", Broken(event=timeless, stream=unwrapping), "took no time by the events"),
        ],
    )
    def test_a_gpu_that_does_not(self, name: str, broken: Any, message: str) -> None:
        with pytest.raises(CheckFailedError, match=message):
            CHECKS[name].run(broken)

    def test_streams_that_do_not_wait(self) -> None:
        cuda = FakeCuda(order="lazy", check_races=False)
        broken = Broken(stream=not_waiting)
        broken._cuda = cuda
        broken._replaced = {"stream": functools.partial(not_waiting, cuda)}
        with pytest.raises(CheckFailedError, match=r"turn . of two streams on one buffer"):
            CHECKS["streams"].run(broken)

    def test_a_capture_that_fails(self) -> None:
        with pytest.raises(DeviceError, match="capture failed: the GPU is odd"):
            CHECKS["graphs"].run(FakeCuda(fail_capture="the GPU is odd"))

    def test_a_library_without_graphs(self) -> None:
        with pytest.raises(ImpossibleError, match="fake has no CUDA graphs"):
            CHECKS["graphs"].run(FakeCuda(captures_graphs=False))

    @pytest.mark.parametrize(
        ("name", "call"),
        [
            ("memory", "Driver.allocate"),
            ("events", "Event.synchronize"),
            ("streams", "Stream.wait"),
            ("threads", "Driver.stream"),
            ("leaks", "Stream.copy_to_device"),
            ("copy rates", "Stream.copy_to_host"),
        ],
    )
    def test_errors_of_cuda_come_out(self, name: str, call: str) -> None:
        cuda = FakeCuda()
        cuda.fail(call, OutOfMemory("no more"))
        with pytest.raises(OutOfMemory):
            CHECKS[name].run(cuda)
        assert not any(cuda.live.values())

    def test_rates_are_those_of_the_gpu(self) -> None:
        figures = CHECKS["copy rates"].run(FakeCuda(copy_gb_per_s=20.0))
        assert figures["up, GB/s"] == figures["down, GB/s"] == pytest.approx(20.0, rel=0.01)
        assert 0 < float(figures["up from ordinary memory, GB/s"]) < 20


# --- sessions


@pytest.fixture(scope="module")
def compute() -> Iterator[Callable[[Arrays], dict[str, NDArray[Any]]]]:
    """The tiny network, by ONNX Runtime."""
    import onnxruntime

    bundle = tiny_bundle()
    loaded = onnxruntime.InferenceSession(bundle.read(bundle.model), providers=["CPUExecutionProvider"])
    names = [output.name for output in loaded.get_outputs()]
    yield lambda arrays: dict(zip(names, loaded.run(names, dict(arrays)), strict=True))


def ground_on(
    make_cuda: Callable[[], FakeCuda],
    compute: Callable[[Arrays], Any],
    network: FakeNetwork | None = None,
    references: Any = (),
) -> SessionGround:
    """The tiny network on a fake GPU, which every segmenter opens for itself."""
    bundle = tiny_bundle()
    manifest = bundle.manifest
    inputs, outputs = (tuple(map(TensorSpec.of, tensors)) for tensors in (manifest.inputs, manifest.outputs))

    def opened(options: GpuOptions) -> Segmenter:
        cuda = make_cuda()

        def make(driver: Driver, streams: Streams) -> Executor:
            return FakeExecutor(cuda, inputs, outputs, compute, network)

        info = SessionInfo(backend="fake", device="cuda:0", precision="float16", version="1", gpu="fake GPU")
        return Segmenter(bundle, GpuSession(manifest, info, Origin.of(cuda, make, options)))

    return SessionGround(bundle, opened, references)


def reference(**options: Any) -> tuple[str, Callable[[], Segmenter]]:
    return "onnxruntime float32", functools.partial(load, tiny_bundle(), device="cpu", backend="onnxruntime")


GPU = {check.name: check for check in session.GPU_CHECKS}


@pytest.fixture
def run(compute: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that runs a check of a session on a fake GPU."""
    grounds: list[SessionGround] = []

    def run(name: str, change: Any = None, cuda: FakeCuda | None = None, **options: Any) -> Any:
        network = (lambda arrays: change(compute(arrays))) if change else compute
        grounds.append(ground_on(lambda: cuda or FakeCuda(), network, **options))
        return GPU[name].run(grounds[-1])

    yield run
    for ground in grounds:
        ground.close()


def flip(outputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """One wrong pixel."""
    mask = outputs["mask"].copy()
    mask[:, 3, 5] = (mask[:, 3, 5] + 1) % 3
    return {**outputs, "mask": mask}


def same_mask(outputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The mask of the first golden frame, whatever comes."""
    return {**outputs, "mask": np.repeat(golden()[1][:1], len(outputs["mask"]), axis=0)}


def stale() -> Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]:
    """Each frame gets the outputs of the one before."""
    kept: list[dict[str, NDArray[Any]]] = []

    def change(outputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        kept.append({name: value.copy() for name, value in outputs.items()})
        previous = kept[-2] if len(kept) > 1 else outputs
        return previous if previous["mask"].shape == outputs["mask"].shape else outputs

    return change


class TestSessionChecks:
    @pytest.mark.parametrize("name", [name for name in GPU if name != "agreement"])
    @pytest.mark.parametrize("order", ["lazy", "eager"])
    def test_a_backend_that_works(self, run: Callable[..., Any], name: str, order: Any) -> None:
        assert run(name, cuda=FakeCuda(order=order))

    def test_agreement(self, run: Callable[..., Any]) -> None:
        figures = run("agreement", references=[reference()])
        assert figures == {
            "as onnxruntime float32": 1.0,
            "as onnxruntime float32 where that is sure": 1.0,
        }

    @pytest.mark.parametrize("name", ["masks", "repeats", "graphs", "slots", "sizes"])
    def test_a_wrong_pixel(self, run: Callable[..., Any], name: str) -> None:
        with pytest.raises(CheckFailedError, match=r"golden frame \d.*: 1 of 3072 values differ"):
            run(name, flip)

    @pytest.mark.parametrize("name", ["masks", "repeats", "graphs", "slots", "sizes"])
    def test_a_mask_that_never_changes(self, run: Callable[..., Any], name: str) -> None:
        with pytest.raises(CheckFailedError, match=r"golden frame [12]"):
            run(name, same_mask)

    @pytest.mark.parametrize("name", ["masks", "repeats", "graphs", "slots"])
    def test_the_mask_of_the_frame_before(self, run: Callable[..., Any], name: str) -> None:
        with pytest.raises(CheckFailedError, match="values differ"):
            run(name, stale())

    def test_graphs_are_counted(self, run: Callable[..., Any]) -> None:
        assert int(run("graphs")["graphs"].split(" captured")[0]) > 0

    def test_a_refused_capture(self, run: Callable[..., Any]) -> None:
        with pytest.raises(CheckFailedError, match=r"capture was refused .*the GPU is odd"):
            run("graphs", cuda=FakeCuda(fail_capture="the GPU is odd"))

    def test_no_graphs(self, run: Callable[..., Any]) -> None:
        with pytest.raises(ImpossibleError, match="no CUDA graphs"):
            run("graphs", cuda=FakeCuda(captures_graphs=False))

    def test_graphs_of_the_library_itself(self, run: Callable[..., Any]) -> None:
        own = FakeNetwork(uncapturable="TensorRT-RTX captures by itself")
        assert run("graphs", network=own)["graphs"] == "none: TensorRT-RTX captures by itself"

    def test_graphs_that_are_never_captured(self, run: Callable[..., Any], monkeypatch: Any) -> None:
        from pixelrt.pipeline.graphs import GraphPolicy

        monkeypatch.setattr(GraphPolicy, "count", lambda policy: None)
        with pytest.raises(CheckFailedError, match="no CUDA graph was captured"):
            run("graphs")

    def test_something_that_is_never_freed(self, run: Callable[..., Any]) -> None:
        cuda = FakeCuda()
        kept = cuda.event()
        with pytest.raises(CheckFailedError, match=r"is not freed: \{'event': 1\}"):
            run("leaks", cuda=cuda)
        kept.close()

    def test_a_leak_in_every_frame(self, run: Callable[..., Any]) -> None:
        cuda = FakeCuda(order="eager")

        def leak(outputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            KEPT.append(cuda.event())
            return outputs

        with pytest.raises(CheckFailedError, match="after 300 frames there is"):
            run("leaks", leak, cuda=cuda)

    def test_a_process_that_grows(self, run: Callable[..., Any]) -> None:
        def grow(outputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            KEPT.append(mmap.mmap(-1, 1 << 18))  # an array may get memory that the process has already
            KEPT[-1].write(bytes(1 << 18))
            return outputs

        with pytest.raises(CheckFailedError, match="this process grew by"):
            run("leaks", grow)

    def test_disagreement(self, run: Callable[..., Any]) -> None:
        def wrong(outputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            mask = outputs["mask"].copy()
            mask[:, :2] = (mask[:, :2] + 1) % 3
            return {**outputs, "mask": mask}

        with pytest.raises(CheckFailedError, match=r"onnxruntime float32 .* at least 99.9000% were expected"):
            run("agreement", wrong, references=[reference()])

    def test_nothing_to_compare_with(self, run: Callable[..., Any]) -> None:
        with pytest.raises(ImpossibleError, match=r"pip install 'pixelrt\[cpu\]'"):
            run("agreement")

    def test_unsure_pixels_do_not_decide(self, compute: Any) -> None:
        """A class that the reference itself is not sure of may be another."""
        ground = ground_on(FakeCuda, compute)
        found = [ground.segmenter()(frame) for frame in golden()[0]]
        ground.close()
        assert found[0].mask is not None and found[0].confidence is not None
        unsure = found[0].confidence < 153
        changed = dataclasses.replace(found[0], mask=np.where(unsure, 2 - found[0].mask, found[0].mask))
        everywhere, decided = session.shares_agreeing([changed, *found[1:]], found)
        assert everywhere < 1
        assert decided == 1
        without = [dataclasses.replace(result, confidence=None) for result in found]
        assert session.shares_agreeing([changed, *found[1:]], without) == (everywhere, None)

    def test_times(self, run: Callable[..., Any]) -> None:
        figures = run("speed")
        assert figures["compute, ms"] == 1.0  # the fake network's
        assert 0 < figures["p50, ms"] <= figures["p95, ms"]

    def test_all_of_it_is_closed(self, compute: Any) -> None:
        opened: list[FakeCuda] = []

        def make_cuda() -> FakeCuda:
            opened.append(FakeCuda())
            return opened[-1]

        ground = ground_on(make_cuda, compute)
        group = Group(name="fake", title="", open=lambda order: ground, checks=session.GPU_CHECKS)
        results: list[Any] = []
        run_group(group, Order(), results.append)
        verdicts = {found.name: found.status for found in results if isinstance(found, Result)}
        assert verdicts == dict.fromkeys(GPU, "ok") | {"agreement": "impossible"}
        assert len(opened) >= 4
        assert not any(number for cuda in opened for number in cuda.live.values())


# --- TensorRT


class TestTensorRT:
    """TensorRT-RTX itself, which builds without a GPU; what it builds cannot be loaded here."""

    @pytest.fixture
    def ground(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> groups.TensorRTGround:
        gpu = LocalGpu(name="RTX 3090", target="sm86")
        monkeypatch.setattr(groups, "local_gpu", lambda index: gpu)
        monkeypatch.setenv("PIXELRT_CACHE", str(tmp_path / "cache"))
        return groups.TensorRTGround("tensorrt_rtx", Order(folder=str(tmp_path)))

    def test_builds_and_keeps(self, ground: groups.TensorRTGround) -> None:
        assert groups.supported(ground)["target"] == "sm86"
        figures = groups.builds(ground)
        assert 0 < float(figures["built in, s"]) < 100
        assert groups.keeps(ground)
        assert len(list(ground.cache.rglob("*.engine"))) == 1

    def test_the_engine_of_the_cache_is_what_is_loaded(self, ground: groups.TensorRTGround) -> None:
        bundle = groups.with_engine(tiny_bundle(), ground.engine())
        assert [artifact.kind for artifact in bundle.manifest.artifacts] == ["onnx", "engine"]
        assert bundle.read(bundle.manifest.artifacts[1]) == ground.engine().content
        assert bundle.read(bundle.model) == tiny_bundle().read(tiny_bundle().model)

    def test_a_cache_that_does_not_look_at_what_it_has(
        self, ground: groups.TensorRTGround, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = ground.engine()
        monkeypatch.setattr(ground, "find", lambda: engine)
        with pytest.raises(CheckFailedError, match="an engine with a changed byte was taken"):
            groups.keeps(ground)

    def test_a_cache_that_forgets(
        self, ground: groups.TensorRTGround, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = ground.engine()
        monkeypatch.setattr(ground, "engine", lambda: engine)  # as it was built
        with pytest.raises(CheckFailedError, match="was not found in the cache again"):
            groups.keeps(ground)

    def test_a_gpu_that_it_does_not_know(
        self, ground: groups.TensorRTGround, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ground, "gpu", LocalGpu(name="H100", target="sm90"))
        with pytest.raises(ImpossibleError, match=r"TensorRT-RTX \d.* does not support H100 \(sm90\)"):
            groups.supported(ground)


class TestWhatIsPossible:
    def test_no_driver_and_no_gpu_are_no_failures(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def count(text: str, cause: Exception | None) -> Callable[[], int]:
            def raise_it() -> int:
                raise DeviceError(text) from cause

            return raise_it

        for text, cause in (
            ("no NVIDIA driver here", OSError()),
            ("cuInit failed: no CUDA-capable device is detected (CUDA_ERROR_NO_DEVICE 100)", None),
        ):
            monkeypatch.setattr(groups, "count_devices", count(text, cause))
            with pytest.raises(ImpossibleError, match=text[:8]):
                _open("onnxruntime-cuda")
        monkeypatch.setattr(groups, "count_devices", lambda: 1)
        with pytest.raises(ImpossibleError, match="sees 1 GPUs, and no GPU 3"):
            _open("cuda-python", index=3)

    def test_a_driver_that_fails_is_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def count() -> int:
            raise DeviceError("cuInit failed: driver mismatch (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH 803)")

        monkeypatch.setattr(groups, "count_devices", count)
        with pytest.raises(DeviceError, match="803"):
            _open("cuda-python")

    def test_what_is_not_installed_is_no_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(groups, "count_devices", lambda: 1)
        monkeypatch.setattr(groups, "installed", lambda: ())
        monkeypatch.setattr(groups, "installed_flavours", lambda: ())
        for name, extra in (
            ("cuda-python", "cuda"),
            ("pycuda", "pycuda"),
            ("tensorrt", "tensorrt"),
            ("tensorrt_rtx", "rtx"),
        ):
            with pytest.raises(ImpossibleError, match=rf"not installed \(pip install 'pixelrt\[{extra}\]'\)"):
                _open(name)

    def test_the_users_bundle_has_checks_of_its_own(self) -> None:
        order = Order(bundle=str(FOLDER))
        assert [group.name for group in groups.all_groups(order)][-1] == "bundle"
        assert "bundle" not in [group.name for group in groups.all_groups(Order())]
        results: list[Any] = []
        run_group(groups.all_groups(order)[-1], order, results.append)
        verdicts = {found.name: found.status for found in results if isinstance(found, Result)}
        assert verdicts == {"loads": "ok", "speed": "ok", "agreement": "ok"}


def _open(name: str, **order: Any) -> Any:
    (group,) = (group for group in groups.all_groups(Order()) if group.name == name)
    return group.open(Order(**order))


# --- processes


@pytest.fixture(scope="module")
def broken() -> dict[tuple[str, str], Result]:
    began_s = time.monotonic()
    results = run_self_test(Order(groups="broken_groups:all_groups"))
    assert time.monotonic() - began_s < 60
    expected = [
        (group.name, check.name) for group in broken_groups.all_groups(Order()) for check in group.checks
    ]
    assert sorted((result.group, result.name) for result in results) == sorted(expected)
    return {(result.group, result.name): result for result in results}


class TestProcesses:
    @pytest.mark.parametrize(
        ("group", "name", "status", "reason"),
        [
            ("verdicts", "fine", "ok", ""),
            ("verdicts", "fails", "failed", "7 of 9 values differ"),
            ("verdicts", "errs", "failed", "DeviceError: the GPU said no"),
            ("verdicts", "is_impossible", "impossible", "this machine has none"),
            ("verdicts", "end", "ok", ""),
            ("crash", "fine", "ok", ""),
            ("crash", "crashes", "failed", "crashed (SIGSEGV); it printed:\n  last words"),
            ("crash", "after", "ok", ""),
            ("bug", "is_a_bug", "failed", "ended with status 1; it printed:"),
            ("bug", "is_a_bug", "failed", "ZeroDivisionError"),
            ("bug", "after", "ok", ""),
            ("killed", "is_killed", "failed", "was killed (SIGKILL: by somebody, or because the machine"),
            ("killed", "after", "ok", ""),
            ("hang", "hangs", "failed", "took longer than 1 s, and its process was killed"),
            ("hang", "after", "ok", ""),
            ("needed", "crashes", "failed", "SIGSEGV"),
            ("needed", "after", "impossible", "needs 'crashes', which failed"),
            ("needed but failed", "after", "impossible", "needs 'fails', which failed"),
            ("twice", "again", "failed", "SIGSEGV"),
            ("twice", "after", "impossible", "needs 'again', which failed"),
            ("refused", "fine", "failed", "DeviceError: the driver is broken"),
            ("refused", "after", "impossible", "needs 'fine', which failed"),
            ("absent", "fine", "impossible", "there is no GPU"),
            ("absent", "after", "impossible", "there is no GPU"),
            ("forks", "forks", "ok", ""),
        ],
    )
    def test_each_way_to_go_wrong(
        self, broken: dict[tuple[str, str], Result], group: str, name: str, status: str, reason: str
    ) -> None:
        found = broken[group, name]
        assert found.status == status
        assert reason in found.reason
        assert found.reason or status == "ok"

    def test_the_report(self, broken: dict[tuple[str, str], Result]) -> None:
        results = list(broken.values())
        text = "\n".join(report_lines(results, {"crash": "What crashes"}))
        assert "\nWhat crashes\n  ok                 fine" in text
        assert "speed 1.5 GB/s" in text
        assert text.count("there is no GPU") == 1, "a reason that several share stands once"
        counts = summary(results)
        assert text.endswith(
            f"{counts['ok']} ok, {counts['failed']} FAILED, {counts['impossible']} not possible here"
        )
        assert sum(counts.values()) == len(results)
        assert max(map(len, text.splitlines())) <= 120
        many = {f"figure {number}": number for number in range(12)}
        long = [Result("crash", "fine", "ok", "", 1.0, many)]
        first, second = list(report_lines(long, {}))[2:4]
        assert first.startswith("  ok                 fine                   1.00 s  figure 0 0, figure 1 1")
        assert second.startswith(" " * 52) and second[52] != " " and len(first) <= 120
        told = plain(results)
        assert told["counts"]["FAILED"] == counts["failed"]
        assert {check["status"] for check in told["checks"]} == {"ok", "FAILED", "not possible here"}

    def test_an_interrupted_report_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        children: list[str] = []

        def interrupt(message: Any) -> None:
            if message.name == "hangs":
                children.extend(_children())
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_self_test(Order(groups="broken_groups:all_groups"), interrupt)
        assert not list(tmp_path.iterdir())
        assert children and not set(children) & set(_children())

    def test_checks_over_the_emulated_driver(self, tmp_path: Path) -> None:
        """The whole of it, in processes, through cuda-python itself."""
        from pixelrt.cuda.opening import installed

        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None or "cuda-python" not in installed():
            pytest.skip("no C compiler, or no cuda-python")
        source = Path(__file__).parents[1] / "cuda" / "emulator" / "libcuda.c"
        options = ["-O1", "-shared", "-fPIC", "-pthread", "-Wl,-soname,libcuda.so.1"]
        target = tmp_path / "libcuda.so.1"
        subprocess.run([compiler, *options, str(source), "-o", str(target), "-ldl"], check=True)
        done = subprocess.run(
            [sys.executable, "-m", "pixelrt", "doctor", "--self-test", "--json"],
            env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
        checks = json.loads(done.stdout)["self_test"]["checks"]
        found = {check["name"]: check["status"] for check in checks if check["group"] == "cuda-python"}
        assert found == dict.fromkeys(CHECKS, "ok"), done.stdout


def _children() -> list[str]:
    """Process ids of the self-test's children of this process."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
            if fields[1] == str(os.getpid()) and "self_test" in (process / "cmdline").read_text():
                found.append(process.name)
    return found
