"""From packets to pictures, without a damaged one."""

from __future__ import annotations

from typing import Any

from pixelrt.video.sources.network.packets import Parcel


class Decoder:
    """Gives pictures from the first keyframe on, and after damage from the next one on.

    What FFmpeg patches up where data are missing is not a picture that the camera took.

    Args:
        av: PyAV.
        context: Codec context of the stream.
    """

    def __init__(self, av: Any, context: Any) -> None:
        self._av, self._context = av, context
        self._intra_only = context.codec.intra_only
        self._whole = False
        self._inside = 0
        self.damaged = 0
        """Pictures that were left out because their data, or those of one that they build on, are damaged."""
        self.unkeyed = 0
        """Pictures that came before the first keyframe."""
        context.thread_type = "SLICE"  # threads per frame would hold frames back
        context.copy_opaque = True
        if self._intra_only:
            context.options = {"err_detect": "explode"}

    def decode(self, parcel: Parcel) -> list[Any]:
        """The pictures that are ready now; `opaque` of each is its arrival."""
        packet = parcel.packet
        if parcel.restart:
            self._begin_anew()
        if not self._whole:
            if not self._begins(packet):
                return []
            self._begin_anew()
            self._whole = True
        if packet.is_corrupt:
            self._fail(1)
            return []
        packet.opaque = parcel.arrival
        self._inside += 1
        try:
            return self._whole_ones(self._context.decode(packet))
        except self._av.FFmpegError:
            self._inside -= 1
            self._fail(1)
            return []

    def flush(self) -> list[Any]:
        """The pictures that are still inside, at the end."""
        try:
            return self._whole_ones(self._context.decode(None))
        except self._av.FFmpegError:
            self._fail(self._inside)
            return []

    def _begins(self, packet: Any) -> bool:
        if self._intra_only or packet.is_keyframe:
            return True
        if self.damaged:
            self.damaged += 1
        else:
            self.unkeyed += 1
        return False

    def _begin_anew(self) -> None:
        """What is inside builds on what was left out, or is too old."""
        if self._inside:
            self.damaged += self._inside
            self._inside = 0
        self._context.flush_buffers()

    def _whole_ones(self, pictures: list[Any]) -> list[Any]:
        self._inside -= len(pictures)
        whole = [picture for picture in pictures if not picture.is_corrupt]
        if len(whole) < len(pictures):
            self._fail(len(pictures) - len(whole))
        return whole

    def _fail(self, count: int) -> None:
        self.damaged += count
        self._whole = self._intra_only
