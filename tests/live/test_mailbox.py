"""Items between threads: bounded, fair, in order, and none is lost uncounted."""

from __future__ import annotations

import threading
import time

from pixelrt.video.live.mailbox import Mailbox, Room

Item = tuple[str, int]


def make(senders: int = 1, places: int = 1, *, newest: bool = True) -> tuple[Mailbox[Item], list[str]]:
    dropped: list[str] = []

    def drop(item: Item, reason: str) -> None:
        dropped.append(f"{item[0]}{item[1]} {reason}")

    return Mailbox([Room(places, newest)] * senders, drop=drop, replaced="newer"), dropped


def test_the_newest_replaces_the_one_that_waits() -> None:
    mailbox, dropped = make()
    for number in range(3):
        mailbox.put(0, ("a", number))
    assert mailbox.depth(0) == 1
    assert mailbox.take() == [("a", 2)]
    assert dropped == ["a0 newer", "a1 newer"]


def test_the_oldest_goes_where_there_are_several_places() -> None:
    mailbox, dropped = make(places=2)
    for number in range(3):
        mailbox.put(0, ("a", number))
    assert [mailbox.take() for _ in range(2)] == [[("a", 1)], [("a", 2)]]
    assert dropped == ["a0 newer"]


def test_the_sender_served_longest_ago_comes_first() -> None:
    mailbox, _ = make(3, places=3)
    for number in range(3):
        mailbox.put(0, ("a", number))
    mailbox.put(1, ("b", 0))
    mailbox.put(2, ("c", 0))
    taken = [mailbox.take()[0][0] for _ in range(3)]
    mailbox.put(1, ("b", 1))
    taken += [mailbox.take()[0][0] for _ in range(3)]
    assert taken == ["a", "b", "c", "a", "b", "a"]


def test_several_are_of_different_senders() -> None:
    mailbox, _ = make(3, places=2)
    for sender, name in enumerate("abc"):
        for number in range(2):
            mailbox.put(sender, (name, number))
    assert mailbox.take(most=2) == [("a", 0), ("b", 0)]
    assert mailbox.take(most=9) == [("c", 0), ("a", 1), ("b", 1)]


def test_a_sender_waits_for_a_place_where_nothing_may_be_lost() -> None:
    mailbox, dropped = make(places=1, newest=False)
    mailbox.put(0, ("a", 0))
    sender = threading.Thread(target=mailbox.put, args=(0, ("a", 1)))
    sender.start()
    sender.join(0.05)
    assert sender.is_alive()
    assert mailbox.take() == [("a", 0)]
    sender.join(5)
    assert mailbox.take() == [("a", 1)]
    assert not dropped


def test_a_sender_that_waits_is_let_go_at_the_end() -> None:
    mailbox, dropped = make(places=1, newest=False)
    mailbox.put(0, ("a", 0))
    sender = threading.Thread(target=mailbox.put, args=(0, ("a", 1)))
    sender.start()
    mailbox.close()
    sender.join(5)
    assert not sender.is_alive()
    assert sorted(dropped) == ["a0 stopped", "a1 stopped"]
    assert mailbox.finished
    assert mailbox.take() == []


def test_what_waits_can_be_taken_after_the_senders_finished() -> None:
    mailbox, dropped = make(2)
    mailbox.put(0, ("a", 0))
    mailbox.finish(0)
    mailbox.put(0, ("a", 1))
    assert not mailbox.finished
    assert mailbox.take() == [("a", 0)]
    assert not mailbox.finished, "the other one may still send"
    mailbox.finish(1)
    assert mailbox.finished
    assert dropped == ["a1 stopped"]


def test_waiting_has_an_end() -> None:
    mailbox, _ = make()
    began_s = time.monotonic()
    assert mailbox.take(0.05) == []
    assert time.monotonic() - began_s > 0.04
    threading.Timer(0.05, mailbox.finish_all).start()
    assert mailbox.take() == []


def test_listeners_hear_of_every_change_until_they_go() -> None:
    mailbox, _ = make()
    heard: list[str] = []
    first, second = (lambda: heard.append("first")), (lambda: heard.append("second"))
    mailbox.listen(first)
    mailbox.put(0, ("a", 0))
    mailbox.listen(second)
    mailbox.finish(0)
    mailbox.unlisten(first)
    mailbox.finish_all()
    assert heard == ["first", "first", "second", "second"]
