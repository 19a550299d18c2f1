"""Where the time of one run on a GPU went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class GpuTimes:
    """One run, by trtexec's definitions. GPU times come from CUDA events (resolution: half a microsecond)."""

    enqueue_ms: float
    """Host time to put the run into the stream, or to launch its graph."""
    upload_ms: float
    """GPU time to copy the inputs from the host; 0 where nothing is copied."""
    compute_ms: float
    """GPU time from the first kernel's turn to the end of the last."""
    download_ms: float
    """GPU time to copy the outputs to the host; 0 where nothing is copied."""

    @property
    def latency_ms(self) -> float:
        """Upload, compute and download, without the time in queues."""
        return self.upload_ms + self.compute_ms + self.download_ms


def together(runs: Sequence[GpuTimes | None]) -> GpuTimes | None:
    """What several runs took, added up; None where one was not measured, as on the CPU."""
    measured = [run for run in runs if run is not None]
    if not measured or len(measured) < len(runs):
        return None
    sums = {field.name: sum(getattr(run, field.name) for run in measured) for field in fields(GpuTimes)}
    return GpuTimes(**sums)
