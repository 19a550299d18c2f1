"""From packets to pictures: what is left out, and that everything is counted."""

from __future__ import annotations

import io
import itertools
import sys
import threading
import time
from collections.abc import Iterator
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import stamped
from interrupting import Interrupting

from pixelrt.errors import SourceError
from pixelrt.video.sources.network.decoder import Decoder
from pixelrt.video.sources.network.gaps import GapWatch
from pixelrt.video.sources.network.packets import Arrival, DamageMarks, PacketQueue, Parcel
from pixelrt.video.sources.network.timeline import FilmTimeline, Timeline

FRAMES, GOP = 50, 15
CODECS = {
    "h264": ("libx264", {"preset": "ultrafast", "tune": "zerolatency"}),
    "h264 with B frames": ("libx264", {"preset": "veryfast", "bf": "2"}),
    "hevc": ("libx265", {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none"}),
    "mjpeg": ("mjpeg", {}),
}


def coded(name: str) -> tuple[Any, list[Any]]:
    """A codec context and the packets of a stamped film."""
    return demuxed(film_of(name))


def demuxed(data: bytes) -> tuple[Any, list[Any]]:
    film = av.open(io.BytesIO(data))
    return film, [packet for packet in film.demux(film.streams.video[0]) if packet.size]


def film_of(name: str, **more: str) -> bytes:
    """A stamped film, with more options of its encoder."""
    encoder, options = CODECS[name]
    file = io.BytesIO()
    with av.open(file, "w", format="matroska" if name == "mjpeg" else "mpegts") as container:
        stream = container.add_stream(encoder, rate=25)
        stream.pix_fmt = "yuvj420p" if name == "mjpeg" else "yuv420p"
        stream.height, stream.width = stamped.SIZE
        stream.gop_size = GOP
        stream.options = {**options, **more}
        for index in range(FRAMES):
            image = stamped.draw(index, now_s=index / 25)  # the same film each time: some cuts nobody can see
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def cut(packet: Any) -> Any:
    """The first half of a packet."""
    data = bytes(packet)
    half = av.Packet(data[: len(data) // 2])
    half.pts, half.dts, half.time_base = packet.pts, packet.dts, packet.time_base
    half.is_keyframe = packet.is_keyframe
    return half


def decode(
    film: Any, packets: list[Any], *, restarts: tuple[int, ...] = ()
) -> tuple[Decoder, list[int | None]]:
    decoder = Decoder(av, film.streams.video[0].codec_context)
    pictures: list[tuple[Any, Arrival]] = []
    marks = DamageMarks()
    for number, packet in enumerate(packets):
        parcel = Parcel(
            packet, Arrival(float(number), None), number in restarts, corrupt=marks.corrupt(packet)
        )
        pictures += decoder.decode(parcel)
    pictures += decoder.flush()
    stamps = [stamped.read(picture.to_ndarray(format="rgb24")) for picture, _ in pictures]
    return decoder, [None if stamp is None else stamp.index for stamp in stamps]


@pytest.mark.parametrize("name", CODECS)
def test_a_whole_film_is_decoded_whole(name: str) -> None:
    film, packets = coded(name)
    decoder, indices = decode(film, packets)
    film.close()
    assert indices == list(range(FRAMES))
    assert (decoder.damaged, decoder.unkeyed) == (0, 0)


@pytest.mark.parametrize("name", CODECS)
def test_no_damaged_picture_is_given_and_every_one_is_counted(name: str) -> None:
    film, packets = coded(name)
    packets[20] = cut(packets[20])
    decoder, indices = decode(film, packets)
    film.close()
    assert None not in indices, "a damaged picture"
    assert indices == sorted(set(indices)), "one twice, or out of order"
    assert decoder.damaged > 0
    assert len(indices) + decoder.damaged + decoder.unkeyed == FRAMES
    assert indices[-1] == FRAMES - 1, "whole again after the next keyframe"


@pytest.mark.parametrize("name", ["h264", "h264 with B frames", "hevc"])
def test_nothing_is_given_before_the_first_keyframe(name: str) -> None:
    film, packets = coded(name)
    decoder, indices = decode(film, packets[4:])
    film.close()
    assert None not in indices
    assert indices[0] is not None
    assert indices[0] >= GOP - 3
    assert decoder.unkeyed > 0
    assert len(indices) + decoder.unkeyed + decoder.damaged == FRAMES - 4


def test_after_packets_were_left_out_decoding_begins_anew() -> None:
    film, packets = coded("h264")
    keyframes = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    decoder, indices = decode(film, packets[:5] + packets[keyframes[2] :], restarts=(5,))
    film.close()
    assert indices == [*range(5), *range(keyframes[2], FRAMES)]
    assert decoder.damaged == 0


def test_pictures_inside_when_packets_are_left_out_are_not_damaged() -> None:
    film, packets = coded("h264 with B frames")
    keyframe = [number for number, packet in enumerate(packets) if packet.is_keyframe][2]
    decoder, indices = decode(film, packets[:8] + packets[keyframe:], restarts=(8,))
    film.close()
    assert decoder.replaced > 0
    assert (decoder.damaged, decoder.unkeyed) == (0, 0)
    assert len(indices) + decoder.replaced == FRAMES - (keyframe - 8)


def test_a_packet_that_is_marked_as_corrupt_is_not_decoded() -> None:
    film, packets = coded("h264")
    packets[20].is_corrupt = True
    decoder, indices = decode(film, packets)
    film.close()
    assert 20 not in indices
    assert None not in indices
    assert len(indices) + decoder.damaged == FRAMES


SLICED = {"h264": "x264-params", "hevc": "x265-params"}


def without(data: bytes, picture: int, place: float) -> bytes:
    """An MPEG-TS without some packets of a picture, as many as a datagram holds: from this part of it on."""
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    begin, end = [
        number for number, packet in enumerate(packets) if packet[1] & 0x5F == 0x41 and packet[2] == 0
    ][picture : picture + 2]
    first = begin + int(place * (end - begin))
    del packets[first : min(first + 7, end)]
    return b"".join(packets)


@pytest.mark.parametrize("place", [0.0, 0.4, 0.8])
@pytest.mark.parametrize("picture", [30, 33])
@pytest.mark.parametrize("slices", [1, 2, 4])
@pytest.mark.parametrize("name", SLICED)
def test_a_datagram_that_is_lost_damages_no_picture_that_is_given(
    name: str, slices: int, picture: int, place: float
) -> None:
    """Also where whole slices of a picture are missing, and the rest of it is all right."""
    data = film_of(name, **{SLICED[name]: f"slices={slices}:log-level=none"})
    film, packets = demuxed(data)
    decoder = Decoder(av, film.streams.video[0].codec_context)
    clean = [each.to_ndarray() for each in pictures_of(decoder, packets)]
    film.close()
    assert len(clean) == FRAMES
    film, packets = demuxed(without(data, picture, place))
    decoder = Decoder(av, film.streams.video[0].codec_context)
    numbers = []
    for each in pictures_of(decoder, packets):
        stamp = stamped.read(each.to_ndarray(format="rgb24"))
        assert stamp is not None
        assert (each.to_ndarray() == clean[stamp.index]).all()
        numbers.append(stamp.index)
    film.close()
    assert numbers == sorted(set(numbers)), "one twice, or out of order"
    assert picture not in numbers
    assert numbers[-1] == FRAMES - 1, "whole again after the next keyframe"
    assert decoder.damaged > 0
    assert FRAMES - 1 <= len(numbers) + decoder.damaged <= FRAMES, (
        "one of which nothing came is not seen here"
    )


def pictures_of(decoder: Decoder, packets: list[Any]) -> Iterator[Any]:
    marks = DamageMarks()
    for packet in packets:
        for picture, _ in decoder.decode(Parcel(packet, Arrival(0.0, None), corrupt=marks.corrupt(packet))):
            yield picture
    for picture, _ in decoder.flush():
        yield picture


def put(queue: PacketQueue, names: str, *, age_s: float = 0.0) -> None:
    """One packet for each letter; a capital is a keyframe."""
    for name in names:
        queue.put(name, Arrival(time.monotonic() - age_s, None), keyframe=name.isupper())


def taken(queue: PacketQueue) -> str:
    return "".join(parcel.packet for parcel in iter(queue.get, None))


def test_packets_come_out_as_they_went_in() -> None:
    with PacketQueue() as queue:
        put(queue, "Kabc")
    assert taken(queue) == "Kabc"
    assert queue.dropped == 0


def test_what_is_old_gives_way_to_a_keyframe() -> None:
    with PacketQueue() as queue:
        put(queue, "Kabc", age_s=2)
        put(queue, "de")
        put(queue, "Lfg")
    parcels = list(iter(queue.get, None))
    assert "".join(parcel.packet for parcel in parcels) == "Lfg"
    assert [parcel.restart for parcel in parcels] == [True, False, False]
    assert queue.dropped == 6


def test_the_packet_behind_a_mark_of_damage_is_damaged_too() -> None:
    marks = DamageMarks()
    packets = [SimpleNamespace(is_corrupt=mark) for mark in (False, True, True, False, False)]
    assert [marks.corrupt(packet) for packet in packets] == [False, True, True, True, False]


def test_what_is_damaged_stays_so_when_those_before_it_are_left_out() -> None:
    with PacketQueue() as queue:
        put(queue, "Kabc", age_s=2)
        queue.put("L", Arrival(time.monotonic(), None), keyframe=True, corrupt=True)
        queue.put("d", Arrival(time.monotonic(), None), keyframe=False)
    parcels = list(iter(queue.get, None))
    assert [(parcel.packet, parcel.restart, parcel.corrupt) for parcel in parcels] == [
        ("L", True, True),
        ("d", False, False),
    ]


def test_what_is_new_does_not() -> None:
    with PacketQueue() as queue:
        put(queue, "KabLcd")
    assert taken(queue) == "KabLcd"


def test_without_a_keyframe_the_queue_is_bounded_all_the_same() -> None:
    with PacketQueue() as queue:
        put(queue, "K" + "a" * 2000)
        assert queue.waiting <= 600
        put(queue, "Lb")
    assert taken(queue).endswith("Lb")
    assert queue.dropped > 1000


def test_a_file_waits_for_its_reader_and_is_complete() -> None:
    queue = PacketQueue()
    queue.live = False

    def write() -> None:
        with queue:
            put(queue, "Kabcdefghi" * 100, age_s=5)

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.1)
    assert queue.waiting < 100
    assert taken(queue) == "Kabcdefghi" * 100
    writer.join()
    assert queue.dropped == 0


@pytest.mark.parametrize("live", [True, False])
def test_cancel_wakes_both_sides(live: bool) -> None:
    queue = PacketQueue()
    queue.live = live
    threads = [threading.Thread(target=lambda: put(queue, "k" * 5000)), threading.Timer(0.2, queue.cancel)]
    if live:
        threads[0] = threading.Thread(target=queue.get)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert queue.get() is None
    assert queue.cancelled


def test_ctrl_c_at_any_moment_of_a_wait_leaves_the_queue_to_others() -> None:
    for moment in itertools.count(1):
        queue, interrupting = PacketQueue(), Interrupting(moment)
        writing = threading.Timer(0.002, put, [queue, "K"])
        writing.start()
        sys.setprofile(interrupting)
        try:
            queue.get()
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        cancelling = threading.Thread(target=queue.cancel, daemon=True)
        cancelling.start()
        cancelling.join(5)
        assert not cancelling.is_alive()
        writing.join()
        if not interrupting.came:
            break
    assert moment > 10


def test_what_the_writer_raises_is_raised_after_its_packets_with_its_traceback() -> None:
    def write() -> Iterator[None]:
        raise SourceError("the cable is out")

    with PacketQueue() as queue:
        put(queue, "Ka")
        write()
        next(iter(write()))  # pragma: no cover
    assert queue.get() is not None
    assert queue.get() is not None
    with pytest.raises(SourceError, match="the cable is out") as caught:
        queue.get()
    assert any(entry.name == "write" for entry in caught.traceback)


def missing(steps: list[float], *, restarts: tuple[int, ...] = ()) -> list[int]:
    """What is missing before each of some packets that come at their times."""
    watch = GapWatch()
    watch.missing(0.0, 100.0)
    return [
        watch.missing(time_s, 100 + time_s, restart=number in restarts)
        for number, time_s in enumerate(accumulate(steps))
    ]


def test_a_picture_that_is_missing_whole_is_seen_by_an_even_pace() -> None:
    assert missing([0.04] * 15 + [0.08] + [0.04] * 5 + [0.16] + [0.04])[15:] == [1, 0, 0, 0, 0, 0, 3, 0]


def test_without_an_even_pace_nothing_is_missing() -> None:
    steps = [0.03, 0.045, 0.065, 0.04, 0.06, 0.09] * 8
    assert not any(missing(steps))


def test_a_camera_that_changes_its_pace_is_believed_soon() -> None:
    found = missing([0.04] * 20 + [0.1] * 40)
    assert not any(found[28:])
    assert not any(missing([0.04] * 20 + [0.08] * 40)[28:])


def test_pictures_without_times_are_not_watched() -> None:
    watch = GapWatch()
    assert [watch.missing(None, float(number)) for number in range(20)] == [0] * 20


def test_what_was_left_out_on_purpose_is_not_missing() -> None:
    steps = [0.04] * 15 + [1.2] + [0.04] * 5 + [0.08]
    assert missing(steps, restarts=(15,))[15:] == [0] * 6 + [1]


def test_an_outage_of_the_line_is_counted_and_a_jump_of_the_cameras_count_is_not() -> None:
    assert missing([0.04] * 15 + [8.0] + [0.04] * 3)[15:] == [199, 0, 0, 0]
    watch = GapWatch()
    for number in range(15):
        assert not watch.missing(number * 0.04, number * 0.04)
    assert watch.missing(9000.0, 0.6) == 1
    assert watch.missing(9000.04, 0.64) == 0
    assert watch.missing(0.0, 0.68) == 0


def test_after_a_missing_picture_the_next_keyframe_is_waited_for() -> None:
    film, packets = coded("h264")
    decoder = Decoder(av, film.streams.video[0].codec_context)
    pictures = []
    for number, packet in enumerate(packets):
        if number == 20:
            decoder.miss(1)
            continue
        pictures += decoder.decode(Parcel(packet, Arrival(0.0, None)))
    film.close()
    stamps = [stamped.read(picture.to_ndarray(format="rgb24")) for picture, _ in pictures]
    assert [stamp and stamp.index for stamp in stamps] == [*range(20), *range(30, FRAMES)]
    assert decoder.damaged == 10


def times(
    *pairs: tuple[float | None, float], opened_s: float = 99.0, opening_s: float = 0.0
) -> list[float | None]:
    timeline = Timeline(opened_s=opened_s, opening_s=opening_s)
    return [timeline.time_s(pts_s, captured_s) for pts_s, captured_s in pairs]


def test_times_are_the_cameras() -> None:
    assert times((5.0, 100.0), (5.04, 100.07), (5.08, 100.08)) == pytest.approx([0, 0.04, 0.08])


def test_without_a_count_the_arrival_is_used() -> None:
    assert times((None, 100.0), (0.0, 100.04), (0.04, 100.09)) == pytest.approx([0, 0.04, 0.08])


def test_a_count_that_jumps_is_not_followed() -> None:
    assert times((5.0, 100.0), (9000.0, 100.04), (9000.04, 100.08)) == pytest.approx([0, 0.04, 0.08])
    assert times((9000.0, 100.0), (0.0, 100.04), (0.04, 100.08)) == pytest.approx([0, 0.04, 0.08])


def test_a_camera_that_does_not_count_has_the_times_of_arrival() -> None:
    timeline = Timeline(counts=False)
    given = [timeline.time_s(number / 25, 100 + number / 10) for number in range(30)]
    assert given == pytest.approx([number / 10 for number in range(30)])


def test_a_count_that_stands_still_is_none() -> None:
    assert times((5.0, 100.0), (5.0, 100.1), (5.0, 100.3)) == pytest.approx([0, 0.1, 0.3])


@pytest.mark.parametrize("fps", [10, 30])
def test_a_wrong_clock_is_followed_for_a_second_at_most(fps: int) -> None:
    """It counts 25 frames a second."""
    given = times(*((number / 25, 100 + number / fps) for number in range(40 * fps)))
    apart_s = [time_s - number / fps for number, time_s in enumerate(given) if time_s is not None]
    assert len(apart_s) == len(given)
    assert 0.9 < max(map(abs, apart_s)) < 1.001
    steps_s = np.diff(given[-5 * fps :])
    assert steps_s == pytest.approx([1 / fps] * len(steps_s))


@pytest.mark.parametrize("drift", [-3e-4, 3e-4])
def test_a_clock_that_drifts_is_followed_without_a_jump(drift: float) -> None:
    """For three hours, by pictures that come up to 20 ms late."""
    late_s = np.random.default_rng(3).uniform(0, 0.02, 3 * 3600 * 10)
    came_s = np.arange(len(late_s)) / 10 + late_s
    given = times(*((number / 10 * (1 + drift), 100 + at_s) for number, at_s in enumerate(came_s)))
    assert np.abs(given - came_s).max() < 1.05
    steps_s = np.diff(given)
    assert steps_s[: 1800 * 10] == pytest.approx(0.1 * (1 + drift))
    assert np.abs(steps_s - 0.1).max() < 0.005, "a step that one could see"


def test_a_hiccup_of_the_line_is_not_in_the_times() -> None:
    """What waited comes all at once."""
    came_s = [0.04 * number if not 50 <= number < 70 else 2.8 for number in range(200)]
    given = times(*((0.04 * number, 100 + at_s) for number, at_s in enumerate(came_s)))
    assert given == pytest.approx([0.04 * number for number in range(200)])


def test_the_past_that_a_server_sends_at_first_has_times_that_grow() -> None:
    """Five seconds of it, then pictures at their time."""
    came_s = [0.0] * 125 + [0.04 * number for number in range(1, 250)]
    given = times(*((0.04 * number, 100 + at_s) for number, at_s in enumerate(came_s)))
    steps_s = np.diff(given)
    assert min(steps_s) > 0.019
    assert max(steps_s) < 0.041
    assert steps_s[-100:] == pytest.approx([0.04] * 100)


@pytest.mark.parametrize("waited", [1, 2, 4])
@pytest.mark.parametrize("opening_s", [0.01, 0.5, 1.8, 5.0])
def test_what_opening_took_is_not_in_the_times(waited: int, opening_s: float) -> None:
    """Pictures that came meanwhile are said to have come when it began."""
    counts = 0.04 * np.arange(200)
    came_s = 100 + np.where(np.arange(200) < waited, 0, opening_s + counts)
    pairs = zip(counts, came_s, strict=True)
    assert times(*pairs, opened_s=100.0, opening_s=opening_s) == pytest.approx(counts)


@pytest.mark.parametrize(
    ("later_s", "counted_fps", "counted_later_s"),
    [
        pytest.param(30.0, 25, 12.0, id="a wrong clock and a program that began late"),
        pytest.param(5.0, 10, 0.0, id="a relay that pauses its count when it has connected"),
        pytest.param(30.0, 10, 30.0, id="a right clock and a program that began late"),
    ],
)
def test_no_more_than_opening_took_is_left_out(
    later_s: float, counted_fps: int, counted_later_s: float
) -> None:
    """Ten pictures a second, the second one later than the first, which came during opening."""
    opening_s, numbers = 1.0, np.arange(1, 600)
    since_s = later_s + numbers / 10
    counts = counted_later_s + numbers / counted_fps
    pairs = zip(counts, 100 + opening_s + since_s, strict=True)
    given = times((0.0, 100.0), *pairs, opened_s=100.0, opening_s=opening_s)
    assert np.abs(since_s - given[1:]).max() < 1.001
    assert min(np.diff(given)) > 0


def test_the_past_that_came_during_opening_has_times_that_grow() -> None:
    """Five seconds of it, within 1.8 s."""
    came_s = [0.0] * 125 + [1.8 + 0.04 * number for number in range(250)]
    given = times(
        *((0.04 * number, 100 + at_s) for number, at_s in enumerate(came_s)), opened_s=100.0, opening_s=1.8
    )
    steps_s = np.diff(given)
    assert min(steps_s) > 0.019
    assert max(steps_s) < 0.041
    assert steps_s[-100:] == pytest.approx([0.04] * 100)


def test_a_film_has_its_own_times_however_it_is_read() -> None:
    timeline = FilmTimeline(25)
    given = [timeline.time_s(*pair) for pair in ((3.0, 100.0), (3.04, 100.0), (8.04, 100.0), (8.08, 190.0))]
    assert given == pytest.approx([0, 0.04, 5.04, 5.08])
    timeline = FilmTimeline(50)
    assert [timeline.time_s(None, 7.0) for _ in range(3)] == pytest.approx([0, 0.02, 0.04])


def test_a_picture_out_of_order_has_no_time() -> None:
    assert times((5.0, 100.0), (5.08, 100.04), (5.04, 100.05), (5.12, 100.08)) == [
        0.0,
        pytest.approx(0.08),
        None,
        pytest.approx(0.12),
    ]
