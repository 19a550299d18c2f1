"""What parent and child tell each other: one JSON object a line."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pixelrt.manifest import Tensor
from pixelrt.strict import decode
from pixelrt.trt.library import Flavour
from pixelrt.trt.network import NodeProblem
from pixelrt.trt.profiles import ShapeRange

MODEL = "model.onnx"
REQUEST = "request.json"
ENGINE = "engine"
OUTPUT = "output.txt"
"""Files in the folder that the two share; the last is whatever libraries print."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to do with the ONNX in the folder."""

    action: Literal["build", "parse"]
    flavour: Flavour
    targets: tuple[str, ...]
    workspace_mib: float | None
    verbose: bool
    profile: dict[str, ShapeRange]


@dataclass(frozen=True, slots=True)
class Step:
    """A phase began (step 0), moved on, or ended (step = num_steps). Phases nest."""

    phase: str
    step: int
    num_steps: int


@dataclass(frozen=True, slots=True)
class Said:
    """Something that TensorRT logged."""

    level: int
    """Of `logging`."""
    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An error that was explained."""

    kind: str
    """Its class in `pixelrt.errors`."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of the request."""

    version: str
    num_layers: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    problems: tuple[NodeProblem, ...] = ()
    """What the parser refused; only where nothing was to be built."""
    targets: tuple[str, ...] = ()
    """Compute capabilities of the engine."""
    gpu: str = ""
    """Name of the GPU that a local engine was tuned on."""
    sha256: str = ""
    """Of the engine in the builder's own memory."""
    size_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Envelope:
    step: Step | None = None
    said: Said | None = None
    failed: Failed | None = None
    outcome: Outcome | None = None


Message: TypeAlias = Step | Said | Failed | Outcome
_KEYS: dict[type[Message], str] = {Step: "step", Said: "said", Failed: "failed", Outcome: "outcome"}


def to_line(message: Message) -> str:
    """A message as a line."""
    return json.dumps({_KEYS[type(message)]: dataclasses.asdict(message)}) + "\n"


def from_line(line: str) -> Message:
    """A line as a message.

    Raises:
        ValueError: If it is none.
    """
    envelope = decode(_Envelope, json.loads(line))
    for name in _KEYS.values():
        message: Message | None = getattr(envelope, name)
        if message is not None:
            return message
    raise ValueError(f"{line!r} holds no message")


def request_from_json(text: str) -> Request:
    """Read a request."""
    return decode(Request, json.loads(text))


def request_to_json(request: Request) -> str:
    """Write a request."""
    return json.dumps(dataclasses.asdict(request))
