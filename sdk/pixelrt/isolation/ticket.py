"""A frame on its way to the child and back, as the caller holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pixelrt.isolation.flight import Flight
from pixelrt.segmentation import Segmentation

if TYPE_CHECKING:
    from pixelrt.isolation.segmenter import IsolatedSegmenter


class IsolatedTicket:
    """A frame on its way; see `IsolatedSegmenter.submit`.

    It belongs to the thread that uses its segmenter.
    """

    def __init__(self, segmenter: IsolatedSegmenter, flight: Flight) -> None:
        self._segmenter = segmenter
        self._flight = flight

    @property
    def done(self) -> bool:
        """Whether `result` returns, or raises, without waiting for the child.

        Raises:
            DeviceError: If another thread uses the segmenter.
        """
        return self._segmenter.has_landed(self._flight)

    def result(self) -> Segmentation:
        """Wait for the result; any number of times.

        Raises:
            ExecutionFailed: If the child ended or was killed before the result was there.
            ContextLost: If CUDA works no more in the child, which is ended.
            DeviceError: If the backend failed at this frame, or another thread uses the segmenter.
            InputError: If the backend does not take this frame.
        """
        (result,) = self._segmenter.collect(self._flight)
        return result
