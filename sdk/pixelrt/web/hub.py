"""What all connections share: the cameras, the numbers, and who looks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Any

from pixelrt.web.assets import Assets
from pixelrt.web.channel import Channel
from pixelrt.web.numbers import Numbers, plain
from pixelrt.web.options import PageOptions
from pixelrt.web.pace import Sample
from pixelrt.web.view import View, jpeg, packed, png

TICK_S = 0.5


class Listener:
    """A connection that waits for pictures or numbers; on the event loop only."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.numbers: str | None = None
        """The newest that were not taken yet."""


class Hub:
    """Made for one event loop; `announce` and `publish` may be called from another thread.

    Args:
        options: How pictures are encoded, and how many may look.
        numbers: Gives the numbers when they are asked for; called in the executor.
        assets: What the page is made of; their version tells an old page to load itself again.
        loop: The connections'.
        executor: For work that would hold the loop up. One thread, so that viewers, however many, cost the
            robot one core at most.
    """

    def __init__(
        self,
        options: PageOptions,
        numbers: Callable[[], Numbers],
        assets: Assets,
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
    ) -> None:
        self.options, self.assets, self.channels = options, assets, dict[str, Channel]()
        self.generation = 0
        """Grows whenever there is another camera, or one has other classes."""
        self.stopping = False
        self._numbers, self._loop, self._executor = numbers, loop, executor
        self._lock = threading.Lock()
        self._kinds: dict[str, tuple[Any, ...]] = {}
        self._listeners: set[Listener] = set()

    @property
    def is_full(self) -> bool:
        """Whether nobody else may look now."""
        return len(self._listeners) >= self.options.max_viewers

    def announce(self, name: str) -> Channel:
        """The camera of a name, which is shown from now on."""
        with self._lock:
            if name not in self.channels:
                encoders = self._encoders(len(self.channels))
                channel = Channel(name, encoders, self._loop, self._executor)
                self.channels = {**self.channels, name: channel}
                self.generation += 1
            return self.channels[name]

    def publish(self, name: str, view: View) -> None:
        """Show a view."""
        self.announce(name).publish(view)
        kind = (view.classes, view.confidence is not None)
        with self._lock:
            if self._kinds.get(name) != kind:
                self._kinds[name] = kind
                self.generation += 1

    @contextlib.contextmanager
    def listening(self) -> Iterator[Listener]:
        """A listener, in the block."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)

    def stop(self) -> None:
        """Let every connection end; on the event loop."""
        self.stopping = True
        for listener in self._listeners:
            listener.event.set()

    async def tick(self) -> None:
        """Note the pace and tell the numbers to those who look, for ever."""
        while True:
            await asyncio.sleep(TICK_S)
            now_s = time.monotonic()
            samples = {name: channel.sample(now_s) for name, channel in self.channels.items()}
            if self._listeners:
                self._tell(json.dumps({"type": "numbers", **await self.status(samples)}))

    async def status(self, samples: dict[str, Sample] | None = None) -> dict[str, Any]:
        """Health and numbers as plain data.

        Args:
            samples: The pace of the cameras; None for the last one that was noted.
        """
        numbers = await self._loop.run_in_executor(self._executor, self._numbers)
        for name in numbers.cameras:
            self.announce(name)
        told = plain(numbers, time.monotonic())
        cameras = told.pop("cameras")
        if samples is None:
            samples = {
                name: channel.history[-1] for name, channel in self.channels.items() if channel.history
            }
        told["cameras"] = [
            {
                "id": number,
                "name": name,
                "pace": _sample(samples[name]) if name in samples else None,
                "numbers": cameras.get(name),
            }
            for number, name in enumerate(self.channels)
        ]
        return told

    def hello(self) -> str:
        """What a page has to know before it shows anything."""
        cameras = [_camera(number, channel) for number, channel in enumerate(self.channels.values())]
        told = {
            "type": "hello",
            "version": self.assets.version,
            "title": self.options.title,
            "tick_s": TICK_S,
            "cameras": cameras,
        }
        return json.dumps(told)

    def _tell(self, text: str) -> None:
        for listener in self._listeners:
            listener.numbers = text
            listener.event.set()

    def _encoders(self, number: int) -> dict[str, Callable[[View, int], bytes]]:
        quality, longest_side = self.options.quality, self.options.longest_side

        def live(view: View, sequence: int) -> bytes:
            header = {"camera": number, "sequence": sequence}
            return packed(view, header, quality=quality, longest_side=longest_side)

        def overlay(view: View, _: int) -> bytes:
            return jpeg(view.overlay(), "rgb", quality=quality, longest_side=longest_side)

        def snapshot(view: View, _: int) -> bytes:
            return png(view.overlay(), "rgb")

        return {"live": live, "overlay": overlay, "snapshot": snapshot}


def _camera(number: int, channel: Channel) -> dict[str, Any]:
    view = channel.view
    return {
        "id": number,
        "name": channel.name,
        "classes": None if view is None else [[info.name, info.color] for info in view.classes],
        "confidence": view is not None and view.confidence is not None,
        "history": [_sample(sample) for sample in channel.history],
    }


def _sample(sample: Sample) -> list[float | None]:
    values = (time.monotonic() - sample.at_s, sample.fps, sample.p50_ms, sample.p99_ms)
    return [None if value is None else round(value, 2) for value in values]
