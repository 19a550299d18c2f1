"""Optional libraries: imported where they are used, with an error that names what to install."""

from __future__ import annotations

import contextlib
import importlib
import sys
from types import ModuleType

from pixelrt.errors import MissingDependency
from pixelrt.interrupts import uninterrupted


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional library; Ctrl-C meanwhile comes afterwards.

    Args:
        module: Its import name, `cv2`.
        extra: The extra of `pixelrt` that installs it, `video`.
        purpose: What needs it, for the message: "reading video".

    Raises:
        MissingDependency: If it is not installed, or is installed and cannot be loaded.
    """
    try:
        with contextlib.nullcontext() if module in sys.modules else uninterrupted():
            return importlib.import_module(module)
    except ModuleNotFoundError as problem:
        if problem.name is None or problem.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingDependency(
            f"{purpose} needs the library {module.split('.')[0]!r}, which is not installed; "
            f"install it with: pip install 'pixelrt[{extra}]'"
        ) from None
    except ImportError as problem:
        raise MissingDependency(
            f"{purpose} needs the library {module!r}, which is installed and cannot be loaded: {problem}; "
            f"install it again: pip install --force-reinstall 'pixelrt[{extra}]'"
        ) from problem
