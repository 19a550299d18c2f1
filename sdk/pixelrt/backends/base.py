"""What every backend offers, and what a session is."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pixelrt.errors import DeviceError, InputError
from pixelrt.manifest import Manifest, Tensor

Device = Literal["cpu", "cuda"]
Precision = Literal["float32", "bfloat16", "float16"]
"""How a backend computes. FP16 and BF16 networks keep their float32 layers in every precision."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a session."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    """Numbers, and names of axes whose size may vary."""

    @classmethod
    def of(cls, tensor: Tensor) -> TensorSpec:
        """The specification of a tensor in a manifest."""
        return cls(tensor.name, np.dtype(tensor.dtype), tensor.shape)

    def check(self, value: NDArray[Any]) -> None:
        """Refuse an array of another type or shape.

        Raises:
            InputError: Naming what came and what was expected.
        """
        if not isinstance(value, np.ndarray):
            raise InputError(f"input {self.name!r} is a {type(value).__name__}, expected a NumPy array")
        fits = len(value.shape) == len(self.shape) and all(
            isinstance(expected, str) or found == expected
            for found, expected in zip(value.shape, self.shape, strict=True)
        )
        if value.dtype != self.dtype or not fits or value.size == 0:
            expected = ", ".join(map(str, self.shape))
            raise InputError(
                f"input {self.name!r} is {value.dtype}{list(value.shape)}, expected {self.dtype}[{expected}]"
            )


def _at_size(spec: TensorSpec, size: tuple[int, int] | None) -> TensorSpec:
    """The specification with its height and width fixed, where a session takes one size alone."""
    if size is None:
        return spec
    fixed: dict[int | str, int | str] = {"height": size[0], "width": size[1]}
    return TensorSpec(spec.name, spec.dtype, tuple(fixed.get(dim, dim) for dim in spec.shape))


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


class Session(Protocol):
    """Runs one network on this machine: named arrays in, named arrays out. It knows nothing of images.

    A session belongs to one thread at a time; `run` raises `DeviceError` if a second one enters.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    info: SessionInfo
    frame_size: tuple[int, int] | None
    """Height and width at which it wants frames; None where the graph resizes by itself."""

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
    precision: Precision
    threads: int | None = None
    """CPU threads; None leaves it to the backend, which takes one per core."""
    why: str = ""
    """Why this backend and precision, for `SessionInfo.why`."""


class Backend(Protocol):
    """A library that runs networks."""

    name: str

    def unusable(self, device: Device) -> str:
        """Why it cannot run anything on this device of this machine; empty if it can."""
        ...

    def precisions(self, device: Device, manifest: Manifest | None) -> tuple[Precision, ...]:
        """The precisions in which it can run a bundle on this machine, the fastest first."""
        ...

    def open(self, model: bytes, manifest: Manifest, options: OpenOptions) -> Session:
        """Make a session of a deployed graph.

        Raises:
            DeviceError: If the library refuses the model.
        """
        ...


class LocalSession(ABC):
    """What all sessions share: their description, checks of inputs, closing, one thread at a time."""

    def __init__(self, manifest: Manifest, info: SessionInfo, frame_size: tuple[int, int] | None) -> None:
        self.inputs = tuple(_at_size(TensorSpec.of(tensor), frame_size) for tensor in manifest.inputs)
        self.outputs = tuple(map(TensorSpec.of, manifest.outputs))
        self.info = info
        self.frame_size = frame_size
        self._busy = threading.Lock()
        self._closed = False

    def __enter__(self) -> LocalSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        info = self.info
        return f"Session({info.backend} {info.version} on {info.device}, {info.precision})"

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network once; see `Session.run`."""
        with self._alone():
            self._check(feeds)
            return self._run(feeds)

    def close(self) -> None:
        """Free what the session holds."""
        with self._alone(closing=True):
            self._closed = True
            self._free()

    @abstractmethod
    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]: ...

    @abstractmethod
    def _free(self) -> None: ...

    @contextmanager
    def _alone(self, *, closing: bool = False) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise DeviceError(
                "this session is in use by another thread; open one session per thread (pixelrt.load again)"
            )
        try:
            if self._closed and not closing:
                raise DeviceError("this session is closed; open the bundle again with pixelrt.load")
            yield
        finally:
            self._busy.release()

    def _check(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        expected = [spec.name for spec in self.inputs]
        if sorted(feeds) != sorted(expected):
            raise InputError(f"the inputs {sorted(feeds)} were given, expected {expected}")
        for spec in self.inputs:
            spec.check(feeds[spec.name])
