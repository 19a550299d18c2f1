"""As much of rclpy and two message packages as `examples/ros2_node.py` touches. Nothing is sent anywhere.

Messages refuse fields that the ROS types do not have, and values that rclpy would not take.
"""

from __future__ import annotations

import array
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

SENSOR_DATA = object()


@dataclass
class Time:
    sec: int = 0
    nanosec: int = 0


@dataclass
class Header:
    stamp: Time = field(default_factory=Time)
    frame_id: str = ""


@dataclass
class Image:
    header: Header = field(default_factory=Header)
    height: int = 0
    width: int = 0
    encoding: str = ""
    is_bigendian: int = 0
    step: int = 0
    data: Any = field(default_factory=lambda: array.array("B"))

    def __post_init__(self) -> None:
        assert isinstance(self.data, array.array) and self.data.typecode == "B"
        assert all(type(value) is int for value in (self.height, self.width, self.is_bigendian, self.step))


@dataclass
class KeyValue:
    key: str = ""
    value: str = ""

    def __post_init__(self) -> None:
        assert isinstance(self.key, str) and isinstance(self.value, str)


@dataclass
class DiagnosticStatus:
    OK: ClassVar[bytes] = b"\0"
    WARN: ClassVar[bytes] = b"\1"
    ERROR: ClassVar[bytes] = b"\2"
    level: bytes = b"\0"
    name: str = ""
    message: str = ""
    hardware_id: str = ""
    values: list[KeyValue] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert isinstance(self.level, bytes) and isinstance(self.message, str)


@dataclass
class DiagnosticArray:
    header: Header = field(default_factory=Header)
    status: list[DiagnosticStatus] = field(default_factory=list)


@dataclass
class Publisher:
    kind: type
    qos: object
    published: list[Any] = field(default_factory=list)
    problem: Exception | None = None
    """What publishing raises."""

    def publish(self, message: Any) -> None:
        assert isinstance(message, self.kind)
        if self.problem is not None:
            raise self.problem
        self.published.append(message)


class Node:
    """Keeps what was made of it, for the test."""

    given: ClassVar[dict[str, Any]] = {}
    """Parameters of the command line."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.parameters: dict[str, Any] = {}
        self.publishers: dict[str, Publisher] = {}
        self.subscriptions: dict[str, tuple[type, Callable[[Any], Any], object]] = {}
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.fatal: list[str] = []
        self.warnings: list[str] = []
        self.destroyed = False

    def declare_parameter(self, name: str, default: Any) -> None:
        self.parameters[name] = self.given.get(name, default)

    def get_parameter(self, name: str) -> Any:
        return SimpleNamespace(value=self.parameters[name])

    def create_publisher(self, kind: type, topic: str, qos: object) -> Publisher:
        self.publishers[topic] = Publisher(kind, qos)
        return self.publishers[topic]

    def create_subscription(
        self, kind: type, topic: str, callback: Callable[[Any], Any], qos: object
    ) -> None:
        self.subscriptions[topic] = (kind, callback, qos)

    def create_timer(self, period_s: float, callback: Callable[[], None]) -> None:
        self.timers.append((period_s, callback))

    def get_name(self) -> str:
        return self.name

    def get_logger(self) -> Any:
        return SimpleNamespace(fatal=self.fatal.append, warning=self.warnings.append)

    def get_clock(self) -> Any:
        return SimpleNamespace(now=lambda: SimpleNamespace(to_msg=lambda: Time(sec=7)))

    def destroy_node(self) -> None:
        self.destroyed = True


class Ros:
    """The modules, and what became of the process."""

    def __init__(self, during: Callable[[Any], None] = lambda node: None) -> None:
        self.initialised = False
        self.shut_down = threading.Event()
        self._during = during

    def modules(self) -> dict[str, ModuleType]:
        """By name."""
        return {
            "rclpy": module(
                "rclpy",
                init=self._init,
                spin=self._during,
                ok=lambda: not self.shut_down.is_set(),
                try_shutdown=lambda: self.shut_down.set(),
            ),
            "rclpy.node": module("rclpy.node", Node=Node),
            "rclpy.qos": module("rclpy.qos", qos_profile_sensor_data=SENSOR_DATA),
            "rclpy.executors": module("rclpy.executors", ExternalShutdownException=ExternalShutdown),
            "sensor_msgs": module("sensor_msgs"),
            "sensor_msgs.msg": module("sensor_msgs.msg", Image=Image),
            "diagnostic_msgs": module("diagnostic_msgs"),
            "diagnostic_msgs.msg": module(
                "diagnostic_msgs.msg",
                DiagnosticArray=DiagnosticArray,
                DiagnosticStatus=DiagnosticStatus,
                KeyValue=KeyValue,
            ),
        }

    def _init(self) -> None:
        self.initialised = True


class ExternalShutdown(Exception):  # noqa: N818  # as in rclpy
    """`rclpy.executors.ExternalShutdownException`."""


def module(name: str, **contents: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(contents)
    return made
