"""What is wrong with a command, said before a network is loaded: that may take minutes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pixelrt.bundle import Bundle
from pixelrt.cli.parser import UsageError
from pixelrt.cli.places import check_outside
from pixelrt.errors import InputError
from pixelrt.manifest import Head

if TYPE_CHECKING:
    from pixelrt.video.sources import Source


def check_arguments(arguments: argparse.Namespace) -> None:
    """Refuse arguments that do not go together.

    Raises:
        UsageError: If some do not.
    """
    from pixelrt.video.sinks import prints

    printed = [out for out in arguments.out if prints([out])]
    if len(printed) > 1:
        words = " ".join(f"--out {out}" for out in printed)
        raise UsageError(f"{words} asks for standard output twice; once is enough")
    if printed and arguments.json == "-":
        raise UsageError("standard output cannot hold both results and --json; write one into a file")
    if arguments.labels is not None and len(arguments.sources) > 1:
        raise UsageError(
            f"--labels belongs to one source, and there are {len(arguments.sources)}; run them one by one"
        )
    if arguments.adaptive and arguments.policy == "all":
        raise UsageError(
            "--adaptive does not go with --policy all: sources wait for the network then, and are no load; "
            "leave one of them away"
        )


def head_of(bundle: Bundle, arguments: argparse.Namespace) -> Head:
    """The head to draw, write and score.

    Raises:
        InputError: If the bundle takes other frames than sources give, or its first head emits no mask.
        UsageError: If the head that was asked for is not there, or emits no mask.
    """
    from pixelrt.video.live.opening import check_channels
    from pixelrt.video.run import pick_head

    check_channels(bundle)
    try:
        return pick_head(bundle, arguments.head)
    except InputError as problem:
        if arguments.head is None:
            raise
        raise UsageError(f"--head: {problem}") from problem


def check_sizes(bundle: Bundle, arguments: argparse.Namespace) -> None:
    """Refuse to adapt where there is nothing to choose from.

    Raises:
        UsageError: If the bundle has one input size only.
    """
    if arguments.adaptive and not bundle.smaller:
        rows, cols = bundle.segmentation.preprocess.size
        raise UsageError(
            f"--adaptive: {bundle.path} has one input size only ({rows}x{cols}); export it with several "
            "sizes, or leave --adaptive away"
        )


def check_load(sources: Sequence[Source], arguments: argparse.Namespace) -> None:
    """Refuse to adapt where a source cannot come too fast.

    Raises:
        UsageError: If one waits for the network.
    """
    waiting = [source.name for source in sources if not source.live]
    if arguments.adaptive and arguments.policy is None and waiting:
        raise UsageError(
            f"--adaptive: files wait for the network, and are no load ({', '.join(waiting)}); add --policy "
            "latest, or leave --adaptive away"
        )


def check_written(
    arguments: argparse.Namespace,
    outs: Sequence[str],
    sheets: Sequence[str],
    bundle: Bundle,
    sources: Sequence[Source],
) -> None:
    """Refuse places that are read, are in the bundle, or cannot be written.

    Raises:
        SinkError: If there is one.
    """
    from pixelrt.encoding import temporary_for
    from pixelrt.video.sinks import check_places, written_by

    files = [] if arguments.json in (None, "-") else [arguments.json]
    places = [*written_by(outs, *sources), *sheets, *files]
    check_outside(bundle, places)
    check_places(places, *sources)
    for file in files:
        temporary_for(Path(file))
