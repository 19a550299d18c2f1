"""Subscribes to a ROS 2 camera and publishes its masks, without ROS: DDS alone.

    pip install 'pixelrt[cpu,video,bags,dds]'
    python examples/dds_bridge.py engines/road-unet/bundle --images /camera/image_raw --masks /camera/mask

ROS 2 sends the topic `/camera/image_raw` as the DDS topic `rt/camera/image_raw`, of the type
`sensor_msgs::msg::dds_::Image_`, in the layout that DDS calls XCDR1. This program says the same with
`cyclonedds`, so that nodes of ROS 2 in the same domain (`ROS_DOMAIN_ID`) find it. `rosbags` writes and reads
the bytes of the messages: cyclonedds makes a list of numbers of each image, which takes ten times as long.

Masks are `mono8` images of class ids, of the size of their image and with its header. Both directions are
best effort with a depth of one: an image that comes while the network is busy replaces the one that waits. A
subscriber must ask for best effort too (`qos_profile_sensor_data`; in RViz: Reliability Policy). Images that
cannot be read, such as of an encoding that nobody knows, are left out, and the first of each kind is told.

An image is many packets of UDP, and is lost with any of them: of 60 images of 1080x1920 at 15 a second, 5
came over loopback on a busy machine of two cores. A buffer of 4 MB instead of the usual 208 KB let 56
through: put `<Internal><SocketReceiveBufferSize min="4MB"/></Internal>` into the file below, beside
Discovery. It cannot be larger than `sysctl net.core.rmem_max` says.

`dds_camera.py` is a camera to try it with, which needs no ROS either.

It talks to whatever DDS finds on the network. To stay on this machine, let CYCLONEDDS_URI name a file with

    <CycloneDDS><Domain><General>
      <Interfaces><NetworkInterface name="lo"/></Interfaces><AllowMulticast>false</AllowMulticast>
    </General><Discovery>
      <ParticipantIndex>auto</ParticipantIndex><Peers><Peer address="127.0.0.1"/></Peers>
    </Discovery></Domain></CycloneDDS>
"""

# cyclonedds reads the annotations of messages: they are not postponed here
import argparse
import functools
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cyclonedds.idl.annotations as annotate
from cyclonedds.core import DDSException, InstanceState, ReadCondition, SampleState, ViewState, WaitSet
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import int32, sequence, uint8, uint32
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration
from ros_images import ImageReader, mask_fields
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore

import pixelrt
from pixelrt.errors import PixelRTError
from pixelrt.interrupts import uninterrupted
from pixelrt.terminal import complain, say
from pixelrt.video.sources.push import PushSource

IMAGE = "sensor_msgs/msg/Image"
QOS = Qos(
    Policy.Reliability.BestEffort,
    Policy.Durability.Volatile,
    Policy.History.KeepLast(1),
    Policy.DataRepresentation(use_cdrv0_representation=True),
)
"""Sensor data as ROS 2 has it, of which only the newest counts."""
_UNREAD = SampleState.NotRead | ViewState.Any | InstanceState.Any
_LAST_DOMAIN = 232
"""The ports of higher ones do not exist."""
_LOOK_S = 0.1
"""The waiting thread looks so often whether it shall end."""


@dataclass
@annotate.final
class Time(IdlStruct, typename="builtin_interfaces::msg::dds_::Time_"):  # type: ignore[call-arg]
    """`builtin_interfaces/Time`."""

    sec: int32
    nanosec: uint32


@dataclass
@annotate.final
class Header(IdlStruct, typename="std_msgs::msg::dds_::Header_"):  # type: ignore[call-arg]
    """`std_msgs/Header`."""

    stamp: Time
    frame_id: str


@dataclass
@annotate.final
class Image(IdlStruct, typename="sensor_msgs::msg::dds_::Image_"):  # type: ignore[call-arg]
    """`sensor_msgs/Image`, with its pixels as an array instead of a list."""

    header: Header
    height: uint32
    width: uint32
    encoding: str
    is_bigendian: uint8
    step: uint32
    data: sequence[uint8]

    def serialize(self, *_: Any, **__: Any) -> bytes:
        """The message's bytes."""
        return bytes(_types().serialize_cdr(self, IMAGE))

    @classmethod
    def deserialize(cls, data: bytes, *_: Any, **__: Any) -> "Image":
        """A message from its bytes."""
        message = _types().deserialize_cdr(data, IMAGE)
        stamp = message.header.stamp
        return cls(
            header=Header(stamp=Time(sec=stamp.sec, nanosec=stamp.nanosec), frame_id=message.header.frame_id),
            height=message.height,
            width=message.width,
            encoding=message.encoding,
            is_bigendian=message.is_bigendian,
            step=message.step,
            data=message.data,
        )


@functools.cache
def _types() -> Any:
    return get_typestore(Stores.ROS2_HUMBLE)


def main() -> None:
    """Segment what comes until Ctrl-C, or so many images."""
    options = parse_arguments()
    try:
        with pixelrt.load(
            options.bundle, task="segmentation", device=options.device, color="rgb"
        ) as segmenter:
            count = bridge(segmenter, options)
    except (PixelRTError, DDSException) as problem:
        raise SystemExit(str(problem)) from problem
    say(f"{count} masks published to {options.masks}")


def parse_arguments() -> argparse.Namespace:
    """Command line of the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="a segmentation bundle")
    parser.add_argument("--images", default="/camera/image_raw", help="ROS topic of the camera (%(default)s)")
    parser.add_argument("--masks", default="/camera/mask", help="ROS topic of the masks (%(default)s)")
    parser.add_argument(
        "--domain",
        type=int,
        help="DDS domain (ROS_DOMAIN_ID, or 0)",
        default=os.environ.get("ROS_DOMAIN_ID", "0"),
    )
    parser.add_argument("--limit", type=int, help="stop after so many masks")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (%(default)s)")
    options = parser.parse_args()
    check_topics(parser, options)
    if options.limit is not None and options.limit < 1:
        parser.error(f"--limit {options.limit}: expected at least 1")
    return options


def check_topics(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse topics and a domain that DDS does not have: it would wait there for ever."""
    for name in ("images", "masks"):
        if not re.fullmatch(r"(/\w+)+", topic := getattr(options, name)):
            parser.error(f"--{name} {topic!r}: expected a whole name, such as /camera/image_raw")
    if options.images == options.masks:
        parser.error(f"--masks {options.masks} is where the images come from; give another topic")
    if not 0 <= options.domain <= _LAST_DOMAIN:
        parser.error(f"--domain {options.domain}: expected 0 to {_LAST_DOMAIN}")


def bridge(segmenter: pixelrt.Segmenter, options: argparse.Namespace) -> int:
    """Publish the mask of each image that comes, the newest first.

    Returns:
        How many.
    """
    participant = DomainParticipant(options.domain)
    reader = DataReader(participant, topic(participant, options.images), qos=QOS)
    writer = DataWriter(participant, topic(participant, options.masks), qos=QOS)
    source = PushSource(name=options.images)
    stream = segmenter.stream(source)
    images, ended = ImageReader(source, segmenter.color), threading.Event()
    _types()  # imports much, which Ctrl-C must not meet in a thread: Python may then never import again
    receiver = threading.Thread(target=receive, args=(reader, images, ended), name="images of DDS")
    count = 0
    try:
        with uninterrupted():
            receiver.start()
        say(f"{options.images} -> {options.masks} in domain {options.domain}")
        for delivery in stream:
            writer.write(Image(**mask_fields(delivery)))
            count += 1
            if count == options.limit:
                break
    except KeyboardInterrupt:
        complain("interrupted")
    finally:
        ended.set()
        if receiver.ident is not None:
            receiver.join()
        if images.left_out:
            complain(f"{images.left_out} images were left out: they could not be read")
    return count


def receive(reader: DataReader[Image], images: ImageReader, ended: threading.Event) -> None:
    """Take images until the end, or until nobody wants more."""
    waiting = WaitSet(reader.participant)
    waiting.attach(ReadCondition(reader, _UNREAD))
    try:
        while not ended.is_set():
            waiting.wait(duration(seconds=_LOOK_S))
            for message in taken(reader, images):
                if isinstance(message, Image) and not images.take(message):
                    return
    except DDSException as problem:
        images.fail(problem)


def taken(reader: DataReader[Image], images: ImageReader) -> list[Image]:
    """The image that waits, if any; one whose bytes are no message is gone then, too."""
    try:
        return reader.take(N=1)
    except SerdeError as problem:
        images.leave_out(problem)
        return []


def topic(participant: DomainParticipant, name: str) -> Topic[Image]:
    """A ROS topic of images."""
    return Topic(participant, f"rt{name}", Image, qos=QOS)


if __name__ == "__main__":
    main()
