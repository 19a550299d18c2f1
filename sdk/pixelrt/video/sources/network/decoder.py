"""From packets to pictures, without a damaged one."""

from __future__ import annotations

from typing import Any

from pixelrt.video.sources.network.packets import Arrival, Parcel


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
        self._inside = self._beginnings = 0
        self.damaged = 0
        """Pictures that were left out because their data, or those of one that they build on, are damaged."""
        self.unkeyed = 0
        """Pictures that came before the first keyframe."""
        self.replaced = 0
        """Pictures that were inside when later packets were left out, and with them what completes these."""
        context.copy_opaque = True
        context.thread_type = "SLICE"  # threads per frame would hold frames back
        if (
            context.name == "h264"
        ):  # alone it says which pictures it patched up, and with other threads it does not
            context.thread_count = 1
        else:
            context.options = {"err_detect": "explode"}

    def decode(self, parcel: Parcel) -> list[tuple[Any, Arrival]]:
        """The pictures that are ready now, each with its arrival."""
        packet = parcel.packet
        if parcel.restart:
            self.replaced += self._empty()
        if not self._whole:
            if parcel.corrupt or not (self._intra_only or packet.is_keyframe):
                self._leave_out()
                return []
            self.damaged += self._empty()
            self._whole = True
        elif parcel.corrupt:
            self._fail(1)
            return []
        packet.opaque = self._beginnings, parcel.arrival
        self._inside += 1
        try:
            return self._whole_ones(self._context.decode(packet))
        except self._av.FFmpegError:
            self._inside -= 1
            self._fail(1)
            return []

    def miss(self, count: int) -> None:
        """So many pictures before the next packet got lost; none is nothing."""
        if count:
            self._fail(count)

    def flush(self) -> list[tuple[Any, Arrival]]:
        """The pictures that are still inside, at the end."""
        try:
            return self._whole_ones(self._context.decode(None))
        except self._av.FFmpegError:
            self._fail(self._inside)
            return []

    def _leave_out(self) -> None:
        """Count a picture from which decoding cannot begin."""
        if self.damaged:
            self.damaged += 1
        else:
            self.unkeyed += 1

    def _empty(self) -> int:
        """Begin anew: what is inside builds on what was left out, or is too old. Gives how many that are."""
        lost, self._inside = self._inside, 0
        self._beginnings += 1  # some decoders give it all the same
        self._context.flush_buffers()
        return lost

    def _whole_ones(self, pictures: list[Any]) -> list[tuple[Any, Arrival]]:
        whole = []
        for picture in pictures:
            beginning, arrival = picture.opaque
            if beginning != self._beginnings:
                continue
            self._inside -= 1
            if picture.is_corrupt:
                self._fail(1)
            else:
                whole.append((picture, arrival))
        return whole

    def _fail(self, count: int) -> None:
        self.damaged += count
        self._whole = self._intra_only
