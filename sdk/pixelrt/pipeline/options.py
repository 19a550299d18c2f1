"""How a session uses the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from pixelrt.cuda.opening import DriverName
from pixelrt.errors import InputError
from pixelrt.strict import suggestion

_MOST_SLOTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuOptions:
    """How a session uses the GPU. The defaults suit one camera.

    Raises:
        InputError: If a value cannot be used.
    """

    driver: DriverName | None = None
    """The library that talks to CUDA; None takes cuda-python, which captures graphs, before pycuda."""
    slots: int = 2
    """Frames that may be on their way at once, 1 to 16: with two, copying overlaps with computing."""
    graphs: bool = True
    """Whether runs are captured in CUDA graphs where that is possible."""
    blocking: bool = False
    """Whether waiting for the GPU sleeps instead of spinning: a free core, at the cost of some latency."""
    zero_copy: bool | None = None
    """Whether the GPU reads and writes the host's memory in place; None: where the two share it (Jetson)."""
    dla_core: int | None = None
    """Takes an engine that was built for this accelerator of a Jetson (`pixelrt build --useDLACore`)."""
    priority: int = 0
    """Of the streams among those of this GPU; lower goes first, out of range is clamped by CUDA."""

    def __post_init__(self) -> None:
        known = get_args(DriverName)
        if self.driver is not None and self.driver not in known:
            hint = suggestion(str(self.driver), list(known))
            raise InputError(f"driver is {self.driver!r}, expected one of {', '.join(known)}, or None{hint}")
        if type(self.slots) is not int or not 1 <= self.slots <= _MOST_SLOTS:
            raise InputError(f"slots is {self.slots!r}, expected 1 to {_MOST_SLOTS}")
        if type(self.priority) is not int:
            raise InputError(f"priority is {self.priority!r}, expected a whole number")
        for name in ("graphs", "blocking"):
            if type(getattr(self, name)) is not bool:
                raise InputError(f"{name} is {getattr(self, name)!r}, expected True or False")
        if self.zero_copy is not None and type(self.zero_copy) is not bool:
            raise InputError(f"zero_copy is {self.zero_copy!r}, expected True, False or None")
        if self.dla_core is not None and (type(self.dla_core) is not int or self.dla_core < 0):
            raise InputError(f"dla_core is {self.dla_core!r}, expected 0 or more, or None for the GPU")
