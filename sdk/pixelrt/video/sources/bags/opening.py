"""From a path to a recording."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from pixelrt.errors import SourceError
from pixelrt.strict import suggestion
from pixelrt.video.sources.address import Address, parse_address, parse_path
from pixelrt.video.sources.bags.bag import Bag
from pixelrt.video.sources.bags.mcap_file import McapFiles
from pixelrt.video.sources.bags.mcap_index import MAGIC
from pixelrt.video.sources.bags.recording import BrokenRecordingError, Recording
from pixelrt.video.sources.bags.rosbag import Rosbag
from pixelrt.video.sources.base import SourceOptions, natural
from pixelrt.video.sources.hiding import without_secrets

SUFFIXES = (".mcap", ".bag", ".db3")
_METADATA = "metadata.yaml"
_KEY_OF_METADATA = "rosbag2_bagfile_information"
_OPTIONS = {"topic": str}
_MAGIC_OF_BAG = b"#ROSBAG"
_MAGIC_OF_DATABASE = b"SQLite format 3\0"


def is_bag(text: str) -> bool:
    """Whether a path, which may have options, is a recording: by its suffix, or by what the folder holds."""
    path = Path(text)
    if not path.exists():
        path = Path(text.partition("?")[0])
    if path.is_dir():
        return _KEY_OF_METADATA in _metadata(path) or bool(_mcaps(path))
    return path.suffix.lower() in SUFFIXES


def open_bag(text: str, options: SourceOptions) -> Bag:
    """Open a recording by its path, or by `bag://` and a path, whatever that is called.

    Args:
        text: `drive.mcap?topic=/camera/image_raw`, `drive/`, `bag:///data/drive.tmp`.
        options: What holds for every source.

    Raises:
        SourceError: If it cannot be read, or its topic is not clear; the message says which there are.
        MissingDependency: If the extra `bags` is not installed.
    """
    if options.labels is not None:
        raise SourceError(
            f"labels were given, and {without_secrets(text)} is no image or folder of images; leave them away"
        )
    address = _address(text)
    path = Path(address.rest)
    topic = address.options(_OPTIONS).get("topic")
    if not path.exists():
        near = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        raise SourceError(
            f"{without_secrets(str(path))} does not exist{suggestion(path.name, near)}; expected a recording "
            f"({', '.join(SUFFIXES)}) or the folder of one"
        )
    with contextlib.ExitStack() as opened:
        recording = _recording(path)
        opened.callback(recording.close)
        bag = Bag(path, recording, topic=topic, fps=options.fps, color=options.color)
        opened.pop_all()
    return bag


def _address(text: str) -> Address:
    if text.lower().startswith("bag://"):
        return parse_address(text)
    if Path(text).exists():  # a name may have a question mark in it
        return Address(without_secrets(text), "", text)
    return parse_path(text)


def _recording(path: Path) -> Recording:
    try:
        if path.is_dir():
            return _folder(path)
        return _file(path)
    except BrokenRecordingError as problem:
        raise SourceError(f"{path} cannot be read: {problem}") from problem
    except OSError as problem:
        raise SourceError(f"{path} cannot be read ({problem.strerror})") from problem


def _file(path: Path) -> Recording:
    suffix = path.suffix.lower()
    with path.open("rb") as stream:
        head = stream.read(len(_MAGIC_OF_DATABASE))
    if suffix == ".mcap" or head.startswith(MAGIC):
        return McapFiles((path,))
    if suffix == ".bag" or head.startswith(_MAGIC_OF_BAG):
        return Rosbag(path, ros1=True)
    if suffix == ".db3":
        return Rosbag(path)
    if head.startswith(_MAGIC_OF_DATABASE):
        raise BrokenRecordingError("it is a database that does not end in .db3; give it a name that does")
    raise BrokenRecordingError(
        f"it begins with {head[:8]!r}, expected MCAP, a bag of ROS 1 or a database of ROS 2"
    )


def _folder(path: Path) -> Recording:
    """A folder that a ROS 2 recorder wrote; one that it did not live to describe is read all the same."""
    files, metadata = _mcaps(path), _metadata(path)
    if files and not re.search(r"compression_mode:\W*message", metadata, re.IGNORECASE):
        return McapFiles(files)
    if metadata:
        return Rosbag(path)
    raise BrokenRecordingError(f"it holds neither {_METADATA} nor a file ending in .mcap")


def _metadata(path: Path) -> str:
    file = path / _METADATA
    return file.read_text(errors="replace") if file.is_file() else ""


def _mcaps(path: Path) -> tuple[Path, ...]:
    return tuple(sorted(path.glob("*.mcap"), key=lambda file: natural(file.name)))
