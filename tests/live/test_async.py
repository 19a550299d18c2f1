"""A stream in an event loop: it is never held up, and nothing is lost when loops and tasks go."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path

import pytest
from live import Camera, Notes, check_accounts, gone, network, stuck

from pixelrt.errors import SinkError, SourceError
from pixelrt.video.delivery import Delivery
from pixelrt.video.live import Stream


def test_async_for_leaves_the_event_loop_free() -> None:
    async def count() -> tuple[list[Delivery], int]:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.005)
                beats += 1

        beating = asyncio.create_task(beat())
        taken = [delivery async for delivery in network(0.01).stream(Camera(20, live=False))]
        beating.cancel()
        return taken, beats

    taken, beats = asyncio.run(count())
    assert [delivery.frame.index for delivery in taken] == list(range(20))
    assert beats > 5


def test_break_out_of_async_for_ends_it() -> None:
    async def first() -> Delivery:
        stream = network().stream(Camera(None, before=stuck))
        async for delivery in stream:  # noqa: B007
            break
        assert gone()
        return delivery

    assert asyncio.run(first()).frame.index == 0


def test_cancelling_a_task_ends_its_stream() -> None:
    async def consume() -> None:
        async for _ in network().stream(Camera(None, before=stuck)):
            pass

    async def main() -> None:
        task = asyncio.create_task(consume())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    gc.collect()
    assert gone()


def test_cancelling_a_task_ends_its_stream_although_the_task_is_kept() -> None:
    """What keeps it keeps its error, and the frames in the traceback of that."""

    async def consume() -> None:
        async for _ in network().stream(Camera(None, before=stuck)):
            pass

    async def main() -> None:
        task = asyncio.create_task(consume())
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait([task])
        for _ in range(500):
            if gone():
                break
            await asyncio.sleep(0.01)
        assert gone()
        assert task.cancelled()

    asyncio.run(main())


def test_who_holds_the_results_may_go_on_after_a_cancelled_wait() -> None:
    go_on = threading.Event()

    def before(_: Camera, index: int) -> None:
        if index == 1:
            go_on.wait(20)

    async def main() -> list[int]:
        results = aiter(network().stream(Camera(2, before=before, live=False)))
        first = await anext(results)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(results), 0.1)
        go_on.set()
        return [first.frame.index, *[delivery.frame.index async for delivery in results]]

    assert asyncio.run(main()) == [0, 1]


def test_errors_reach_async_for() -> None:
    def broken(_: Camera, index: int) -> None:
        if index == 2:
            raise SourceError("the cable was pulled")

    async def consume(taken: list[int]) -> None:
        async for delivery in network().stream(Camera(None, before=broken, live=False)):
            taken.append(delivery.frame.index)  # noqa: PERF401

    taken: list[int] = []
    with pytest.raises(SourceError, match="the cable was pulled"):
        asyncio.run(consume(taken))
    assert taken == [0, 1]


def test_two_tasks_share_the_results_and_both_end() -> None:
    async def count(stream) -> int:  # type: ignore[no-untyped-def]
        return len([delivery async for delivery in stream])

    async def main() -> list[int]:
        stream = network().stream(Camera(30, 0.005, live=False))
        return await asyncio.wait_for(asyncio.gather(count(stream), count(stream)), 20)

    first, second = asyncio.run(main())
    assert first + second == 30


def test_an_event_loop_that_is_closed_meanwhile_breaks_nothing() -> None:
    go_on = threading.Event()
    camera = Camera(20, before=lambda _, index: None if index != 1 else void(go_on.wait(20)), live=False)
    stream = network().stream(camera)

    async def consume(stream: Stream) -> None:
        async for _ in stream:
            pass

    events = asyncio.new_event_loop()
    task = events.create_task(consume(stream))
    while not stream.statistics().delivered:
        events.run_until_complete(asyncio.sleep(0.005))
    events.close()
    go_on.set()
    left = [delivery.frame.index for delivery in stream]
    assert left == list(range(1, 20))
    assert stream.health.is_ok
    is_done = task.done()
    del task, stream
    gc.collect()  # asyncio logs here that the task was never ended
    assert not is_done


def test_a_stream_whose_event_loop_was_closed_is_freed_when_nobody_holds_it() -> None:
    async def consume() -> None:
        async for _ in network().stream(Camera(None, before=stuck)):
            pass

    events = asyncio.new_event_loop()
    task = events.create_task(consume())
    events.run_until_complete(asyncio.sleep(0.1))
    events.close()
    assert not gone()
    del task
    gc.collect()
    assert gone()


def void(_: object) -> None:
    """Nothing."""


def test_async_with_closes_the_stream_without_holding_the_event_loop_up() -> None:
    closing, go_on = threading.Event(), threading.Event()

    class Slow(Notes):
        def close(self) -> tuple[Path, ...]:
            closing.set()
            assert go_on.wait(10), "the event loop was held up"
            return super().close()

    async def let_go() -> None:
        while not closing.is_set():
            await asyncio.sleep(0.005)
        go_on.set()

    async def main() -> None:
        letting_go = asyncio.create_task(let_go())
        async with network().stream(Camera(None, 0.002), sinks=[sink]) as stream:
            async for _ in stream:
                break
        assert gone()
        await letting_go

    sink = Slow()
    asyncio.run(main())
    assert sink.ends == ["closed"]


def test_async_with_raises_what_nobody_has_heard_of_and_an_error_in_it_counts_more() -> None:
    class Unfinished(Notes):
        def close(self) -> tuple[Path, ...]:
            raise SinkError("cannot write the index")

    async def main(problem: Exception | None) -> None:
        async with network().stream(
            Camera(None, 0.002), sinks=[Unfinished()], on_sink_error="stop"
        ) as stream:
            await anext(aiter(stream))
            if problem is not None:
                raise problem

    with pytest.raises(SinkError, match="cannot write the index"):
        asyncio.run(main(None))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(main(ZeroDivisionError()))


def test_an_error_after_break_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Unfinished(Notes):
        def close(self) -> tuple[Path, ...]:
            raise SinkError("cannot write the index")

    async def main() -> None:
        camera = Camera(None, 0.002)
        stream = network().stream(camera, sinks=[Unfinished()], on_sink_error="stop")
        async for delivery in stream:
            taken = [delivery]
            break
        assert stream.health.state == "failed"
        check_accounts(stream.statistics(), taken, cameras=[camera], ended=True)

    asyncio.run(main())
    gc.collect()
    assert caplog.text.count("the loop over the stream was left: cannot write the index") == 1
