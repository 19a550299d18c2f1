"""The live loop: sources in, results out, never behind.

    capture (a thread per source)     frames
      -> mailbox                        policy `latest`: one place, the newest frame; `all`: a short queue
      -> network (one thread)           fair over the sources, several frames on their way on a GPU
      -> sinks (a thread each)          a short queue each
      -> the program                    iterates, awaits, or is called back

The result of a camera's frame is there at most two inference times and one frame after the picture was
decoded; an inference is a batch where several frames are computed together. While the program is busy, the
result waits until its camera's next one takes its place: with N cameras that take turns it is at most N + 2
inference times and a frame from being decoded when it is delivered, as long as the camera goes on. Where it
gives no next frame, the last result waits and ages until it is taken, or is dropped by `deadline`. Ages begin
earlier, with `Frame.captured_s`: they hold the decoding, and how long a demuxer keeps pictures
(`pixelrt.video.sources.network`).

Every frame that was captured is delivered, or dropped for a reason that is counted, or still in between.
"""

from __future__ import annotations

from pixelrt.video.live.options import Policy, StreamArguments, StreamOptions
from pixelrt.video.live.statistics import (
    SinkStatistics,
    SourceStatistics,
    SourceStatus,
    StreamStatistics,
    StreamView,
)
from pixelrt.video.live.streaming import Stream, stream

__all__ = [
    "Policy",
    "SinkStatistics",
    "SourceStatistics",
    "SourceStatus",
    "Stream",
    "StreamArguments",
    "StreamOptions",
    "StreamStatistics",
    "StreamView",
    "stream",
]
