"""`Stream`: what a program holds while the loop runs."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pixelrt.closing import Closing
from pixelrt.video.delivery import Delivery
from pixelrt.video.health import Health
from pixelrt.video.live.loop import Loop
from pixelrt.video.live.opening import (
    check_channels,
    check_drawing,
    find_head,
    open_inputs,
    open_outputs,
    settled,
)
from pixelrt.video.live.options import Policy, StreamArguments, StreamOptions
from pixelrt.video.live.sizing import open_sizing
from pixelrt.video.live.statistics import SourceStatus, StreamStatistics

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pixelrt.video.live.sizing import AnySegmenter


class Stream(Closing):
    """Results of frames, as they come; see `Segmenter.stream`.

    The first use starts it: a `for` loop, `async for`, `next`, or `run`. It ends for good when its sources
    have ended, a loop over it is left in any way, it is closed, or nobody holds it any more; sources that it
    opened are closed then, and its sinks finished. From then on it gives nothing, as any iterator that is
    used up; `statistics` says what it gave, and another run is another stream. One thread takes results;
    everything else can be called from any. While it runs, it alone uses the segmenter, which stays the
    caller's.
    """

    def __init__(self, segmenter: AnySegmenter, source: Any, options: StreamOptions) -> None:
        """Use `Segmenter.stream`.

        Raises:
            InputError: If something does not fit.
            SourceError: If a source cannot be opened.
            SinkError: If a sink cannot be opened.
        """
        check_channels(segmenter.bundle)
        head = find_head(segmenter.bundle, options.head)
        inputs = open_inputs(source, segmenter.color, options)
        with contextlib.ExitStack() as undo:
            for given in inputs:
                if given.owned:
                    undo.callback(given.source.close)
            sinks = open_outputs(options.sinks, inputs)
            for sink in sinks:
                if sink not in options.sinks:
                    undo.callback(sink.abort)
            check_drawing(head, sinks)
            sizing = open_sizing(
                segmenter,
                inputs[0].source.size,
                adaptive=options.adaptive,
                policies=[given.policy for given in inputs],
                deadline_s=options.deadline,
            )
            self._loop = Loop(inputs, sinks, sizing, head, segmenter.color, settled(options, inputs))
            undo.pop_all()
        self._is_in_async_with = False
        weakref.finalize(self, _close_quietly, self._loop)

    def __repr__(self) -> str:
        names = ", ".join(status.name for status in self.sources)
        return f"Stream({names}: {self.health.state})"

    def __iter__(self) -> Iterator[Delivery]:
        """Results until the end; leaving the loop closes the stream.

        Raises:
            PixelRTError: What a source, the network or a sink raised, after the results before it.
        """
        try:
            while (delivery := self._take()) is not None:
                yield delivery
        finally:
            _close_quietly(self._loop)

    def __next__(self) -> Delivery:
        """The next result; the stream goes on afterwards.

        Raises:
            StopIteration: At the end.
            PixelRTError: What a source, the network or a sink raised, after the results before it.
        """
        delivery = self._take()
        if delivery is None:
            raise StopIteration
        return delivery

    def __aiter__(self) -> AsyncIterator[Delivery]:
        """Results until the end, in an event loop; several tasks share them.

        Leaving the loop closes the stream, and the event loop waits for that; `async with` around it closes
        the stream without holding the event loop up.
        """
        return _Awaited(self, self._loop, closes=not self._is_in_async_with)

    async def __aenter__(self) -> Stream:
        self._is_in_async_with = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, problem, trace)

    async def aclose(self) -> None:
        """`close` in a thread, so that the event loop goes on meanwhile.

        Raises:
            PixelRTError: What a source, the network or a sink raised and nobody has heard of yet.
        """
        await asyncio.to_thread(self.close)

    def run(self, on_result: Callable[[Delivery], object] | None = None) -> StreamStatistics:
        """Run to the end.

        Args:
            on_result: Called with every result, in this thread. None leaves the results to the sinks; those
                that `next` was to have are taken and thrown away.

        Returns:
            The figures at the end.

        Raises:
            PixelRTError: What a source, the network or a sink raised, after the results before it.
        """
        if on_result is None:
            self._run()
        else:
            for delivery in self:
                on_result(delivery)
        return self.statistics()

    @property
    def health(self) -> Health:
        """As the worst source is; failed after an error."""
        return self._loop.health

    @property
    def sources(self) -> tuple[SourceStatus, ...]:
        """Every source, in the order in which they were given."""
        return self._loop.sources

    @property
    def policy(self) -> Policy | None:
        """`latest` or `all`, where it was left open: as chosen. None where sources differ: see `sources`."""
        policies = {given.policy for given in self._loop.inputs}
        return policies.pop() if len(policies) == 1 else None

    @property
    def outputs(self) -> tuple[Path, ...]:
        """Files and folders that the sinks have finished; after an error also what is left of others."""
        return self._loop.outputs

    def statistics(self) -> StreamStatistics:
        """All figures; from any thread, also after the end. The counts of frames are of one moment."""
        return self._loop.statistics()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:  # the error of the block is what counts
            _close_quietly(self._loop)

    def close(self) -> None:
        """Stop, from any thread, and finish the sinks with what they have. Safe to call twice.

        A thread that waits for a result gets none: its loop ends. A signal handler may call this; where it
        came in the middle of something it only stops the stream, and the loop that goes on then waits.

        Raises:
            PixelRTError: What a source, the network or a sink raised and nobody has heard of yet.
        """
        self._loop.close()
        self._loop.wait()

    def _run(self) -> None:
        try:
            self._loop.start(has_program=False)
            if self._loop.outlets.has_program:  # `next` has started it
                while self._take() is not None:
                    pass
            self._loop.wait()
        finally:
            self._loop.close()

    def _take(self) -> Delivery | None:
        """The next result; None at the end."""
        try:
            self._loop.start(has_program=True)
            delivery = self._loop.outlets.take()
            if delivery is None:
                self._loop.wait()
        except BaseException:
            self._loop.close()
            raise
        return delivery


class _Awaited:
    """Results in an event loop.

    Args:
        stream: Lives at least as long.
        loop: Of the stream.
        closes: Whether the stream is closed when `async for` lets go of this.
    """

    def __init__(self, stream: Stream, loop: Loop, *, closes: bool) -> None:
        self._stream, self._loop = stream, loop
        if closes:
            weakref.finalize(self, _close_quietly, loop)

    def __aiter__(self) -> _Awaited:
        return self

    async def __anext__(self) -> Delivery:
        try:
            delivery = await _next(self._loop)
        except BaseException:
            del self  # a task that was cancelled may be kept, and with it its traceback and this frame
            raise
        if delivery is None:
            raise StopAsyncIteration
        return delivery

    async def aclose(self) -> None:
        """End the stream."""
        await self._stream.aclose()


async def _next(loop: Loop) -> Delivery | None:
    """The next result; None at the end."""
    loop.start(has_program=True)
    changed, outlets = asyncio.Event(), loop.outlets
    with outlets.waking(_waker(asyncio.get_running_loop(), changed)):
        while (delivery := outlets.take(0)) is None and not outlets.finished:
            await changed.wait()
            changed.clear()
    if delivery is None:
        await asyncio.to_thread(loop.wait)
    return delivery


def _waker(events: asyncio.AbstractEventLoop, changed: asyncio.Event) -> Callable[[], None]:
    waiting = weakref.ref(changed)  # what wakes must not keep alive who sleeps, and so the stream

    def wake() -> None:
        if (still := waiting()) is not None:
            with contextlib.suppress(RuntimeError):  # the event loop has been closed: nobody waits there
                events.call_soon_threadsafe(still.set)

    return wake


def _close_quietly(loop: Loop) -> None:
    """Close where an error can be raised to nobody: Python drops what a loop raises that is left."""
    loop.close()
    loop.failure.log()


def stream(segmenter: AnySegmenter, source: Any, **options: Unpack[StreamArguments]) -> Stream:
    """Segment the frames of a source as they come. See `Segmenter.stream`."""
    return Stream(segmenter, source, StreamOptions.of(options))
