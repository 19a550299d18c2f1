"""Where the live page listens: addresses, ports, and who gets there."""

from __future__ import annotations

import sys

import pages
import pytest
from pages import ask, served, view

from pixelrt.errors import InputError, MissingDependency, SinkError
from pixelrt.web import Page, PageOptions
from pixelrt.web.listening import address_of, is_private, listen


class TestListening:
    def test_this_machine_alone_unless_told_otherwise(self) -> None:
        with Page(PageOptions(port=0)) as page:
            assert page.start().startswith("http://127.0.0.1:")
            assert "token" not in page.url

    def test_a_port_that_is_taken(self) -> None:
        with served() as page, pages.nothing_left():
            port = pages.port_of(page)
            with pytest.raises(SinkError, match=rf"port {port} of 127.0.0.1 \(Address already in use\): an"):
                Page(PageOptions(port=port)).start()

    @pytest.mark.parametrize("library", ["starlette", "uvicorn", "websockets"])
    def test_a_library_that_is_missing(self, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, library, None)
        with pages.nothing_left(), pytest.raises(MissingDependency, match=r"pip install 'pixelrt\[web\]'"):
            Page(PageOptions(port=0)).start()

    def test_an_address_of_another_machine(self) -> None:
        with pytest.raises(SinkError, match="no address of this machine"):
            Page(PageOptions(host="203.0.113.9", port=0)).start()

    @pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 300])
    def test_names_that_nobody_knows(self, host: str) -> None:
        with pytest.raises(SinkError, match="this machine knows no such name or address"):
            Page(PageOptions(host=host, port=0)).start()

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.9"])
    def test_private_addresses(self, host: str) -> None:
        with listen(host, 0) as listening:
            assert is_private(listening)
            assert address_of(listening).startswith(("127.0.0.", "[::1]:"))

    @pytest.mark.parametrize("host", ["0.0.0.0", "::"])
    def test_addresses_for_others_are_written_so_that_they_can_be_opened(self, host: str) -> None:
        with listen(host, 0) as listening:
            assert not is_private(listening)
            assert not address_of(listening).startswith(("0.0.0.0", "[::]"))

    def test_started_twice_and_stopped_twice_and_started_again(self) -> None:
        with pages.nothing_left():
            page = Page(PageOptions(port=0))
            page.stop()
            first = page.start()
            with pytest.raises(SinkError, match=f"served already, at {first}"):
                page.start()
            page.stop()
            page.stop()
            assert page.url == ""
            with pytest.raises(SinkError, match=r"not served; start\(\) it first"):
                page.publish("front", view())
            page.start()
            assert ask(page).status == 200
            page.stop()

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"port": 70000}, "port is 70000"),
            ({"quality": 0}, "quality is 0"),
            ({"longest_side": 3}, "longest_side is 3"),
            ({"max_viewers": 0}, "max_viewers is 0"),
        ],
    )
    def test_options_that_make_no_sense(self, options: dict[str, int], text: str) -> None:
        with pytest.raises(InputError, match=text):
            PageOptions(**options)  # type: ignore[arg-type]
