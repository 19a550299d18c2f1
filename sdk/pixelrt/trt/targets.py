"""What an engine is built for: compute capabilities (`sm86`), or the GPU of this machine (`local`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pixelrt.errors import BuildError, InputError
from pixelrt.strict import suggestion
from pixelrt.trt.library import FLAVOURS, Flavour, Library

LOCAL = "local"
"""The GPU that is in this machine: the only one that the regular TensorRT builds for."""

RTX_TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""What TensorRT-RTX 1.7 builds for. A newer one is asked itself, and may know more."""

_WITHOUT_RTX = {
    "sm72": "Jetson Xavier",
    "sm87": "Jetson Orin",
    "sm90": "Hopper (H100, H200)",
    "sm100": "Blackwell for data centres (B200)",
    "sm101": "Jetson Thor",
    "sm103": "Blackwell for data centres (B300)",
    "sm110": "Jetson Thor",
}


def default_targets(flavour: Flavour) -> tuple[str, ...]:
    """What is built where nobody says: everything for TensorRT-RTX, which needs no GPU, else this GPU."""
    return RTX_TARGETS if flavour == "tensorrt_rtx" else (LOCAL,)


def check_targets(flavour: Flavour, targets: Sequence[str]) -> None:
    """Refuse targets that a flavour cannot have, before anything is started.

    Raises:
        InputError: If there is none, one twice, one that is no target, or one that the flavour cannot name.
    """
    if not targets or len(set(targets)) < len(targets):
        raise InputError(f"targets {list(targets)}: one or more, each once, were expected")
    for target in targets:
        if target != LOCAL and not re.fullmatch(r"sm\d{2,3}", target):
            near = suggestion(f"sm{re.sub(r'[^0-9]', '', target)}", list(RTX_TARGETS))
            raise InputError(
                f"target {target!r}: a compute capability such as 'sm86', or 'local', was expected{near}"
            )
        if flavour == "tensorrt" and target != LOCAL:
            raise InputError(
                f"target {target!r}: {FLAVOURS[flavour]} builds for the GPU of the machine it runs on; "
                f"use 'local' there, or TensorRT-RTX, which builds for {', '.join(RTX_TARGETS)} anywhere"
            )
        if flavour == "tensorrt_rtx" and target == LOCAL:
            raise InputError(
                f"target 'local': {FLAVOURS[flavour]} builds for named GPUs and needs none; "
                f"name one of {', '.join(RTX_TARGETS)}, or use the regular TensorRT"
            )


def compute_capabilities(library: Library, targets: Sequence[str]) -> list[Any]:
    """TensorRT's values for targets.

    Raises:
        BuildError: If this TensorRT does not know one.
    """
    known = {
        name.lower(): value
        for name, value in library.trt.ComputeCapability.__members__.items()
        if name not in ("NONE", "CURRENT")
    }
    for target in targets:
        if target not in known:
            raise BuildError(_unknown(library, target, tuple(known)))
    return [known[target] for target in targets]


def _unknown(library: Library, target: str, known: tuple[str, ...]) -> str:
    message = f"{library.title} cannot build for {target}, it builds for {', '.join(known)}"
    if target in _WITHOUT_RTX:
        return (
            f"{message}; {target} is {_WITHOUT_RTX[target]}: build there, with the regular TensorRT and "
            "target 'local'"
        )
    return message + suggestion(target, list(known))
