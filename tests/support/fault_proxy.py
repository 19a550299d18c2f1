"""A network that fails: relays on loopback that stall, cut, damage, swallow everything, or lose datagrams."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

HOST = "127.0.0.1"
_STEP_S = 0.05


class FaultProxy:
    """Relays to `port`. Turn its knobs at any time, from any thread."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.swallow = False
        """New connections are accepted, and nothing is ever answered: a half-open server."""
        self.stall = False
        """Nothing is relayed from the server to the client; the connections stand."""
        self.flips_per_mb = 0.0
        """Bits that are turned over in a million bytes from the server."""
        self.cut_after: int | None = None
        """Bytes from the server after which a connection breaks."""
        self.connections = 0
        """How many clients came."""
        self._random = random.Random(5)
        self._end = threading.Event()
        self._pairs: list[tuple[socket.socket, ...]] = []
        self._threads: list[threading.Thread] = []
        self._server = socket.create_server((HOST, 0))
        self._server.settimeout(_STEP_S)
        self.port: int = self._server.getsockname()[1]
        self._start(self._accept)

    def cut(self) -> None:
        """Break all connections."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for sock in pair:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._end.set()
        self.cut()
        for thread in self._threads:
            thread.join()
        self._server.close()

    def _start(self, run: object, *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, name="fault proxy", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._end.is_set():
            try:
                client, _ = self._server.accept()
            except TimeoutError:
                continue
            self.connections += 1
            if self.swallow:
                self._pairs.append((client,))
                self._start(self._hold, client)
                continue
            try:
                server = socket.create_connection((HOST, self._target))
            except OSError:
                client.close()
                continue
            self._pairs.append((client, server))
            self._start(self._relay, client, server)

    def _hold(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            while client.recv(65536):
                pass

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        back = threading.Thread(target=self._pump, args=(server, client, True), daemon=True)
        back.start()
        self._pump(client, server, False)
        back.join()
        client.close()
        server.close()

    def _pump(self, source: socket.socket, sink: socket.socket, damaging: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(4096):
                passed += len(data)
                if damaging and self.cut_after is not None and passed > self.cut_after:
                    break
                while damaging and self.stall and not self._end.wait(_STEP_S):
                    pass
                sink.sendall(self._damaged(data) if damaging and self.flips_per_mb else data)
        for sock in (source, sink):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _damaged(self, data: bytes) -> bytes:
        content = bytearray(data)
        for place in range(len(content)):
            if self._random.random() < self.flips_per_mb / 1e6:
                content[place] ^= 1 << self._random.randrange(8)
        return bytes(content)


class LossyRelay:
    """Relays UDP to `target`. Turn its knob at any time, from any thread."""

    def __init__(self, target: int) -> None:
        self.share = 0.0
        """Of the datagrams that are lost; a seed says which."""
        self.lost = 0
        """Datagrams so far."""
        self._target, self._random = target, random.Random(7)
        self._end = threading.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**21)  # nothing else shall get lost
        self._socket.bind((HOST, 0))
        self._socket.settimeout(_STEP_S)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._relay, name="lossy relay")
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        self._socket.close()

    def _relay(self) -> None:
        while not self._end.is_set():
            with suppress(TimeoutError, ConnectionRefusedError):
                data = self._socket.recv(65536)
                if self._random.random() < self.share:
                    self.lost += 1
                else:
                    self._socket.sendto(data, (HOST, self._target))


@contextmanager
def lossy_relay(target: int) -> Iterator[LossyRelay]:
    relay = LossyRelay(target)
    try:
        yield relay
    finally:
        relay.close()


@contextmanager
def fault_proxy(port: int) -> Iterator[FaultProxy]:
    proxy = FaultProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
