"""OpenVINO on the CPU: the default where there is no GPU."""

from __future__ import annotations

import contextlib
import functools
import io
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrt.backends.base import Device, LocalSession, OpenOptions, Precision, Session, SessionInfo
from pixelrt.bundle import Bundle
from pixelrt.dependency import require
from pixelrt.errors import DeviceError, MissingDependency
from pixelrt.interrupts import uninterrupted
from pixelrt.manifest import Manifest
from pixelrt.tensors import TensorSpec

_HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}
_LAYERS = frozenset(
    {
        "Convolution",
        "ConvolutionBackpropData",
        "GroupConvolution",
        "GroupConvolutionBackpropData",
        "MatMul",
    }
)
"""Operators with weights, as OpenVINO calls them."""
_LOADING = threading.RLock()


class OpenVINOBackend:
    """Float32 everywhere, bfloat16 where the CPU has it; the precision is never left to OpenVINO."""

    name = "openvino"

    def unusable(self, device: Device, options: OpenOptions | None = None) -> str:
        """Why it cannot run on this device; see `Backend`."""
        if device != "cpu":
            return "OpenVINO runs on the CPU"
        try:
            _library()
        except MissingDependency as problem:
            return str(problem)
        return ""

    def precisions(self, device: Device, manifest: Manifest | None) -> tuple[Precision, ...]:
        """Bfloat16 first where the CPU computes it natively; see `Backend`."""
        return ("bfloat16", "float32") if _has_bfloat16() else ("float32",)

    def unsuited(self, bundle: Bundle, options: OpenOptions) -> str:
        """It runs every bundle; see `Backend`."""
        return ""

    def open(self, bundle: Bundle, options: OpenOptions) -> Session:
        """Compile the portable ONNX; see `Backend`."""
        return self.open_model(bundle.read(bundle.model), bundle.manifest, options)

    def open_model(self, model: bytes, manifest: Manifest, options: OpenOptions) -> Session:
        """Compile for frames at the network's size, one at a time; see `Backend`."""
        info = SessionInfo(
            backend=self.name,
            device="cpu",
            precision=options.precision,
            version=str(_library().__version__).split("-")[0],
            why=options.why,
        )
        return OpenVINOSession(manifest, info, _compile(model, manifest, options))


class OpenVINOSession(LocalSession):
    """A compiled graph with one inference request.

    The graph is compiled for one frame of the network's size: its own Resize then disappears, and OpenVINO
    plans memory once. A batch runs frame by frame. One frame of a large network keeps all cores busy, and a
    graph compiled for a batch of 16 was slower (two cores, a painter of 0.6 M parameters at 128x192: 191 ms
    against 173); of a small one it was faster (28x28: 4.0 ms against 5.5), but then the same image differs by
    a byte here and there with the batch that it comes in, and a seed would not stand for its bytes any more.
    """

    def __init__(self, manifest: Manifest, info: SessionInfo, compiled: Any) -> None:
        super().__init__(manifest, info, manifest.network_sizes)
        self._manifest = manifest
        self._compiled = compiled
        self._request: Any = compiled.create_infer_request()
        self._tensor: Any = _library().Tensor

    def clone(self) -> OpenVINOSession:
        """Another request of the same compiled graph; see `Session.clone`."""
        with self._alone(cloning=True):
            return OpenVINOSession(self._manifest, self.info, self._compiled)

    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        batch = len(next(iter(feeds.values())))
        if batch == 1:
            return self._infer(feeds)
        runs = [
            self._infer({name: value[index : index + 1] for name, value in feeds.items()})
            for index in range(batch)
        ]
        return {name: np.concatenate([run[name] for run in runs]) for name in self._output_names}

    def _infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Arrays are lent to the request, not copied; handing them to `infer` in a dict takes 10 us more."""
        lent = {name: _lendable(value) for name, value in feeds.items()}
        request = self._request
        try:
            for name, value in lent.items():
                request.set_tensor(name, self._tensor(value, shared_memory=True))
            request.infer(share_outputs=True)
        except RuntimeError as problem:
            raise DeviceError(f"OpenVINO failed while running: {str(problem).strip()}") from problem
        return {name: request.get_tensor(name).data.copy() for name in self._output_names}

    def _free(self) -> None:
        self._request = self._compiled = None


def _lendable(value: NDArray[Any]) -> NDArray[Any]:
    """OpenVINO takes memory that is contiguous, and that may be written, although it only reads it."""
    flags = value.flags
    return value if flags.c_contiguous and flags.writeable else value.copy()


def _compile(model: bytes, manifest: Manifest, options: OpenOptions) -> Any:
    """Compile for the shortest latency, with threads that the system may move.

    OpenVINO would pin each to a core, and every layer then waits for a core that another process has just
    taken. Two busy cores, generators of 28x28, 64x64 and 128x192, each in a process of its own by turns:
    pinned, the mean was 1.1 to 1.9, 1.7 to 1.8 and 1.2 to 1.7 times as long. The least disturbed run of each
    process was up to 1.5 times as short at 64x64; at the other sizes it was not in every round.
    """
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _HINTS[options.precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    if options.threads is not None:
        settings["INFERENCE_NUM_THREADS"] = options.threads
    try:
        network = core().read_model(io.BytesIO(model))
        network.reshape(_one_frame(manifest))
        _drop_idle_resizes(network)
        _settle_constants(network)
        return core().compile_model(network, "CPU", settings)
    except RuntimeError as problem:
        raise DeviceError(
            f"OpenVINO {_library().__version__} cannot compile the model: {str(problem).strip()}; "
            "try backend='onnxruntime', and please report this"
        ) from problem


def _one_frame(manifest: Manifest) -> dict[str, list[int]]:
    """The shapes of the inputs for one frame at the network's size."""
    specs = (TensorSpec.of(tensor).at_sizes(manifest.network_sizes) for tensor in manifest.inputs)
    return {spec.name: [1 if isinstance(dim, str) else dim for dim in spec.shape] for spec in specs}


def _drop_idle_resizes(network: Any) -> None:
    """Take out resizes to the size that is there already: OpenVINO would run them, 1 ms for a frame."""
    for node in network.get_ordered_ops():
        if node.get_type_name() == "Interpolate" and node.input(0).get_shape() == node.output(0).get_shape():
            node.output(0).replace(node.input_value(0))


def _settle_constants(network: Any) -> None:
    """Put numbers where a layer depends on no input, as under the learned constant of a StyleGAN.

    OpenVINO (2026.4) computes such a convolution once, and lets the addition behind it write its sum into the
    same memory: from the second run on, images are wrong.
    """
    _settle_shapes(network)
    settled = [place for place in _constant_parts(network) if place.get_partial_shape().is_static]
    if not settled:
        return
    hint = {"INFERENCE_PRECISION_HINT": _HINTS["float32"]}
    values = core().compile_model(_library().Model(settled, []), "CPU", hint)([])
    for index, place in enumerate(settled):
        place.replace(_library().op.Constant(values[index].copy()).output(0))
    network.validate_nodes_and_infer_types()


def _settle_shapes(network: Any) -> None:
    """What depends on the shape of an input alone depends on no input: it is fixed."""
    for node in network.get_ordered_ops():
        if node.get_type_name() == "ShapeOf" and node.get_input_partial_shape(0).is_static:
            shape = np.array(list(node.get_input_shape(0)), node.get_output_element_type(0).to_dtype())
            node.output(0).replace(_library().op.Constant(shape).output(0))


def _constant_parts(network: Any) -> list[Any]:
    """Outputs that depend on no input, have a layer with weights behind them, and go where inputs go."""
    moving: set[str] = set()
    layered: set[str] = set()
    found: list[Any] = []
    for node in network.get_ordered_ops():
        before = {node.input_value(index).get_node().get_name() for index in range(node.get_input_size())}
        if node.get_type_name() == "Parameter" or before & moving:
            moving.add(node.get_name())
            found += [value for value in node.input_values() if value.get_node().get_name() in layered]
        elif node.get_type_name() in _LAYERS or before & layered:
            layered.add(node.get_name())
    return found


def core() -> Any:
    """The one core of this process, for ever.

    Raises:
        MissingDependency: Without OpenVINO.
    """
    with _LOADING:
        return _lasting_core()


@functools.cache
def _lasting_core() -> Any:
    """Its plugin is loaded in a thread that ends at once.

    The plugin for CPUs gives the thread that loads it another stack for signal handlers. When it goes, in any
    thread and in any order, it frees that stack, although the thread may use it still: Ctrl-C is then a
    segmentation fault (OpenVINO 2026.4).
    """
    library, loaded = _library(), Future[Any]()

    def load() -> None:
        try:
            made = library.Core()
            made.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
        except BaseException as problem:  # noqa: BLE001  # whoever waits gets it
            loaded.set_exception(problem)
        else:
            loaded.set_result(made)

    loading = threading.Thread(target=load)
    with uninterrupted():
        loading.start()
        loading.join()
    return loaded.result()


def _library() -> ModuleType:
    with _without_telemetry():
        return require("openvino", "cpu", "running bundles on the CPU")


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """OpenVINO reports its import over the network, from a process of its own, unless this is absent."""
    reporter = "openvino_telemetry"
    if "openvino" in sys.modules or reporter in sys.modules:
        yield
        return
    sys.modules[reporter] = None  # type: ignore[assignment]  # as documented for modules that must not be found
    try:
        yield
    finally:
        sys.modules.pop(reporter, None)  # another thread may have been here, too


@functools.cache
def _has_bfloat16() -> bool:
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
