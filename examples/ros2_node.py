"""A ROS 2 node: images in, masks out, newest first.

    python examples/ros2_node.py --ros-args -p bundle:=road-unet/bundle -r image_raw:=/camera/image_raw

Run it with the Python of a sourced ROS 2 (Humble or newer) in which PixelRT is installed. It has been tried
with a stand-in for rclpy only, which checks that it wires its callbacks; `dds_bridge.py` sends the same
messages between real processes.

| | | |
|---|---|---|
| subscribes | `image_raw` | `sensor_msgs/Image`, in any usual encoding |
| publishes | `mask` | `sensor_msgs/Image`, `mono8`: class ids, at the size and with the header of the image |
| publishes | `/diagnostics` | health, frames by their fate, p99, and the share of each class; once a second |
| parameters | `bundle` | folder of a segmentation bundle |
| | `device` | `auto`, `cpu`, `cuda`, `cuda:1` (`auto`) |
| | `deadline_s` | older results are not published; 0 for no limit (0) |

Images and masks are sent as sensor data: best effort. The callback hands the image over and returns, so that
the executor is never held up; an image that comes while the network is busy replaces the one that waits.
Images that cannot be read are left out and counted.
"""

from __future__ import annotations

import array
from typing import Any

from ros_images import ImageReader, in_background, mask_fields

import pixelrt
from pixelrt.errors import PixelRTError
from pixelrt.video.delivery import Delivery
from pixelrt.video.sources.push import PushSource

try:
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
    from rclpy.executors import ExternalShutdownException
    from rclpy.node import Node
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image
except ModuleNotFoundError as problem:
    raise SystemExit(
        f"this Python has no {problem.name}, which comes with ROS 2, not with pip: first source "
        "/opt/ros/humble/setup.bash, or whichever ROS 2 is there; without ROS run dds_bridge.py"
    ) from problem

_LEVELS = {"ok": DiagnosticStatus.OK, "failed": DiagnosticStatus.ERROR}
"""Everything else is a warning."""
_PERIOD_S = 1.0


class SegmenterNode(Node):  # type: ignore[misc]  # rclpy has no types
    """Segments what comes; `destroy_node` ends it.

    Attributes:
        problem: What stopped it; None while it runs.

    Raises:
        PixelRTError: If the bundle cannot be loaded.
    """

    def __init__(self) -> None:
        super().__init__("pixelrt")
        self.problem: Exception | None = None
        for name, default in (("bundle", ""), ("device", "auto"), ("deadline_s", 0.0)):
            self.declare_parameter(name, default)
        self._segmenter = pixelrt.load(
            self._value("bundle"), task="segmentation", device=self._value("device"), color="rgb"
        )
        self._source = PushSource(name="image_raw")
        self._images = ImageReader(self._source, self._segmenter.color, self.get_logger().warning)
        self._stream = self._segmenter.stream(self._source, deadline=self._value("deadline_s") or None)
        self._latest: Delivery | None = None
        self._masks = self.create_publisher(Image, "mask", qos_profile_sensor_data)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._worker = in_background(self._segment, "pixelrt")
        self.create_timer(_PERIOD_S, self._diagnose)
        self.create_subscription(Image, "image_raw", self._images.take, qos_profile_sensor_data)

    def destroy_node(self) -> None:
        """End the stream, then the node."""
        self._stream.close()
        self._worker.join()
        self._segmenter.close()
        super().destroy_node()

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _segment(self) -> None:
        """Until the stream ends; an error stops the node, and whoever looks after it starts it again."""
        try:
            for delivery in self._stream:
                self._latest = delivery
                self._masks.publish(message_of(delivery))
        except Exception as problem:  # noqa: BLE001  # of a driver, or of rclpy that cannot publish
            if not rclpy.ok():  # after Ctrl-C nobody can
                return
            self.problem = problem
            self.get_logger().fatal(f"{type(problem).__name__}: {problem}")
            rclpy.try_shutdown()

    def _diagnose(self) -> None:
        health, figures = self._stream.health, self._stream.statistics()
        (source,) = figures.sources
        values = {"captured": source.captured, "delivered": source.delivered, **source.dropped, **source.lost}
        if self._images.left_out:
            values["left out, no picture"] = self._images.left_out
        if (age := figures.recent.get("capture to delivery")) is not None:
            values["capture to delivery, p99 ms"] = round(age.p99_ms, 1)
        if self._latest is not None:
            shares = self._latest.result.coverage()
            values.update({f"share of {name}": round(share, 4) for name, share in shares.items()})
        status = DiagnosticStatus(
            level=_LEVELS.get(health.state, DiagnosticStatus.WARN),
            name=f"{self.get_name()}: segmentation",
            message=health.why or health.state,
            hardware_id=self._segmenter.session.info.device,
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def message_of(delivery: Delivery) -> Image:
    """The mask as a message; of `array.array` rclpy takes the bytes as they are."""
    fields = mask_fields(delivery)
    fields["data"] = array.array("B", fields["data"].tobytes())
    return Image(**fields)


def main() -> None:
    """Spin until Ctrl-C, or until the stream fails.

    Raises:
        SystemExit: With code 1, if it failed, so that whoever looks after the node starts it again.
    """
    rclpy.init()
    try:
        node = SegmenterNode()
    except PixelRTError as problem:
        raise SystemExit(str(problem)) from problem
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    if node.problem is not None:
        raise SystemExit(1) from node.problem


if __name__ == "__main__":
    main()
