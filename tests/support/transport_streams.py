"""MPEG-TS of stamped pictures that is made in advance, and sent by UDP at an even pace."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import stamped

HOST = "127.0.0.1"
_DATAGRAM = 7 * 188
_PAUSE_S = 0.02
_RATE, _SAMPLES = 48_000, 1152


def transport_stream(frames: int, *, gop: int = 10, keyframes: bool = True, sound_s: float = 0.0) -> bytes:
    """Pictures and, where wanted, sound that goes on after the last of them.

    Args:
        frames: How many pictures, 25 a second.
        gop: From keyframe to keyframe.
        keyframes: Whether they are in it.
        sound_s: Seconds of silence.
    """
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        video = container.add_stream("libx264", rate=25)
        video.options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(gop)}
        video.pix_fmt = "yuv420p"
        video.height, video.width = stamped.SIZE
        audio = container.add_stream("mp2", rate=_RATE) if sound_s else None
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(stamped.draw(index), format="rgb24")
            frame.pts = index
            container.mux([packet for packet in video.encode(frame) if keyframes or not packet.is_keyframe])
        if audio is not None:
            for number in range(int(sound_s * _RATE / _SAMPLES)):
                sound = av.AudioFrame(format="s16", layout="stereo", samples=_SAMPLES)
                for plane in sound.planes:
                    plane.update(bytes(plane.buffer_size))
                sound.sample_rate, sound.pts = _RATE, number * _SAMPLES
                container.mux(audio.encode(sound))
    return file.getvalue()


class Sender(threading.Thread):
    """Sends to a port of this machine."""

    def __init__(self, data: bytes, port: int) -> None:
        super().__init__(name="sender")
        self._data, self._port = data, port
        self._over = threading.Event()

    def run(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for begin in range(0, len(self._data), _DATAGRAM):
                sock.sendto(self._data[begin : begin + _DATAGRAM], (HOST, self._port))
                if self._over.wait(_PAUSE_S):
                    return

    def end(self) -> None:
        self._over.set()
        self.join()


@contextmanager
def sending(data: bytes, port: int) -> Iterator[Sender]:
    """A thread that sends, until the block ends."""
    sender = Sender(data, port)
    sender.start()
    try:
        yield sender
    finally:
        sender.end()
