"""A camera for the benchmarks of live video: H.264 in FLV (as in RTMP) over TCP, in a process of its own.

It sends a frame every 1/30 s, whoever reads and however slowly: what the network does not take waits here, as
in the buffers of a camera, so a reader that cannot keep up falls behind and loses nothing. Each frame carries
its number in its pixels, and the camera notes when it sent it, so that the age of a picture is measured from
outside, in the same way for everybody. FLV says how long each picture is, so it can be decoded as soon as it
is there: FFmpeg's readers see that a picture of MPEG-TS is complete two frames later, and one of RTSP one
frame later, which would hide what the loops do.

python benchmarks/live_camera.py FILM TIMES once|endless     prints its port, serves one reader, ends with it
"""

from __future__ import annotations

import contextlib
import functools
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
_FORMAT = "flv"
_BITS = 16
_BLOCK_PX = 24
_SCENE = 60
"""Frames of the drive, which is played forwards and backwards."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Film:
    """An encoded film and where each of its frames begins."""

    path: Path
    """`.flv`; any player plays it."""

    @property
    def index(self) -> Path:
        """Byte at which each frame begins, and the end, int64[N + 1]."""
        return self.path.with_suffix(".npy")

    @property
    def frames(self) -> int:
        """How many."""
        return len(np.load(self.index)) - 1

    def once(self) -> Iterator[bytes]:
        """What is sent for each frame."""
        content, places = self.path.read_bytes(), np.load(self.index)
        return (content[begin:end] for begin, end in itertools.pairwise(places))

    def endless(self) -> Iterator[bytes]:
        """The same over and over: numbers begin again, times go on."""
        import av

        sent = _Sent()
        with av.open(sent, "w", format=_FORMAT, options={"flush_packets": "1"}) as made:
            stream: Any = None
            for play in itertools.count():
                with av.open(self.path) as film:
                    stream = stream or made.add_stream_from_template(film.streams.video[0])
                    for packet in film.demux(video=0):
                        if packet.pts is None or packet.dts is None or packet.time_base is None:
                            continue  # the mark of the end
                        later = round(play * self.frames / FPS / packet.time_base)
                        packet.pts, packet.dts, packet.stream = packet.pts + later, packet.dts + later, stream
                        made.mux(packet)
                        yield sent.take()


class _Sent:
    """A file that hands on what was written to it."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, content: bytes) -> int:
        self._written += content
        return len(content)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


def make_film(path: Path, frames: int, size: tuple[int, int] = harness.SIZE) -> Film:
    """Encode a drive as a camera would: no frame refers to a later one, a key frame each second.

    Args:
        path: Ends in `.flv`.
        frames: How many; numbers are `0 ... frames - 1`.
        size: Height and width.
    """
    import av

    film = Film(path)
    places = []
    with path.open("wb") as file, av.open(file, "w", format=_FORMAT, options={"flush_packets": "1"}) as made:
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
def camera(film: Film, times: Path, *, endless: bool = False) -> Iterator[str]:
    """A camera in its own process, which begins with its first reader.

    Args:
        film: What it sees.
        times: Where it notes when each frame was last sent, by `time.monotonic`: float64[N], NaN before.
        endless: Whether it sees it over and over.

    Yields:
        Its address.
    """
    command = [sys.executable, __file__, str(film.path), str(times), "endless" if endless else "once"]
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
    images = _drawn(size)
    while True:
        yield from images
        yield from reversed(images)


@functools.cache
def _drawn(size: tuple[int, int]) -> list[Bytes]:
    from pixelrt.video.drive import Drive, DriveOptions

    return [image for image, _ in Drive(DriveOptions(frames=_SCENE, size=size, fps=FPS, seed=7))]


def _numbered(image: Bytes, number: int) -> Bytes:
    bits = (number >> np.arange(_BITS) & 1).astype(bool)
    numbered = image.copy()
    row = np.repeat(np.where(bits, 235, 16).astype(np.uint8), _BLOCK_PX)
    numbered[:_BLOCK_PX, : row.size] = row[:, np.newaxis]
    return numbered


def _serve(film: Film, times: Path, pieces: Iterator[bytes]) -> None:
    sent = np.lib.format.open_memmap(times, mode="w+", dtype=np.float64, shape=(film.frames,))
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
            sent[number % film.frames] = time.monotonic()
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
    _film = Film(Path(sys.argv[1]))
    _serve(_film, Path(sys.argv[2]), _film.endless() if sys.argv[3] == "endless" else _film.once())
