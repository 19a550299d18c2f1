"""Finding the socket that a library opened, and hanging up on it."""

from __future__ import annotations

import errno
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from leaks import nothing_left

from pixelrt.video.sources.base import SourceOptions
from pixelrt.video.sources.network import line
from pixelrt.video.sources.network.connection import opening_of
from pixelrt.video.sources.network.line import Opening, hang_up, keep_apart
from pixelrt.video.sources.network.settings import read_settings

HOST, LINE = "127.0.0.1", "pixelrt.video.sources.network.line"
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
        with Opening(*server.getsockname()) as opening:
            client = stack.enter_context(connect(server))
        assert opening.line is not None
        handle = stack.enter_context(opening.line)
        assert handle.getsockname() == client.getsockname()
        received: list[bytes] = []
        waiting = threading.Thread(target=lambda: received.append(client.recv(10)))
        waiting.start()
        time.sleep(0.1)
        assert waiting.is_alive()
        hang_up(handle)
        waiting.join(10)
        assert received == [b""]
        assert older.fileno() >= 0
        hang_up(handle)


def test_one_that_is_still_being_opened_is_hung_up_and_no_other(server: socket.socket) -> None:
    with nothing_left(), ExitStack() as stack:
        opening = Opening(*server.getsockname())
        opening.hang_up()
        with pytest.raises(ConnectionError), opening:
            client = stack.enter_context(connect(server))
            opening.hang_up()
            assert client.recv(10) == b""
            raise ConnectionError
        other = stack.enter_context(connect(server))
        opening.hang_up()
        other.send(b"it is not shut down")
        assert opening.line is None


def test_where_there_is_doubt_nothing_is_touched(server: socket.socket) -> None:
    port = server.getsockname()[1]
    with nothing_left(), ExitStack() as stack:
        openings = [Opening(HOST, port), Opening(HOST, port + 1), Opening("nowhere.invalid", port)]
        for opening in openings:
            stack.enter_context(opening)
        for _ in range(2):
            stack.enter_context(connect(server))
    assert [opening.line for opening in openings] == [None, None, None]
    with nothing_left(), Opening(HOST, port) as opening:
        pass
    assert opening.line is None


def test_other_sockets_are_none(server: socket.socket) -> None:
    port = server.getsockname()[1]
    with nothing_left(), ExitStack() as stack:
        with Opening(HOST, port) as opening:
            datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            datagrams.connect((HOST, port))
            stack.enter_context(socket.create_server((HOST, 0)))
            ours = stack.enter_context(socket.socket())
            keep_apart(ours)
            ours.connect((HOST, port))
        assert opening.line is None


def test_a_number_that_is_a_files_by_now_is_let_go(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "log").open("w") as file, nothing_left():
        with Opening(*server.getsockname()) as opening:
            monkeypatch.setattr(f"{LINE}.open_sockets", lambda: {"socket:[1]": file.fileno()})
        assert opening.line is None
        assert not file.closed


@pytest.mark.parametrize("before_s", [0.01, 0.3])
def test_each_of_many_that_open_at_once_knows_its_own(server: socket.socket, before_s: float) -> None:
    """Each is slow after it has connected, as FFmpeg is, and before it, as on a machine that is busy."""
    count, turn = 12, threading.Barrier(12)
    pairs: list[tuple[socket.socket, socket.socket | None]] = []

    def connect_slowly() -> None:
        turn.wait()
        with Opening(*server.getsockname()) as opening:
            time.sleep(before_s)
            client = connect(server)
            time.sleep(0.3)
        pairs.append((client, opening.line))

    with nothing_left():
        threads = [threading.Thread(target=connect_slowly) for _ in range(count)]
        began_s = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s = time.monotonic() - began_s
        for client, line in pairs:
            assert line is not None
            with client, line:
                assert line.getsockname() == client.getsockname()
    assert len(pairs) == count
    assert took_s < count * (0.29 + before_s), "they wait for a socket, not for what comes after it"


def test_one_that_took_long_and_has_its_socket_by_then_knows_it(server: socket.socket) -> None:
    """The next one does not take the socket of the one before for one of two that may be its own."""
    place = server.getsockname()
    with nothing_left(), ExitStack() as stack:
        with Opening(*place) as first:
            clients = [stack.enter_context(connect(server))]
            first._began_s -= 11
            second = Opening(*place).__enter__()
            clients.append(stack.enter_context(connect(server)))
        second.__exit__(None, None, None)
        lines = [first.line, second.line]
        for client, line in zip(clients, lines, strict=True):
            assert line is not None
            assert stack.enter_context(line).getsockname() == client.getsockname()


def test_who_is_cancelled_does_not_wait(server: socket.socket) -> None:
    place = server.getsockname()
    with Opening(*place):
        began_s = time.monotonic()
        with Opening(*place, lambda: True):
            pass
        assert time.monotonic() - began_s < 0.9


def test_one_that_fails_leaves_the_next_ones_socket_alone(server: socket.socket) -> None:
    place = server.getsockname()
    with nothing_left(), ExitStack() as stack:
        first = Opening(*place).__enter__()
        broken = stack.enter_context(connect(server))
        second = Opening(*place).__enter__()
        client = stack.enter_context(connect(server))
        broken.close()
        first.__exit__(ConnectionError, ConnectionError(), None)
        second.__exit__(None, None, None)
        assert second.line is not None
        assert stack.enter_context(second.line).getsockname() == client.getsockname()


@pytest.mark.parametrize("leave", [False, True])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_one_that_was_sent_elsewhere_leaves_the_next_ones_socket_alone(
    server: socket.socket, leave: bool, order: tuple[int, int]
) -> None:
    place = server.getsockname()
    with nothing_left(), ExitStack() as stack:
        with Opening(*place) as first:
            client = stack.enter_context(connect(server))
            second = Opening(*place).__enter__()
            client.close()
            clients = [stack.enter_context(connect(server))]  # the first's other one
            if leave:
                first.__exit__(None, None, None)
            for each in order:
                (first, second)[each].hang_up()
            clients.append(stack.enter_context(connect(server)))
            for each in order:
                (first, second)[each].hang_up()
            clients[0].send(b"not shut down")
            clients[1].send(b"not shut down")
        second.__exit__(None, None, None)
        assert first.line is None
        assert second.line is None


def test_one_that_overtook_another_touches_neither_socket(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{LINE}._TURN_S", 0.1)
    place = server.getsockname()
    with nothing_left(), ExitStack() as stack:
        with Opening(*place) as first, Opening(*place) as second:
            client = stack.enter_context(connect(server))  # the first's
            second.hang_up()
            client.send(b"not shut down")
        assert [first.line, second.line] == [None, None]


def test_many_without_a_socket_wait_for_each_other_no_longer_than_one(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{LINE}._TURN_S", 0.3)
    monkeypatch.setattr(f"{LINE}._QUEUE_S", 0.5)
    began_s = time.monotonic()
    with ExitStack() as stack:
        openings = [Opening(*server.getsockname()) for _ in range(6)]
        waiting = [threading.Thread(target=lambda each=each: stack.enter_context(each)) for each in openings]
        for thread in waiting:
            thread.start()
        for thread in waiting:
            thread.join()
        assert time.monotonic() - began_s < 1.2, "and not 5 times 0.3 s"
    assert [each.line for each in openings] == 6 * [None]


def test_those_without_a_tcp_connection_take_no_turns() -> None:
    options = SourceOptions()
    began_s = time.monotonic()
    with ExitStack() as stack:
        for address in 3 * ["udp://127.0.0.1:5000", "srt://127.0.0.1:5000"]:
            stack.enter_context(opening_of(read_settings(address, options), lambda: False))
        assert time.monotonic() - began_s < 1


def connecting(place: tuple[str, int]) -> socket.socket:
    """It has begun to connect, and nobody waits until it has."""
    client = socket.socket()
    client.setblocking(False)
    assert client.connect_ex(place) == errno.EINPROGRESS
    return client


def is_over(client: socket.socket, within_s: float) -> bool:
    """Whether it has connected, or failed to."""
    return bool(select.select([], [client], [], within_s)[1])


@contextmanager
def deaf(host: str = HOST, port: int = 0) -> Iterator[tuple[str, int]]:
    """A place that does not answer whoever connects."""
    with closing(socket.create_server((host, port), backlog=0)) as full, ExitStack() as stack:
        while is_over(stack.enter_context(connecting(full.getsockname())), 0.2):
            pass
        yield full.getsockname()


def test_one_that_is_not_connected_yet_holds_up_nobody() -> None:
    """Each socket is known as soon as FFmpeg begins to connect it."""
    with deaf() as place, nothing_left(), ExitStack() as stack:
        began_s = time.monotonic()
        openings = []
        for _ in range(3):
            openings.append(Opening(*place).__enter__())
            client = stack.enter_context(connecting(place))
            assert not is_over(client, 0)
        assert time.monotonic() - began_s < 2
        openings[2].hang_up()
        assert is_over(client, 5), "its connecting is broken off"
        for opening in openings:
            opening.__exit__(ConnectionError, ConnectionError(), None)


def test_one_that_is_not_connected_yet_is_none_of_another_host(server: socket.socket) -> None:
    place = server.getsockname()
    with deaf("127.0.0.2", place[1]) as other_place, nothing_left(), ExitStack() as stack:
        with Opening(*place) as opening:
            other = stack.enter_context(connecting(other_place))
            opening.hang_up()
            assert not is_over(other, 0.1)
            client = stack.enter_context(connect(server))
        assert opening.line is not None
        assert stack.enter_context(opening.line).getsockname() == client.getsockname()


@pytest.mark.skipif(sys.byteorder == "big", reason="the kernel writes words as they lie in memory")
@pytest.mark.parametrize(
    ("words", "address"),
    [("0200007F", "127.0.0.2"), ("000080FE000000000000000002000100", "fe80::1:2")],
)
def test_addresses_of_the_kernels_table(words: str, address: str) -> None:
    assert line._address(words) == address
