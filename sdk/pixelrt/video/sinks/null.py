"""`null:`, which keeps nothing: for measuring."""

from __future__ import annotations

from pixelrt.errors import MisspeltSink
from pixelrt.video.delivery import Delivery
from pixelrt.video.sinks.base import BaseSink
from pixelrt.video.sinks.kinds import SinkOptions


class NullSink(BaseSink):
    """Takes everything and keeps nothing."""

    wants_picture = False

    def write(self, delivery: Delivery) -> None:
        """Do nothing."""


def open_null(uri: str, options: SinkOptions) -> NullSink:
    """Open `null:`.

    Raises:
        SinkError: If something follows the colon.
    """
    if uri != "null:":
        raise MisspeltSink(f"{uri}: nothing follows null:; write null: alone")
    return NullSink()
