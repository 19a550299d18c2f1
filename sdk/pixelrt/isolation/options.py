"""What may be chosen about the child process, and about what it loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np

from pixelrt.errors import InputError
from pixelrt.manifest import ColorOrder
from pixelrt.session import GpuOptions, Precision, SessionOptions
from pixelrt.strict import suggestion

LOADER = "pixelrt:load"
Size: TypeAlias = tuple[int, int]
"""Height and width."""


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
    """How long one run of the network may take (a frame, or a batch that is run at once); None for ever.
    The time of a frame that was submitted begins when the one before it is done."""
    start_timeout_s: float | None = None
    """How long the child may take until it has loaded the bundle and warmed up; None for ever: it may build
    an engine. So long may `IsolatedSegmenter.warm_up` take too."""
    warm_up: tuple[Size, ...] = ()
    """Sizes of frames for which a child is warmed up before it gets any: the first ones take longer than all
    others (libraries set up, kernels are compiled), perhaps longer than `timeout_s` allows."""
    loader: str = LOADER
    """`module:function` that the child calls with the bundle's folder and the options, for a `Segmenter`."""

    def __post_init__(self) -> None:
        if type(self.restarts) is not int or self.restarts < 0:
            raise InputError(f"restarts is {self.restarts!r}, expected 0 or more")
        _check_seconds("restart_window_s", self.restart_window_s, "")
        for name in ("timeout_s", "start_timeout_s"):
            if getattr(self, name) is not None:
                _check_seconds(name, getattr(self, name), ", or None for no limit")
        for size in self.warm_up:
            checked_size("warm_up", size)
        if not isinstance(self.loader, str) or not all(self.loader.partition(":")):
            raise InputError(f"loader is {self.loader!r}, expected 'module:function', as {LOADER!r}")


def check_loading(loading: LoadOptions) -> None:
    """Refuse what the child would refuse, before it is started.

    Raises:
        TypeError: If a name is not one of `LoadOptions`.
        DeviceError, InputError: As `SessionOptions`.
    """
    for name in loading:
        if name not in LoadOptions.__annotations__:
            raise TypeError(
                f"isolate() got an unexpected keyword argument {name!r}"
                f"{suggestion(name, list(LoadOptions.__annotations__))}"
            )
    values: dict[str, Any] = {name: value for name, value in loading.items() if name != "color"}
    if values.get("gpu", ...) is None:
        del values["gpu"]
    SessionOptions(**values)


def _check_seconds(name: str, value: Any, otherwise: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise InputError(f"{name} is {value!r}, expected seconds above 0{otherwise}")


def sizes(given: Size | Sequence[Size]) -> tuple[Size, ...]:
    """One size, or several, as several.

    Raises:
        InputError: If it is none of that.
    """
    several = isinstance(given, Sequence) and all(isinstance(size, Sequence) for size in given)
    return tuple(checked_size("warm_up", size) for size in (given if several else (given,)))


def checked_size(what: str, size: Any) -> Size:
    """A size in Python's own numbers.

    Raises:
        InputError: If a side is no whole number of at least 1.
    """
    sides = tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(sides) != 2 or not all(_is_side(side) for side in sides):
        raise InputError(f"{what} {size}: height and width, whole numbers of at least 1, were expected")
    height, width = map(int, sides)
    return height, width


def _is_side(side: object) -> bool:
    return isinstance(side, (int, np.integer)) and not isinstance(side, bool) and int(side) >= 1
