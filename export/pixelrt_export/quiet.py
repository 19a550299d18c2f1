"""Keeps PyTorch's and ONNX's own talk off the user's terminal; what matters comes back as an exception."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_TALKERS = (
    "torch.onnx",
    "torch.export",
    "torch.fx",
    "torch._export",
    "torch._dynamo",
    "onnxscript",
    "onnx_ir",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Mute warnings and the loggers of the exporters. Errors pass."""
    loggers = [logging.getLogger(name) for name in _TALKERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def essential(problem: BaseException) -> str:
    """The line of an exception that tells the cause, and where in the user's code it was."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    lines = [line.strip() for line in str(problem).splitlines()]
    first = next((line for line in lines if line), type(problem).__name__)
    places = [line for line in lines if line.startswith('File "') and ", in " in line]
    return f"{type(problem).__name__}: {first}" + (f" ({places[-1]})" if places else "")
