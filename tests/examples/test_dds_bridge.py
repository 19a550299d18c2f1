"""The DDS bridge and a camera that knows nothing of it, in two processes on loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import pixelrt
from pixelrt.bundle import Bundle

ROOT = Path(__file__).parents[2]
BRIDGE = ROOT / "examples" / "dds_bridge.py"
PUBLISHER = ROOT / "examples" / "dds_camera.py"
CAMERA = ROOT / "tests" / "support" / "bare_dds_camera.py"
BURST = """
import time
import dds_bridge as dds
participant = dds.DomainParticipant(int(dds.os.environ["ROS_DOMAIN_ID"]))
images, masks = (dds.topic(participant, f"/camera/{name}") for name in ("image_raw", "mask"))
reader = dds.DataReader(participant, images, qos=dds.QOS)
writer = dds.DataWriter(participant, masks, qos=dds.QOS)
while not (taken := reader.take(N=1)) or not writer.get_matched_subscriptions():
    time.sleep(0.01)
for _ in range(10):
    writer.write(taken[0])
print("ten masks at once", flush=True)
time.sleep(60)
"""
INTERRUPTED = """
import signal, sys, threading
import dds_bridge
said = dds_bridge.say
def say(text):
    dds_bridge.say = said
    signal.raise_signal(signal.SIGINT)
dds_bridge.say = say
dds_bridge.main()
print(*(thread.name for thread in threading.enumerate() if thread.name == "images of DDS"))
"""
LOOPBACK = """<CycloneDDS><Domain><General>
<Interfaces><NetworkInterface name="lo"/></Interfaces><AllowMulticast>false</AllowMulticast>
</General><Discovery><ParticipantIndex>auto</ParticipantIndex><Peers><Peer address="127.0.0.1"/></Peers>
</Discovery></Domain></CycloneDDS>"""
LIMIT_S = 120

MakeBundle = Callable[..., Bundle]
Bytes = NDArray[np.uint8]


def start(domain: int, *words: str | Path, network: str = LOOPBACK) -> subprocess.Popen[str]:
    """Run a script, or what follows `-c`, which may import what the examples may."""
    environment = {
        **os.environ,
        "CYCLONEDDS_URI": network,
        "ROS_DOMAIN_ID": str(domain),
        "PYTHONPATH": str(ROOT / "examples"),
    }
    command = [sys.executable, *map(str, words)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def camera_of(domain: int, folder: Path) -> subprocess.Popen[str]:
    return start(domain, CAMERA, str(domain), folder / "images.npz", folder / "masks.npz")


@pytest.fixture
def domain() -> int:
    """Others who run these tests at the same time have another one."""
    return 100 + os.getpid() % 100


def padded(image: Bytes, padding: int) -> Bytes:
    """Rows as a camera sends them, uint8[H, step]."""
    rows = image.reshape(image.shape[0], -1)
    return np.pad(rows, ((0, 0), (0, padding)), constant_values=77)


def test_masks_come_back_pixel_by_pixel(make_bundle: MakeBundle, tmp_path: Path, domain: int) -> None:
    bundle = make_bundle(emit=("mask",)).path
    rng = np.random.default_rng(1)
    images = {
        "rgb8-0": rng.integers(0, 256, (64, 96, 3)).astype(np.uint8),
        "bgr8-5": rng.integers(0, 256, (33, 51, 3)).astype(np.uint8),
        "rgba8-0": rng.integers(0, 256, (48, 40, 4)).astype(np.uint8),
        "mono8-3": rng.integers(0, 256, (32, 48, 1)).astype(np.uint8),
    }
    sent = {name: padded(image, int(name.partition("-")[2])) for name, image in images.items()}
    np.savez(tmp_path / "images.npz", **sent)
    with start(domain, BRIDGE, bundle) as bridge:
        try:
            with camera_of(domain, tmp_path) as camera:
                _, problem = camera.communicate(timeout=LIMIT_S)
            assert camera.returncode == 0, problem
            bridge.send_signal(signal.SIGINT)
            said, problem = bridge.communicate(timeout=LIMIT_S)
        finally:
            bridge.kill()
    assert bridge.returncode == 0, problem
    assert f"/camera/image_raw -> /camera/mask in domain {domain}" in said
    assert "masks published to /camera/mask" in said
    frames = {
        "rgb8-0": images["rgb8-0"],
        "bgr8-5": np.ascontiguousarray(images["bgr8-5"][..., ::-1]),
        "rgba8-0": np.ascontiguousarray(images["rgba8-0"][..., :3]),
        "mono8-3": np.repeat(images["mono8-3"], 3, axis=2),
    }
    with pixelrt.load(bundle, device="cpu") as segmenter, np.load(tmp_path / "masks.npz") as masks:
        assert sorted(masks.files) == sorted(frames)
        for name, frame in frames.items():
            np.testing.assert_array_equal(masks[name], segmenter(frame).resized().mask, err_msg=name)


def test_a_video_is_published_and_its_masks_come_back(make_bundle: MakeBundle, domain: int) -> None:
    bundle = make_bundle(emit=("mask",)).path
    with start(domain, BRIDGE, bundle) as bridge:
        try:
            with start(domain, PUBLISHER, "test://drive?frames=20&size=64x96&fps=20") as camera:
                said, problem = camera.communicate(timeout=LIMIT_S)
            bridge.send_signal(signal.SIGINT)
            _, complaint = bridge.communicate(timeout=LIMIT_S)
        finally:
            bridge.kill()
    assert (camera.returncode, bridge.returncode) == (0, 0), problem + complaint
    found = re.search(r"20 images published to /camera/image_raw, (\d+) masks came back", said)
    assert found is not None and int(found[1]) > 0, said


def test_ctrl_c_before_the_first_image_leaves_nothing(make_bundle: MakeBundle, domain: int) -> None:
    with start(domain, "-c", INTERRUPTED, make_bundle(emit=("mask",)).path) as bridge:
        said, problem = bridge.communicate(timeout=LIMIT_S)
    assert (bridge.returncode, problem) == (0, "interrupted\n")
    assert said == "0 masks published to /camera/mask\n\n"


def test_every_mask_counts_also_where_many_come_at_once(domain: int) -> None:
    """And Ctrl-C ends a camera with its figures."""
    with start(domain, "-c", BURST) as other:
        try:
            with start(domain, PUBLISHER, "test://drive?frames=100&size=64x96&fps=1") as camera:
                watchdog = threading.Timer(LIMIT_S, other.kill)
                watchdog.start()
                assert other.stdout is not None and other.stdout.readline() == "ten masks at once\n"
                watchdog.cancel()
                time.sleep(0.5)
                camera.send_signal(signal.SIGINT)
                said, problem = camera.communicate(timeout=LIMIT_S)
        finally:
            other.kill()
    assert (camera.returncode, problem) == (0, "interrupted\n")
    assert re.search(r"\n[1-9]\d* images published to /camera/image_raw, 10 masks came back\n", said)


def test_images_that_cannot_be_read_are_left_out(
    make_bundle: MakeBundle, tmp_path: Path, domain: int
) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    for folder in (bad, good):
        folder.mkdir()
    rows = np.zeros((32, 144), np.uint8)
    np.savez(bad / "images.npz", **{"rgb9-0": rows, "broken-0": rows})
    np.savez(good / "images.npz", **{"rgb8-0": rows})
    with start(domain, BRIDGE, make_bundle(emit=("mask",)).path) as bridge:
        try:
            with camera_of(domain, bad) as camera:
                assert bridge.stderr is not None
                watchdog = threading.Timer(LIMIT_S, bridge.kill)
                watchdog.start()
                warnings = sorted(bridge.stderr.readline() for _ in range(2))
                watchdog.cancel()
                camera.kill()
            with camera_of(domain, good) as camera:
                _, problem = camera.communicate(timeout=LIMIT_S)
            assert camera.returncode == 0, problem
            bridge.send_signal(signal.SIGINT)
            said, rest = bridge.communicate(timeout=LIMIT_S)
        finally:
            bridge.kill()
    begin = "an image of /camera/image_raw is left out, as are all such: "
    assert f"{begin}Could not deserialize 'sensor_msgs/msg/Image'" in warnings[0]
    assert f"{begin}its pixels are rgb9 (did you mean 'rgb8'?)" in warnings[1]
    assert re.search(r"\b[1-9]\d* images were left out", rest) and "is left out" not in rest
    assert bridge.returncode == 0 and "masks published" in said
    with np.load(good / "masks.npz") as masks:
        assert masks.files == ["rgb8-0"]


def test_a_network_that_dds_cannot_use_is_an_error(make_bundle: MakeBundle, domain: int) -> None:
    network = LOOPBACK.replace('name="lo"', 'name="nowhere"')
    with start(domain, BRIDGE, make_bundle(emit=("mask",)).path, network=network) as bridge:
        _, problem = bridge.communicate(timeout=LIMIT_S)
    assert bridge.returncode == 1
    assert "nowhere" in problem and "DomainParticipant" in problem and "Traceback" not in problem


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([BRIDGE, "bundle", "--images", "camera"], "--images 'camera': expected a whole name, such as /"),
        ([PUBLISHER, "--images", ""], "--images '': expected a whole name, such as /camera/image_raw"),
        ([PUBLISHER, "--images", "/"], "--images '/': expected a whole name"),
        ([BRIDGE, "bundle", "--masks", "/camera/image_raw"], "is where the images come from; give another"),
        ([BRIDGE, "bundle", "--limit", "0"], "--limit 0: expected at least 1"),
        ([BRIDGE, "bundle", "--domain", "233"], "--domain 233: expected 0 to 232"),
        ([PUBLISHER, "--domain", "-1"], "--domain -1: expected 0 to 232"),
    ],
)
def test_what_makes_no_sense_is_refused(domain: int, words: list[str | Path], message: str) -> None:
    with start(domain, *words) as script:
        _, problem = script.communicate(timeout=LIMIT_S)
    assert script.returncode == 2
    assert message in problem
