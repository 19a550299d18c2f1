"""Servers of stamped live video other than RTSP, in a process of their own: HTTP, TCP and UDP.

    python live_server.py '{"kind": "http", "port": 8080}'

HTTP serves `/ts` (MPEG-TS), `/mjpeg`, `/short.ts` and `/short.mp4` (finite files), `/text`, `/silent`
(never answers), `/secret/...` (asks for a password), `/moved/...` (redirects), `/later/...` (is not there at
first). TCP serves MPEG-TS to each client, UDP sends MPEG-TS to a port.
"""

from __future__ import annotations

import base64
import io
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from server_process import HOST, ServerProcess, free_port, say_ready

USER, PASSWORD = "robot", "pass+word&7"
SHORT_FRAMES = 80
"""More than a reader keeps waiting."""
ABSENT = 2
"""How often nothing is at a path that comes later."""


class LiveServer(ServerProcess):
    """The process. Pictures are numbered by time since `epoch_s`, so that a new life goes on counting.

    Args:
        kind: http, tcp or udp.
        port: A free one if None; for udp the port that it sends to.
        settings: fps, gop, size, boundary_only (MJPEG without Content-Length), certificate (HTTPS: a PEM file
            with its key), container (of TCP, instead of mpegts), every (draw late pictures, too: a number
            that does not come got lost).
    """

    script = __file__

    def __init__(self, kind: str, port: int | None = None, **settings: Any) -> None:
        self.port = port or free_port(socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
        self.what = kind
        scheme = "https" if "certificate" in settings else kind
        self.url = f"{scheme}://{HOST}:{self.port}"
        super().__init__({"kind": kind, "port": self.port, "epoch_s": time.monotonic(), **settings})


def _pictures(settings: dict[str, Any]) -> Iterator[Any]:
    """Stamped pictures, each at its time."""
    import stamped

    fps, epoch_s = float(settings.get("fps", 25)), float(settings["epoch_s"])
    size = tuple(settings.get("size", stamped.SIZE))
    index = int((time.monotonic() - epoch_s) * fps)
    while True:
        now = int((time.monotonic() - epoch_s) * fps)
        index = index + 1 if settings.get("every") else max(index + 1, now)
        time.sleep(max(0.0, epoch_s + index / fps - time.monotonic()))
        yield stamped.draw(index, size)


def _encode(target: Any, container_format: str, pictures: Iterator[Any], settings: dict[str, Any]) -> None:
    """Encode without delay, as cameras do, into a file, an address or an object with `write`."""
    import av

    fps = round(settings.get("fps", 25))
    with av.open(target, "w", format=container_format, options={"flush_packets": "1"}) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(settings.get("gop", 25))}
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(pictures):
            if not number:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class _Sender:
    """What FFmpeg writes goes to a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def write(self, data: bytes) -> int:
        self._sock.sendall(data)
        return len(data)


class _Handler(BaseHTTPRequestHandler):
    settings: dict[str, Any]
    absent: Iterator[int]
    protocol_version = "HTTP/1.0"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/secret/"):
            if not self._allowed():
                return
            path = path.removeprefix("/secret")
        if path.startswith("/later/"):
            path = "/nothing" if next(self.absent, None) is not None else path.removeprefix("/later")
        if path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", path.removeprefix("/moved"))
            self.end_headers()
            return
        answers = {"/ts": self._ts, "/mjpeg": self._mjpeg, "/text": self._text, "/silent": self._silent}
        if path.startswith("/short."):
            self._short(path.removeprefix("/short."))
        elif path in answers:
            answers[path]()
        else:
            self.send_error(404)

    def _allowed(self) -> bool:
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") == expected:
            return True
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="camera"')
        self.end_headers()
        return False

    def _begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()

    def _ts(self) -> None:
        self._begin("video/mp2t")
        _encode(_Sender(self.connection), "mpegts", _pictures(self.settings), self.settings)

    def _mjpeg(self) -> None:
        import cv2

        self._begin("multipart/x-mixed-replace; boundary=frame")
        for image in _pictures(self.settings):
            data = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
            length = "" if self.settings.get("boundary_only") else f"Content-Length: {len(data)}\r\n"
            head = f"--frame\r\nContent-Type: image/jpeg\r\n{length}\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")

    def _short(self, container_format: str) -> None:
        data = _short_file(container_format)
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(part)

    def _text(self) -> None:
        self._begin("text/html")
        self.wfile.write(b"<html>Welcome to your new camera</html>" * 20)

    def _silent(self) -> None:
        time.sleep(600)


@cache
def _short_file(container_format: str) -> bytes:
    import stamped

    file = io.BytesIO()
    pictures = (stamped.draw(index) for index in range(SHORT_FRAMES))
    _encode(file, {"ts": "mpegts"}.get(container_format, container_format), pictures, {})
    return file.getvalue()


def _serve_http(settings: dict[str, Any]) -> None:
    class Handler(_Handler):
        pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that goes away is no error."""

    Handler.settings, Handler.absent = settings, iter(range(ABSENT))
    server = Server((HOST, settings["port"]), Handler)
    if "certificate" in settings:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings["certificate"])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    say_ready()
    server.serve_forever()


def _serve_tcp(settings: dict[str, Any]) -> None:
    server = socket.create_server((HOST, settings["port"]))
    say_ready()
    while True:
        client, _ = server.accept()
        threading.Thread(target=_feed, args=(client, settings), daemon=True).start()


def _feed(client: socket.socket, settings: dict[str, Any]) -> None:
    import av

    with client, suppress(OSError, av.FFmpegError):  # it goes when it likes
        _encode(_Sender(client), settings.get("container", "mpegts"), _pictures(settings), settings)


def _serve_udp(settings: dict[str, Any]) -> None:
    say_ready()
    url = f"udp://{HOST}:{settings['port']}?pkt_size=1316"
    _encode(url, "mpegts", _pictures(settings), settings)


if __name__ == "__main__":
    chosen = json.loads(sys.argv[1])
    serve = {"http": _serve_http, "tcp": _serve_tcp, "udp": _serve_udp}
    threading.Thread(target=serve[chosen["kind"]], args=(chosen,), daemon=True).start()
    sys.stdin.read()  # ends with its parent
