"""A network that is a NumPy function, run on the streams of a simulated GPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.cuda.protocol import Driver, Stream
from pixelrt.errors import ContextLost, DeviceError, ExecutionFailed, InputError
from pixelrt.pipeline.executor import Binding, Executor
from pixelrt.strict import type_of
from pixelrt.tensors import Shape, TensorSpec
from pixelrt.testing.fake_cuda import FakeCuda
from pixelrt.testing.gpu import fake
from pixelrt.testing.resources import FakeDeviceMemory
from pixelrt.testing.simulation import Range
from pixelrt.testing.stream import FakeStream

Arrays = dict[str, NDArray[Any]]
Compute = Callable[[Arrays], Arrays]
_SCRATCH_PATTERN = 0xC3


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeNetwork:
    """How a network that is a NumPy function behaves."""

    compute_ms: float = 1.0
    """How long a run takes, in simulated time."""
    scratch_bytes: int | Callable[[Mapping[str, Shape]], int] = 0
    """Memory that it needs beside inputs and outputs: a number, or a function of the inputs' shapes."""
    binding_bytes: int = 0
    """Memory of the GPU that every binding takes for itself."""
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Least and greatest size of an axis, by its name; other shapes are refused."""
    uncapturable: str = ""
    """Why a run cannot be captured in a graph; it is refused then while a stream is captured."""
    needs_warm_up: bool = True
    """The first run at new shapes cannot be captured, as with TensorRT."""
    needs_context: bool = False
    """Refuse to be called outside of `FakeCuda.current()`, as TensorRT would crash."""


class FakeExecutor:
    """A network that is a NumPy function. It is an `Executor`, see `pixelrt.pipeline.executor`.

    The function runs when the simulated GPU comes to it, on the memory that was bound, as it is at that time.
    Its inputs cannot be written to.

    Attributes:
        num_runs: How often the function has been called.
        num_refused: How many runs were refused.
        num_bindings: How many bindings are open.
    """

    def __init__(
        self,
        cuda: FakeCuda,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        compute: Compute,
        network: FakeNetwork | None = None,
    ) -> None:
        """Make a network.

        Args:
            cuda: The GPU.
            inputs: What goes in. Axes with a name vary, and are as long wherever the name stands.
            outputs: What comes out; names of axes are those of the inputs.
            compute: From a dict with the array of every input, by its name, to a dict with that of every
                output, each of the dtype and shape promised.
            network: How it behaves.

        Raises:
            InputError: If an output has an axis that no input has.
        """
        known = {dim for spec in inputs for dim in spec.shape}
        for spec in outputs:
            if strange := [dim for dim in spec.shape if isinstance(dim, str) and dim not in known]:
                raise InputError(f"output {spec.name!r} has the axis {strange[0]!r}, which no input has")
        self.cuda = cuda
        self.driver: Driver = cuda
        self.inputs = inputs
        self.outputs = outputs
        self.compute = compute
        self.network = network or FakeNetwork()
        self.uncapturable = self.network.uncapturable
        self.largest_batch: int | None = (
            self.network.ranges["batch"][1] if "batch" in self.network.ranges else None
        )
        self.num_runs = 0
        self.num_refused = 0
        self.num_bindings = 0
        self.closed = False
        self._refusals: deque[str] = deque()
        self._crashes: deque[DeviceError] = deque()

    def binding(self, stream: Stream) -> FakeBinding:
        """Make a binding; see `Executor.binding`."""
        self.check("binding")
        return FakeBinding(self, stream)

    def refuse_next(self, reason: str = "refused by the test") -> None:
        """Let the next enqueue raise `ExecutionFailed`. Several queue up."""
        self._refusals.append(reason)

    def crash_next(self, error: DeviceError | None = None) -> None:
        """Let the next run fail on the GPU, which shows when the host waits for it.

        Args:
            error: `ContextLost`, unless something else is given.
        """
        self._crashes.append(error or ContextLost("the network crashed on the GPU, as the test wanted"))

    def close(self) -> None:
        """Free the network.

        Raises:
            DeviceError: If a binding is still open.
        """
        if self.num_bindings:
            raise DeviceError(f"{self.num_bindings} bindings are open; close them before their executor")
        self.closed = True

    def check(self, call: str) -> None:
        """Refuse a call after `close`, or outside of `current()` where that matters.

        Raises:
            DeviceError: Saying which.
        """
        if self.closed:
            raise DeviceError(f"{call}: the executor is closed")
        if self.network.needs_context and not self.cuda.is_current:
            raise DeviceError(f"{call}: CUDA's context is not current on this thread; use driver.current()")

    def refuse(self, reason: str) -> ExecutionFailed:
        """Count a refused run, and give the error to raise."""
        self.num_refused += 1
        return ExecutionFailed(f"the fake network was not run: {reason}")

    def next_refusal(self) -> str:
        """Why the next run is refused; empty if it is not."""
        return self._refusals.popleft() if self._refusals else ""

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        """Run the function from arrays to arrays, when the GPU has come to it.

        Raises:
            InputError: If the function gives something else than the outputs.
            DeviceError: If a crash was asked for.
        """
        if self._crashes:
            raise self._crashes.popleft()
        self.num_runs += 1
        results = self.compute(inputs)
        if not isinstance(results, Mapping):
            raise InputError(
                f"compute gave {type_of(results)}, expected a dict of the arrays {sorted(outputs)}"
            )
        if sorted(results) != sorted(outputs):
            raise InputError(f"compute gave {sorted(results)}, the outputs are {sorted(outputs)}")
        for name, target in outputs.items():
            found = np.asarray(results[name])
            if found.dtype != target.dtype or found.shape != target.shape:
                raise InputError(
                    f"compute gave {name!r} as {found.dtype}{list(found.shape)}, "
                    f"expected {target.dtype}{list(target.shape)}"
                )
            target[...] = found


class FakeBinding:
    """The shapes and addresses of one slot. It is a `Binding`, see `pixelrt.pipeline.executor`.

    Attributes:
        stream: Where all its runs go.
    """

    def __init__(self, executor: FakeExecutor, stream: Stream) -> None:
        self.stream = fake(stream, FakeStream, executor.cuda.gpu)
        taken = executor.network.binding_bytes
        self._own: FakeDeviceMemory | None = executor.cuda.allocate(taken) if taken else None
        self._executor = executor
        self._shapes: dict[str, Shape] = {}
        self._needed_bytes = 0
        self._scratch: Range | None = None
        self._addresses: dict[str, int] = {}
        self._warm = False
        self._closed = False
        executor.num_bindings += 1

    def set_shapes(self, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """Fix the shape of every input; see `Binding.set_shapes`."""
        executor = self._executor
        self._check("set_shapes")
        axes = _axes(executor.inputs, shapes, executor.network.ranges)
        results = {
            spec.name: tuple(axes[dim] if isinstance(dim, str) else dim for dim in spec.shape)
            for spec in executor.outputs
        }
        self._shapes = {name: tuple(map(int, shape)) for name, shape in shapes.items()} | results
        needed = executor.network.scratch_bytes
        self._needed_bytes = needed if isinstance(needed, int) else needed(shapes)
        self._scratch, self._addresses, self._warm = None, {}, False
        return results

    @property
    def scratch_bytes(self) -> int:
        """Memory that it needs at these shapes; see `Binding.scratch_bytes`."""
        return self._needed_bytes

    def set_scratch(self, address: int, size_bytes: int) -> None:
        """Give it that memory; see `Binding.set_scratch`."""
        self._check("set_scratch")
        if size_bytes < self._needed_bytes:
            raise InputError(f"{size_bytes} bytes of scratch memory came, expected {self._needed_bytes}")
        self._executor.cuda.view(address, size_bytes)
        self._scratch = (address, size_bytes)

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Set where every input and output lies; see `Binding.bind`."""
        self._check("bind")
        names = [spec.name for spec in (*self._executor.inputs, *self._executor.outputs)]
        if sorted(addresses) != sorted(names):
            raise InputError(f"addresses of {sorted(addresses)} came, expected {names}")
        self._addresses = dict(addresses)

    def enqueue(self, stream: Stream) -> None:
        """Put one run into the stream; see `Binding.enqueue`."""
        self._check("enqueue")
        if reason := self._executor.next_refusal() or self._unready(stream):
            raise self._executor.refuse(reason)
        reads = tuple(self._range(spec) for spec in self._executor.inputs)
        writes = tuple(self._range(spec) for spec in self._executor.outputs)
        used = (self._scratch[0], self._needed_bytes) if self._scratch and self._needed_bytes else None
        self.stream.run(
            self._action(used),
            label="run",
            duration_ms=self._executor.network.compute_ms,
            reads=reads,
            writes=(*writes, *([used] if used else [])),
        )
        self._warm = True

    def close(self) -> None:
        """Free it; a second time does nothing."""
        if not self._closed:
            self._closed = True
            self._executor.num_bindings -= 1
            if self._own is not None:
                self._own.close()

    def _check(self, call: str) -> None:
        if self._closed:
            raise DeviceError(f"{call}: the binding is closed")
        self._executor.check(call)

    def _unready(self, stream: Stream) -> str:
        network = self._executor.network
        if stream is not self.stream:
            return "it was put into another stream than the binding was made for"
        if not self._shapes:
            return "its shapes were not set"
        if not self._addresses:
            return "its addresses were not set since the last change of shapes"
        if self._needed_bytes and self._scratch is None:
            return "its scratch memory was not set since the last change of shapes"
        if self.stream.capturing and network.uncapturable:
            return f"it cannot be captured: {network.uncapturable}"
        if self.stream.capturing and network.needs_warm_up and not self._warm:
            return "its first run at new shapes cannot be captured; run it once before"
        return ""

    def _range(self, spec: TensorSpec) -> Range:
        shape = self._shapes[spec.name]
        return self._addresses[spec.name], int(np.prod(shape)) * spec.dtype.itemsize

    def _action(self, used: Range | None) -> Callable[[], None]:
        """One run, with everything as it is set now."""
        executor = self._executor
        views = {
            spec.name: (self._range(spec), spec.dtype, self._shapes[spec.name])
            for spec in (*executor.inputs, *executor.outputs)
        }

        def array(name: str) -> NDArray[Any]:
            (address, size_bytes), dtype, shape = views[name]
            return executor.cuda.view(address, size_bytes).view(dtype).reshape(shape)

        def run() -> None:
            if used:
                executor.cuda.view(*used).fill(_SCRATCH_PATTERN)
            inputs = {spec.name: array(spec.name) for spec in executor.inputs}
            for given in inputs.values():
                given.flags.writeable = False
            executor.run(inputs, {spec.name: array(spec.name) for spec in executor.outputs})

        return run


def _axes(
    inputs: tuple[TensorSpec, ...],
    shapes: Mapping[str, Shape],
    ranges: Mapping[str, tuple[int, int]],
) -> dict[str, int]:
    """The size of every named axis."""
    names = [spec.name for spec in inputs]
    if sorted(shapes) != sorted(names):
        raise InputError(f"shapes of {sorted(shapes)} came, expected {names}")
    axes: dict[str, int] = {}
    for spec in inputs:
        spec.check_form(spec.dtype, shapes[spec.name])
        for dim, size in zip(spec.shape, shapes[spec.name], strict=True):
            if isinstance(dim, str) and axes.setdefault(dim, int(size)) != size:
                raise InputError(f"the axis {dim!r} is {axes[dim]} and {size}, expected one size")
    for name, size in axes.items():
        least, greatest = ranges.get(name, (1, size))
        if not least <= size <= greatest:
            raise InputError(f"the axis {name!r} is {size}, the network takes {least} to {greatest}")
    return axes


if TYPE_CHECKING:

    def _is_executor(executor: FakeExecutor, binding: FakeBinding) -> tuple[Executor, Binding]:
        return executor, binding
