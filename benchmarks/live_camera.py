"""A camera for the benchmarks of live video: H.264 in MPEG-TS over TCP, in a process of its own.

It sends a frame every 1/30 s, whoever reads and however slowly: what the network does not take waits here, as
in the buffers of a camera, so a reader that cannot keep up falls behind and loses nothing. Each frame carries
its number in its pixels, and the camera notes when it sent it, so that the age of a picture is measured from
outside, in the same way for everybody. (The last frame that came can be decoded when the next one begins, so
no reader of this format is younger than a frame.)

python benchmarks/live_camera.py FILM TIMES     prints its port, serves one reader, ends when that one goes
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import numpy as np
from numpy.typing import NDArray

FPS = 30
_BITS = 16
_BLOCK_PX = 24
_SCENE = 60
"""Frames of the drive, which is played forwards and backwards."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Film:
    """An encoded film and where each of its frames begins."""

    path: Path
    """`.ts`; any player plays it."""

    @property
    def index(self) -> Path:
        """Byte at which each frame begins, and the end, int64[N + 1]."""
        return self.path.with_suffix(".npy")

    def pieces(self) -> list[bytes]:
        """What is sent for each frame."""
        content, places = self.path.read_bytes(), np.load(self.index)
        return [content[begin:end] for begin, end in itertools.pairwise(places)]


def make_film(path: Path, frames: int, size: tuple[int, int] = harness.SIZE) -> Film:
    """Encode a drive as a camera would: no frame refers to a later one, a key frame each second.

    Args:
        path: Ends in `.ts`.
        frames: How many; numbers are `0 ... frames - 1`.
        size: Height and width.
    """
    import av

    film = Film(path)
    places = []
    with path.open("wb") as file, av.open(file, "w", format="mpegts", options={"flush_packets": "1"}) as made:
        options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "23", "g": str(FPS), "bf": "0"}
        stream: Any = made.add_stream("libx264", rate=FPS, options=options)
        stream.height, stream.width = size
        stream.pix_fmt, stream.codec_context.thread_count = "yuv420p", 1
        for number, image in zip(range(frames), _scene(size), strict=False):
            picture = av.VideoFrame.from_ndarray(_numbered(image, number), format="rgb24")
            picture.pts = number
            places.append(file.tell())
            made.mux(stream.encode(picture))
        made.mux(stream.encode(None))
    np.save(film.index, [*places, path.stat().st_size])
    return film


def number_of(image: Bytes) -> int:
    """The number in the pixels of a frame, in either colour order, after H.264."""
    middle = slice(_BLOCK_PX // 4, -_BLOCK_PX // 4)
    blocks = image[:_BLOCK_PX, : _BITS * _BLOCK_PX].reshape(_BLOCK_PX, _BITS, _BLOCK_PX, 3)
    bits = blocks[middle, :, middle].mean(axis=(0, 2, 3)) > 127
    return int(bits @ (1 << np.arange(_BITS)))


@contextlib.contextmanager
def camera(film: Film, times: Path) -> Iterator[str]:
    """A camera in its own process, which begins with its first reader.

    Args:
        film: What it sees.
        times: Where it notes when each frame was sent, by `time.monotonic`: float64[N], NaN before.

    Yields:
        Its address.
    """
    command = [sys.executable, __file__, str(film.path), str(times)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            if not port:
                raise harness.ChildError("the camera did not start")
            yield f"tcp://127.0.0.1:{port}"
        finally:
            process.kill()


def _scene(size: tuple[int, int]) -> Iterator[Bytes]:
    from pixelrt.video.drive import Drive, DriveOptions

    drive = Drive(DriveOptions(frames=_SCENE, size=size, seed=7))
    images = [drive.frame(index)[0] for index in range(_SCENE)]
    while True:
        yield from images
        yield from reversed(images)


def _numbered(image: Bytes, number: int) -> Bytes:
    bits = (number >> np.arange(_BITS) & 1).astype(bool)
    numbered = image.copy()
    row = np.repeat(np.where(bits, 235, 16).astype(np.uint8), _BLOCK_PX)
    numbered[:_BLOCK_PX, : row.size] = row[:, np.newaxis]
    return numbered


def _serve(film: Film, times: Path) -> None:
    pieces = film.pieces()
    sent = np.lib.format.open_memmap(times, mode="w+", dtype=np.float64, shape=(len(pieces),))
    sent[:] = np.nan
    with socket.create_server(("127.0.0.1", 0)) as server:
        sys.stdout.write(f"{server.getsockname()[1]}\n")
        sys.stdout.flush()
        reader, _ = server.accept()
    waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    with reader:
        reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sender = threading.Thread(target=_send, args=(reader, waiting))
        sender.start()
        start_s = time.monotonic()
        for number, piece in enumerate(pieces):
            time.sleep(max(start_s + number / FPS - time.monotonic(), 0))
            sent[number] = time.monotonic()
            waiting.put(piece)
            if not sender.is_alive():
                break
        waiting.put(None)
        sender.join()


def _send(reader: socket.socket, waiting: queue.SimpleQueue[bytes | None]) -> None:
    with contextlib.suppress(ConnectionError):  # the reader has gone
        while (piece := waiting.get()) is not None:
            reader.sendall(piece)


if __name__ == "__main__":
    _serve(Film(Path(sys.argv[1])), Path(sys.argv[2]))
