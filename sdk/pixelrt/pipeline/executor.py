"""What runs a network on a stream. It is all in which TensorRT and ONNX Runtime differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pixelrt.cuda.protocol import Stream
from pixelrt.tensors import Shape, TensorSpec


class Binding(Protocol):
    """A network with the shapes and addresses of one slot: an execution context, or an I/O binding."""

    def set_shapes(self, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """Fix the shape of every input.

        Returns:
            The shape of every output.

        Raises:
            InputError: If the network does not take these shapes; the message gives the range.
        """
        ...

    @property
    def scratch_bytes(self) -> int:
        """Memory that it needs to run at these shapes, beside inputs and outputs; 0 if it has its own."""
        ...

    def set_scratch(self, address: int, size_bytes: int) -> None:
        """Give it that memory. Slots share it: they run one after the other on one stream."""
        ...

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Set where every input and output lies on the GPU."""
        ...

    def enqueue(self, stream: Stream) -> None:
        """Put one run into the stream.

        Raises:
            ExecutionFailed: If the library refuses. Nothing was run, and the outputs are those of before.
        """
        ...

    def close(self) -> None:
        """Free it."""
        ...


class Executor(Protocol):
    """A loaded network."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    uncapturable: str
    """Why a run cannot be captured in a CUDA graph; empty if it can."""
    largest_batch: int | None
    """How many frames it takes at once; None where it sets no limit of its own."""

    def binding(self, stream: Stream) -> Binding:
        """Make a binding for a slot; all its runs will be put into `stream`.

        Raises:
            OutOfMemory: If it needs more memory than there is.
        """
        ...

    def close(self) -> None:
        """Free the network. Bindings are closed before it."""
        ...
