"""Where the inputs of a run come from, and how they get to the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelrt.cuda.interop import DeviceView, device_view
from pixelrt.cuda.protocol import DeviceInfo, Stream
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

        A single frame on the GPU may come without its batch axis; a tuple of arrays on the host is a batch of
        them, which need not be stacked before.

        Raises:
            InputError: If its type, shape or place does not fit.
        """
        if isinstance(value, tuple):
            return cls(spec, value, _batch_shape(spec, value), None)
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
        place = None if isinstance(self.value, tuple) else pinned.find(self.value)
        if buffer.shared and place is not None and place.is_aligned:
            return place.device_address
        buffer.fit(self.spec.dtype, self.shape)
        self._from_host(buffer, pinned, up)
        return buffer.address

    def _from_device(self, view: DeviceView, buffer: Buffer, compute: Stream) -> int:
        if view.is_aligned:
            return view.address
        buffer.fit(self.spec.dtype, self.shape)
        compute.copy_on_device(buffer.address, view.address, view.size_bytes)
        return buffer.address

    def _from_host(self, buffer: Buffer, pinned: PinnedFrames, up: Stream) -> None:
        """Copy every array of a batch: at once into the slot, or by the GPU from where it is page-locked."""
        begin = 0
        for array in self.value if isinstance(self.value, tuple) else (self.value,):
            end = begin + array.nbytes
            content = buffer.bytes[begin:end]
            place = pinned.find(array)
            if place is not None and not buffer.shared:
                content = place.content
            else:
                np.copyto(content.view(self.spec.dtype).reshape(array.shape), array)
            if not buffer.shared:
                up.copy_to_device(buffer.address + begin, content)
            begin = end

    def release(self) -> None:
        """Let go of memory of another library."""
        if self.view is not None:
            self.view.release()


def _batch_shape(spec: TensorSpec, arrays: tuple[Any, ...]) -> Shape:
    shapes = {np.shape(array) for array in arrays}
    if len(shapes) != 1:
        raise InputError(f"input {spec.name!r} is a batch of the shapes {sorted(shapes)}, expected one shape")
    for array in arrays:
        spec.check(array[np.newaxis])
    return (len(arrays), *shapes.pop())
