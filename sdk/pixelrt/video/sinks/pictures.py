"""Images: the overlay of one frame, or a folder with the mask of every frame."""

from __future__ import annotations

from pathlib import Path

from pixelrt.encoding import ImageFolder, encode_image, temporary_for, write_whole
from pixelrt.errors import MisspeltSink, SinkError
from pixelrt.video.delivery import Delivery
from pixelrt.video.sinks.base import BaseSink
from pixelrt.video.sinks.folders import open_folder
from pixelrt.video.sinks.kinds import SinkOptions
from pixelrt.video.sources.address import parse_path


class PictureSink(BaseSink):
    """The overlay of a single frame as an image file, which appears when the sink is closed.

    Raises:
        SinkError: If there is no folder to write into.
    """

    wants_overlay = True

    def __init__(self, path: Path) -> None:
        self.path = path
        temporary_for(path)
        self._content: bytes | None = None
        self._closed = False

    def write(self, delivery: Delivery) -> None:
        """Keep the frame's overlay.

        Raises:
            SinkError: If this is the second frame.
        """
        if self._content is not None:
            raise SinkError(
                f"{self.path} holds one image, and a second frame came ({delivery.frame.name}); "
                "write a video (.mp4) or a folder of masks (masks/), or stop with --limit 1"
            )
        self._content = encode_image(delivery.overlay(), self.path.suffix)

    def close(self) -> tuple[Path, ...]:
        """Write the file."""
        if self._content is None:
            return ()
        if not self._closed:
            write_whole(self.path, self._content)
            self._closed = True
        return (self.path,)


class MaskFolder(BaseSink):
    """A grey PNG of class ids per frame, at the frame's size, named after the frame.

    Each file is whole as soon as it has its name; `abort` keeps those, and removes the folder if it is new
    and empty. Masks of an earlier run are replaced by those of the same name; images of others are not.

    Args:
        folder: Where they go.
    """

    wants_picture = False

    def __init__(self, folder: ImageFolder) -> None:
        self.path, self._folder = folder.path, folder

    def write(self, delivery: Delivery) -> None:
        """Write the mask of a frame.

        Raises:
            SinkError: If it cannot be written, another frame had the same name, or somebody else's image has.
            InputError: If the bundle emits no mask.
        """
        self._folder.write(delivery.frame.name, delivery.result.mask_at(delivery.frame.size))

    def close(self) -> tuple[Path, ...]:
        """Say what is there; a new folder into which nothing came is removed."""
        return (self.path,) if self._folder.close() else ()

    def abort(self) -> None:
        """Remove the folder if it is new and empty."""
        self._folder.abort()

    def remains(self) -> tuple[Path, ...]:
        """The folder, if it is there: every file in it is whole."""
        return (self.path,) if self.path.is_dir() else ()


def open_masks(uri: str, options: SinkOptions) -> MaskFolder:
    """Open a folder of masks; for a camera a new one, `masks-2` where there are masks in `masks`.

    Raises:
        SinkError: If it cannot be made.
    """
    return MaskFolder(open_folder(_path(uri), options, ".png"))


def open_picture(uri: str, options: SinkOptions) -> PictureSink:
    """Open an image.

    Raises:
        SinkError: If more than one frame will come, or there is no folder to write into.
    """
    if (options.num_frames or options.source.num_frames) != 1:
        raise SinkError(
            f"{uri} holds one image, and {options.source.name} has more frames; "
            "write a video (.mp4) or a folder of masks (masks/), or stop with --limit 1"
        )
    return PictureSink(_path(uri))


def _path(uri: str) -> Path:
    address = parse_path(uri, error=MisspeltSink)
    address.options({}, MisspeltSink)
    return Path(address.rest)
