"""Which cameras there are, who uses them, and why one cannot be used."""

from __future__ import annotations

import errno
import grp
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pixelrt.strict import suggestion
from pixelrt.video.sources.base import natural

DEV = Path("/dev")
CLASS = Path("/sys/class/video4linux")
PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A device file of Video4Linux. Not each of a camera's gives pictures."""

    path: str
    card: str
    """What the driver calls it; empty where it does not say."""

    def __str__(self) -> str:
        return f"{self.path} ({self.card})" if self.card else self.path


def cameras() -> list[Camera]:
    """All device files of this machine, in the order of their numbers."""
    found = sorted(_listed(DEV), key=lambda file: natural(file.name))
    return [
        Camera(path=str(file), card=_card(file.name))
        for file in found
        if re.fullmatch(r"video\d+", file.name)
    ]


def missing(path: str) -> str:
    """That there is no such camera, and which there are."""
    number = re.fullmatch(r"/dev/video(\d+)", path)
    what = f"no camera {number[1]}: {path} does not exist" if number else f"no camera: {path} does not exist"
    present = cameras()
    near = sorted(str(file) for folder in _listed(DEV / "v4l") for file in _listed(folder))
    hint = suggestion(path, near) if not number else ""
    found = f"present: {', '.join(map(str, present))}" if present else "this machine has no /dev/video*"
    return f"{what}{hint}; {found}"


_MEANINGS = {
    errno.ENODEV: "is gone: it was unplugged, or its driver gave it up",
    errno.ENXIO: "is there and no camera answers behind it; plug it in again",
    errno.ENOSPC: "gets too little of the USB's bandwidth: give it a port of its own, or ask for "
    "format=mjpeg, a smaller size or rate",
    errno.EIO: "failed (input/output error): look at its cable and its power",
}


def refusal(path: str, problem: OSError) -> str:
    """What an error of the kernel means for a camera, and what to do."""
    if problem.errno in (errno.EACCES, errno.EPERM):
        return f"{path} may not be used by this user; {_permission(path)}"
    if problem.errno == errno.EBUSY:
        return f"{path} is in use{_in_use(path)}; one program at a time can have a camera"
    known = _MEANINGS.get(problem.errno or 0)
    return f"{path} {known or f'cannot be used: {problem.strerror}'}"


def users(path: str) -> dict[int, str]:
    """Other processes that have a file open, as far as this user may know: their numbers and names."""
    wanted, found = os.path.realpath(path), {}
    for process in _listed(PROC):
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        for link in _listed(process / "fd"):
            with suppress(OSError):  # it has ended, or is another user's
                if os.readlink(link) == wanted:
                    found[int(process.name)] = (process / "comm").read_text().strip()
    return found


def _listed(folder: Path) -> list[Path]:
    """What a folder holds; nothing where it is gone meanwhile, as those of processes and cameras may be.

    `Path.glob` raises for a folder that goes while it looks, up to Python 3.12.
    """
    try:
        return [folder / name for name in os.listdir(folder)]
    except OSError:
        return []


def _in_use(path: str) -> str:
    names = [f"{name} (process {number})" for number, name in users(path).items()]
    return f" by {', '.join(names)}" if names else ", perhaps by this very program"


def _permission(path: str) -> str:
    try:
        gid = os.stat(path).st_gid
    except OSError as problem:  # it has gone meanwhile
        return f"whom it belongs to cannot be told ({problem.strerror})"
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:  # a container that does not know the groups of its machine
        return f"it belongs to group {gid}: start the container with --group-add {gid}"
    return f"it belongs to the group {group}: sudo usermod -aG {group} $USER, and log in again"


def _card(name: str) -> str:
    try:
        return (CLASS / name / "name").read_text().strip()
    except OSError:  # it does not say, or has gone meanwhile
        return ""
