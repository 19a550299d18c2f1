"""Where the inputs of a run come from, and how they get to the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelrt.cuda.interop import DeviceView, device_view
from pixelrt.cuda.protocol import Bytes, DeviceInfo, Stream
from pixelrt.errors import InputError
from pixelrt.pipeline.buffers import Buffer, PinnedFrames
from pixelrt.pipeline.streams import Streams
from pixelrt.tensors import Shape, TensorSpec


@dataclass(frozen=True, slots=True)
class Staged:
    """An input that the GPU can get on its own."""

    address: int
    """Where the run finds it."""
    copies: tuple[tuple[int, Bytes], ...] = ()
    """From page-locked memory: where to, and what."""
    view: DeviceView | None = None
    """Memory on the GPU that is not aligned as the run needs it."""

    def send(self, streams: Streams) -> int:
        """Put the copies into the streams.

        Returns:
            The address at which the run finds the input.
        """
        for target, content in self.copies:
            streams.up.copy_to_device(target, content)
        if self.view is not None:
            streams.compute.copy_on_device(self.address, self.view.address, self.view.size_bytes)
        return self.address


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

    def stage(self, buffer: Buffer, pinned: PinnedFrames) -> Staged:
        """Have everything on the host where the GPU can copy it from, so that `Staged.send` copies nothing.

        Args:
            buffer: The slot's, with nothing in flight.
            pinned: Arrays that the GPU copies from without help.
        """
        if self.view is not None:
            return self._on_device(self.view, buffer)
        place = None if isinstance(self.value, tuple) else pinned.find(self.value)
        if buffer.shared and place is not None and place.is_aligned:
            return Staged(place.device_address)
        buffer.fit(self.spec.dtype, self.shape)
        return Staged(buffer.address, self._from_host(buffer, pinned))

    def _on_device(self, view: DeviceView, buffer: Buffer) -> Staged:
        if view.is_aligned:
            return Staged(view.address)
        buffer.fit(self.spec.dtype, self.shape)
        return Staged(buffer.address, view=view)

    def _from_host(self, buffer: Buffer, pinned: PinnedFrames) -> tuple[tuple[int, Bytes], ...]:
        """Fill the slot's memory, where the GPU cannot copy from the caller's."""
        copies, begin = [], 0
        for array in self.value if isinstance(self.value, tuple) else (self.value,):
            content = buffer.bytes[begin : begin + array.nbytes]
            place = pinned.find(array)
            if place is not None and not buffer.shared:
                content = place.content
            else:
                np.copyto(content.view(self.spec.dtype).reshape(array.shape), array)
            copies.append((buffer.address + begin, content))
            begin += array.nbytes
        return () if buffer.shared else tuple(copies)

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
