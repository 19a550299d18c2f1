"""The index of an MCAP file: the one it carries, or one that is made where a recorder did not write it."""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, NamedTuple

from pixelrt.dependency import require

if TYPE_CHECKING:
    from mcap.records import ChunkIndex
    from mcap.summary import Summary

MAGIC = b"\x89MCAP0\r\n"
_RECORD_HEAD = struct.Struct("<BQ")
_CHUNK_TIMES = struct.Struct("<QQQI")
_MESSAGE_INDEX = struct.Struct("<HI")
_FOOTER_BYTES = _RECORD_HEAD.size + 20 + len(MAGIC)
_BYTES_PER_INDEX_ENTRY = 16
PURPOSE = "reading MCAP"


@dataclass(slots=True)
class McapIndex:
    """Where the messages of a file are."""

    summary: Summary
    """Channels, schemas and chunks."""
    counts: Counter[int] = field(default_factory=Counter)
    """Messages per channel."""
    loose: bool = False
    """Whether messages lie outside of chunks; they are read in the order of the file."""
    problem: str = ""
    """Why the file is not whole; empty where it is."""

    @property
    def start_ns(self) -> int:
        """The earliest log time, in nanoseconds since 1970; 0 where no chunk says."""
        return min((chunk.message_start_time for chunk in self.summary.chunk_indexes), default=0)


class _Record(NamedTuple):
    opcode: int
    start: int
    length: int


def read_index(stream: IO[bytes]) -> McapIndex:
    """The index of an open file, whose header was seen."""
    problem = _end_problem(stream)
    if not problem:
        found = _carried(stream)
        if found is not None:
            return found
    index = _made(stream)
    index.problem = index.problem or problem
    return index


def records(stream: IO[bytes]) -> Iterator[_Record]:
    """Every whole record of a file; the stream stands behind the record's head."""
    size = os.fstat(stream.fileno()).st_size
    start = len(MAGIC)
    while start + _RECORD_HEAD.size <= size:
        stream.seek(start)
        opcode, length = _RECORD_HEAD.unpack(stream.read(_RECORD_HEAD.size))
        end = start + _RECORD_HEAD.size + length
        if end > size:
            return
        yield _Record(opcode, start, length)
        start = end


def _end_problem(stream: IO[bytes]) -> str:
    """Why a file has no end: a recorder that closes it writes a footer."""
    size = os.fstat(stream.fileno()).st_size
    stream.seek(max(size - len(MAGIC), 0))
    if size > 2 * len(MAGIC) and stream.read() == MAGIC:
        return ""
    return "it has no end: the recorder or the copy was cut short"


def _carried(stream: IO[bytes]) -> McapIndex | None:
    """The index that the file carries; None where it lacks a part that is needed."""
    reading = require("mcap.reader", "bags", PURPOSE)
    stream.seek(0)
    summary = reading.SeekingReader(stream).get_summary()
    if summary is None or summary.statistics is None or not summary.chunk_indexes or not summary.channels:
        return None
    needed = {channel.schema_id for channel in summary.channels.values()} - {0}
    if not needed <= summary.schemas.keys():
        return None
    return McapIndex(summary, Counter(summary.statistics.channel_message_counts))


def _made(stream: IO[bytes]) -> McapIndex:
    """An index of what is whole. Chunks are skipped where the records behind them say what they hold."""
    opcodes = require("mcap.opcode", "bags", PURPOSE).Opcode
    index = McapIndex(require("mcap.summary", "bags", PURPOSE).Summary())
    chunks = index.summary.chunk_indexes
    counted: list[Counter[int]] = []
    for record in records(stream):
        if record.opcode in (opcodes.SCHEMA, opcodes.CHANNEL):
            _note(stream, record, index.summary)
        elif record.opcode == opcodes.CHUNK:
            chunks.append(_chunk_index(stream, record))
            counted.append(Counter())
        elif record.opcode == opcodes.MESSAGE_INDEX and chunks:
            channel, length = _MESSAGE_INDEX.unpack(stream.read(_MESSAGE_INDEX.size))
            chunks[-1].message_index_offsets[channel] = record.start
            counted[-1][channel] += length // _BYTES_PER_INDEX_ENTRY
        elif record.opcode == opcodes.MESSAGE:
            index.counts[struct.unpack("<H", stream.read(2))[0]] += 1
            index.loose = True
        elif record.opcode in (opcodes.DATA_END, opcodes.FOOTER):
            break
    _look_into(stream, index, counted)
    return index


def _look_into(stream: IO[bytes], index: McapIndex, counted: list[Counter[int]]) -> None:
    """Unpack chunks of which it is not known what they hold; the first broken one ends the index."""
    chunks = index.summary.chunk_indexes
    for place, (chunk, counts) in enumerate(zip(chunks, counted, strict=True)):
        unknown = not counts or not counts.keys() <= index.summary.channels.keys()
        try:
            held = _unpacked(stream, chunk, index.summary) if unknown else counts
        except failures() as problem:
            index.problem = f"chunk {place} is damaged ({problem})"
            del chunks[place:]
            return
        index.counts.update(held)


def _unpacked(stream: IO[bytes], chunk: ChunkIndex, summary: Summary) -> Counter[int]:
    """Note the channels and schemas of a chunk; the number of its messages per channel."""
    kinds = require("mcap.records", "bags", PURPOSE)
    streams = require("mcap.data_stream", "bags", PURPOSE)
    stream.seek(chunk.chunk_start_offset + _RECORD_HEAD.size)
    packed = kinds.Chunk.read(streams.ReadDataStream(stream))
    counts: Counter[int] = Counter()
    for record in require("mcap.stream_reader", "bags", PURPOSE).breakup_chunk(packed, validate_crc=True):
        if isinstance(record, kinds.Message):
            counts[record.channel_id] += 1
        elif isinstance(record, kinds.Channel):
            summary.channels[record.id] = record
        elif isinstance(record, kinds.Schema):
            summary.schemas[record.id] = record
    return counts


def _note(stream: IO[bytes], record: _Record, summary: Summary) -> None:
    kinds = require("mcap.records", "bags", PURPOSE)
    streams = require("mcap.data_stream", "bags", PURPOSE)
    reader = streams.ReadDataStream(stream)
    if record.opcode == require("mcap.opcode", "bags", PURPOSE).Opcode.SCHEMA:
        schema = kinds.Schema.read(reader)
        summary.schemas[schema.id] = schema
    else:
        channel = kinds.Channel.read(reader)
        summary.channels[channel.id] = channel


def _chunk_index(stream: IO[bytes], record: _Record) -> ChunkIndex:
    start_ns, end_ns, unpacked_bytes, _ = _CHUNK_TIMES.unpack(stream.read(_CHUNK_TIMES.size))
    (length,) = struct.unpack("<I", stream.read(4))
    compression = stream.read(min(length, 64)).decode()
    index: ChunkIndex = require("mcap.records", "bags", PURPOSE).ChunkIndex(
        chunk_start_offset=record.start,
        chunk_length=_RECORD_HEAD.size + record.length,
        compression=compression,
        compressed_size=record.length,
        uncompressed_size=unpacked_bytes,
        message_start_time=start_ns,
        message_end_time=end_ns,
        message_index_length=0,
        message_index_offsets={},
    )
    return index


def failures() -> tuple[type[Exception], ...]:
    """What reading a damaged file raises."""
    return (
        require("mcap.exceptions", "bags", PURPOSE).McapError,
        require("zstandard", "bags", PURPOSE).ZstdError,
        struct.error,
        ValueError,  # checksums, text that is none
        KeyError,  # a channel or schema that is not there
        RuntimeError,  # LZ4
        OverflowError,
        MemoryError,
        EOFError,
    )
