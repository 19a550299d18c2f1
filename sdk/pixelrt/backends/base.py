"""What every backend offers, and what a session is."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pixelrt.bundle import Bundle
from pixelrt.closing import Closing
from pixelrt.errors import DeviceError, InputError, OutOfMemory
from pixelrt.manifest import Manifest, PrecisionType
from pixelrt.patience import waits
from pixelrt.pipeline.options import GpuOptions
from pixelrt.pipeline.times import GpuTimes
from pixelrt.strict import suggestion
from pixelrt.tensors import Shape, TensorSpec

Device = Literal["cpu", "cuda"]
Precision = Literal["float32", "bfloat16", "float16"]
"""How a backend computes. FP16 and BF16 networks keep their float32 layers in every precision."""

Progress = Callable[[str, int, int], None]
"""Called with a phase, the step that it reached, and its number of steps."""

TYPED_AS: dict[PrecisionType, Precision] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""How a GPU computes a graph: in the types that the graph has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """What runs a network, and why it was chosen."""

    backend: str
    device: str
    """`cpu`, `cuda:0`, ..."""
    precision: Precision
    version: str
    """Version of the library behind the backend."""
    why: str = ""
    gpu: str = ""
    """Name of the GPU; empty on the CPU."""
    driver: str = ""
    """What talks to CUDA, and its version."""
    engine: str = ""
    """The engine's file, where TensorRT runs one."""


class Ticket(Protocol):
    """A run that was submitted. It belongs to its session, and so to one thread at a time."""

    @property
    def done(self) -> bool:
        """Whether `result` returns without waiting."""
        ...

    @property
    def times(self) -> GpuTimes | None:
        """Where the time went; None before `result`, and on the CPU."""
        ...

    def result(self) -> dict[str, Any]:
        """Wait for the outputs, as `Session.run` returns them; any number of times.

        Raises:
            DeviceError: If the run failed.
        """
        ...


class Session(Protocol):
    """Runs one network on this machine: named arrays in, named arrays out. It knows nothing of images.

    A session belongs to one thread at a time; `run` raises `DeviceError` if a second one enters.
    """

    inputs: tuple[TensorSpec, ...]
    """Heights and widths are numbers where it wants an input at that size, names where the graph resizes."""
    outputs: tuple[TensorSpec, ...]
    info: SessionInfo

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once.

        Args:
            feeds: One array per input, of its dtype and shape.

        Returns:
            One array per output; the caller owns them.

        Raises:
            InputError: If an array is missing, unknown, or of another dtype or shape.
            DeviceError: If the backend fails, or the session is closed or in use by another thread.
        """
        ...

    def submit(
        self, feeds: Mapping[str, Any], *, outputs: Collection[str] | None = None, on_device: bool = False
    ) -> Ticket:
        """Start a run, so that the next frame can be prepared while the GPU works.

        A session has a number of slots (`GpuOptions.slots`); where all are taken, the oldest run is waited
        for first. On the CPU the run is done when this returns.

        Args:
            feeds: One array per input, as for `run`. On a GPU also arrays that are there already
                (`__dlpack__` or `__cuda_array_interface__`), which are not copied, and page-locked arrays of
                `host_array`; both must stay as they are until the run is done.
            outputs: Names of those that are wanted; None for all.
            on_device: Leave them on the GPU, as `DeviceArray`.

        Raises:
            InputError: As for `run`, and if an output is unknown or shall stay on a GPU that is not there.
            DeviceError: As for `run`.
        """
        ...

    def host_array(self, dtype: np.dtype[Any], shape: Shape) -> NDArray[Any]:
        """An array of undefined content to fill and feed: page-locked on a GPU, which saves a copy."""
        ...

    def clone(self) -> Session:
        """Another session of the same loaded network, for another thread, made before that thread starts.

        Raises:
            DeviceError: If the session is closed or in use by another thread.
        """
        ...

    @property
    def graphs(self) -> str:
        """How many CUDA graphs were captured, or why there are none."""
        ...

    @property
    def slots(self) -> int:
        """How many runs may be on their way at once; 1 on the CPU."""
        ...

    @property
    def largest_batch(self) -> int | None:
        """How many frames an engine takes at once; None where the manifest alone sets the limit."""
        ...

    def close(self) -> None:
        """Free what the session holds; using it afterwards raises `DeviceError`."""
        ...

    def __enter__(self) -> Session: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOptions:
    """How a backend opens a model."""

    device: Device = "cpu"
    device_index: int = 0
    """Which GPU, as CUDA_VISIBLE_DEVICES numbers them."""
    precision: Precision
    threads: int | None = None
    """CPU threads; None leaves it to the backend, which takes one per core."""
    gpu: GpuOptions = field(default_factory=GpuOptions)
    build: Literal["auto", "never"] = "auto"
    """Whether an engine may be built where the bundle has none that fits."""
    progress: Progress | None = None
    """Told of the steps of such a build."""
    why: str = ""
    """Why this backend and precision, for `SessionInfo.why`."""


class Backend(Protocol):
    """A library that runs networks."""

    name: str

    def unusable(self, device: Device, options: OpenOptions | None = None) -> str:
        """Why it cannot run anything on this device of this machine; empty if it can."""
        ...

    def unsuited(self, bundle: Bundle, options: OpenOptions) -> str:
        """Why it cannot run this bundle although it can run others; empty if it can."""
        ...

    def precisions(self, device: Device, manifest: Manifest | None) -> tuple[Precision, ...]:
        """The precisions in which it can run a bundle on this machine, the fastest first."""
        ...

    def open(self, bundle: Bundle, options: OpenOptions) -> Session:
        """Make a session of a bundle.

        Raises:
            DeviceError: If the library refuses the model.
            BundleError: If the bundle is damaged.
        """
        ...

    def open_model(self, model: bytes, manifest: Manifest, options: OpenOptions) -> Session:
        """Make a session of a deployed graph that is in no bundle.

        Raises:
            DeviceError: If the library refuses the model.
        """
        ...


@dataclass(frozen=True, slots=True)
class DoneTicket:
    """The ticket of a session that has finished when `submit` returns."""

    outputs: dict[str, NDArray[Any]]
    done: bool = True
    times: GpuTimes | None = None

    def result(self) -> dict[str, Any]:
        """The outputs."""
        return self.outputs


class LocalSession(Closing):
    """What all sessions share: their description, checks of inputs, closing, one thread at a time."""

    def __init__(self, manifest: Manifest, info: SessionInfo, sizes: Mapping[str, int]) -> None:
        self.inputs = tuple(TensorSpec.of(tensor).at_sizes(sizes) for tensor in manifest.inputs)
        self.outputs = tuple(map(TensorSpec.of, manifest.outputs))
        self.info = info
        self._input_names = frozenset(spec.name for spec in self.inputs)
        self._output_names = [spec.name for spec in self.outputs]
        self._busy = threading.Lock()
        self._closed = False

    def __repr__(self) -> str:
        info = self.info
        return f"Session({info.backend} {info.version} on {info.device}, {info.precision})"

    @property
    def graphs(self) -> str:
        """None without a GPU; see `Session.graphs`."""
        return "none: this session runs on the CPU"

    @property
    def slots(self) -> int:
        """See `Session.slots`."""
        return 1

    @property
    def largest_batch(self) -> int | None:
        """See `Session.largest_batch`."""
        return None

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once; see `Session.run`."""
        with self._alone():
            self._check(feeds)
            return self._run(feeds)

    def submit(
        self, feeds: Mapping[str, Any], *, outputs: Collection[str] | None = None, on_device: bool = False
    ) -> Ticket:
        """Run the network at once; see `Session.submit`."""
        if on_device:
            raise InputError(
                f"results shall stay on the GPU, this session runs on {self.info.device}; load the bundle "
                "with device='cuda'"
            )
        wanted = self._wanted(outputs)
        found = self.run(feeds)
        return DoneTicket(found if outputs is None else {name: found[name] for name in wanted})

    def host_array(self, dtype: np.dtype[Any], shape: Shape) -> NDArray[Any]:
        """An ordinary array; see `Session.host_array`."""
        with self._alone():
            try:
                return np.empty(shape, dtype)
            except (MemoryError, ValueError) as problem:
                raise OutOfMemory(
                    f"there is no memory for an array {dtype}{list(shape)} ({problem})"
                ) from problem

    def close(self) -> None:
        """Free what the session holds."""
        with self._alone(closing=True):
            self._closed = True
            self._free()

    @abstractmethod
    def clone(self) -> LocalSession:
        """Another session of the same network; see `Session.clone`."""

    @abstractmethod
    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]: ...

    @abstractmethod
    def _free(self) -> None: ...

    @contextmanager
    def _alone(self, *, closing: bool = False, cloning: bool = False) -> Iterator[None]:
        # Not acquire(blocking=False): Ctrl-C right after it would leave the lock to nobody. A thread that
        # slips through between the two lines waits, and is not refused.
        if self._busy.locked() and not waits():
            remedy = (
                "clone it before the threads start" if cloning else "give each thread its own, with clone()"
            )
            raise DeviceError(
                f"this session is in use by another thread; {remedy} (a stream alone uses its segmenter, "
                "and in its loop you can use another one, cloned before it)"
            )
        with self._busy:
            if self._closed and not closing:
                raise DeviceError("this session is closed; open the bundle again with pixelrt.load")
            yield

    def _wanted(self, outputs: Collection[str] | None) -> Sequence[str]:
        known = self._output_names
        if outputs is None:
            return known
        if unknown := [name for name in outputs if name not in known]:
            raise InputError(
                f"there is no output {unknown[0]!r}{suggestion(unknown[0], known)}; there are {known}"
            )
        return [name for name in known if name in outputs]

    def _check(self, feeds: Mapping[str, Any]) -> None:
        self._check_names(feeds)
        for spec in self.inputs:
            spec.check(feeds[spec.name])

    def _check_names(self, feeds: Mapping[str, Any]) -> None:
        if feeds.keys() != self._input_names:
            expected = [spec.name for spec in self.inputs]
            raise InputError(f"the inputs {sorted(feeds)} were given, expected {expected}")
