"""Cameras of Video4Linux2, over an emulated driver in a process of its own: no real camera was there."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import needs
import pytest

from pixelrt.errors import SourceError
from pixelrt.video.sources import open_source
from pixelrt.video.sources.v4l2 import finding

HERE = Path(__file__).parents[1] / "v4l2"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("emulator") / "emulator.so"
    command = [needs.compiler(), "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-pthread"]
    subprocess.run([*command, str(HERE / "emulator.c"), "-o", str(library), "-ldl"], check=True)
    return library


def test_cameras_over_the_emulator(emulator: Path) -> None:
    files = [str(file) for file in sorted(HERE.glob("*.py"))]
    options = ["-q", "--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        env={**os.environ, "LD_PRELOAD": str(emulator)},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.rsplit(" passed", 1)[0].split()[-1]) >= 95, done.stdout


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of which nothing is known yet: its /dev, /sys/class/video4linux and /proc."""
    for name, folder in (("DEV", "dev"), ("CLASS", "sys"), ("PROC", "proc")):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(finding, name, tmp_path / folder)
    return tmp_path


def add_camera(machine: Path, name: str, card: str) -> None:
    (machine / "dev" / name).touch()
    (machine / "sys" / name).mkdir()
    (machine / "sys" / name / "name").write_text(f"{card}\n")


def test_which_cameras_there_are(machine: Path) -> None:
    assert finding.cameras() == []
    assert finding.missing("/dev/video0").endswith(
        "no camera 0: /dev/video0 does not exist; this machine has no /dev/video*"
    )
    add_camera(machine, "video10", "Side")
    add_camera(machine, "video2", "Front: wide")
    (machine / "dev" / "video-codec").touch()
    (machine / "dev" / "video3").touch()
    assert [str(camera) for camera in finding.cameras()] == [
        f"{machine}/dev/video2 (Front: wide)",
        f"{machine}/dev/video3",
        f"{machine}/dev/video10 (Side)",
    ]
    assert f"; present: {machine}/dev/video2 (Front: wide), " in finding.missing("/dev/video0")


def test_a_near_name(machine: Path) -> None:
    folder = machine / "dev" / "v4l" / "by-id"
    folder.mkdir(parents=True)
    (folder / "usb-Maker_Front-video-index0").touch()
    said = finding.missing(f"{folder}/usb-Maker_Frond-video-index0")
    assert "(did you mean '" in said
    assert "usb-Maker_Front-video-index0'?)" in said


def test_who_uses_a_camera(machine: Path, tmp_path: Path) -> None:
    camera = tmp_path / "dev" / "video0"
    camera.touch()
    folder = machine / "proc" / "4242" / "fd"
    folder.mkdir(parents=True)
    (folder / "7").symlink_to(camera)
    (machine / "proc" / "4242" / "comm").write_text("cheese\n")
    (machine / "proc" / "77" / "fd").mkdir(parents=True)
    (machine / "proc" / "77" / "fd" / "1").symlink_to(camera)  # it has ended: no name is left
    problem = OSError(errno.EBUSY, "busy")
    assert finding.refusal(str(camera), problem) == (
        f"{camera} is in use by cheese (process 4242); one program at a time can have a camera"
    )


def test_a_process_that_ends_while_it_is_looked_at(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = machine / "dev" / "video0"
    camera.touch()
    for number in ("4242", "4243"):
        (machine / "proc" / number / "fd").mkdir(parents=True)
        (machine / "proc" / number / "fd" / "7").symlink_to(camera)
        (machine / "proc" / number / "comm").write_text("cheese\n")
    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, gone("4242/fd", getattr(os, name)))
    said = finding.refusal(str(camera), OSError(errno.EBUSY, "busy"))
    assert said.startswith(f"{camera} is in use by cheese (process 4243); one")


def gone(place: str, do: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What looks at files and folders, of which one has just gone."""

    def look(path: Any = ".") -> Any:
        if str(path).endswith(place):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return do(path)

    return look


def test_a_camera_that_goes_while_it_is_looked_at(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_camera(machine, "video0", "Front")
    monkeypatch.setattr(Path, "read_text", gone("video0/name", Path.read_text))
    assert [str(camera) for camera in finding.cameras()] == [f"{machine}/dev/video0"]
    said = finding.refusal(f"{machine}/dev/video1", OSError(errno.EACCES, "denied"))
    assert said.endswith("by this user; whom it belongs to cannot be told (No such file or directory)")


def test_a_camera_that_this_user_may_not_use(tmp_path: Path) -> None:
    camera = tmp_path / "video0"
    camera.touch()
    os.chown(camera, -1, os.getgid())
    problem = OSError(errno.EACCES, "denied")
    assert "belongs to the group" in finding.refusal(str(camera), problem)
    assert "usermod -aG" in finding.refusal(str(camera), problem)


def test_a_group_that_a_container_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = tmp_path / "video0"
    camera.touch()

    def unknown(gid: int) -> None:
        raise KeyError(gid)

    monkeypatch.setattr("grp.getgrgid", unknown)
    said = finding.refusal(str(camera), OSError(errno.EACCES, "denied"))
    assert f"start the container with --group-add {os.getgid()}" in said


def test_what_is_no_camera(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.touch()
    with pytest.raises(SourceError, match=r"notes.txt is no camera \(Inappropriate ioctl for device\)"):
        open_source(f"v4l2://{file}")
    with pytest.raises(SourceError, match="cannot be used: Is a directory"):
        open_source(f"v4l2://{tmp_path}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(SourceError, match="no camera answers behind it"):
            open_source(f"v4l2://{tmp_path}/socket")
    with pytest.raises(SourceError, match="names no camera, expected 0, /dev/video0"):
        open_source("v4l2://front")
