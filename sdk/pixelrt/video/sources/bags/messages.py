"""Messages of recordings that hold an image, in each serialisation that is used for them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pixelrt.dependency import require
from pixelrt.video.sources.bags.pixels import CodedPicture, Picture, PictureError, RawPicture

_RAW = ("sensor_msgs/msg/Image", "foxglove.RawImage", "foxglove_msgs/msg/RawImage")
_CODED = ("sensor_msgs/msg/CompressedImage", "foxglove.CompressedImage", "foxglove_msgs/msg/CompressedImage")
_PURPOSE = "reading a recording"


@dataclass(frozen=True, slots=True)
class ImageMessage:
    """An image and its own time."""

    stamp_ns: int
    """Nanoseconds since 1970 by the clock of who took it; 0 where nobody set it."""
    picture: Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageType:
    """How the messages of a topic are written."""

    name: str
    """`sensor_msgs/msg/Image`, `foxglove.CompressedImage`, ..."""
    serialization: str
    """`cdr`, `ros1`, `protobuf` or `json`."""
    definition: bytes = b""
    """Its schema, where the recording holds one."""

    @property
    def holds_image(self) -> bool:
        """Whether its messages are images that can be read."""
        return _normal(self.name) in (*_RAW, *_CODED) and self.serialization in _READERS


Decoder = Callable[[Any], ImageMessage]


def decoder(kind: MessageType) -> Decoder:
    """What makes an image of the bytes of a message. `kind` holds images.

    Raises:
        PictureError: If the type's definition cannot be understood.
    """
    read = _READERS[kind.serialization](kind)
    is_raw = _normal(kind.name) in _RAW

    def decode(content: Any) -> ImageMessage:
        fields = read(content)
        try:
            return ImageMessage(fields.stamp_ns, fields.raw() if is_raw else fields.coded())
        except (AttributeError, KeyError, TypeError, ValueError) as problem:
            raise PictureError(f"it lacks what a {kind.name} has ({problem})") from problem

    return decode


def _normal(name: str) -> str:
    """ROS 1 leaves `msg/` out."""
    package, _, rest = name.partition("/")
    return f"{package}/msg/{rest}" if rest and "/" not in rest else name


class _Fields:
    """A message, by the names of its fields."""

    def __init__(self, message: Any) -> None:
        self._message = message

    @property
    def stamp_ns(self) -> int:
        message = self._message
        stamp = message.header.stamp if hasattr(message, "header") else message.timestamp
        seconds, rest = ("sec", "nanosec") if hasattr(stamp, "sec") else ("seconds", "nanos")
        return int(getattr(stamp, seconds)) * 10**9 + int(getattr(stamp, rest))

    def raw(self) -> RawPicture:
        message = self._message
        return RawPicture(
            height=int(message.height),
            width=int(message.width),
            encoding=str(message.encoding),
            step=int(message.step),
            big_endian=bool(getattr(message, "is_bigendian", False)),
            data=message.data,
        )

    def coded(self) -> CodedPicture:
        return CodedPicture(format=str(self._message.format), data=self._message.data)


class _JsonFields(_Fields):
    """The same of JSON, where bytes are base64."""

    @property
    def stamp_ns(self) -> int:
        stamp = self._message["timestamp"]
        return int(stamp["sec"]) * 10**9 + int(stamp["nsec"])

    def raw(self) -> RawPicture:
        message = self._message
        return RawPicture(
            height=int(message["height"]),
            width=int(message["width"]),
            encoding=str(message["encoding"]),
            step=int(message["step"]),
            big_endian=False,
            data=self._data(),
        )

    def coded(self) -> CodedPicture:
        return CodedPicture(format=str(self._message["format"]), data=self._data())

    def _data(self) -> bytes:
        return base64.b64decode(self._message["data"], validate=True)


def _ros_reader(kind: MessageType) -> Callable[[Any], _Fields]:
    typesys = require("rosbags.typesys", "bags", _PURPOSE)
    serde = require("rosbags.serde", "bags", _PURPOSE)
    is_ros2 = kind.serialization == "cdr"
    name = _normal(kind.name)
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE if is_ros2 else typesys.Stores.ROS1_NOETIC)
    if name not in store.types:
        try:
            store.register(typesys.get_types_from_msg(kind.definition.decode(), name))
        except (typesys.TypesysError, UnicodeDecodeError) as problem:
            raise PictureError(f"its type {kind.name} cannot be understood ({problem})") from problem
    deserialize = store.deserialize_cdr if is_ros2 else store.deserialize_ros1

    def read(content: Any) -> _Fields:
        try:
            return _Fields(deserialize(content, name))
        except (serde.SerdeError, ValueError, IndexError) as problem:
            raise PictureError(f"it is no {kind.name} ({problem})") from problem

    return read


def _protobuf_reader(kind: MessageType) -> Callable[[Any], _Fields]:
    descriptors = require("google.protobuf.descriptor_pb2", "bags", _PURPOSE)
    factory = require("google.protobuf.message_factory", "bags", _PURPOSE)
    failure = require("google.protobuf.message", "bags", _PURPOSE).DecodeError
    try:
        files = descriptors.FileDescriptorSet.FromString(kind.definition)
        message = factory.GetMessages(list(files.file))[kind.name]
    except (failure, KeyError, TypeError) as problem:
        raise PictureError(f"its type {kind.name} cannot be understood ({problem})") from problem

    def read(content: Any) -> _Fields:
        try:
            return _Fields(message.FromString(content))
        except failure as problem:
            raise PictureError(f"it is no {kind.name} ({problem})") from problem

    return read


def _json_reader(kind: MessageType) -> Callable[[Any], _Fields]:
    def read(content: Any) -> _Fields:
        try:
            return _JsonFields(json.loads(content))
        except ValueError as problem:
            raise PictureError(f"it is no {kind.name} ({problem})") from problem

    return read


_READERS: dict[str, Callable[[MessageType], Callable[[Any], _Fields]]] = {
    "cdr": _ros_reader,
    "ros1": _ros_reader,
    "protobuf": _protobuf_reader,
    "json": _json_reader,
}
