"""GIFs, encoded by FFmpeg."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pixelrt.encoding.film import FilmEncoder
from pixelrt.encoding.images import Bytes, as_rgb
from pixelrt.errors import SinkError

_TICK = Fraction(1, 100)
_LARGEST_PX = 65_535


class GifEncoder(FilmEncoder):
    """A GIF that is repeated for ever. The first image decides whether it is grey or in colour.

    Every image has a palette of its own (FFmpeg's palettegen and paletteuse), so that memory does not grow
    with their number; a grey one has all 256 shades and no loss.

    Args:
        path: Ends in .gif.
        size: Height and width of the images to come.
        fps: Their nominal rate, up to 50.
        instead: What could be written where sizes or the rate do not fit, for the message.

    Raises:
        SinkError: If the file cannot be made, or at that rate.
        MissingDependency: If PyAV is not installed.
    """

    def __init__(
        self, path: Path, *, size: tuple[int, int], fps: float, instead: str = "a folder of images"
    ) -> None:
        self._graph: Any = None
        self._is_grey = False
        if max(size) > _LARGEST_PX:
            raise SinkError(f"{path} cannot hold {size} (height, width), a GIF has at most {_LARGEST_PX}")
        super().__init__(path, size=size, fps=fps, instead=instead)

    def _tick_for(self, fps: Fraction) -> Fraction:
        return _TICK

    def _open(self, file: str) -> tuple[Any, Any]:
        if self.path.suffix.lower() != ".gif":
            raise SinkError(f"{self.path} ends in {self.path.suffix}, expected .gif")
        self._container = self._av.open(file, "w", format="gif", options={"loop": "0"})
        stream = self._container.add_stream("gif", rate=self._fps)
        stream.height, stream.width = self.size
        stream.time_base = stream.codec_context.time_base = self._tick
        return self._container, stream

    def _encode(self, image: Bytes) -> None:
        if not self._written:
            self._is_grey = image.ndim == 2
            self._stream.pix_fmt = "gray" if self._is_grey else "pal8"
            self._graph = None if self._is_grey else self._palettes()
        if self._is_grey and image.ndim == 3:
            raise SinkError(
                f"{self.path} was begun with grey images, and frame {self._written} is in colour; "
                "make all of them uint8[H, W, 3]"
            )
        form = "gray" if self._is_grey else "rgb24"
        shown = image if self._is_grey else as_rgb(image)
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(shown), format=form)
        picture.pts, picture.time_base = self._last, self._tick
        if self._graph is None:
            self._container.mux(self._stream.encode(picture))
        else:
            self._graph.push(picture)
            self._pull()

    def _flush(self) -> None:
        if self._graph is not None:
            self._graph.push(None)
            self._pull()
        self._container.mux(self._stream.encode(None))

    def _palettes(self) -> Any:
        """The filters from colours to palettes."""
        rows, cols = self.size
        graph = self._av.filter.Graph()
        form = self._av.VideoFormat("rgb24")
        source = graph.add_buffer(width=cols, height=rows, format=form, time_base=self._tick)
        split = graph.add("split")
        palette = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
        use = graph.add("paletteuse", "new=1:dither=sierra2_4a")
        source.link_to(split)
        split.link_to(palette, 0, 0)
        split.link_to(use, 1, 0)
        palette.link_to(use, 0, 1)
        use.link_to(graph.add("buffersink"))
        graph.configure()
        return graph

    def _pull(self) -> None:
        """Encode what the filters have ready."""
        while True:
            try:
                picture = self._graph.pull()
            except (BlockingIOError, EOFError):
                return
            self._container.mux(self._stream.encode(picture))
