"""Where the inputs of a run come from, and how they get to the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelrt.cuda.interop import ALIGNMENT_BYTES, DeviceView, device_view
from pixelrt.cuda.protocol import Bytes, DeviceInfo, Stream
from pixelrt.errors import InputError
from pixelrt.pipeline.buffers import Buffer, PinnedFrames
from pixelrt.tensors import Shape, TensorSpec


@dataclass(frozen=True, slots=True)
class Feed:
    """One input of one run, checked: on the host, or on the GPU already."""

    spec: TensorSpec
    value: Any
    """Kept until the run is done."""
    shape: Shape
    view: DeviceView | None

    @classmethod
    def of(cls, spec: TensorSpec, value: Any, stream: Stream, device: DeviceInfo) -> Feed:
        """Check a value. One on the GPU is ordered before the work to come in `stream`.

        A single frame on the GPU may come without its batch axis.

        Raises:
            InputError: If its type, shape or place does not fit.
        """
        view = device_view(value, stream, device.index)
        if view is None:
            spec.check(value)
            return cls(spec, value, value.shape, None)
        shape = (1, *view.shape) if len(view.shape) == len(spec.shape) - 1 else view.shape
        try:
            spec.check_form(view.dtype, shape)
        except InputError:
            view.release()
            raise
        return cls(spec, value, shape, view)

    def put(self, buffer: Buffer, pinned: PinnedFrames, up: Stream, compute: Stream) -> int:
        """Bring it to the GPU.

        Args:
            buffer: The slot's, with nothing in flight.
            pinned: Arrays that the GPU copies from without help.
            up: Takes copies from the host.
            compute: Takes copies on the GPU.

        Returns:
            The address at which the run finds it.
        """
        if self.view is not None:
            return self._from_device(self.view, buffer, compute)
        found = pinned.find(self.value)
        if found is not None:
            return self._from_pinned(found, buffer, up)
        buffer.fit(self.spec.dtype, self.shape)
        np.copyto(buffer.array, self.value)
        if not buffer.shared:
            up.copy_to_device(buffer.address, buffer.bytes)
        return buffer.address

    def _from_device(self, view: DeviceView, buffer: Buffer, compute: Stream) -> int:
        if view.is_aligned:
            return view.address
        buffer.fit(self.spec.dtype, self.shape)
        compute.copy_on_device(buffer.address, view.address, view.size_bytes)
        return buffer.address

    def _from_pinned(self, found: tuple[Bytes, int | None], buffer: Buffer, up: Stream) -> int:
        content, there = found
        if buffer.shared and there is not None and there % ALIGNMENT_BYTES == 0:
            return there
        buffer.fit(self.spec.dtype, self.shape)
        if buffer.shared:
            buffer.bytes[:] = content
        else:
            up.copy_to_device(buffer.address, content)
        return buffer.address

    def release(self) -> None:
        """Let go of memory of another library."""
        if self.view is not None:
            self.view.release()
