"""What the contenders of one network share, and how they are named before they are open."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence

from gpu.contender import Bytes, Contender
from gpu.models import Prepared
from gpu.platform import Platform
from pixelrt.segmentation import Segmenter
from pixelrt.session import GpuOptions


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """What makes a session of its own. Contenders with the same key share one."""

    backend: str
    slots: int = 2
    graphs: bool = True
    batch: int = 1
    """A session is kept to one batch: another shape would have its graphs captured anew at each turn."""
    clone: int = 0
    """Number of the clone; 0 for the segmenter that is loaded."""


class Setting:
    """A network on a platform, and the segmenters of its bundle, opened when they are first asked for."""

    def __init__(self, prepared: Prepared, platform: Platform) -> None:
        self.prepared = prepared
        self.platform = platform
        self._open: dict[Key, Segmenter] = {}
        self._pinned: dict[Key, list[Bytes]] = {}

    def segmenter(self, key: Key) -> Segmenter:
        """The segmenter of a key.

        Raises:
            PixelRTError: If it cannot be opened.
        """
        if key not in self._open:
            if key.clone:
                self._open[key] = self.segmenter(dataclasses.replace(key, clone=0)).clone()
            else:
                options = GpuOptions(slots=key.slots, graphs=key.graphs)
                self._open[key] = self.platform.segmenter(self.prepared.bundle, key.backend, options)
        return self._open[key]

    def pinned(self, key: Key, frames: Sequence[Bytes]) -> list[Bytes]:
        """The frames in `frame_buffer` memory of a segmenter, copied there once: always the same ones."""
        if key not in self._pinned:
            segmenter = self.segmenter(key)
            buffers = [segmenter.frame_buffer((frame.shape[0], frame.shape[1])) for frame in frames]
            for buffer, frame in zip(buffers, frames, strict=True):
                buffer[:] = frame
            self._pinned[key] = buffers
        return self._pinned[key]

    def close(self) -> None:
        """Close all of them. The clones come first, since they were made last."""
        self._pinned.clear()
        with contextlib.ExitStack() as stack:
            for segmenter in self._open.values():
                stack.callback(segmenter.close)
        self._open.clear()


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A contender that is not open yet."""

    name: str
    """`pixelrt/onnxruntime/2-slots`; what `--contenders` selects by."""
    open: Callable[[Setting], Contender]
    """Opens it and runs it once.

    Raises:
        NotMeasuredError: If it cannot take part here.
        PixelRTError: If PixelRT says so.
    """
