"""Who holds the context of a GPU, and how what was made in it is freed."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Protocol, TypeVar

from pixelrt.closing import Closing
from pixelrt.errors import ContextLost, DeviceError, DeviceLost, InputError
from pixelrt.strict import type_of

KINDS = ("device memory", "host memory", "stream", "event", "graph")

CLOSED_DRIVER = "this CUDA driver was closed; open another one"

_LOG = logging.getLogger("pixelrt.cuda")

Own = TypeVar("Own", bound="Owned")
Other = TypeVar("Other", bound="Owned")


class PrimaryContext(Protocol):
    """The context of a GPU, as a library offers it."""

    def push(self) -> None:
        """Put it on top of the contexts of this thread; not if Ctrl-C comes in between."""
        ...

    def pop(self) -> None:
        """Take it off again; even if Ctrl-C comes in between."""
        ...

    def release(self) -> None:
        """Give it up, once."""
        ...


class _Entered(threading.local):
    """The contexts that this thread is in, the innermost last."""

    def __init__(self) -> None:
        self.stack: list[Context] = []


_ENTERED = _Entered()


class Context:
    """The context of a GPU, shared by a driver and everything that was made with it. Use it with `with`.

    It is given up when the driver is closed, all that was made is freed, and no thread is in it: whoever is
    last does it. Where it is the innermost one already, entering it costs no call of CUDA.
    """

    def __init__(self, primary: PrimaryContext) -> None:
        self._primary = primary
        self._lock = threading.RLock()  # a finalizer may run in the middle of any call below
        self._holders: dict[object, str] = {}
        self._released = False

    def hold(self, holder: object, kind: str = "") -> None:
        """Keep it until `drop` is called with the same holder.

        Raises:
            DeviceError: If it was given up already.
        """
        with self._lock:
            if self._released:
                raise DeviceError(CLOSED_DRIVER)
            self._holders[holder] = kind

    def drop(self, holder: object) -> None:
        """Keep it no longer, and give it up if nobody else does. Nothing happens if it was not kept."""
        with self._lock:
            self._holders.pop(holder, None)
            last = not self._holders and not self._released
            self._released |= last
        if not last:
            return
        try:
            self._primary.release()
        except (ContextLost, DeviceLost) as problem:
            _LOG.debug("not given up, since CUDA is lost: %s", problem)

    @property
    def live(self) -> dict[str, int]:
        """What is not freed yet, per kind."""
        with self._lock:
            counts = Counter(self._holders.values())
        return {kind: counts[kind] for kind in KINDS}

    def __enter__(self) -> None:
        stack = _ENTERED.stack
        depth = len(stack)
        try:
            stack.append(self)
            if depth == 0 or stack[depth - 1] is not self:
                self.hold(_place(depth))
                self._primary.push()
        except BaseException:  # Ctrl-C too, which may come after any call
            del stack[depth:]
            if depth == 0 or stack[-1] is not self:
                self.drop(_place(depth))
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stack = _ENTERED.stack
        if stack[-2:-1] == [self]:
            del stack[-1]
            return
        try:
            self._primary.pop()
        finally:
            del stack[-1]
            try:
                self.drop(_place(len(stack)))
            except KeyboardInterrupt:
                self.drop(_place(len(stack)))
                raise

    def free(self, holder: object, handle: Any, free: Callable[[Any], None]) -> None:
        """Free something that holds this context, and let it go.

        When CUDA works no more in this process there is nothing left to free: that is logged and no error.

        Raises:
            DeviceError: If CUDA refuses. It stays in `live`, since it is still there.
        """
        try:
            with self:
                free(handle)
        except (ContextLost, DeviceLost) as problem:
            _LOG.debug("not freed, since CUDA is lost: %s", problem)
        self.drop(holder)


def _place(depth: int) -> tuple[int, int]:
    """Who holds the context that this thread has entered at a depth of its stack."""
    return threading.get_ident(), depth


class Owned(Closing):
    """Base of all that is freed: in `close`, or when it is garbage, but not when the interpreter ends."""

    kind: ClassVar[str]

    def __init__(self, context: Context, handle: Any, free: Callable[[Any], None]) -> None:
        self.context = context
        self._handle = handle
        holder = object()
        context.hold(holder, self.kind)
        self._finalizer = weakref.finalize(self, context.free, holder, handle, free)
        self._finalizer.atexit = False

    def check_open(self) -> None:
        """Refuse to be used after it was closed.

        Raises:
            DeviceError: If it was.
        """
        if not self._finalizer.alive:
            raise DeviceError(f"this {self.kind} was closed; make a new one")

    @property
    def open_handle(self) -> Any:
        """What the library knows it by.

        Raises:
            DeviceError: If it was closed.
        """
        self.check_open()
        return self._handle

    def _sibling(self, other: object, expected: type[Other]) -> Other:
        """Something to be used together with this, if it is of the same driver.

        Raises:
            InputError: If it is not.
        """
        return made_in(self.context, other, expected, self.kind)

    def close(self) -> None:
        """Free it. A second time does nothing."""
        self._finalizer()


def made_in(context: Context, other: object, expected: type[Other], kind: str) -> Other:
    """Something that a call was given, if it is of the driver that the call is of.

    Args:
        context: The driver's.
        other: What was given.
        expected: What it must be.
        kind: What it was given to.

    Raises:
        InputError: If it is of another driver.
    """
    if not isinstance(other, expected) or other.context is not context:
        raise InputError(
            f"this {kind} was given {type_of(other)} of another driver; "
            "make everything that belongs together with one driver"
        )
    return other
