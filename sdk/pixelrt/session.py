"""Chooses what runs a bundle on this machine, and opens it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from pixelrt.backends import (
    BACKENDS,
    Backend,
    Device,
    OpenOptions,
    Precision,
    Progress,
    Session,
    SessionInfo,
    TensorSpec,
    Ticket,
)
from pixelrt.bundle import Bundle
from pixelrt.errors import DeviceError, InputError
from pixelrt.manifest import Gate, Manifest
from pixelrt.pipeline.options import GpuOptions
from pixelrt.pipeline.times import GpuTimes
from pixelrt.strict import suggestion, type_of

__all__ = [
    "Choice",
    "GpuOptions",
    "GpuTimes",
    "Precision",
    "Session",
    "SessionInfo",
    "SessionOptions",
    "TensorSpec",
    "Ticket",
    "choices",
    "open_model",
    "open_session",
]

_PREFERENCE: tuple[tuple[str, Device], ...] = (
    ("tensorrt", "cuda"),
    ("onnxruntime", "cuda"),
    ("openvino", "cpu"),
    ("onnxruntime", "cpu"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What may run a bundle. The defaults take the best that this machine has.

    Raises:
        InputError: If a value is unknown.
    """

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, or `cuda:1` for the second GPU; all but `auto` forbid anything else."""
    backend: str | None = None
    """`tensorrt`, `onnxruntime` or `openvino`; None for the best."""
    precision: Precision | None = None
    """None takes the fastest whose gate passed at the export."""
    threads: int | None = None
    """CPU threads; None for one per core."""
    gpu: GpuOptions = field(default_factory=GpuOptions)
    """How a GPU is used."""
    build: Literal["auto", "never"] = "auto"
    """`auto` builds an engine where the bundle has none for this GPU, once, into the user's cache; `never`
    refuses instead, or takes the next best backend where `device` allows."""
    progress: Progress | None = None
    """Told of the steps of such a build."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"cuda:\d+", str(self.device)):
            _check_choice("device", self.device, ("auto", "cpu", "cuda"))
        _check_choice("build", self.build, ("auto", "never"))
        _check_choice("backend", self.backend, (None, *BACKENDS))
        _check_choice("precision", self.precision, (None, *get_args(Precision)))
        if self.threads is not None and (type(self.threads) is not int or self.threads < 1):
            raise InputError(f"threads is {self.threads!r}, expected 1 or more, or None for one per core")
        if not isinstance(self.gpu, GpuOptions):
            raise InputError(f"gpu is {type_of(self.gpu)}, expected pixelrt.GpuOptions(...)")

    @property
    def kind(self) -> str:
        """`auto`, `cpu` or `cuda`."""
        return self.device.split(":")[0]

    def opening(self, device: Device, precision: Precision, why: str = "") -> OpenOptions:
        """What a backend is told."""
        _, _, index = self.device.partition(":")
        return OpenOptions(
            device=device,
            device_index=int(index or 0),
            precision=precision,
            threads=self.threads,
            gpu=self.gpu,
            build=self.build,
            progress=self.progress,
            why=why,
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """A way to run a bundle here, and the reason for or against it."""

    backend: str
    device: Device
    usable: bool
    reason: str


def choices(bundle: Bundle | None = None, options: SessionOptions | None = None) -> tuple[Choice, ...]:
    """Every way to run a bundle, the preferred first. The first usable one is what `open_session` takes.

    Args:
        bundle: Its gate decides about precisions; without one only the machine is judged.
        options: What is allowed.
    """
    options = options or SessionOptions()
    return tuple(_judge(name, device, bundle, options) for name, device in _PREFERENCE)


def open_session(bundle: Bundle, options: SessionOptions | None = None) -> Session:
    """Open a bundle with the best that this machine has and `options` allow.

    Raises:
        DeviceError: If nothing may run it; the message gives the reason for each way.
        BundleError: If its model is missing, cut short or changed.
    """
    options = options or SessionOptions()
    judged: list[Choice] = []
    for name, device in _PREFERENCE:  # those after the first that is usable are not even imported
        judged.append(_judge(name, device, bundle, options))
        if judged[-1].usable:
            break
    chosen = judged[-1]
    if not chosen.usable:
        raise DeviceError(f"nothing here may run {bundle.path}{_reasons(judged)}")
    backend = BACKENDS[chosen.backend]
    precision, why = _precision(backend, chosen.device, bundle.manifest, options)
    if precision is None:
        raise DeviceError(f"{bundle.path}: {why}")
    return backend.open(bundle, options.opening(chosen.device, precision, why))


def _reasons(judged: Sequence[Choice]) -> str:
    """Why nothing is usable, one line per reason."""
    ways: dict[str, list[str]] = {}
    for choice in judged:
        ways.setdefault(choice.reason, []).append(f"{choice.backend} on {choice.device}")
    return "".join(f"\n  {', '.join(names)}: {reason}" for reason, names in ways.items())


def open_model(
    content: bytes,
    manifest: Manifest,
    *,
    backend: str,
    precision: Precision,
    device: Device = "cpu",
    threads: int | None = None,
) -> Session:
    """Open a deployed graph that is in no bundle yet, exactly as asked: this is how the export measures it.

    Args:
        content: The ONNX.
        manifest: What will be its manifest; gate and artifacts are not looked at.
        backend: Name of the backend.
        precision: How it shall compute.
        device: Where.
        threads: CPU threads; None for one per core.

    Raises:
        DeviceError: If this backend or this precision does not exist here.
    """
    _check_choice("backend", backend, tuple(BACKENDS))
    chosen = BACKENDS[backend]
    if problem := chosen.unusable(device):
        raise DeviceError(f"{backend} on {device}: {problem}")
    if precision not in chosen.precisions(device, manifest):
        raise DeviceError(_lacks(chosen, device, manifest, precision))
    options = OpenOptions(device=device, precision=precision, threads=threads, why="asked for")
    return chosen.open_model(content, manifest, options)


def _judge(name: str, device: Device, bundle: Bundle | None, options: SessionOptions) -> Choice:
    backend = BACKENDS[name]
    if options.backend not in (None, name):
        return Choice(name, device, False, f"backend {options.backend!r} was asked for")
    if options.kind not in ("auto", device):
        return Choice(name, device, False, f"device {options.device!r} was asked for")
    if problem := backend.unusable(device, options.opening(device, "float32")):
        return Choice(name, device, False, problem)
    if bundle is None:
        return Choice(name, device, True, f"can compute in {', '.join(backend.precisions(device, None))}")
    precision, why = _precision(backend, device, bundle.manifest, options)
    if precision is None:
        return Choice(name, device, False, why)
    problem = backend.unsuited(bundle, options.opening(device, precision))
    return Choice(name, device, not problem, problem or why)


def _precision(
    backend: Backend, device: Device, manifest: Manifest, options: SessionOptions
) -> tuple[Precision | None, str]:
    """The precision to use and why, or None and why there is none."""
    available = backend.precisions(device, manifest)
    gate, asked = manifest.gate, options.precision
    if asked is not None:
        if asked not in available:
            return None, _lacks(backend, device, manifest, asked)
        failed = gate.passed(backend.name, asked, device) is False
        return asked, f"{asked} was asked for{', although its gate failed' if failed else ''}"
    for precision in available:
        if gate.passed(backend.name, precision, device):
            return precision, f"{precision} is the fastest precision here whose gate passed"
    return _without_gate(backend, device, available[-1], gate)


def _without_gate(
    backend: Backend, device: Device, precision: Precision, gate: Gate
) -> tuple[Precision | None, str]:
    """The most exact precision, where no gate says that one passed."""
    if gate.passed(backend.name, precision, device) is False:
        return (
            None,
            f"no precision of {backend.name} passed the gate; name one with precision=..., or export again",
        )
    reason = (
        "the gate was skipped at the export"
        if gate.skipped
        else f"the gate did not measure {backend.name} in it"
    )
    return precision, f"{precision} is the most exact precision here ({reason})"


def _lacks(backend: Backend, device: Device, manifest: Manifest, asked: Precision) -> str:
    available = ", ".join(backend.precisions(device, manifest))
    return f"{backend.name} on {device} cannot compute this bundle in {asked}, it can in {available}"


def _check_choice(what: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        names = [str(name) for name in known if name is not None]
        hint = suggestion(str(value), names)
        raise InputError(f"{what} is {value!r}, expected one of {', '.join(names)}{hint}")
