"""The live loop: sources in, results out, never behind.

    capture (a thread per source)     frames
      -> mailbox                        policy `latest`: one place, the newest frame; `all`: a short queue
      -> network (one thread)           fair over the sources, several frames on their way on a GPU
      -> sinks (a thread each)          a short queue each
      -> the program                    iterates, awaits, or is called back

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
