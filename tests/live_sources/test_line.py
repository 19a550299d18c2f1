"""Finding the socket that a library opened, and hanging up on it."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from leaks import nothing_left

from pixelrt.video.sources.network.line import hang_up, line_to, open_sockets

HOST = "127.0.0.1"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/fd is Linux's")


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with closing(socket.create_server((HOST, 0))) as listening:
        yield listening


def connect(server: socket.socket) -> socket.socket:
    return socket.create_connection(server.getsockname())


def test_the_one_new_socket_is_found_and_whoever_waits_on_it_is_woken(server: socket.socket) -> None:
    with nothing_left(), ExitStack() as stack:
        older = stack.enter_context(connect(server))
        before = open_sockets()
        client = stack.enter_context(connect(server))
        line = line_to(HOST, server.getsockname()[1], before)
        assert line is not None
        stack.enter_context(line)
        assert line.getsockname() == client.getsockname()
        received: list[bytes] = []
        waiting = threading.Thread(target=lambda: received.append(client.recv(10)))
        waiting.start()
        time.sleep(0.1)
        assert waiting.is_alive()
        hang_up(line)
        waiting.join(10)
        assert received == [b""]
        assert older.fileno() >= 0
        hang_up(line)


def test_where_there_is_doubt_nothing_is_touched(server: socket.socket) -> None:
    port = server.getsockname()[1]
    with nothing_left(), ExitStack() as stack:
        before = open_sockets()
        assert line_to(HOST, port, before) is None, "none"
        stack.enter_context(connect(server))
        stack.enter_context(connect(server))
        assert line_to(HOST, port, before) is None, "two"
        assert line_to(HOST, port + 1, before) is None, "another port"
        assert line_to("nowhere.invalid", port, before) is None


def test_other_sockets_are_none(server: socket.socket) -> None:
    port = server.getsockname()[1]
    with nothing_left(), ExitStack() as stack:
        before = open_sockets()
        datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        datagrams.connect((HOST, port))
        stack.enter_context(socket.create_server((HOST, 0)))
        assert line_to(HOST, port, before) is None
