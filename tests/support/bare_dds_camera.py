"""A ROS 2 camera over DDS, as cyclonedds alone has it: publishes images, keeps the masks that come back.

    python bare_dds_camera.py DOMAIN IMAGES.npz MASKS.npz

Each array of IMAGES.npz is published, over and over, until the mask of each has come: its name is the
encoding and the padding of a row in bytes, such as `rgb8-5`; that of `broken-0` is no text.
MASKS.npz has what comes, by the same names.

The types are written down here a second time on purpose: with those of the bridge, a wrong name or a wrong
layout in it would go unnoticed.
"""

# cyclonedds reads the annotations of messages: they are not postponed here
import sys
import time
from dataclasses import dataclass
from typing import Any

import cyclonedds.idl.annotations as annotate
import numpy as np
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import int32, sequence, uint8, uint32
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from numpy.typing import NDArray

LIMIT_S = 60.0


@dataclass
@annotate.final
class Time(IdlStruct, typename="builtin_interfaces::msg::dds_::Time_"):  # type: ignore[call-arg]
    sec: int32
    nanosec: uint32


@dataclass
@annotate.final
class Header(IdlStruct, typename="std_msgs::msg::dds_::Header_"):  # type: ignore[call-arg]
    stamp: Time
    frame_id: str


@dataclass
@annotate.final
class Image(IdlStruct, typename="sensor_msgs::msg::dds_::Image_"):  # type: ignore[call-arg]
    header: Header
    height: uint32
    width: uint32
    encoding: str
    is_bigendian: uint8
    step: uint32
    data: sequence[uint8]


class Broken(Image):
    def serialize(self, *values: Any, **options: Any) -> bytes:
        return bytes(super().serialize(*values, **options)).replace(b"broken", 6 * b"\xff")


def main() -> None:
    domain, images, masks = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    qos = Qos(
        Policy.Reliability.BestEffort,
        Policy.History.KeepLast(5),
        Policy.DataRepresentation(use_cdrv0_representation=True),
    )
    participant = DomainParticipant(domain)
    writer = DataWriter(participant, Topic(participant, "rt/camera/image_raw", Image, qos=qos), qos=qos)
    reader = DataReader(participant, Topic(participant, "rt/camera/mask", Image, qos=qos), qos=qos)
    with np.load(images) as given:
        messages = {name: message(number, name, given[name]) for number, name in enumerate(given.files)}
    found = exchange(writer, reader, messages)
    np.savez(masks, **found)


def message(number: int, name: str, rows: NDArray[np.uint8]) -> Image:
    """Of rows uint8[H, step]."""
    encoding, _, padding = name.partition("-")
    channels = {"mono8": 1, "rgb8": 3, "bgr8": 3, "rgba8": 4}.get(encoding, 3)
    kind = Broken if encoding == "broken" else Image
    return kind(
        header=Header(stamp=Time(sec=1000 + number, nanosec=123456789), frame_id=f"camera {number}"),
        height=rows.shape[0],
        width=(rows.shape[1] - int(padding)) // channels,
        encoding=encoding,
        is_bigendian=0,
        step=rows.shape[1],
        data=rows.ravel().tolist(),
    )


def exchange(writer: Any, reader: Any, messages: dict[str, Image]) -> dict[str, NDArray[np.uint8]]:
    """Publish until everything came back; each mask must have the header of its image."""
    names = {sent.header.stamp.sec: name for name, sent in messages.items()}
    found: dict[str, NDArray[np.uint8]] = {}
    end_s = time.monotonic() + LIMIT_S
    while len(found) < len(messages) and time.monotonic() < end_s:
        for name, sent in messages.items():
            if name not in found:
                writer.write(sent)
                time.sleep(0.1)
        for mask in reader.take(N=20):
            name = names[mask.header.stamp.sec]
            assert mask.header == messages[name].header, mask.header
            assert (mask.encoding, mask.step, mask.is_bigendian) == ("mono8", mask.width, 0)
            found[name] = np.array(mask.data, np.uint8).reshape(mask.height, mask.width)
    return found


if __name__ == "__main__":
    main()
