"""Finds TensorRT in one of its two flavours. What it can do is probed, never concluded from its version."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pixelrt.dependency import require
from pixelrt.errors import BuildError, MissingDependency
from pixelrt.trt.messages import Messages

Flavour = Literal["tensorrt", "tensorrt_rtx"]

FLAVOURS: dict[Flavour, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
"""Import names, and what the product is called."""

_EXTRAS: dict[Flavour, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}
_LOG = logging.getLogger("pixelrt.trt")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Library:
    """A loaded TensorRT."""

    flavour: Flavour
    trt: Any
    """The module."""
    version: str
    logger: Any
    """The `ILogger` of this process: TensorRT keeps the first that it gets and ignores all others."""
    problems: Messages = field(default_factory=Messages)
    """Errors that TensorRT logged and nobody has taken yet; see `take_problems`."""
    warnings: Messages = field(default_factory=Messages)
    """Likewise warnings; see `take_warnings`."""

    @property
    def title(self) -> str:
        """Name and version, for messages."""
        return f"{FLAVOURS[self.flavour]} {self.version}"

    def take_problems(self) -> list[str]:
        """The errors logged for this thread since its last call."""
        return self.problems.take()

    def take_warnings(self) -> list[str]:
        """The warnings logged for this thread since its last call."""
        return self.warnings.take()

    def take_messages(self) -> list[str]:
        """Both, the errors first."""
        return [*self.take_problems(), *self.take_warnings()]

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        """Keep errors and warnings of this thread out of the log: the caller takes them and tells of them."""
        caller = threading.get_ident()

        def passes(record: logging.LogRecord) -> bool:
            return record.levelno < logging.WARNING or record.thread != caller

        _LOG.addFilter(passes)
        try:
            yield
        finally:
            _LOG.removeFilter(passes)

    def make(self, kind: Any, *arguments: Any) -> Any:
        """Make one of TensorRT's objects.

        Raises:
            BuildError: If it refused; with the errors that it logged.
        """
        try:
            return kind(*arguments)
        except TypeError as problem:  # how the bindings report a null pointer
            reasons = explain(self.take_problems() or [str(problem)])
            raise BuildError(f"{self.title} cannot make its {kind.__name__}: {reasons}") from problem

    def check(self, value: T | None, call: str) -> T:
        """The one checker of TensorRT's return values: None, False and negative numbers are refusals.

        Args:
            value: What TensorRT returned.
            call: What was asked of it, for the message.

        Raises:
            BuildError: If it refused; with the errors that it logged.
        """
        if value is None or value is False or (isinstance(value, int) and value < 0):
            raise BuildError(f"{self.title} refused {call}: {explain(self.take_problems())}")
        return value

    def creation_flags(self) -> int:
        """Flags of a strongly typed network.

        The number of the flag differs between versions, and versions that know no other typing may drop it.

        Raises:
            BuildError: If this TensorRT cannot type strongly.
        """
        strongly_typed = getattr(self.trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        if strongly_typed is not None:
            return 1 << int(strongly_typed)
        if hasattr(self.trt.BuilderFlag, "FP16"):
            raise BuildError(
                f"{self.title} cannot build strongly typed networks; TensorRT 10.3 or newer was expected "
                "(JetPack 6.1 or newer on a Jetson)"
            )
        return 0


def installed_flavours() -> tuple[Flavour, ...]:
    """The flavours that can be imported here; nothing is imported."""
    return tuple(flavour for flavour in FLAVOURS if importlib.util.find_spec(flavour) is not None)


@functools.cache
def load_library(flavour: Flavour) -> Library:
    """Import a TensorRT and give it this process's logger.

    Raises:
        MissingDependency: If it is not installed, or its own libraries cannot be loaded.
    """
    purpose = f"building engines with {FLAVOURS[flavour]}"
    try:
        trt: Any = require(flavour, _EXTRAS[flavour], purpose)
    except OSError as problem:  # its package looks for shared libraries while it is imported
        raise MissingDependency(
            f"{purpose} needs {flavour!r}, which is installed and cannot be loaded: {problem}; "
            f"install it again with: pip install --force-reinstall 'pixelrt[{_EXTRAS[flavour]}]'"
        ) from problem
    problems, warnings = Messages(), Messages()
    return Library(flavour, trt, str(trt.__version__), _logger(trt, problems, warnings), problems, warnings)


def _logger(trt: Any, problems: Messages, warnings: Messages) -> Any:
    levels = {
        trt.ILogger.INTERNAL_ERROR: logging.CRITICAL,
        trt.ILogger.ERROR: logging.ERROR,
        trt.ILogger.WARNING: logging.WARNING,
        trt.ILogger.INFO: logging.INFO,
        trt.ILogger.VERBOSE: logging.DEBUG,
    }

    class Forwarder(trt.ILogger):  # type: ignore[misc]  # the class is known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            level = levels[severity]
            if level >= logging.ERROR:
                problems.append(message)
            elif level == logging.WARNING:
                warnings.append(message)
            _LOG.log(level, "%s", message)

    return Forwarder()


_PLACE = re.compile(r"\s*\bIn \w+ at \S+?:\d+(?=[).\s]|$)|\[\w+\.\w+:+[\w:]*?\d+(?:: \w+)?\]\s*")
_NO_DRIVER = ("cudaError 35", "error: 35")

_HINTS = {
    "FP32 GEMM is not supported": (
        "Turing (sm75) has no FP32 matrix multiplication there: leave sm75 out, or export that layer in FP16"
    ),
    "within workspace limit": "raise the limit, --memPoolSize=workspace:N",
    "OutOfMemory": "raise the limit, --memPoolSize=workspace:N, or lower the largest shapes, --maxShapes",
    "CHECK(status == CUDA_SUCCESS)": (
        "this build needs a GPU: an engine that is stripped of its weights, or that can be refitted, is "
        "compiled with one even by TensorRT-RTX"
    ),
    "missing dimensions in profile": "a dynamic axis has no range; export the bundle again",
}


def explain(messages: list[str]) -> str:
    """What TensorRT said, for people: once, without places in its sources, with what to do where known.

    On a machine without a driver TensorRT adds a CUDA error to every other error; it is dropped unless it is
    all there is.
    """
    telling = [text for text in messages if not any(junk in text for junk in _NO_DRIVER)] or messages
    said = "; ".join(dict.fromkeys(tidy(text) for text in telling)) or "it gave no reason"
    hints = [hint for sign, hint in _HINTS.items() if sign in said]
    return "; ".join([said, *hints])


def tidy(text: str) -> str:
    """One message of TensorRT on one line, without places in its sources."""
    return " ".join(_PLACE.sub("", text).split())
