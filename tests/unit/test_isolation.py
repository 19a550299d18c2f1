"""`pixelrt.isolate`: the child process is killed, stopped, interrupted and orphaned here, for real."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import inspect
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pixelrt
import pixelrt.errors
from pixelrt.bundle import MANIFEST, Bundle
from pixelrt.errors import (
    BundleError,
    ContextLost,
    DeviceError,
    DeviceLost,
    ExecutionFailed,
    InputError,
    OutOfMemory,
)
from pixelrt.isolation import IsolatedSegmenter, LoadOptions, isolate
from pixelrt.isolation.buffers import FrameBuffers
from pixelrt.isolation.process import ChildLostError, _checked
from pixelrt.isolation.protocol import Answer, Failed, Plane, Request, from_line, to_line
from pixelrt.isolation.shared import SharedMemory
from pixelrt.segmentation import Segmentation, Segmenter
from pixelrt.session import GpuOptions

MakeBundle = Callable[..., Bundle]
Bytes = NDArray[np.uint8]

LOADER = '''
"""Segmenters that fail when the first pixel of a frame says so."""

import ctypes, logging, os, pathlib, sys, time
import pixelrt
from pixelrt.errors import *
from pixelrt.segmentation import Segmenter


class Failing(Segmenter):
    def submit(self, frame):
        if frame[0, 0, 1] == 201: time.sleep(0.3)
        match int(frame[0, 0, 0]):
            case 201: raise ContextLost("CUDA says: illegal memory access (700)")
            case 202: raise OutOfMemory("the GPU is full; use smaller frames")
            case 203: raise DeviceLost("the GPU has fallen off the bus (79)")
            case 204: ctypes.string_at(0)
            case 205: time.sleep(600)
            case 206: raise RuntimeError("a bug of a library")
            case 207: os.write(2, b"from native code\\n")
            case 208:
                logging.getLogger("pixelrt.trt").info("a record")
                logging.getLogger("other").error("not ours")
            case 209: ctypes.PyDLL(None).usleep(600_000_000)  # hangs and holds the GIL
            case 210: time.sleep(0.7)
            case 211: os._exit(3)
            case 212: time.sleep(0.3)
        return super().submit(frame)


def load(bundle, **options):
    opened = pixelrt.load(bundle, **options)
    return Failing(opened.bundle, opened.session)


def crash(bundle, **options):
    print("about to crash", flush=True)
    os.kill(os.getpid(), 11)


def hang(bundle, **options):
    time.sleep(600)


def tell(bundle, gpu=None, **options):
    raise InputError(f"{gpu} {options}")


def patient(bundle, **options):
    print("building an engine", flush=True)
    time.sleep(600)


def no_memory(bundle, **options):
    raise OutOfMemory("the GPU is full already")


def fake(bundle=None, **options):
    """One of `pixelrt.testing`, whose network fails for a white frame."""
    from pixelrt.testing import fake_segmenter

    def network(frame):
        if frame.min() == 255:
            raise ContextLost("a fake one")
        return (frame[..., 0] > 99).astype("uint8")

    return fake_segmenter(network)


class Cold(Segmenter):
    """Takes frames only of sizes that it was warmed up for."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.known = set()

    def submit(self, frame):
        if frame.shape[:2] not in self.known: raise ExecutionFailed("too cold")
        return super().submit(frame)

    def warm_up(self, size):
        match size:
            case (44, 44): time.sleep(0.6)
            case (55, 55): time.sleep(600)
            case (66, 66): raise ContextLost("a kernel does not compile")
            case (99, 99): os._exit(5)
        self.known.add(size)
        super().warm_up(size)


def cold(bundle, **options):
    opened = pixelrt.load(bundle, **options)
    return Cold(opened.bundle, opened.session)


class Overlapping(Segmenter):
    """As on a GPU, `submit` returns at once. Nothing is done before three frames are on their way."""

    count = 0

    def submit(self, frame):
        self.count += 1
        if frame[0, 0, 0] == 202: raise OutOfMemory("the GPU is full; use smaller frames")
        return Overlapped(self, super().submit(frame), patient=frame[0, 0, 0] != 212)


class Overlapped:
    def __init__(self, owner, ticket, patient):
        self.owner, self.ticket, self.patient = owner, ticket, patient
        self.needed = owner.count + 2 - (owner.count - 1) % 3

    @property
    def done(self):
        return self.owner.count >= self.needed

    def result(self):
        if self.patient and not self.done: raise RuntimeError("waited for too early")
        return self.ticket.result()


def overlapping(bundle, **options):
    opened = pixelrt.load(bundle, **options)
    return Overlapping(opened.bundle, opened.session)


class Own(ContextLost):
    """Not one of PixelRT's classes."""


def own(bundle, **options):
    raise Own("an error of a class that the parent does not know")


def once(bundle, **options):
    """Runs on something else from the second time on."""
    mark = pathlib.Path(bundle, "mark")
    other = mark.exists()
    mark.touch()
    return pixelrt.load(bundle, **{**options, "backend": "onnxruntime" if other else "openvino"})
'''
CONTEXT_LOST, OUT_OF_MEMORY, DEVICE_LOST, CRASH, HANG, BUG, PRINT, LOG, HANG_GIL, SLOW, EXIT, NAP = range(
    201, 213
)


def frame(size: tuple[int, int] = (32, 48), seed: int = 0) -> Bytes:
    made: Bytes = np.random.default_rng(seed).integers(0, 200, (*size, 3), np.uint8)
    return made


def telling(code: int, size: tuple[int, int] = (32, 48), *, late: bool = False) -> Bytes:
    """A frame that lets the child fail, 0.3 s later if `late`."""
    made = frame(size)
    made[0, 0, 0] = code
    if late:
        made[0, 0, 1] = 201
    return made


def same(result: Segmentation, expected: Segmentation) -> bool:
    def equal(left: Any, right: Any) -> bool:
        return (left is None and right is None) or bool(
            left.dtype == right.dtype and left.shape == right.shape and (left == right).all()
        )

    kinds = ("mask", "confidence", "grid", "logits")
    return (
        all(equal(getattr(result, kind), getattr(expected, kind)) for kind in kinds)
        and (result.name, result.classes, result.frame_size, result.color)
        == (expected.name, expected.classes, expected.frame_size, expected.color)
        and list(result.others) == list(expected.others)
        and all(same(result[name], expected[name]) for name in result.others)
    )


def wait_for(done: Callable[[], bool], limit_s: float = 20) -> None:
    end = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def exists(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


@pytest.fixture(scope="module")
def bundle(make_bundle: MakeBundle) -> Bundle:
    return make_bundle()


@pytest.fixture(scope="module")
def loaders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a module, importable here and so in the child, too."""
    folder = tmp_path_factory.mktemp("loaders")
    (folder / "failing_loaders.py").write_text(LOADER)
    sys.path.insert(0, str(folder))
    yield "failing_loaders"
    sys.path.remove(str(folder))


@pytest.fixture
def failing(bundle: Bundle, loaders: str) -> Iterator[IsolatedSegmenter]:
    with isolate(bundle, device="cpu", loader=f"{loaders}:load", restarts=2, timeout_s=20) as opened:
        yield opened


@pytest.fixture(scope="module")
def isolated(bundle: Bundle) -> Iterator[IsolatedSegmenter]:
    """Only for tests that do not harm it."""
    with isolate(bundle, device="cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def acting(bundle: Bundle, loaders: str) -> Iterator[IsolatedSegmenter]:
    """Does what frames say. Only for tests that do not harm it."""
    with isolate(bundle, device="cpu", loader=f"{loaders}:load") as opened:
        yield opened
        assert opened.restarts == 0, "a test has harmed it"


# --- the same as in this process ----------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [("scene",), ("scene", "lane")])
@pytest.mark.parametrize("emit", [("mask", "confidence", "grid", "logits"), ("confidence",)])
def test_results_are_those_of_this_process(
    make_bundle: MakeBundle, heads: tuple[str, ...], emit: tuple[str, ...]
) -> None:
    bundle = make_bundle(heads=heads, emit=emit)
    with pixelrt.load(bundle, device="cpu") as here, isolate(bundle, device="cpu") as there:
        for seed, size in enumerate([(32, 48), (720, 1280), (7, 500), (1080, 1920), (1, 1)]):
            picture = frame(size, seed)
            assert same(there(picture), here(picture))
            assert not same(there(picture), here(255 - picture))


def test_it_looks_like_a_segmenter(isolated: IsolatedSegmenter, bundle: Bundle) -> None:
    with pixelrt.load(bundle, device="cpu") as here:
        assert isolated.classes == here.classes
        assert isolated.session_info == here.session.info
        assert isolated.bundle is bundle
    pid = isolated.pid
    assert pid not in (None, os.getpid()) and isolated.alive
    assert repr(isolated).startswith("IsolatedSegmenter('colors', openvino ")
    assert repr(isolated).endswith(f"on cpu, float32, process {pid}, restarts=0)")
    assert isolated.start_s is not None and 0.01 < isolated.start_s < 60


def test_what_a_segmenter_offers_and_this_does_not() -> None:
    """As the docstring of `IsolatedSegmenter` says."""

    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(Segmenter) - public(IsolatedSegmenter) == {
        "clone",
        "slots",  # an attribute here
        "swaps_color",
    }
    for name in ("__call__", "batch", "submit", "warm_up", "frame_buffer", "at_sizes", "close"):
        here, there = (
            inspect.signature(getattr(kind, name)).parameters for kind in (Segmenter, IsolatedSegmenter)
        )
        assert set(here) - set(there) == ({"on_device"} if name == "submit" else set())
        assert list(there) == [parameter for parameter in here if parameter in there]


def test_lists_and_batches(isolated: IsolatedSegmenter, bundle: Bundle) -> None:
    largest = bundle.manifest.axes["batch"].max
    frames = [frame((30 + index % 2, 40), index) for index in range(2 * largest + 1)]
    with pixelrt.load(bundle, device="cpu") as here:
        expected = here.batch(frames)
        assert all(map(same, isolated.batch(frames), expected))
        assert all(map(same, isolated(frames), expected))
        assert all(map(same, isolated(np.stack(frames[::2])), expected[::2]))
    assert isolated.batch([]) == []
    assert len(isolated(frames[:1])) == 1


def test_strides_do_not_matter(isolated: IsolatedSegmenter) -> None:
    wide = frame((64, 96))
    for view in (wide[::-1, ::2], wide[:, :, ::-1], wide[1:, 1:]):
        assert same(isolated(view), isolated(np.ascontiguousarray(view)))
    wide.flags.writeable = False
    isolated(wide)


def test_a_big_frame_after_a_small_one_and_back(isolated: IsolatedSegmenter, bundle: Bundle) -> None:
    with pixelrt.load(bundle, device="cpu") as here:
        for seed, size in enumerate([(8, 8), (2160, 3840), (16, 8), (720, 1280)]):
            assert same(isolated(frame(size, seed)), here(frame(size, seed)))


def test_results_belong_to_the_caller(isolated: IsolatedSegmenter) -> None:
    first = isolated(frame(seed=1))
    assert first.mask is not None and first.mask.flags.owndata and first.mask.flags.writeable
    kept = first.mask.copy()
    isolated(255 - frame(seed=1))
    np.testing.assert_array_equal(first.mask, kept)


def test_time_in_total_is_that_of_the_caller(isolated: IsolatedSegmenter) -> None:
    began = time.perf_counter()
    result = isolated(frame((720, 1280)))
    passed_ms = (time.perf_counter() - began) * 1e3
    latency = result.latency
    assert latency.network_ms > 0
    assert latency.prepare_ms + latency.network_ms < latency.total_ms <= passed_ms
    both = isolated([frame(), frame()])
    assert both[0].latency == both[1].latency


def test_options_reach_the_child(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(precision="fp16")
    with isolate(
        bundle.path, device="cpu", backend="onnxruntime", threads=1, color="bgr", gpu=GpuOptions(slots=3)
    ) as segmenter:
        assert segmenter.session_info.backend == "onnxruntime"
        red = np.zeros((32, 48, 3), np.uint8)
        red[..., 2] = 255
        result = segmenter(red)
        assert result.color == "bgr" and result.coverage()["red"] == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:load", "loader 'no_such_module:load': there is no module 'no_such_module'"),
        ("pixelrt:nix", "loader 'pixelrt:nix': the module 'pixelrt' has no 'nix'"),
        ("builtins:str", "loader 'builtins:str' gave a str, expected a Segmenter"),
    ],
)
def test_loaders_that_are_none(bundle: Bundle, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        isolate(bundle, loader=name)


def test_options_of_the_gpu_reach_the_child(bundle: Bundle, loaders: str) -> None:
    with pytest.raises(InputError, match=r"^GpuOptions\(.*slots=3,.*'build': 'never'"):
        isolate(bundle, loader=f"{loaders}:tell", gpu=GpuOptions(slots=3), build="never")
    with pytest.raises(InputError, match=r"^None {}$"):
        isolate(bundle, loader=f"{loaders}:tell", gpu=None)


def test_the_options_of_load_are_those_of_load() -> None:
    names = list(inspect.signature(pixelrt.load).parameters)
    assert sorted(LoadOptions.__annotations__) == sorted(set(names) - {"bundle", "task"})


# --- several frames on their way ----------------------------------------------------------------------------


def test_tickets_have_the_results_of_calls(isolated: IsolatedSegmenter, bundle: Bundle) -> None:
    frames = [frame((30 + index, 40), index) for index in range(7)]
    with pixelrt.load(bundle, device="cpu") as here:
        expected = [here(picture) for picture in frames]
    tickets = [isolated.submit(picture) for picture in frames]
    called, batched = isolated(frames[2]), isolated.batch(frames[:3])
    assert same(called, expected[2]) and all(map(same, batched, expected))
    for index in (6, 0, 3, 3, 1, 2, 5, 4):
        assert same(tickets[index].result(), expected[index])
        assert tickets[index].result() is tickets[index].result()
    assert not same(expected[0], expected[1])


def test_a_frame_is_taken_while_another_one_is_computed(acting: IsolatedSegmenter) -> None:
    began = time.monotonic()
    tickets = [acting.submit(telling(NAP)), acting.submit(picture := frame(seed=1))]
    picture[:] = 0  # it was copied
    assert not tickets[0].done and not tickets[1].done
    assert time.monotonic() - began < 0.2
    tickets.append(acting.submit(frame(seed=2)))
    assert time.monotonic() - began >= 0.3, "a third one has to wait"
    assert tickets[0].done
    wait_for(lambda: tickets[2].done)
    assert tickets[1].done
    assert all(same(tickets[seed].result(), acting(frame(seed=seed))) for seed in (1, 2))
    assert tickets[0].result().latency.total_ms >= 300 > acting(frame()).latency.total_ms


def test_results_come_to_those_who_only_look(acting: IsolatedSegmenter) -> None:
    ticket = acting.submit(frame())
    wait_for(lambda: ticket.done)
    assert same(ticket.result(), acting(frame()))


def test_frames_overlap_in_the_child(bundle: Bundle, loaders: str) -> None:
    gpu = GpuOptions(slots=3)
    with isolate(bundle, device="cpu", loader=f"{loaders}:overlapping", gpu=gpu, timeout_s=5) as segmenter:
        assert segmenter.slots == 3
        tickets = [segmenter.submit(frame(seed=seed)) for seed in range(2)]
        time.sleep(0.1)
        assert not any(ticket.done for ticket in tickets), "nobody may wait for the first one yet"
        tickets += [segmenter.submit(frame(seed=seed)) for seed in range(2, 6)]
        with pixelrt.load(bundle, device="cpu") as here:
            assert all(same(ticket.result(), here(frame(seed=seed))) for seed, ticket in enumerate(tickets))
            refused = [segmenter.submit(picture) for picture in (frame(), telling(OUT_OF_MEMORY), frame())]
            assert same(refused[2].result(), here(frame())) and same(refused[0].result(), here(frame()))
            with pytest.raises(OutOfMemory):
                refused[1].result()
            early = [segmenter.submit(telling(NAP)) for _ in range(2)]
            assert same(segmenter(frame()), here(frame())), "those before it are answered before it"
            assert all(same(ticket.result(), here(telling(NAP))) for ticket in early)


def test_an_error_belongs_to_the_ticket_of_its_frame(acting: IsolatedSegmenter) -> None:
    expected = acting(frame())
    tickets = [acting.submit(picture) for picture in (frame(), telling(OUT_OF_MEMORY), frame())]
    assert same(tickets[2].result(), expected) and same(tickets[0].result(), expected)
    for _ in range(2):
        with pytest.raises(OutOfMemory, match=r"^the GPU is full; use smaller frames$"):
            tickets[1].result()
    assert tickets[1].done
    with pytest.raises(InputError, match="did the camera fail"):
        acting.submit(np.zeros((0, 8, 3), np.uint8))
    forgotten = acting.submit(telling(OUT_OF_MEMORY))
    assert same(acting(frame()), expected)
    with pytest.raises(OutOfMemory):
        forgotten.result()


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (CRASH, ExecutionFailed, "the child process crashed (SIGSEGV); it printed:"),
        (CONTEXT_LOST, ContextLost, "CUDA says: illegal memory access (700)"),
    ],
)
def test_a_lost_child_fails_every_ticket_on_its_way(
    failing: IsolatedSegmenter, code: int, kind: type[DeviceError], text: str
) -> None:
    before = failing.submit(frame())
    expected = before.result()
    lost = [failing.submit(telling(code, late=True)), failing.submit(frame())]
    for ticket, number in zip(lost, (2, 3), strict=True):
        with pytest.raises(kind) as caught:
            ticket.result()
        assert str(caught.value).startswith(text)
        assert f"\nframe {number}: no result; the next call starts a fresh child (restart 1" in str(
            caught.value
        )
    assert not failing.alive and same(before.result(), expected)
    after = failing.submit(frame())
    assert same(after.result(), expected) and failing.restarts == 1


def test_last_words_are_complete_although_an_earlier_frame_came_back(failing: IsolatedSegmenter) -> None:
    failing(telling(PRINT))
    tickets = [failing.submit(telling(NAP)), failing.submit(telling(PRINT)), failing.submit(telling(CRASH))]
    wait_for(lambda: tickets[2].done)
    with pytest.raises(
        ExecutionFailed, match=r"\(SIGSEGV\); it printed:\n(  from .*\n)?  Fatal Python error: S"
    ):
        tickets[2].result()


@pytest.mark.parametrize("others", [0, 1])
def test_a_child_that_is_lost_in_between_costs_what_was_on_its_way(
    failing: IsolatedSegmenter, others: int
) -> None:
    expected = failing(frame())
    answered = failing.submit(frame())
    unanswered = [failing.submit(telling(HANG)) for _ in range(others)]
    time.sleep(0.3)
    assert failing.pid is not None
    os.kill(failing.pid, signal.SIGKILL)
    wait_for(lambda: not failing.alive)
    after = failing.submit(frame())
    assert same(answered.result(), expected), "its answer was there already"
    for ticket in unanswered:
        with pytest.raises(ExecutionFailed, match=r"was killed \(SIGKILL(.|\n)*\nframe 3: no result"):
            ticket.result()
    assert same(after.result(), expected)


def test_the_time_of_a_frame_begins_when_the_one_before_it_is_done(bundle: Bundle, loaders: str) -> None:
    with isolate(bundle, device="cpu", loader=f"{loaders}:load", timeout_s=1.0) as segmenter:
        tickets = [segmenter.submit(telling(SLOW)) for _ in range(2)]
        assert same(tickets[1].result(), tickets[0].result())
        tickets = [segmenter.submit(telling(HANG)), segmenter.submit(frame())]
        began = time.monotonic()
        wait_for(lambda: tickets[1].done)
        assert 0.8 < time.monotonic() - began < 5, "who only looks is told as well"
        for ticket, number in zip(tickets, (3, 4), strict=True):
            with pytest.raises(
                ExecutionFailed, match=rf"no answer within 1 s and was killed\nframe {number}: no"
            ):
                ticket.result()


def test_restart_and_close_with_frames_on_their_way(bundle: Bundle, loaders: str) -> None:
    with isolate(bundle, device="cpu", loader=f"{loaders}:load") as segmenter:
        expected = segmenter(frame())
        there, lost = segmenter.submit(frame()), segmenter.submit(telling(HANG))
        time.sleep(0.2)
        segmenter.restart()
        assert same(there.result(), expected)
        with pytest.raises(
            ExecutionFailed, match=r"^the child process was ended by restart\(\)\nframe 3: no result; submit"
        ):
            lost.result()
        last = segmenter.submit(frame())
    assert last.done and same(last.result(), expected)
    with pytest.raises(DeviceError, match="is closed"):
        segmenter.submit(frame())


def test_frame_buffers_are_read_in_place(acting: IsolatedSegmenter, bundle: Bundle) -> None:
    white = np.full((32, 48, 3), 199, np.uint8)
    buffer = acting.frame_buffer((32, 48))
    assert buffer.dtype == np.uint8 and buffer.shape == (32, 48, 3) and buffer.flags.c_contiguous
    other = acting.frame_buffer((32, 48))
    buffer[:], other[:] = frame(seed=1), frame(seed=2)
    with pixelrt.load(bundle, device="cpu") as here:
        tickets = [acting.submit(picture) for picture in (buffer, other, buffer[3:9], buffer[:, 3:9])]
        expected = [here(picture) for picture in (buffer, other, buffer[3:9], buffer[:, 3:9])]
        assert all(same(ticket.result(), one) for ticket, one in zip(tickets, expected, strict=True))
        assert all(map(same, acting.batch([buffer, other]), expected))
    buffer[0, 0, 0] = NAP
    ticket = acting.submit(buffer)
    time.sleep(0.1)
    buffer[:] = white  # against the rule: this shows that the child looks at this very memory
    assert same(ticket.result(), acting(white))


def test_frame_buffers_outlive_children_and_the_segmenter(failing: IsolatedSegmenter) -> None:
    buffer = failing.frame_buffer((32, 48))
    buffer[:] = frame()
    expected = failing(buffer)
    failing.restart()
    assert same(failing(buffer), expected) and same(failing(frame()), expected)
    failing.close()
    np.testing.assert_array_equal(buffer, frame())
    with pytest.raises(DeviceError, match="is closed"):
        failing.frame_buffer((32, 48))


def test_frame_buffers_that_are_forgotten_are_given_out_again() -> None:
    with contextlib.closing(FrameBuffers()) as buffers:
        first, second = buffers.make((30, 40, 3)), buffers.make((30, 40, 3))
        view = first[10:]
        place = buffers.place(first)
        assert place is not None and buffers.place(second) != place
        assert buffers.place(view) == Plane("|u1", (20, 40, 3), place.offset + 10 * 40 * 3)
        assert buffers.place(first[:, 1:]) is None and buffers.place(first.copy()) is None
        held = os.fstat(buffers.descriptor).st_size
        del first
        assert buffers.place(buffers.make((30, 40, 3))) != place, "a view is left"
        del view
        third = buffers.make((31, 40, 3))
        assert buffers.place(third) == Plane("|u1", third.shape, place.offset)
        for _ in range(1000):
            buffers.make((200, 400, 3))
        assert os.fstat(buffers.descriptor).st_size == held
        with pytest.raises(OutOfMemory, match="MiB of memory to share"):
            buffers.make((1 << 30, 1 << 30, 3))


@pytest.mark.parametrize("size", [(0, 8), (8,), (8, 8.5), (True, 8), 8])
def test_sizes_are_refused_with_the_same_words(isolated: IsolatedSegmenter, size: Any) -> None:
    for use in (isolated.warm_up, isolated.frame_buffer):
        with pytest.raises(
            InputError, match=r"^size .*: height and width, whole numbers of at least 1, were"
        ):
            use(size)


# --- warming up ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cold(bundle: Bundle, loaders: str) -> Iterator[IsolatedSegmenter]:
    sizes = [(32, 48), (44, 44)]
    with isolate(
        bundle, device="cpu", loader=f"{loaders}:cold", warm_up=sizes, timeout_s=0.5, start_timeout_s=20
    ) as opened:
        yield opened


def test_children_are_warm_before_their_first_frame(cold: IsolatedSegmenter) -> None:
    for _ in range(2):
        for size in ((32, 48), (44, 44)):
            cold(frame(size))
        with pytest.raises(ExecutionFailed, match=r"^too cold$"):
            cold(frame((9, 9)))
        cold.restart()


def test_warming_up_later(cold: IsolatedSegmenter) -> None:
    ticket = cold.submit(frame())
    cold.warm_up((np.int64(20), 20), buffers=[cold.frame_buffer((20, 20))])
    assert ticket.done
    cold(frame((20, 20)))
    cold.restart()
    cold(frame((20, 20)))


def test_children_that_are_lost_while_they_warm_up(
    cold: IsolatedSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ExecutionFailed, match=r"status 5\nwarming up for frames of 99x99: not done; the next"
    ):
        cold.warm_up((99, 99))
    with pytest.raises(ContextLost, match=r"^a kernel does not .*\nwarming up for frames of 66x66: not done"):
        cold.warm_up((66, 66))
    cold(frame())
    monkeypatch.setattr(cold, "options", dataclasses.replace(cold.options, start_timeout_s=0.4))
    with pytest.raises(
        ExecutionFailed, match=r"within 0\.4 s and was killed\nwarming up for frames of 55x55: not done"
    ):
        cold.warm_up((55, 55))
    monkeypatch.undo()
    cold.restart()
    cold(frame())


def test_errors_of_warming_up_are_those_of_loading(bundle: Bundle, loaders: str) -> None:
    with pytest.raises(ContextLost, match=r"^a kernel does not compile$"):
        isolate(bundle, device="cpu", loader=f"{loaders}:cold", warm_up=(66, 66))
    with pytest.raises(DeviceError, match=r"while it loaded .* gave no answer within 2 s and was killed"):
        isolate(bundle, device="cpu", loader=f"{loaders}:cold", warm_up=(55, 55), start_timeout_s=2)


# --- mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        "frame.png",
        [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 4), np.uint8)],
    ],
)
def test_frames_are_refused_with_the_same_words(
    isolated: IsolatedSegmenter, bundle: Bundle, picture: Any
) -> None:
    with pixelrt.load(bundle, device="cpu") as here, pytest.raises(InputError) as expected:
        here(picture)
    with pytest.raises(InputError) as found:
        isolated(picture)
    assert str(found.value) == str(expected.value)


def test_frames_on_the_gpu_are_refused(isolated: IsolatedSegmenter) -> None:
    class OnGpu:
        __cuda_array_interface__: dict[str, object] = {"shape": (8, 8, 3), "version": 3}  # noqa: RUF012

    with pytest.raises(
        InputError, match=r"frame is an OnGpu on the GPU, .* copy it there, or use pixelrt\.load"
    ):
        isolated(OnGpu())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device is 'gpu', expected one of auto, cpu, cuda"),
        ({"backend": "openvin"}, r"did you mean 'openvino'\?"),
        ({"gpu": {"slots": 3}}, r"gpu is a dict, expected pixelrt\.GpuOptions"),
        ({"threads": np.int64(2)}, "threads is .*2.*, expected 1 or more"),
        ({"color": "bgrr"}, "color is 'bgrr', expected 'rgb', 'bgr'"),
        ({"restarts": -1}, "restarts is -1, expected 0 or more"),
        ({"restarts": True}, "restarts is True, expected 0 or more"),
        ({"restart_window_s": 0}, "restart_window_s is 0, expected seconds above 0$"),
        ({"timeout_s": -1.0}, "timeout_s is -1.0, expected seconds above 0, or None for no limit"),
        ({"start_timeout_s": "1"}, "start_timeout_s is '1', expected seconds above 0, or None"),
        ({"timeout_s": float("inf")}, "timeout_s is inf, expected seconds above 0, or None"),
        ({"warm_up": 720}, "warm_up 720: height and width, whole numbers of at least 1, were expected"),
        ({"warm_up": (720, 0)}, r"warm_up \(720, 0\): height and width"),
        ({"warm_up": [(720, 1280), (480,)]}, r"warm_up \(480,\): height and width"),
        ({"loader": "load"}, "loader is 'load', expected 'module:function', as 'pixelrt:load'"),
    ],
)
def test_options_that_cannot_be_used(bundle: Bundle, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        isolate(bundle, **options)


def test_an_unknown_option_is_refused_as_python_does(bundle: Bundle) -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'devise' \(did you mean 'device'\?\)"):
        isolate(bundle, devise="cpu")  # type: ignore[call-arg]


def test_errors_of_loading_arrive(
    make_bundle: MakeBundle, bundle: Bundle, tmp_path: Path, loaders: str
) -> None:
    with pytest.raises(BundleError, match="is not a bundle: no such folder"):
        isolate(tmp_path / "nothing")
    refused = make_bundle(passed={("openvino", "bfloat16"): False, ("openvino", "float32"): False})
    with pytest.raises(DeviceError, match="no precision of openvino passed the gate") as caught:
        isolate(refused, backend="openvino")
    assert type(caught.value) is DeviceError
    with pytest.raises(OutOfMemory, match=r"^the GPU is full already$"):
        isolate(bundle, loader=f"{loaders}:no_memory")
    with pytest.raises(ContextLost, match=r"of a class that the parent does not know$") as caught:
        isolate(bundle, loader=f"{loaders}:own")
    assert type(caught.value) is ContextLost


def test_a_child_that_does_not_get_as_far_as_loading(bundle: Bundle, loaders: str) -> None:
    with pytest.raises(
        DeviceError, match=r"while it loaded .*, the child process ended with status 1"
    ) as caught:
        isolate(bundle, loader="builtins:int")
    assert "TypeError" in str(caught.value) or "ValueError" in str(caught.value)
    with pytest.raises(DeviceError, match=r"crashed \(SIGSEGV\); it printed:\n  about to crash"):
        isolate(bundle, loader=f"{loaders}:crash")
    with pytest.raises(DeviceError, match=r"gave no answer within 0\.5 s and was killed"):
        isolate(bundle, loader=f"{loaders}:hang", start_timeout_s=0.5)


def test_a_child_that_cannot_be_started(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(DeviceError, match=r"cannot be started \(/nowhere/python: No such file"):
        isolate(bundle)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_bundle_that_changes_under_it(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    with isolate(bundle, device="cpu") as segmenter:
        file = bundle.path / MANIFEST
        manifest = json.loads(file.read_text())
        manifest["heads"][0]["classes"].reverse()
        file.write_text(json.dumps(manifest))
        with pytest.raises(BundleError, match="has changed since it was opened: its heads"):
            segmenter.restart()
        assert not segmenter.alive


def test_a_fresh_child_that_runs_on_something_else_is_refused(make_bundle: MakeBundle, loaders: str) -> None:
    with isolate(make_bundle(), device="cpu", loader=f"{loaders}:once") as segmenter:
        with pytest.raises(DeviceError, match=r"backend='onnxruntime'.* results would differ"):
            segmenter.restart()
        assert not segmenter.alive and segmenter.restarts == 0


# --- a child that is lost -----------------------------------------------------------------------------------


def test_errors_that_harm_nothing_leave_the_child(failing: IsolatedSegmenter) -> None:
    pid = failing.pid
    with pytest.raises(OutOfMemory) as caught:
        failing(telling(OUT_OF_MEMORY))
    assert str(caught.value) == "the GPU is full; use smaller frames"
    failing(frame())
    assert (failing.pid, failing.restarts) == (pid, 0)


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (CONTEXT_LOST, ContextLost, "CUDA says: illegal memory access (700)"),
        (DEVICE_LOST, DeviceLost, "the GPU has fallen off the bus (79)"),
    ],
)
def test_after_a_sticky_error_there_is_a_fresh_child(
    failing: IsolatedSegmenter, code: int, kind: type[DeviceError], text: str
) -> None:
    pid = failing.pid
    assert pid is not None
    expected = failing(frame())
    with pytest.raises(kind) as caught:
        failing(telling(code))
    assert str(caught.value) == (
        f"{text}\nframe 2: no result; the next call starts a fresh child (restart 1 of at most 2 within 60 s)"
    )
    assert not exists(pid) and not failing.alive and failing.pid is None and failing.start_s is None
    assert same(failing(frame()), expected)
    assert failing.restarts == 1 and failing.pid not in (None, pid)


def test_fakes_can_be_isolated(loaders: str) -> None:
    """As in a robot's own tests of what it does after such an error."""
    fake = importlib.import_module(loaders).fake()
    with isolate(fake.bundle, loader=f"{loaders}:fake") as segmenter:
        assert same(segmenter(frame()), fake(frame()))
        with pytest.raises(ContextLost, match=r"^a fake one\nframe 2: no result"):
            segmenter(np.full((9, 9, 3), 255, np.uint8))
        assert same(segmenter(frame()), fake(frame()))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (CRASH, r"crashed \(SIGSEGV\); it printed:\n  Fatal Python error: Segmentation fault"),
        (BUG, r"ended with status 1; it printed:(.|\n)*RuntimeError: a bug of a library"),
        (EXIT, r"ended with status 3\nframe 2: no result"),
    ],
)
def test_a_child_that_ends_during_a_call(failing: IsolatedSegmenter, code: int, message: str) -> None:
    expected = failing(frame())
    with pytest.raises(ExecutionFailed, match=message) as caught:
        failing(telling(code))
    assert str(caught.value).startswith("the child process ")
    assert str(caught.value).endswith(
        "\nframe 2: no result; the next call starts a fresh child (restart 1 of at most 2 within 60 s)"
    )
    assert same(failing(frame()), expected)


@contextlib.contextmanager
def during_a_call(act: Callable[[], None]) -> Iterator[None]:
    """Do something 0.3 s after this is entered, in a thread."""
    timer = threading.Timer(0.3, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_a_child_that_is_killed_during_a_call(failing: IsolatedSegmenter) -> None:
    pid = failing.pid
    assert pid is not None
    with (
        during_a_call(lambda: os.kill(pid, signal.SIGKILL)),
        pytest.raises(ExecutionFailed, match=r"was killed \(SIGKILL: by somebody, or .* out of memory"),
    ):
        failing(telling(SLOW))
    assert same(failing(frame()), failing(frame())) and failing.restarts == 1


def test_a_child_that_is_killed_between_calls_costs_no_frame(
    failing: IsolatedSegmenter, caplog: pytest.LogCaptureFixture
) -> None:
    expected = failing(frame())
    assert failing.pid is not None
    os.kill(failing.pid, signal.SIGKILL)
    wait_for(lambda: not failing.alive)
    with caplog.at_level(logging.WARNING, "pixelrt"):
        assert same(failing(frame()), expected)
    assert "was killed (SIGKILL" in caplog.text and "restart 1 of at most 2 within 60 s" in caplog.text
    assert failing.restarts == 1


def test_without_restarts_the_user_restarts(bundle: Bundle) -> None:
    with isolate(bundle, device="cpu", restarts=0) as segmenter:
        assert segmenter.pid is not None
        os.kill(segmenter.pid, signal.SIGKILL)
        wait_for(lambda: not segmenter.alive)
        for _ in range(2):
            with pytest.raises(
                DeviceError, match=r"no child process .* was killed \(SIGKILL.*\nrestart\(\) sta"
            ):
                segmenter(frame())
        segmenter.restart()
        segmenter(frame())
        assert segmenter.restarts == 1


def test_restarts_are_limited_until_the_user_restarts(failing: IsolatedSegmenter) -> None:
    for number in range(3):
        with pytest.raises(ContextLost) as caught:
            failing(telling(CONTEXT_LOST))
        outlook = f"restart {number + 1} of at most 2" if number < 2 else "was replaced 2 times within 60 s"
        assert outlook in str(caught.value)
    for _ in range(2):
        with pytest.raises(
            DeviceError, match=r"illegal memory(.|\n)*find what ends it, then call restart\(\)"
        ):
            failing(frame())
    assert failing.restarts == 2
    failing.restart()
    with pytest.raises(ContextLost, match="restart 1 of at most 2"):
        failing(telling(CONTEXT_LOST))
    failing(frame())


def test_the_limit_is_one_per_time(bundle: Bundle, loaders: str) -> None:
    with isolate(
        bundle, device="cpu", loader=f"{loaders}:load", restarts=1, restart_window_s=0.2
    ) as segmenter:
        for _ in range(3):
            with pytest.raises(ContextLost):
                segmenter(telling(CONTEXT_LOST))
            time.sleep(0.25)
        segmenter(frame())
        assert segmenter.restarts == 3


def test_a_replacement_that_fails_is_said_and_counts(bundle: Bundle) -> None:
    with isolate(bundle, device="cpu", restarts=1) as segmenter:
        hidden = bundle.path.rename(bundle.path.with_name("hidden"))
        try:
            assert segmenter.pid is not None
            os.kill(segmenter.pid, signal.SIGKILL)
            wait_for(lambda: not segmenter.alive)
            with pytest.raises(BundleError, match="no such folder"):
                segmenter(frame())
            with pytest.raises(DeviceError, match=r"the last one could not be replaced .*no such folder"):
                segmenter(frame())
        finally:
            hidden.rename(bundle.path)
        segmenter.restart()
        segmenter(frame())


@pytest.mark.parametrize("how", ["stopped", "sleeping", "holding the GIL"])
def test_a_child_that_hangs_is_killed(bundle: Bundle, loaders: str, how: str) -> None:
    with isolate(bundle, device="cpu", loader=f"{loaders}:load", timeout_s=0.5) as segmenter:
        pid = segmenter.pid
        assert pid is not None
        if how == "stopped":
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(
            ExecutionFailed, match=r"gave no answer within 0\.5 s and was killed\nframe 1: no"
        ):
            segmenter(telling({"stopped": 1, "sleeping": HANG}.get(how, HANG_GIL)))
        assert 0.5 <= time.monotonic() - began < 5
        assert not exists(pid)
        segmenter(frame())


def test_which_frames_of_a_batch_are_lost(bundle: Bundle, loaders: str) -> None:
    with isolate(bundle, device="cpu", timeout_s=0.5) as segmenter:
        segmenter(frame())
        assert segmenter.pid is not None
        os.kill(segmenter.pid, signal.SIGSTOP)
        with pytest.raises(ExecutionFailed, match="\nframes 2 to 4: no result"):
            segmenter([frame()] * 3)


# --- interruptions ------------------------------------------------------------------------------------------


class EnoughError(Exception):
    """What a signal handler may raise."""


@contextlib.contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Expect that this is left by a signal handler."""

    def enough(number: int, stack: object) -> None:
        raise EnoughError

    before = signal.signal(signal.SIGALRM, enough)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        with pytest.raises(EnoughError):
            yield
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_late_answer_is_never_taken_for_another(failing: IsolatedSegmenter) -> None:
    """The call is left while the child works at a black frame; then comes a white one."""
    white = np.full((32, 48, 3), 199, np.uint8)
    expected = failing(white)

    with interrupted_after(0.3):
        failing(telling(SLOW))
    assert not failing.alive
    assert same(failing(white), expected)
    assert failing.restarts == 1


@pytest.mark.parametrize("where", ["result", "submit"])
def test_an_interruption_costs_what_is_on_its_way(failing: IsolatedSegmenter, where: str) -> None:
    white = np.full((32, 48, 3), 199, np.uint8)
    expected = failing(white)
    tickets = [failing.submit(telling(SLOW)), failing.submit(frame())]
    with interrupted_after(0.2):
        if where == "result":
            tickets[1].result()
        else:
            failing.submit(frame())
    assert not failing.alive
    after = failing.submit(white)
    for ticket, number in zip(tickets, (2, 3), strict=True):
        assert ticket.done
        with pytest.raises(
            ExecutionFailed, match=rf"was ended, because a call was interrupted\nframe {number}: no result"
        ):
            ticket.result()
    assert same(after.result(), expected) and failing.restarts == 1


CTRL_C = """
import os, signal, sys, threading, time
import numpy as np
import failing_loaders
from pixelrt.isolation import isolate

quick, slow = np.full((32, 48, 3), 9, np.uint8), np.full((32, 48, 3), 210, np.uint8)
with isolate(sys.argv[1], device="cpu", loader="failing_loaders:load") as segmenter:
    expected = segmenter(quick).logits
    print(segmenter.pid, flush=True)
    caught = 0
    while caught < 2:
        try:
            segmenter(slow)
        except KeyboardInterrupt:
            caught += 1
            pid = segmenter.pid
            assert (segmenter(quick).logits == expected).all()
            print(pid, segmenter.pid, segmenter.restarts, flush=True)
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        time.sleep(0.3)
        assert segmenter.alive
"""


def a_program(source: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    return subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        **options,
    )


def test_ctrl_c_during_a_call(bundle: Bundle, loaders: str) -> None:
    """To the whole group, as a terminal does it."""
    with a_program(CTRL_C, str(bundle.path), start_new_session=True) as program:
        assert program.stdout is not None
        child = int(program.stdout.readline())
        for number in range(1, 3):
            time.sleep(0.3)
            os.killpg(program.pid, signal.SIGINT)
            words = program.stdout.readline().split()
            assert words[0] == "None" and words[2] == str(number)
        time.sleep(0.3)
        os.killpg(program.pid, signal.SIGINT)
        said, complaints = program.communicate(timeout=30)
    assert (program.returncode, said) == (0, "")
    assert complaints.splitlines() == [
        "the child process was ended, because a call was interrupted; a fresh one is started "
        f"(restart {number} of at most 3 within 60 s)"
        for number in (1, 2)
    ]
    assert not exists(child)


def test_one_thread_at_a_time(failing: IsolatedSegmenter) -> None:
    results: list[Segmentation] = []
    ticket = failing.submit(frame())
    thread = threading.Thread(target=lambda: results.append(failing(telling(SLOW))))
    thread.start()
    time.sleep(0.3)
    use: Callable[[], object]
    for use in (lambda: failing(frame()), failing.restart, failing.close, lambda: failing.submit(frame())):
        with pytest.raises(DeviceError, match="in use by another thread; isolate the bundle once per thread"):
            use()
    thread.join()
    assert len(results) == 1 and ticket.done
    failing(frame())


def test_closed_is_closed(bundle: Bundle) -> None:
    with isolate(bundle, device="cpu") as segmenter:
        pid = segmenter.pid
        assert pid is not None
    assert not exists(pid) and not segmenter.alive and segmenter.pid is None
    for use in (lambda: segmenter(frame()), segmenter.restart):
        with pytest.raises(DeviceError, match=r"is closed; isolate the bundle again with pixelrt\.isolate"):
            use()
    segmenter.close()


def test_a_child_that_does_not_end_at_close_is_killed(
    failing: IsolatedSegmenter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pixelrt.isolation.supervisor._PATIENCE_S", 0.2)
    pid = failing.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    failing.close()
    assert not exists(pid) and f"{pid} did not end within 0.2 s" in caplog.text


def test_a_forgotten_segmenter_leaves_nothing(bundle: Bundle) -> None:
    before = len(os.listdir("/proc/self/fd"))
    segmenter = isolate(bundle, device="cpu")
    segmenter(frame())
    pid = segmenter.pid
    assert pid is not None
    del segmenter
    gc.collect()
    assert not exists(pid)
    assert len(os.listdir("/proc/self/fd")) == before


# --- the end of the parent ----------------------------------------------------------------------------------

PARENT = """
import os, sys, time
import numpy as np
import failing_loaders
from pixelrt.isolation import isolate

how, codes = sys.argv[2], {"busy": 205, "hung": 209}
segmenter = isolate(sys.argv[1], device="cpu", loader="failing_loaders:load", timeout_s=None)
segmenter(np.zeros((720, 1280, 3), np.uint8))
sibling = os.fork() if how == "forked" else 0
if how == "forked" and not sibling:
    time.sleep(600)  # holds all that its parent held
print(segmenter.pid, sibling, flush=True)
if how == "exit":
    sys.exit()
segmenter(np.full((32, 48, 3), codes[how], np.uint8)) if how in codes else time.sleep(600)
"""


@pytest.mark.parametrize("how", ["idle", "busy", "hung", "stopped", "forked", "exit"])
def test_the_child_ends_with_its_parent(bundle: Bundle, loaders: str, tmp_path: Path, how: str) -> None:
    names = set(os.listdir("/dev/shm"))
    environment = pytest.MonkeyPatch()
    environment.setenv("TMPDIR", str(tmp_path))
    with environment.context(), a_program(PARENT, str(bundle.path), how) as program:
        assert program.stdout is not None
        child, sibling = map(int, program.stdout.readline().split())
        if how != "exit":
            assert exists(child)
            time.sleep(0.3)
            if how == "stopped":
                os.kill(child, signal.SIGSTOP)
            program.kill()
        try:
            wait_for(lambda: not exists(child), limit_s=10)
        finally:
            if sibling:
                os.kill(sibling, signal.SIGKILL)
    environment.undo()
    assert {file.name for file in tmp_path.iterdir()} <= {".ses"}  # ONNX Runtime's, at every import of it
    assert set(os.listdir("/dev/shm")) == names


# --- what the child says ------------------------------------------------------------------------------------


def test_records_of_the_child_reach_the_logging_of_the_parent(
    bundle: Bundle, loaders: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "pixelrt")
    with isolate(bundle, device="cpu", loader=f"{loaders}:load") as segmenter:
        segmenter(telling(LOG))
        assert ("pixelrt.trt", logging.INFO, "a record") in caplog.record_tuples
        assert not any(name == "other" for name, _, _ in caplog.record_tuples)
        assert capsys.readouterr().err == "not ours\n"
        caplog.clear()
        segmenter(telling(PRINT))
        assert capsys.readouterr().err == "from native code\n"
        segmenter(frame())
        assert (caplog.text, *capsys.readouterr()) == ("", "", "")


def test_records_that_nobody_wants_are_not_sent(
    failing: IsolatedSegmenter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "pixelrt")
    failing(telling(LOG))
    assert caplog.text == ""


def test_what_is_printed_while_loading_is_shown_meanwhile(
    bundle: Bundle, loaders: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DeviceError) as caught:
        isolate(bundle, loader=f"{loaders}:patient", start_timeout_s=2.5)
    assert "building" not in str(caught.value)
    assert capsys.readouterr().err == "building an engine\n"


# --- for a long time ----------------------------------------------------------------------------------------


def descriptors(pid: int | None) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident(pid: int | None) -> int:
    """Bytes of a process, without what it shares."""
    words = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE")


def test_many_frames_take_no_more_of_anything(bundle: Bundle, loaders: str) -> None:
    with isolate(bundle, device="cpu", loader=f"{loaders}:load") as segmenter:
        sizes = [(32, 48), (240, 320), (64, 64)]

        def run(count: int) -> tuple[int, int, int, int]:
            for index in range(count):
                segmenter(telling(PRINT if index % 3 else 1, sizes[index % 3]))
            gc.collect()
            ours, theirs = os.getpid(), segmenter.pid
            return descriptors(ours), descriptors(theirs), resident(ours), resident(theirs)

        before, after = run(300), run(900)
    assert after[:2] == before[:2]
    assert after[2] - before[2] < 4 << 20 and after[3] - before[3] < 4 << 20


def test_many_restarts_take_no_more_descriptors(failing: IsolatedSegmenter) -> None:
    failing(frame())
    before = descriptors(os.getpid())
    for _ in range(5):
        failing.restart()
        failing(frame())
        with pytest.raises(ContextLost):
            failing(telling(CONTEXT_LOST))
        failing(frame())
    assert descriptors(os.getpid()) == before
    assert failing.restarts == 10


# --- the parts ----------------------------------------------------------------------------------------------


def test_messages_come_back_as_they_went() -> None:
    request = Request(3, 1, (Plane("|u1", (2, 3, 3), 64),), "submit", in_buffer=False)
    assert from_line(to_line(request)) == request


def test_an_answer_to_another_question_is_none() -> None:
    for answer in (Answer(2, ()), Failed(2, "InputError", "no")):
        assert _checked(answer, Answer, 2) is answer
        with pytest.raises(ChildLostError, match=r"was ended, because it answered .* to another question"):
            _checked(answer, Answer, 1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", "is no message, expected one of Load, Request"),
        ('{"Answers": {}}', "is no message"),
        ("[1]", "is no message"),
        ("Segmentation fault", "Expecting value"),
        ('{"Answer": {"number": 1}}', r"missing key Answer\.results"),
        ('{"Answer": {"number": 1, "results": [], "late": true}}', r"unknown key Answer\.late"),
        ('{"Answer": {"number": "1", "results": []}}', r"Answer\.number is str '1', expected int"),
    ],
)
def test_what_is_no_message_is_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_line(line)


def test_memory_grows_and_is_seen_by_the_other_side() -> None:
    with (
        contextlib.closing(SharedMemory.create("test")) as ours,
        contextlib.closing(SharedMemory(os.dup(ours.descriptor))) as theirs,
    ):
        for count in (1, 5_000_000, 3):
            values = np.arange(count, dtype=np.float32)
            planes = ours.put([values, values[::-1]])
            assert [plane.offset % 64 for plane in planes] == [0, 0]
            np.testing.assert_array_equal(theirs.view(planes[0]), values)
            np.testing.assert_array_equal(theirs.view(planes[1]), values[::-1])
        with pytest.raises(ValueError, match="outside of the shared memory"):
            theirs.view(Plane("|u1", (1 << 30,), 0))
        with pytest.raises(PermissionError):
            os.ftruncate(theirs.descriptor, 1)


def test_memory_that_cannot_be_had_is_an_error_and_no_crash() -> None:
    with contextlib.closing(SharedMemory.create("test")) as memory:
        (plane,) = memory.put([np.arange(3)])
        with pytest.raises(
            OutOfMemory, match=r"MiB of memory to share .* cannot be had, \d+ MiB are available; close"
        ):
            memory.put([np.broadcast_to(np.uint8(0), (1 << 62,))])
        np.testing.assert_array_equal(memory.view(plane), np.arange(3))
