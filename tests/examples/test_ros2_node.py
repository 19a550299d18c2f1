"""The wiring of the ROS 2 node, with a stand-in for rclpy: no message leaves the process here."""

from __future__ import annotations

import array
import importlib
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ros_stand_in
from numpy.typing import NDArray
from ros_stand_in import DiagnosticStatus, Header, Image, Ros, Time

import pixelrt
from pixelrt.bundle import Bundle
from pixelrt.video.sources.push import PushSource

SCRIPT = Path(__file__).parents[2] / "examples" / "ros2_node.py"
LIMIT_S = 60.0

MakeBundle = Callable[..., Bundle]


def test_without_ros_it_says_where_that_comes_from() -> None:
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "this Python has no rclpy, which comes with ROS 2, not with pip: first source /"
    )


@pytest.fixture(scope="module")
def bundle(make_bundle: MakeBundle) -> Path:
    return make_bundle(emit=("mask",)).path


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    def start(ros: Ros, **parameters: Any) -> dict[str, Any]:
        monkeypatch.syspath_prepend(str(SCRIPT.parent))
        monkeypatch.setattr(ros_stand_in.Node, "given", parameters)
        for name, module in ros.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
        return runpy.run_path(str(SCRIPT))

    return start


def a_message(image: NDArray[np.uint8], encoding: str, second: int) -> Image:
    return Image(
        header=Header(stamp=Time(sec=second, nanosec=5), frame_id="front"),
        height=image.shape[0],
        width=image.shape[1],
        encoding=encoding,
        step=image.shape[1] * 3,
        data=array.array("B", image.tobytes()),
    )


def wait_for(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def test_images_become_masks_with_their_headers(bundle: Path, start: Callable[..., dict[str, Any]]) -> None:
    pixelrt.load(bundle, device="cpu").close()  # OpenVINO keeps a thread
    threads = set(threading.enumerate())
    node = start(Ros(), bundle=str(bundle), device="cpu")["SegmenterNode"]()
    kind, on_image, qos = node.subscriptions["image_raw"]
    assert kind is Image and qos is ros_stand_in.SENSOR_DATA
    masks = node.publishers["mask"]
    assert masks.qos is ros_stand_in.SENSOR_DATA
    rng = np.random.default_rng(2)
    with pixelrt.load(bundle, device="cpu") as segmenter:
        for second, encoding in enumerate(("rgb8", "bgr8", "rgb8")):
            image = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
            on_image(a_message(image, encoding, second))
            wait_for(lambda wanted=second + 1: len(masks.published) == wanted)
            mask = masks.published[-1]
            assert mask.header == Header(stamp=Time(sec=second, nanosec=5), frame_id="front")
            assert (mask.height, mask.width, mask.encoding, mask.step) == (40, 60, "mono8", 60)
            frame = image if encoding == "rgb8" else np.ascontiguousarray(image[..., ::-1])
            found = np.frombuffer(mask.data, np.uint8).reshape(40, 60)
            np.testing.assert_array_equal(found, segmenter(frame).resized().mask)
    ((period_s, diagnose),) = node.timers
    assert period_s == 1
    diagnose()
    (message,) = node.publishers["/diagnostics"].published
    assert message.header.stamp == Time(sec=7)
    (status,) = message.status
    assert (status.level, status.message, status.hardware_id) == (DiagnosticStatus.OK, "ok", "cpu")
    values = {pair.key: pair.value for pair in status.values}
    assert (values["captured"], values["delivered"]) == ("3", "3")
    assert float(values["capture to delivery, p99 ms"]) > 0
    shares = [float(value) for key, value in values.items() if key.startswith("share of ")]
    assert len(shares) == 3 and sum(shares) == pytest.approx(1, abs=0.001)
    node.destroy_node()
    assert node.destroyed and node.fatal == []
    assert set(threading.enumerate()) <= threads


def test_images_that_cannot_be_read_are_left_out(bundle: Path, start: Callable[..., dict[str, Any]]) -> None:
    node = start(Ros(), bundle=str(bundle), device="cpu")["SegmenterNode"]()
    _, on_image, _ = node.subscriptions["image_raw"]
    bad = a_message(np.zeros((4, 4, 3), np.uint8), "rgb9", 0)
    short = a_message(np.zeros((4, 4, 3), np.uint8), "rgb8", 0)
    short.data = short.data[:10]
    for message in (bad, short, bad, short):
        on_image(message)
    on_image(a_message(np.zeros((40, 60, 3), np.uint8), "rgb8", 1))
    masks = node.publishers["mask"].published
    wait_for(lambda: len(masks) == 1)
    assert masks[0].header.stamp.sec == 1
    assert len(node.warnings) == 2
    assert (
        "image_raw is left out, as are all such: its pixels are rgb9 (did you mean 'rgb8'?)"
        in (node.warnings[0])
    )
    assert "it holds 10 bytes, expected 48" in node.warnings[1]
    node.timers[0][1]()
    (status,) = node.publishers["/diagnostics"].published[0].status
    assert {pair.key: pair.value for pair in status.values}["left out, no picture"] == "4"
    node.destroy_node()
    assert node.fatal == []


def test_a_camera_that_always_finds_another_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    ros_images = importlib.import_module("ros_images")
    warnings: list[str] = []
    images = ros_images.ImageReader(PushSource(), warn=warnings.append)
    for size in range(1, 101):
        message = a_message(np.zeros((size, 4, 3), np.uint8), "rgb8", 0)
        message.data = message.data[:-1]
        assert images.take(message)
    assert images.left_out == 100 and len(warnings) == 20


def test_what_stops_the_stream_stops_the_node(bundle: Path, start: Callable[..., dict[str, Any]]) -> None:
    ros = Ros()
    node = start(ros, bundle=str(bundle), device="cpu")["SegmenterNode"]()
    node._source.fail("the driver is gone")
    assert ros.shut_down.wait(LIMIT_S)
    assert "image_raw failed: the driver is gone" in node.fatal[0]
    node.destroy_node()


@pytest.mark.parametrize("where", ["source", "publisher"])
def test_an_error_is_told_by_the_exit_code(
    bundle: Path, start: Callable[..., dict[str, Any]], where: str
) -> None:
    """Whatever raised it: systemd and `respawn` of a launch file start only what failed again."""

    def during(node: Any) -> None:
        seen.append(node)
        if where == "source":
            node._source.fail("the driver is gone")
        else:
            node.publishers["mask"].problem = RuntimeError("rcl: the context is invalid")
            _, on_image, _ = node.subscriptions["image_raw"]
            on_image(a_message(np.zeros((40, 60, 3), np.uint8), "rgb8", 1))
        assert ros.shut_down.wait(LIMIT_S)  # which ends the spinning

    seen: list[Any] = []
    ros = Ros(during)
    with pytest.raises(SystemExit) as ended:
        start(ros, bundle=str(bundle), device="cpu")["main"]()
    assert ended.value.code == 1
    assert seen[0].destroyed
    assert len(seen[0].fatal) == 1 and str(seen[0].problem) in seen[0].fatal[0]


def test_what_cannot_be_published_after_ctrl_c_is_no_error(
    bundle: Path, start: Callable[..., dict[str, Any]]
) -> None:
    def during(node: Any) -> None:
        ros.shut_down.set()
        node.publishers["mask"].problem = RuntimeError("rcl: the context is invalid")
        _, on_image, _ = node.subscriptions["image_raw"]
        on_image(a_message(np.zeros((40, 60, 3), np.uint8), "rgb8", 1))
        node._worker.join(LIMIT_S)
        assert node.problem is None and node.fatal == []
        raise KeyboardInterrupt

    ros = Ros(during)
    start(ros, bundle=str(bundle), device="cpu")["main"]()


def test_the_program_spins_until_it_is_interrupted(
    bundle: Path, start: Callable[..., dict[str, Any]]
) -> None:
    def during(node: Any) -> None:
        seen.append(node)
        raise KeyboardInterrupt

    seen: list[Any] = []
    ros = Ros(during)
    start(ros, bundle=str(bundle), device="cpu")["main"]()
    assert ros.initialised and ros.shut_down.is_set() and seen[0].destroyed


def test_without_a_bundle_it_says_so(tmp_path: Path, start: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(SystemExit, match="nothing here"):
        start(Ros(), bundle=str(tmp_path / "nothing here"))["main"]()
