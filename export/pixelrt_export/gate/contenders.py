"""What the gate measures on this machine, and what it says where something falls short; for every task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from onnx import ModelProto

from pixelrt.backends import BACKENDS, TYPED_AS, Device
from pixelrt.errors import BuildError, DeviceError, EngineMismatch, GateFailed
from pixelrt.manifest import Manifest
from pixelrt.session import Precision, Session, open_model
from pixelrt_export.rounding import round_explicitly

T = TypeVar("T")


class Track(Protocol):
    """Goes through items and shows how many are done."""

    def __call__(self, items: Sequence[T], description: str) -> Iterable[T]:
        """The items, one by one."""
        ...


@dataclass(frozen=True, slots=True)
class Contender:
    """A backend and a precision that run the deployed graph."""

    backend: str
    precision: Precision
    required: bool
    """Whether its failure is the failure of the export; otherwise `load` does not use it, and that is all."""
    device: Device = "cpu"

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}{' on the GPU' if self.device == 'cuda' else ''}"


def contenders(manifest: Manifest) -> tuple[Contender, ...]:
    """What the gate runs on this machine, for the precision of this bundle.

    OpenVINO in float32, which must pass; OpenVINO in bfloat16 where this CPU has it, which the runtime does
    not use if it fails; ONNX Runtime in the types of the ONNX, which must pass. For that, the roundings of an
    FP16 or BF16 graph are written out (see `rounding`), and it stands in for a GPU. Where there is one,
    TensorRT and ONNX Runtime run on it as they will, and are not used there if they fail.
    """
    openvino = [
        Contender("openvino", precision, required=precision == "float32")
        for precision in BACKENDS["openvino"].precisions("cpu", manifest)
    ]
    typed = TYPED_AS[manifest.precision.requested]
    stand_in = Contender("onnxruntime", typed, required=True)
    on_gpu = [
        Contender(name, typed, required=False, device="cuda")
        for name in ("tensorrt", "onnxruntime")
        if not BACKENDS[name].unusable("cuda")
    ]
    return (*sorted(openvino, key=lambda one: not one.required), stand_in, *on_gpu)


def opened(model: ModelProto, manifest: Manifest, contender: Contender) -> Session:
    """A session for a deployed graph, as the contender runs it.

    Raises:
        DeviceError, BuildError, EngineMismatch: If it cannot run here.
    """
    precision = contender.precision
    if (contender.backend, contender.device) == ("onnxruntime", "cpu"):
        model, _ = round_explicitly(model)
        precision = "float32"  # in which it runs the roundings that are written out
    return open_model(
        model.SerializeToString(),
        manifest,
        backend=contender.backend,
        precision=precision,
        device=contender.device,
    )


def each_measured(
    manifest: Manifest, measure: Callable[[Contender], Sequence[T]], notes: list[str]
) -> list[T]:
    """What was measured of every contender; of one that need not pass and cannot run, a note says why.

    Raises:
        DeviceError, BuildError, EngineMismatch: If a contender that must pass cannot run here.
    """
    figures: list[T] = []
    for contender in contenders(manifest):
        try:
            figures.extend(measure(contender))
        except (DeviceError, BuildError, EngineMismatch) as problem:  # noqa: PERF203 - a handful
            if contender.required:
                raise
            notes.append(f"{contender} was not measured: {problem}")
    return figures


def failure(manifest: Manifest, samples: str, misses: Sequence[str], cause: str) -> GateFailed:
    """The error of an export that did not pass.

    Args:
        manifest: Of what was judged.
        samples: On what, in words: `3 images`.
        misses: Which number missed which limit, one per line.
        cause: Where the difference comes from.
    """
    return GateFailed(
        f"{manifest.name} did not pass its gate on {samples}; no bundle was written\n"
        + "".join(f"  {miss}\n" for miss in misses)
        + f"  {cause}\n"
        "Try a more exact precision (fp32); lower the limit if this difference is acceptable for the task; "
        "or skip the gate, which the bundle will record (--no-gate, gate=False)"
    )
