"""MCAP files, of ROS 1, ROS 2, Foxglove and PixelRT itself, by the library `mcap`."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pixelrt.dependency import require
from pixelrt.video.sources.bags.mcap_index import MAGIC, PURPOSE, McapIndex, failures, read_index, records
from pixelrt.video.sources.bags.messages import MessageType
from pixelrt.video.sources.bags.recording import CLASSES_KEY, BrokenRecordingError, Message, Topic


class McapFiles:
    """The files of one recording, one after another in order of time.

    What is whole is read: a file that was cut short, so that its index is missing, is looked through first,
    and the messages in front of the cut are given.

    Args:
        files: In any order.

    Raises:
        BrokenRecordingError: If one is no MCAP file.
    """

    def __init__(self, files: tuple[Path, ...]) -> None:
        self.files = files
        with contextlib.ExitStack() as opened:
            parts = [opened.enter_context(contextlib.closing(_McapFile(file))) for file in files]
            self._parts = sorted(parts, key=lambda part: part.start_ns)
            self._opened = opened.pop_all()
        self.topics = _together([topic for part in self._parts for topic in part.topics])

    @property
    def problem(self) -> str:
        """Why it is not whole."""
        return "; ".join(part.problem for part in self._parts if part.problem)

    def messages(self, topic: Topic) -> Iterator[Message]:
        """See `Recording.messages`."""
        for part in self._parts:
            yield from part.messages(topic.name)

    def close(self) -> None:
        """Close the files."""
        self._opened.close()


class _McapFile:
    """One file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stream: IO[bytes] = file.open("rb")
        try:
            self._check_head()
            with _explained():
                self._index = read_index(self._stream)
                self.topics = tuple(_topics(self._index))
        except BaseException:
            self._stream.close()
            raise

    @property
    def problem(self) -> str:
        return self._index.problem

    @property
    def start_ns(self) -> int:
        return self._index.start_ns

    def messages(self, topic: str) -> Iterator[Message]:
        with _explained():
            yield from self._loose(topic) if self._index.loose else self._in_chunks(topic)
        if self._index.problem:
            raise BrokenRecordingError(self._index.problem)

    def close(self) -> None:
        self._stream.close()

    def _check_head(self) -> None:
        head = self._stream.read(len(MAGIC))
        if head != MAGIC:
            what = f"begins with {head!r}" if head else "is empty (0 bytes)"
            raise BrokenRecordingError(f"it {what}, expected an MCAP file")

    def _in_chunks(self, topic: str) -> Iterator[Message]:
        """In order of the log times, also across chunks."""
        reading = require("mcap.reader", "bags", PURPOSE)
        if not self._index.summary.chunk_indexes:
            return
        self._stream.seek(0)
        reader = reading.SeekingReader(self._stream, validate_crcs=True)
        reader.get_summary = lambda: self._index.summary
        for _, _, message in reader.iter_messages(topics=[topic]):
            yield Message(message.log_time, message.data)

    def _loose(self, topic: str) -> Iterator[Message]:
        """In the order of the file."""
        opcodes = require("mcap.opcode", "bags", PURPOSE).Opcode
        kinds = require("mcap.records", "bags", PURPOSE)
        streams = require("mcap.data_stream", "bags", PURPOSE)
        unpack = require("mcap.stream_reader", "bags", PURPOSE).breakup_chunk
        wanted = {id_ for id_, channel in self._index.summary.channels.items() if channel.topic == topic}
        for record in records(self._stream):
            held: list[Any] = []
            if record.opcode == opcodes.MESSAGE:
                held = [kinds.Message.read(streams.ReadDataStream(self._stream), record.length)]
            elif record.opcode == opcodes.CHUNK:
                chunk = kinds.Chunk.read(streams.ReadDataStream(self._stream))
                held = [item for item in unpack(chunk, validate_crc=True) if isinstance(item, kinds.Message)]
            yield from (Message(item.log_time, item.data) for item in held if item.channel_id in wanted)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except failures() as problem:
        reason = str(problem) or type(problem).__name__
        raise BrokenRecordingError(f"what follows is damaged ({reason})") from problem


def _topics(index: McapIndex) -> Iterator[Topic]:
    for id_, channel in index.summary.channels.items():
        schema = index.summary.schemas.get(channel.schema_id)
        kind = MessageType(
            name="" if schema is None else schema.name,
            serialization=channel.message_encoding,
            definition=b"" if schema is None else schema.data,
        )
        yield Topic(
            name=channel.topic,
            kind=kind,
            count=index.counts[id_],
            is_result=CLASSES_KEY in channel.metadata,
        )


def _together(topics: list[Topic]) -> tuple[Topic, ...]:
    """One topic for all of the same name: recorders split files, and publishers come back."""
    first: dict[str, Topic] = {}
    counts: Counter[str] = Counter()
    for topic in topics:
        first.setdefault(topic.name, topic)
        counts[topic.name] += topic.count
    return tuple(dataclasses.replace(first[name], count=counts[name]) for name in sorted(first))
