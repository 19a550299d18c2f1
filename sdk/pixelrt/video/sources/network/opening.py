"""From an address on the network to its source."""

from __future__ import annotations

from functools import partial

from pixelrt.video.sources.base import SourceOptions
from pixelrt.video.sources.lazy import LATE_S
from pixelrt.video.sources.network.settings import SCHEMES, read_settings
from pixelrt.video.sources.network.stream import NetworkStream
from pixelrt.video.sources.reconnecting import Reconnecting

__all__ = ["SCHEMES", "open_network"]


def open_network(text: str, options: SourceOptions) -> Reconnecting:
    """Open a camera or stream on the network, up to its first frame.

    Args:
        text: See `pixelrt.video.sources.network`.
        options: Nominal frames a second, for a stream that does not say; order of the channels.

    Raises:
        SourceError: If the address or an option cannot be used, or the camera cannot be reached (unless it is
            to be waited for), refuses, or sends no video.
        MissingDependency: If PyAV is not installed.
    """
    settings = read_settings(text, options)
    return Reconnecting(
        partial(NetworkStream, settings),
        name=settings.name,
        persistence=settings.persistence,
        fps=settings.fps,
        late_s=LATE_S,
    )
