"""The live page for tests: pictures to show, clients good and bad, and what is left of them."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.sync.client import ClientConnection, connect

from pixelrt.manifest import ClassInfo
from pixelrt.web import Page, PageOptions, View

Bytes = NDArray[np.uint8]
CLASSES = (
    ClassInfo(name="road", color=(128, 64, 128)),
    ClassInfo(name="car", color=(0, 0, 255)),
    ClassInfo(name="sky", color=(0, 200, 255)),
)
SIZE = (48, 64)
IMAGE_SIZE = (96, 128)


def view(index: int = 0, *, overlay: Callable[[], Bytes] | None = None, **changes: Any) -> View:
    """A grey picture: a quarter car, half road, a quarter sky; the car's confidence is 0.6, all else 1."""
    rows, cols = SIZE
    mask = np.zeros(SIZE, np.uint8)
    mask[: rows // 2, : cols // 2] = 1
    mask[: rows // 2, cols // 2 :] = 2
    confidence = np.where(mask == 1, 153, 255).astype(np.uint8)
    values: dict[str, Any] = {
        "image": np.full((*IMAGE_SIZE, 3), 40 + index % 200, np.uint8),
        "mask": mask,
        "confidence": confidence,
        "classes": CLASSES,
        "overlay": overlay or (lambda: np.full((*IMAGE_SIZE, 3), (200, 10, 30), np.uint8)),
        "index": index,
        "age_ms": 12.5,
    }
    return View(**{**values, **changes})


@contextlib.contextmanager
def served(numbers: Any = None, **options: Any) -> Iterator[Page]:
    """A page on a free port."""
    extra = {} if numbers is None else {"numbers": numbers}
    with Page(PageOptions(**{"port": 0, **options}), **extra) as page:
        page.start()
        yield page


def port_of(page: Page) -> int:
    return int(page.url.partition("?")[0].rstrip("/").rpartition(":")[2])


@dataclass(frozen=True)
class Answer:
    """Of an HTTP request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(page: Page | int, path: str = "/", *, method: str = "GET", **headers: str) -> Answer:
    """An HTTP request to 127.0.0.1; underscores in names of headers are hyphens."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", page if isinstance(page, int) else port_of(page), timeout=20
    )
    with contextlib.closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        got = connection.getresponse()
        return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())


class Client:
    """A page as a browser has it open: takes part in the flow control unless told otherwise."""

    def __init__(self, page: Page, **options: Any) -> None:
        self._opening = connect(
            f"ws://127.0.0.1:{port_of(page)}/live", max_size=None, compression=None, proxy=None, **options
        )
        self.hello: dict[str, Any] = {}
        self.numbers: list[dict[str, Any]] = []

    def __enter__(self) -> Client:
        self.socket: ClientConnection = self._opening.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def say(self, order: Any) -> None:
        self.socket.send(json.dumps(order))

    def watch(self, *cameras: int) -> None:
        self.say({"watch": cameras})

    def seen(self, what: int | str) -> None:
        self.say({"seen": what})

    def next(self, timeout_s: float = 20.0) -> Picture | None:
        """The next picture; texts that come before are noted. None if none comes in time."""
        until_s = time.monotonic() + timeout_s
        while True:
            try:
                message = self.socket.recv(timeout=max(until_s - time.monotonic(), 0))
            except TimeoutError:
                return None
            if isinstance(message, bytes):
                return Picture.of(message)
            self._note(json.loads(message))

    def text(self, kind: str) -> dict[str, Any]:
        """The next text of a kind."""
        while True:
            message = self.socket.recv(timeout=20)
            if isinstance(message, str):
                told = json.loads(message)
                self._note(told)
                if told["type"] == kind:
                    return dict(told)

    def _note(self, told: dict[str, Any]) -> None:
        if told["type"] == "hello":
            self.hello = told
        else:
            self.numbers.append(told)
            self.seen("numbers")


@dataclass(frozen=True)
class Picture:
    """What `packed` made, unpacked."""

    header: dict[str, Any]
    jpeg: bytes
    mask: Bytes
    percent: Bytes | None

    @classmethod
    def of(cls, message: bytes) -> Picture:
        (length,) = struct.unpack_from("<I", message)
        header = json.loads(message[4 : 4 + length])
        parts, start = [], 4 + length
        for size in header["parts"]:
            parts.append(message[start : start + size])
            start += size
        assert start == len(message)
        planes = [
            np.frombuffer(zlib.decompress(part), np.uint8).reshape(header["mask"]) if part else None
            for part in parts[1:]
        ]
        assert planes[0] is not None
        return cls(header, parts[0], planes[0], planes[1])


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Check that threads and file descriptors are as before."""
    gc.collect()
    threads, descriptors = set(threading.enumerate()), _descriptors()
    yield
    gc.collect()
    assert wait_for(lambda: set(threading.enumerate()) <= threads), threading.enumerate()
    assert wait_for(lambda: _descriptors() <= descriptors), (descriptors, _descriptors())


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    """Whether it comes true in time."""
    until_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.01)
    return True


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
