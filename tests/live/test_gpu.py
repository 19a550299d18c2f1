"""On a simulated GPU, which reports races: several frames on their way, batches of several cameras."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from live import CLASSES, SIZE, Camera, Notes, check_accounts, check_pairs, network
from numpy.typing import NDArray

from pixelrt.errors import ContextLost, ExecutionFailed, InputError
from pixelrt.segmentation import Segmenter
from pixelrt.session import GpuOptions
from pixelrt.testing import FakeCuda, fake_segmenter
from pixelrt.video.delivery import Delivery
from pixelrt.video.frame import Frame
from pixelrt.video.live.pacing import Pace


def on_their_way(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames had been submitted and not asked for, each time that one was submitted."""
    open_tickets: set[int] = set()
    counts: list[int] = []
    submit = segmenter.submit

    def counted(frame: Any, **options: Any) -> Any:
        ticket = submit(frame, **options)
        open_tickets.add(id(ticket))
        counts.append(len(open_tickets))
        result = ticket.result

        def asked() -> Any:
            open_tickets.discard(id(ticket))
            return result()

        monkeypatch.setattr(ticket, "result", asked, raising=False)
        return ticket

    monkeypatch.setattr(segmenter, "submit", counted)
    return counts


def test_all_slots_are_used_where_every_frame_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = network(cuda=FakeCuda(), gpu=GpuOptions(slots=3))
    counts = on_their_way(segmenter, monkeypatch)
    with segmenter:
        taken = list(segmenter.stream(Camera(60, live=False)))
    check_pairs(taken)
    assert [delivery.frame.index for delivery in taken] == list(range(60))
    assert max(counts) == 3


def test_no_third_frame_waits_where_the_newest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = network(0.01, cuda=FakeCuda(), gpu=GpuOptions(slots=3))
    counts = on_their_way(segmenter, monkeypatch)
    with segmenter:
        stream = segmenter.stream(Camera(100, 0.003))
        taken = list(stream)
    check_pairs(taken)
    check_accounts(stream.statistics(), taken, whole=True)
    assert stream.statistics().captured == 100
    assert max(counts) <= 2


def test_the_next_frame_is_handed_over_when_half_of_the_time_of_the_quickest_has_passed() -> None:
    pace = Pace()
    for number in range(8):
        assert pace.wait_s(0.0) == 0, "until it is known how long computing takes"
        pace.computed(0.8 if number == 5 else 0.02 + 0.001 * number)
    assert pace.wait_s(0.0) == pytest.approx(0.01), "one slow frame holds nothing up"
    assert pace.wait_s(0.004) == pytest.approx(0.006)
    assert pace.wait_s(1.0) == 0
    for _ in range(8):
        pace.computed(0.1)
    assert pace.wait_s(0.0) == pytest.approx(0.05), "it forgets"


def test_the_next_frame_becomes_newer_while_the_network_is_busy() -> None:
    compute_s = 0.04
    with network(compute_s, cuda=FakeCuda(), gpu=GpuOptions(slots=2)) as segmenter:
        taken = list(segmenter.stream(Camera(400, 0.004)))
    times = [delivery.times for delivery in taken][10:]
    waited_s = [
        after.submitted_s - max(before.submitted_s, earlier.computed_s)
        for earlier, before, after in zip(times, times[1:], times[2:], strict=False)
    ]
    assert min(waited_s) >= 0.4 * compute_s, "each was handed over when half of the one before was done"
    overlaps = [after.submitted_s < before.computed_s for before, after in itertools.pairwise(times)]
    assert sum(overlaps) > len(overlaps) / 2, "and not only when all of it was"


@pytest.mark.parametrize("seed", range(4))
def test_results_belong_to_their_frames_whatever_the_gpu_does_first(seed: int) -> None:
    notes = Notes()
    with network(cuda=FakeCuda(order="random", seed=seed), gpu=GpuOptions(slots=2)) as segmenter:
        cameras = [Camera(40, 0.001, name=name) for name in "abc"]
        stream = segmenter.stream(cameras, sinks=[notes])
        taken = list(stream)
    check_pairs(taken)
    check_pairs(notes.got)
    check_accounts(stream.statistics(), taken, cameras=cameras, whole=True)


def test_waiting_frames_of_several_cameras_go_through_the_network_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    segmenter = network(0.002, cuda=FakeCuda(), gpu=GpuOptions(slots=2))
    batches: list[int] = []
    batch = segmenter.batch

    def counted(frames: Sequence[Any]) -> Any:
        batches.append(len(frames))
        return batch(frames)

    monkeypatch.setattr(segmenter, "batch", counted)
    with segmenter:
        cameras = [Camera(30, 0.002, name=f"camera {number}") for number in range(8)]
        stream = segmenter.stream(cameras)
        taken = list(stream)
    check_pairs(taken)
    check_accounts(stream.statistics(), taken, cameras=cameras, whole=True)
    assert max(batches) > 4
    assert all(source.delivered for source in stream.statistics().sources)


def test_frames_on_the_gpu_are_computed_where_they_are_and_drawn_on_the_host() -> None:
    cuda, (height, width) = FakeCuda(), SIZE
    maker = fake_segmenter(lambda frame: frame[..., 0], CLASSES, (height, 3 * width), cuda=cuda)
    with maker, network(cuda=cuda) as segmenter:
        images = [
            maker.submit(np.full((height, 3 * width, 3), number, np.uint8), on_device=True)
            .result()
            .device_mask
            for number in range(3)
        ]
        on_gpu = [image.reshaped((height, width, 3)) for image in images if image is not None]
        sink = Drawing()
        taken = list(segmenter.stream(on_gpu, sinks=[sink]))
        assert [delivery.frame.image for delivery in taken] == on_gpu
        check_pairs(taken)
        assert [delivery.frame.on_host().max() for delivery in taken] == [0, 1, 2]
        assert {overlay.shape for overlay in sink.overlays} == {(height, width, 3)}
        del taken, sink, images, on_gpu


class CameraMemory:
    """A picture on a GPU, in memory into which the camera writes the next one as soon as it may."""

    def __init__(self, on_gpu: Any, value: int) -> None:
        self._on_gpu, self.value, self.copies = on_gpu, value, 0
        self.shape = on_gpu.shape

    def __getattr__(self, name: str) -> Any:
        return getattr(self._on_gpu, name)

    @property
    def __cuda_array_interface__(self) -> Any:
        return self._on_gpu.__cuda_array_interface__

    def to_host(self) -> NDArray[np.uint8]:
        self.copies += 1
        return np.full(self.shape, self.value, np.uint8)


class Late(Notes):
    """Looks at pictures when the program has had all results."""

    def __init__(self, go_on: threading.Event, *, wants_picture: bool = True) -> None:
        super().__init__()
        self.wants_picture = self.wants_overlay = wants_picture
        self._go_on = go_on
        self.seen: list[tuple[int, int]] = []

    def write(self, delivery: Delivery) -> None:
        assert self._go_on.wait(20)
        if self.wants_picture:
            picture = delivery.frame.on_host()
            self.seen.append((int(picture.min()), int(picture.max())))
            assert delivery.overlay() is delivery.picture.drawn()


@pytest.mark.parametrize("wants_picture", [True, False])
def test_sinks_see_the_picture_that_was_segmented_however_late_they_look(wants_picture: bool) -> None:
    cuda, (height, width) = FakeCuda(), SIZE
    maker = fake_segmenter(lambda frame: frame[..., 0], CLASSES, (height, 3 * width), cuda=cuda)
    go_on = threading.Event()
    with maker, network(cuda=cuda) as segmenter:
        pictures = [np.full((height, 3 * width, 3), value, np.uint8) for value in range(3)]
        results = [maker.submit(picture, on_device=True).result() for picture in pictures]
        memory = [
            CameraMemory(result.device_mask.reshaped((height, width, 3)), value)  # type: ignore[union-attr]
            for value, result in enumerate(results)
        ]
        sinks = [Late(go_on, wants_picture=wants_picture), Late(go_on, wants_picture=False)]
        stream = segmenter.stream(memory, sinks=sinks)
        for _ in memory:
            delivery = next(stream)
            assert isinstance(delivery.frame.image, CameraMemory), "the program has it where it is"
            delivery.frame.image.value = 200
        go_on.set()
        assert list(stream) == []
        assert sinks[0].seen == ([(0, 0), (1, 1), (2, 2)] if wants_picture else [])
        assert [each.copies for each in memory] == [int(wants_picture)] * 3
        del delivery, stream, sinks, memory, results


class Drawing(Notes):
    """Draws every overlay."""

    wants_overlay = True

    def __init__(self) -> None:
        super().__init__()
        self.overlays: list[NDArray[np.uint8]] = []

    def write(self, delivery: Delivery) -> None:
        self.overlays.append(delivery.overlay())


def test_a_frame_on_the_gpu_that_nobody_can_copy_says_so() -> None:
    class Foreign:
        shape = (*SIZE, 3)
        __cuda_array_interface__ = {"shape": shape, "typestr": "|u1", "data": (256, False), "version": 3}  # noqa: RUF012

    frame = Frame(image=Foreign(), index=0, time_s=0.0, name="camera-0")
    with pytest.raises(InputError, match="camera-0 is a Foreign on a GPU, which has none of the methods"):
        frame.on_host()


def test_frames_on_the_gpu_need_a_segmenter_on_the_gpu() -> None:
    class Foreign:
        shape = (*SIZE, 3)
        __cuda_array_interface__ = {"shape": shape, "typestr": "|u1", "data": (256, False), "version": 3}  # noqa: RUF012

    with pytest.raises(InputError, match="a Foreign on a GPU, this segmenter runs on the CPU"):
        list(network().stream([Foreign()]))


def test_a_refused_run_costs_its_frame_and_a_lost_context_ends_the_stream() -> None:
    cuda = FakeCuda()
    stream = network(cuda=cuda, gpu=GpuOptions(slots=2)).stream(Camera(None, live=False))
    taken: list[Delivery] = []
    with pytest.raises(ContextLost, match="an illegal address"):
        for delivery in stream:
            taken.append(delivery)
            if len(taken) == 5:
                cuda.fail("Stream.copy_to_device", ExecutionFailed("refused"))
            if len(taken) == 20:
                cuda.fail("Stream.copy_to_device", ContextLost("an illegal address"))
    check_pairs(taken)
    check_accounts(stream.statistics(), taken, ended=True)
    assert len(taken) >= 20
    missing = set(range(taken[-1].frame.index)) - {delivery.frame.index for delivery in taken}
    assert len(missing) == 1
    assert 2 <= stream.statistics().sources[0].dropped["failed"] <= 1 + 2
