"""Which segmenter takes the next frame: always the same one, or one of several input sizes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pixelrt.errors import InputError
from pixelrt.video.events import Event, ignore
from pixelrt.video.live.adapting import AdaptingOptions, Computed, Size, SizeChooser
from pixelrt.video.live.options import Policy

if TYPE_CHECKING:
    from pixelrt.isolation import IsolatedSegmenter
    from pixelrt.segmentation import Segmenter

    AnySegmenter: TypeAlias = Segmenter | IsolatedSegmenter


_COST_RUNS = 5


class Sizing:
    """A segmenter of one size; `AdaptiveSizing` has several.

    Args:
        segmenters: From large to small.
    """

    def __init__(self, segmenters: Sequence[AnySegmenter]) -> None:
        self._segmenters = tuple(segmenters)
        self.on_event: Callable[[Event], None] = ignore

    @property
    def level(self) -> int:
        """Position of the segmenter for the next frame."""
        return 0

    def segmenter(self, level: int) -> AnySegmenter:
        """The segmenter at a position."""
        return self._segmenters[level]

    def size(self, level: int) -> Size:
        """Height and width of the network at a position."""
        return self._segmenters[level].network_size

    def computed(self, result: Computed) -> None:
        """Hear of a result."""


class AdaptiveSizing(Sizing):
    """Segmenters of several sizes, chosen by load.

    Args:
        segmenters: From large to small, warmed up.
        costs_s: Seconds for a frame, of each.
        deadline_s: Age at which a result is useless.
        name: Of the network, in events.
    """

    def __init__(
        self,
        segmenters: Sequence[AnySegmenter],
        costs_s: Sequence[float],
        *,
        deadline_s: float | None,
        name: str,
    ) -> None:
        super().__init__(segmenters)
        sizes = [self.size(level) for level in range(len(self._segmenters))]
        self._chooser = SizeChooser(sizes, AdaptingOptions(deadline_s=deadline_s))
        self._chooser.warmed_up(costs_s)
        self._name = name

    @property
    def level(self) -> int:
        """Position of the segmenter for the next frame."""
        return self._chooser.level

    def computed(self, result: Computed) -> None:
        """Hear of a result, and change the size where that is called for."""
        change = self._chooser.computed(result)
        if change is not None:
            self.on_event(Event(kind="sized", source=self._name, detail=str(change)))


def open_sizing(
    segmenter: AnySegmenter,
    frame_size: Size,
    *,
    adaptive: bool,
    policies: Collection[Policy],
    deadline_s: float | None,
) -> Sizing:
    """Open and warm up what the stream will use.

    Raises:
        InputError: If it shall adapt, and the bundle has one size only, or no source is ever too fast.
    """
    if not adaptive:
        return Sizing([segmenter])
    if "all" in policies:
        raise InputError(
            "adaptive=True, and the policy of a source is 'all': it waits for the network, however large the "
            "size is; take policy='latest', or leave adaptive away"
        )
    segmenters = segmenter.at_sizes()
    if len(segmenters) == 1:
        height, width = segmenter.network_size
        raise InputError(
            f"adaptive=True, and {segmenter.bundle.path} has one input size only ({height}x{width}); export "
            "it with several sizes, or leave adaptive away"
        )
    costs_s = [_warmed_up_s(each, frame_size) for each in segmenters]
    name = segmenter.bundle.manifest.name
    return AdaptiveSizing(segmenters, costs_s, deadline_s=deadline_s, name=name)


def _warmed_up_s(segmenter: AnySegmenter, frame_size: Size) -> float:
    """Warm up, and see how long a frame takes then, undisturbed."""
    size = frame_size if all(frame_size) else segmenter.network_size
    segmenter.warm_up(size)
    black = np.zeros((*size, segmenter.bundle.segmentation.preprocess.channels), np.uint8)
    times_s = []
    for _ in range(_COST_RUNS):
        began_s = time.monotonic()
        segmenter(black)
        times_s.append(time.monotonic() - began_s)
    return min(times_s)
