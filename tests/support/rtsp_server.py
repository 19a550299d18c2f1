"""A camera: GStreamer's RTSP server in a process of its own, with stamped pictures.

    python rtsp_server.py '{"port": 8554, "fps": 25}'

Commands on its standard input, a line each: `resize 480x640`, `stall`, `go`, `bye` (end of stream).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from server_process import HOST, ServerProcess, free_port, say_ready

_GI = "/usr/lib/python3/dist-packages"
_ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast threads=1 key-int-max={gop} "
    "pass=quant quantizer=20 "
    "! rtph264pay name=pay0 pt=96 config-interval=-1",
    "mjpeg": "jpegenc quality=90 ! rtpjpegpay name=pay0 pt=26",
}


class RtspServer(ServerProcess):
    """The process. Pictures are numbered by time since `epoch_s`, so that a new life goes on counting.

    Args:
        port: TCP port; None picks a free one.
        settings: fps, gop (frames between keyframes), codec (h264, mjpeg), size, user, password, digest,
            path, certificate (RTSPS: a PEM file with its key), every (draw late pictures, too: a number that
            does not come got lost).
    """

    script = __file__
    what = "RTSP"

    def __init__(self, port: int | None = None, **settings: Any) -> None:
        self.port = port or free_port()
        scheme = "rtsps" if "certificate" in settings else "rtsp"
        self.url = f"{scheme}://{HOST}:{self.port}/{settings.get('path', 'live')}"
        super().__init__({"port": self.port, "epoch_s": time.monotonic(), **settings})


class _Feeder:
    """Draws pictures at their time and hands them to the encoders of all media."""

    def __init__(self, gst: Any, settings: dict[str, Any]) -> None:
        self._gst = gst
        self._fps, self._epoch_s = float(settings.get("fps", 25)), float(settings["epoch_s"])
        self._every = bool(settings.get("every"))
        self._size: tuple[int, int] = tuple(settings.get("size", (240, 320)))
        self._sources: list[list[Any]] = []
        self._lock = threading.Lock()
        self._stalled = False
        threading.Thread(target=self._run, daemon=True).start()

    def add(self, media: Any) -> None:
        """Feed a medium until nobody watches it any more."""
        entry = [media.get_element().get_by_name("source"), None]
        with self._lock:
            self._sources.append(entry)
        media.connect("unprepared", lambda _: self._drop(entry))

    def _drop(self, entry: list[Any]) -> None:
        with self._lock:
            if entry in self._sources:
                self._sources.remove(entry)

    def command(self, text: str) -> None:
        word, _, rest = text.strip().partition(" ")
        with self._lock:
            if word == "resize":
                rows, cols = rest.split("x")
                self._size = int(rows), int(cols)
            elif word in ("stall", "go"):
                self._stalled = word == "stall"
            elif word == "bye":
                for entry in self._sources:
                    entry[0].emit("end-of-stream")
                self._sources.clear()

    def _run(self) -> None:
        import stamped

        index = int((time.monotonic() - self._epoch_s) * self._fps)
        while True:
            now = int((time.monotonic() - self._epoch_s) * self._fps)
            index = index + 1 if self._every else max(index + 1, now)
            time.sleep(max(0.0, self._epoch_s + index / self._fps - time.monotonic()))
            with self._lock:
                if self._stalled:
                    continue
                image = stamped.draw(index, self._size)
                for entry in self._sources:
                    self._push(entry, image)

    def _push(self, entry: list[Any], image: Any) -> None:
        gst = self._gst
        source, size = entry
        # Not playing yet: the picture would have no time, or, with a clock and no base time yet, that since
        # the machine was started; the server would wait for so long with it, and with all that follow.
        if source.get_clock() is None or not source.get_base_time():
            return
        if size != image.shape:
            rows, cols = image.shape[:2]
            rate = f"{round(self._fps * 1000)}/1000"
            caps = f"video/x-raw,format=RGB,width={cols},height={rows},framerate={rate}"
            source.set_property("caps", gst.Caps.from_string(caps))
            entry[1] = image.shape
        source.emit("push-buffer", gst.Buffer.new_wrapped(image.tobytes()))


def _factory(server_module: Any, feeder: _Feeder, settings: dict[str, Any]) -> Any:
    encoder = _ENCODERS[settings.get("codec", "h264")].format(gop=settings.get("gop", 25))
    factory = server_module.RTSPMediaFactory()
    factory.set_launch(
        "( appsrc name=source is-live=true do-timestamp=true format=time block=false max-bytes=20000000 "
        f"! videoconvert ! video/x-raw,format=I420 ! {encoder} )"
    )
    factory.set_shared(False)  # one that all share is refused to who comes while the last one goes
    factory.set_latency(0)
    factory.connect("media-configure", lambda _, media: feeder.add(media))
    return factory


def _permit(server_module: Any, factory: Any, role: str) -> Any:
    """Let a role watch; gives the token of those who have it."""
    token = server_module.RTSPToken()
    token.set_string("media.factory.role", role)
    permissions = server_module.RTSPPermissions()
    permissions.add_permission_for_role(role, "media.factory.access", True)
    permissions.add_permission_for_role(role, "media.factory.construct", True)
    factory.set_permissions(permissions)
    return token


def main(settings: dict[str, Any]) -> None:
    sys.path.append(_GI)
    import gi

    for namespace in ("Gst", "GstRtsp", "GstRtspServer"):
        gi.require_version(namespace, "1.0")
    from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer

    Gst.init(None)
    feeder = _Feeder(Gst, settings)
    server = GstRtspServer.RTSPServer()
    server.set_address(HOST)
    server.set_service(str(settings["port"]))
    factory = _factory(GstRtspServer, feeder, settings)
    if "certificate" in settings:
        auth = GstRtspServer.RTSPAuth()
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(settings["certificate"]))
        auth.set_default_token(_permit(GstRtspServer, factory, "anybody"))
        server.set_auth(auth)
    if "user" in settings:
        auth = GstRtspServer.RTSPAuth()
        user, password = settings["user"], settings["password"]
        token = _permit(GstRtspServer, factory, "user")
        if settings.get("digest"):
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(user, password, token)
        else:
            auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        server.set_auth(auth)
    server.get_mount_points().add_factory(f"/{settings.get('path', 'live')}", factory)
    loop = GLib.MainLoop()
    if not server.attach(None):
        sys.exit(f"port {settings['port']} is taken")
    say_ready()

    def listen() -> None:
        for line in sys.stdin:
            feeder.command(line)
        loop.quit()

    threading.Thread(target=listen, daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
