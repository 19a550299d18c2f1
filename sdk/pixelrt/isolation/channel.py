"""A socket between parent and child that carries messages."""

from __future__ import annotations

import math
import select
import socket
import threading
import time

from pixelrt.isolation.protocol import Message, from_line, to_line

_CHUNK_BYTES = 1 << 16


class ChannelEndError(Exception):
    """The other process has closed its end, most likely by ending."""


class SilenceError(Exception):
    """Nothing came until the deadline."""


class Channel:
    """One end of the socket. Several threads may send, one may receive."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._received = bytearray()
        self._turn = threading.Lock()
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            ChannelEndError: If nobody listens any more.
        """
        line = to_line(message).encode()
        try:
            with self._turn:
                self._socket.sendall(line)
        except (BrokenPipeError, ConnectionResetError) as problem:
            raise ChannelEndError from problem

    def receive(self, deadline_s: float | None = None) -> Message:
        """Wait for a message.

        Args:
            deadline_s: Of `time.monotonic`; None to wait for ever.

        Raises:
            ChannelEndError: If the other process is gone and has said nothing more.
            SilenceError: If the deadline has passed.
            ValueError: If something came that is no message.
        """
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            self._wait(deadline_s)
            self._received += self._more()
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return from_line(line)

    def waiting(self, patience_s: float) -> bool:
        """Whether something has come; looks twice, after so long again."""
        if not self._received and not self._poll.poll(0):
            time.sleep(patience_s)
        return bool(self._received or self._poll.poll(0))

    def hang_up(self) -> None:
        """Tell the other process that nothing will be sent any more."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def _wait(self, deadline_s: float | None) -> None:
        if deadline_s is None:
            self._poll.poll()
        elif not self._poll.poll(max(0, math.ceil((deadline_s - time.monotonic()) * 1e3))):
            raise SilenceError

    def _more(self) -> bytes:
        try:
            data = self._socket.recv(_CHUNK_BYTES)
        except ConnectionResetError as problem:
            raise ChannelEndError from problem
        if not data:
            raise ChannelEndError
        return data
