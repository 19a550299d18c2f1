"""Publishes a video as a ROS 2 camera over DDS, and counts the masks that come back: to try `dds_bridge.py`.

    python examples/dds_bridge.py engines/road-unet/bundle    # in one terminal
    python examples/dds_camera.py                             # in another
    python examples/dds_camera.py drive.mp4 --images /camera/image_raw

The frames go out at the rate of the video. It waits for somebody who wants them, and at the end for the last
masks; Ctrl-C ends it before that. Where fewer come back than went out, the network was slower than the
camera, or images were lost on the way: `dds_bridge.py` says what helps.
"""

# cyclonedds reads the annotations of messages, and those of dds_bridge are not postponed
import argparse
import os
import time

import numpy as np
from cyclonedds.core import DDSException
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from dds_bridge import QOS, Header, Image, Time, check_topics, topic

from pixelrt.errors import PixelRTError
from pixelrt.terminal import complain, say
from pixelrt.video.frame import Frame
from pixelrt.video.sources import open_source
from pixelrt.video.sources.paced import Paced

DRIVE = "test://drive?frames=150&size=360x640&fps=15"
_LOOK_S = 0.05
_MASKS_KEPT = 30
"""They are looked at once a frame, and more than one may have come."""
_LAST_S = 2.0


def main() -> None:
    """Publish to the end, or until Ctrl-C."""
    options = parse_arguments()
    try:
        sent, came = publish(options)
    except (PixelRTError, DDSException) as problem:
        raise SystemExit(str(problem)) from problem
    say(f"{sent} images published to {options.images}, {came} masks came back")


def parse_arguments() -> argparse.Namespace:
    """Command line of the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", nargs="?", default=DRIVE, help="a video or a camera (%(default)s)")
    parser.add_argument("--images", default="/camera/image_raw", help="ROS topic of the camera (%(default)s)")
    parser.add_argument("--masks", default="/camera/mask", help="ROS topic of the masks (%(default)s)")
    parser.add_argument(
        "--domain",
        type=int,
        help="DDS domain (ROS_DOMAIN_ID, or 0)",
        default=os.environ.get("ROS_DOMAIN_ID", "0"),
    )
    options = parser.parse_args()
    check_topics(parser, options)
    return options


def publish(options: argparse.Namespace) -> tuple[int, int]:
    """Publish the frames of the source.

    Returns:
        How many images went out, and how many masks came back.
    """
    participant = DomainParticipant(options.domain)
    writer = DataWriter(participant, topic(participant, options.images), qos=QOS)
    many = Qos(Policy.History.KeepLast(_MASKS_KEPT), base=QOS)
    reader = DataReader(participant, topic(participant, options.masks), qos=many)
    sent = came = 0
    try:
        with open_source(options.source) as opened, opened if opened.live else Paced(opened) as source:
            say(f"{options.images} in domain {options.domain}: waiting for a subscriber")
            while not writer.get_matched_subscriptions():
                time.sleep(_LOOK_S)
            for frame in source:
                writer.write(message_of(frame))
                sent += 1
                came += len(reader.take(N=_MASKS_KEPT))
        end_s = time.monotonic() + _LAST_S
        while came < sent and time.monotonic() < end_s:
            time.sleep(_LOOK_S)
            came += len(reader.take(N=_MASKS_KEPT))
    except KeyboardInterrupt:
        complain("interrupted")
        came += len(reader.take(N=_MASKS_KEPT))
    return sent, came


def message_of(frame: Frame) -> Image:
    """A frame as a message, stamped with the time of now."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    height, width = frame.size
    return Image(
        header=Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame.source),
        height=height,
        width=width,
        encoding=f"{frame.color}8",
        is_bigendian=0,
        step=3 * width,
        data=np.ascontiguousarray(frame.image).ravel(),
    )


if __name__ == "__main__":
    main()
