"""Folders that hold a file per frame, and what earlier runs left in them."""

from __future__ import annotations

from pathlib import Path

from pixelrt.encoding import ImageFolder, explained, sweep
from pixelrt.terminal import complain
from pixelrt.video.sinks.kinds import SinkOptions
from pixelrt.video.sinks.parts import next_free, numbered, with_mark
from pixelrt.video.sinks.places import TIME, behind_links


def open_folder(path: Path, options: SinkOptions, suffix: str, *, ending: str = "") -> ImageFolder:
    """Make the folder for the frames of a source.

    A camera counts its frames anew after each start: where something is in the folder it gets a new one, such
    as `masks-2`. Those of a film have the names that they had before; what stays beside them is told on
    standard error.

    Args:
        path: The folder that was asked for.
        options: What holds for the sink.
        suffix: Of the files.
        ending: Of the folder's name, behind its number.

    Raises:
        SinkError: If it cannot be made.
    """
    folder = ImageFolder(_new(path, options, suffix, ending) if options.live else path, suffix)
    folder.make()
    if folder.earlier:
        fresh = with_mark(path, TIME, ending)
        complain(
            f"{path}/ holds {suffix} files already ({folder.earlier}): this run replaces those of its "
            f"frames' names that PixelRT wrote, and the others stay; for this run alone give {fresh}/"
        )
    return folder


def _new(path: Path, options: SinkOptions, suffix: str, ending: str) -> Path:
    """The folder, or the first one behind the highest number where something is in it.

    Raises:
        SinkError: If this user may not see what is there.
    """

    def is_free(folder: Path) -> bool:
        with explained(folder, "looked into"):
            is_empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
        return is_empty and (folder == path or behind_links(folder) not in options.taken)

    there = numbered(path, ending)
    highest = max(there, default=1)
    sweep(there.get(highest, path), suffix)  # of the latest run; those before it were the latest for the next
    if not path.parent.is_dir() or is_free(path):
        return path
    return next_free(path, highest, is_free, suffix=ending)[0]
