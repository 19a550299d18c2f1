"""The live loop: sources in, results out, never behind.

    capture (a thread per source)     frames
      -> mailbox                        policy `latest`: one place, the newest frame; `all`: a short queue
      -> network (one thread)           fair over the sources, several frames on their way on a GPU
      -> sinks (a thread each)          a short queue each
      -> the program                    iterates, awaits, or is called back

From a camera a result is never older than two inference times and one frame when it is there; an inference
is a batch where several frames are computed together. One that waits for a slow program is replaced by its
camera's next one: with N cameras that take turns none is delivered that is older than N + 2 inference times
and a frame.

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
