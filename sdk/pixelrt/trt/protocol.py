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
from pixelrt.trt.options import EngineOptions
from pixelrt.trt.profiles import ShapeRange

MODEL = "model"
REQUEST = "request.json"
ENGINE = "engine"
OUTPUT = "output.txt"
"""Files in the folder that the two share; the last is whatever libraries print."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to do with the file in the folder: an ONNX, or an engine to inspect."""

    action: Literal["build", "parse", "inspect"]
    flavour: Flavour
    targets: tuple[str, ...]
    device_index: int
    """The GPU that the child shall see as its only one."""
    verbose: bool
    profile: dict[str, ShapeRange]
    options: EngineOptions
    timing_cache: str | bool
    """The file to use; True: that of this GPU and TensorRT in the user's cache; False: none."""


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
class EngineFacts:
    """What an engine says of itself once it is loaded."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    profiles: tuple[dict[str, ShapeRange], ...]
    """Shapes that every input accepts, and those it is tuned for."""
    num_layers: int
    layers: dict[str, int]
    """Number of layers per type of their first output; empty if it does not tell."""
    silence: str
    """Why it does not tell of its layers; empty if it does."""
    on_accelerator: int
    """Number of layers on a deep learning accelerator, each of which is a piece of the network."""
    fallback: tuple[str, ...]
    """Names of the other layers, copies aside, where there is anything on an accelerator."""
    device_memory_bytes: int
    """What an execution context needs beside the weights."""
    num_aux_streams: int
    refittable: bool
    profiling_verbosity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of the request."""

    version: str
    num_layers: int = 0
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    problems: tuple[NodeProblem, ...] = ()
    """What the parser refused; only where nothing was to be built."""
    targets: tuple[str, ...] = ()
    """Compute capabilities of the engine."""
    gpu: str = ""
    """Name of the GPU that a local engine was tuned on."""
    multiprocessors: int = 0
    """How many that GPU has."""
    facts: EngineFacts | None = None
    """What the engine says of itself, if it could be loaded here."""
    silence: str = ""
    """Why it could not."""
    unfit: tuple[str, ...] = ()
    """Layers of the network that the accelerator cannot run, as TensorRT said before it built."""
    timing_cache: bool = False
    """Whether a timing cache was used."""
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
