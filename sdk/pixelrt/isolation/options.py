"""What may be chosen about the child process, and about what it loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from pixelrt.errors import InputError
from pixelrt.manifest import ColorOrder
from pixelrt.session import GpuOptions, Precision

LOADER = "pixelrt:load"


class LoadOptions(TypedDict, total=False):
    """The keyword arguments of `pixelrt.load`, which are passed on to it in the child."""

    device: str
    backend: str | None
    precision: Precision | None
    threads: int | None
    color: ColorOrder | None
    build: Literal["auto", "never"]
    gpu: GpuOptions | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolationOptions:
    """How the child is started, watched and replaced.

    Raises:
        InputError: If a value cannot be used.
    """

    restarts: int = 3
    """How often a lost child is replaced by itself within `restart_window_s`; 0 leaves it to `restart()`."""
    restart_window_s: float = 60.0
    timeout_s: float | None = 30.0
    """How long one run of the network may take (a frame, or a batch that is run at once); None for ever."""
    start_timeout_s: float | None = None
    """How long the child may take until it has loaded the bundle; None for ever: it may build an engine."""
    loader: str = LOADER
    """`module:function` that the child calls with the bundle's folder and the options, for a `Segmenter`."""

    def __post_init__(self) -> None:
        if type(self.restarts) is not int or self.restarts < 0:
            raise InputError(f"restarts is {self.restarts!r}, expected 0 or more")
        _check_seconds("restart_window_s", self.restart_window_s, "")
        for name in ("timeout_s", "start_timeout_s"):
            if getattr(self, name) is not None:
                _check_seconds(name, getattr(self, name), ", or None for no limit")
        if not isinstance(self.loader, str) or not all(self.loader.partition(":")):
            raise InputError(f"loader is {self.loader!r}, expected 'module:function', as {LOADER!r}")


def _check_seconds(name: str, value: Any, otherwise: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise InputError(f"{name} is {value!r}, expected seconds above 0{otherwise}")
