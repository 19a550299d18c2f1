"""Recordings: MCAP of ROS 1, ROS 2, Foxglove and PixelRT itself, bags of ROS 1, databases of ROS 2.

Images are `sensor_msgs/Image`, `sensor_msgs/CompressedImage`, `foxglove.RawImage` or
`foxglove.CompressedImage`, in CDR, ROS 1's own form, protobuf or JSON.
"""

from __future__ import annotations

from pixelrt.video.sources.bags.bag import Bag
from pixelrt.video.sources.bags.opening import SUFFIXES, is_bag, open_bag

__all__ = ["SUFFIXES", "Bag", "is_bag", "open_bag"]
