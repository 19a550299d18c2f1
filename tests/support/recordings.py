"""Recordings as robots make them: by the writers of rosbags, mcap and Foxglove."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import mcap.writer
import numpy as np
from foxglove.messages import CompressedImage, RawImage, Timestamp
from numpy.typing import NDArray
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

Bytes = NDArray[np.uint8]
CAMERA = "/camera/image_raw"
START_NS = 1_750_000_000_250_000_000
STEP_NS = 40_000_000
IMAGE, COMPRESSED, TEXT = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "std_msgs/msg/String"
ROS2, ROS1 = get_typestore(Stores.ROS2_HUMBLE), get_typestore(Stores.ROS1_NOETIC)


@dataclass(frozen=True)
class Record:
    """One message of a recording."""

    log_ns: int
    fields: dict[str, Any]
    topic: str = CAMERA
    type: str = IMAGE


def stamp(index: int) -> int:
    """When frame `index` was taken, in nanoseconds since 1970."""
    return START_NS + index * STEP_NS


def image(
    pixels: NDArray[Any],
    index: int = 0,
    *,
    encoding: str = "rgb8",
    padding: int = 0,
    big_endian: bool = False,
    taken_ns: int | None = None,
) -> dict[str, Any]:
    """The fields of a `sensor_msgs/Image`; rows end in `padding` bytes of rubbish."""
    height, width = pixels.shape[:2]
    rows = np.frombuffer(np.ascontiguousarray(pixels).tobytes(), np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xA5)
    return {
        "stamp_ns": stamp(index) if taken_ns is None else taken_ns,
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": int(big_endian),
        "step": rows.shape[1],
        "data": rows.ravel(),
    }


def compressed(pixels: Bytes, index: int = 0, *, suffix: str = ".png", form: str = "png") -> dict[str, Any]:
    """The fields of a `sensor_msgs/CompressedImage`."""
    _, content = cv2.imencode(suffix, pixels[..., ::-1])
    return {"stamp_ns": stamp(index), "format": form, "data": np.asarray(content).ravel()}


def _message(store: Any, record: Record) -> Any:
    fields = dict(record.fields)
    if record.type == TEXT:
        return store.types[TEXT](**fields)
    seconds, nanoseconds = divmod(fields.pop("stamp_ns"), 10**9)
    time = store.types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
    header = {"stamp": time, "frame_id": "camera"}
    if store is ROS1:
        header["seq"] = 0
    return store.types[record.type](header=store.types["std_msgs/msg/Header"](**header), **fields)


def text(log_ns: int, topic: str = "/chatter") -> Record:
    """A message that holds no image."""
    return Record(log_ns, {"data": "hello"}, topic, TEXT)


def write_ros2(folder: Path, records: Iterable[Record], storage: Literal["mcap", "sqlite3"] = "mcap") -> Path:
    """A folder as `ros2 bag record` leaves it."""
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    with Writer2(folder, version=9, storage_plugin=plugin) as writer:
        _write(writer, records, ROS2, ROS2.serialize_cdr)
    return folder


def write_ros1(path: Path, records: Iterable[Record]) -> Path:
    """A file as `rosbag record` leaves it."""
    with Writer1(path) as writer:
        _write(writer, records, ROS1, ROS1.serialize_ros1)
    return path


def _write(
    writer: Any, records: Iterable[Record], store: Any, serialize: Callable[[Any, str], memoryview]
) -> None:
    connections: dict[str, Any] = {}
    for record in records:
        if record.topic not in connections:
            connections[record.topic] = writer.add_connection(record.topic, record.type, typestore=store)
        content = serialize(_message(store, record), record.type)
        writer.write(connections[record.topic], record.log_ns, content)


@dataclass(frozen=True, kw_only=True)
class McapOptions:
    """How an MCAP file is written."""

    chunk_bytes: int = 1 << 20
    compression: Literal["zstd", "lz4", "none"] = "zstd"
    chunks: bool = True
    index: bool = True
    finish: bool = True
    """False leaves it as a recorder does that loses its power: what was flushed is there, and no end."""


def write_mcap(
    path: Path, records: Iterable[Record], options: McapOptions | None = None, *, profile: str = "ros2"
) -> Path:
    """An MCAP file of ROS messages."""
    options = options or McapOptions()
    store, serialize = (ROS2, ROS2.serialize_cdr) if profile == "ros2" else (ROS1, ROS1.serialize_ros1)
    encoding = "cdr" if profile == "ros2" else "ros1"
    with path.open("wb") as stream:
        writer = _mcap_writer(stream, options)
        writer.start(profile)
        channels: dict[str, int] = {}
        for record in records:
            if record.topic not in channels:
                definition, _ = store.generate_msgdef(record.type, ros_version=2 if profile == "ros2" else 1)
                schema = writer.register_schema(record.type, f"{profile}msg", definition.encode())
                channels[record.topic] = writer.register_channel(record.topic, encoding, schema)
            content = bytes(serialize(_message(store, record), record.type))
            writer.add_message(channels[record.topic], record.log_ns, content, record.log_ns)
        if options.finish:
            writer.finish()
        else:
            writer.flush()
    return path


def _mcap_writer(stream: Any, options: McapOptions) -> mcap.writer.Writer:
    types = mcap.writer.IndexType
    return mcap.writer.Writer(
        stream,
        chunk_size=options.chunk_bytes,
        compression=getattr(mcap.writer.CompressionType, options.compression.upper()),
        use_chunking=options.chunks,
        index_types=types.ALL if options.index else types.NONE,
        repeat_channels=options.index,
        repeat_schemas=options.index,
        use_statistics=options.index,
        use_summary_offsets=options.index,
    )


def write_own_type(
    path: Path, kind: str, definition: str, fields: dict[str, Any], told: str | None = None
) -> Path:
    """An MCAP file of one message of a type that its definition explains; `told` is what the file says."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg(definition, kind))
    fields = dict(fields, frame_id="camera")
    fields.pop("is_bigendian")
    seconds, nanoseconds = divmod(fields.pop("stamp_ns"), 10**9)
    fields["timestamp"] = store.types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
    content = bytes(store.serialize_cdr(store.types[kind](**fields), kind))
    with path.open("wb") as stream:
        writer = mcap.writer.Writer(stream)
        writer.start("ros2")
        schema = writer.register_schema(kind, "ros2msg", (told or definition).encode())
        writer.add_message(writer.register_channel(CAMERA, "cdr", schema), START_NS, content, START_NS)
        writer.finish()
    return path


def write_foxglove(
    path: Path, pictures: Sequence[Bytes], kind: str, form: Literal["protobuf", "json"]
) -> Path:
    """An MCAP file of `foxglove.RawImage` or `foxglove.CompressedImage` (PNG)."""
    schema = (RawImage if kind == "foxglove.RawImage" else CompressedImage).get_schema()
    with path.open("wb") as stream:
        writer = mcap.writer.Writer(stream)
        writer.start()
        encoding, data = (schema.encoding, schema.data) if form == "protobuf" else ("jsonschema", b"{}")
        channel = writer.register_channel(CAMERA, form, writer.register_schema(kind, encoding, data))
        for index, pixels in enumerate(pictures):
            fields = image(pixels, index) if kind == "foxglove.RawImage" else compressed(pixels, index)
            content = _protobuf(fields) if form == "protobuf" else _json(fields)
            writer.add_message(channel, stamp(index) + 7, content, stamp(index) + 7)
        writer.finish()
    return path


def _protobuf(fields: dict[str, Any]) -> bytes:
    fields = dict(fields, data=fields["data"].tobytes())
    fields.pop("is_bigendian", None)
    timestamp = Timestamp(*divmod(fields.pop("stamp_ns"), 10**9))
    kind = RawImage if "step" in fields else CompressedImage
    return kind(timestamp=timestamp, frame_id="camera", **fields).encode()


def _json(fields: dict[str, Any]) -> bytes:
    seconds, nanoseconds = divmod(fields["stamp_ns"], 10**9)
    fields = dict(fields, data=base64.b64encode(fields["data"].tobytes()).decode())
    fields["timestamp"] = {"sec": seconds, "nsec": nanoseconds}
    return json.dumps(fields).encode()
