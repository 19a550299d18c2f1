"""How long pictures may be missing while data come."""

from __future__ import annotations

import time

from pixelrt.errors import SourceStalled
from pixelrt.video.sources.network.settings import NetworkSettings

KEYFRAME_S = 30.0
"""Pictures begin with a keyframe. Encoders send one every second to every 250 frames, which may be 25 s."""


class Patience:
    """Of one thread with pictures, watched by another one with data.

    A decoder that waits for a keyframe which never comes, or finds every picture damaged, gives none while
    data come all the time. Time that the thread spends elsewhere, with a picture, does not count.

    Args:
        settings: Of the connection.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        self._shown, self._most_s = settings.shown, max(settings.stall_s, KEYFRAME_S)
        self._since_s: float | None = None

    def begin(self) -> None:
        """The thread waits for a picture from now on."""
        self._since_s = time.monotonic()

    def end(self) -> None:
        """It has one."""
        self._since_s = None

    def check(self, damaged: int, unkeyed: int) -> None:
        """Called when data came.

        Args:
            damaged: Pictures that were left out so far because data are damaged.
            unkeyed: The same, because no keyframe came before them.

        Raises:
            SourceStalled: If pictures are missing for longer than `stall_s`, and than `KEYFRAME_S`.
        """
        since_s = self._since_s
        if since_s is not None and time.monotonic() - since_s > self._most_s:
            raise SourceStalled(
                f"{self._shown}: data come, and no picture for {self._most_s:g} s ({damaged} damaged, "
                f"{unkeyed} before a keyframe); set the camera to a keyframe every few seconds (GOP, I-frame "
                "interval) and, where data get lost, to RTSP over TCP, or wait longer with #stall=SECONDS"
            )
