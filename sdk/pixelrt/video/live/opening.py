"""What a program asked for, checked and opened before any thread starts."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pixelrt.bundle import Bundle
from pixelrt.cuda.interop import is_on_device
from pixelrt.errors import InputError
from pixelrt.manifest import ColorOrder, Head
from pixelrt.strict import suggestion
from pixelrt.video.frame import Frame
from pixelrt.video.live.inputs import Input
from pixelrt.video.live.options import AnySink, Policy, StreamOptions
from pixelrt.video.sinks import Sink, open_sinks
from pixelrt.video.sinks.base import check_sink
from pixelrt.video.sources.base import Source
from pixelrt.video.sources.objects import as_source
from pixelrt.video.sources.opening import open_or_wait


def open_inputs(source: Any, color: ColorOrder, options: StreamOptions) -> tuple[Input, ...]:
    """Open what frames come from.

    A camera that is not there is waited for where the others shall go on without it.

    Args:
        source: What `as_source` takes, or several of them in a list.
        color: Order of channels that is wanted.
        options: Of the stream.

    Raises:
        InputError: If there is none, or one comes twice.
        SourceError: If one cannot be opened; the others are closed again.
    """
    asked = list(source) if _are_several(source) else [source]
    if not asked:
        raise InputError("the list of sources is empty; give one source or more")
    with contextlib.ExitStack() as undo:
        opened: list[Source] = []
        for one in asked:
            opened.append(_open(one, color, options))
            if opened[-1] is not one:
                undo.callback(opened[-1].close)
        if len({id(each) for each in opened}) < len(opened):
            raise InputError("a source is in the list twice; open it once for each place")
        names = unique([each.name for each in opened])
        undo.pop_all()
    return tuple(
        Input(place, name, each, owned=each is not one, policy=options.policy or _policy_of(each))
        for place, (name, each, one) in enumerate(zip(names, opened, asked, strict=True))
    )


def _open(source: Any, color: ColorOrder, options: StreamOptions) -> Source:
    if options.on_source_error == "stop" or not isinstance(source, (str, os.PathLike, int)):
        return as_source(source, color=color)
    return open_or_wait(lambda wait: as_source(source, color=color, wait=wait))


def settled(options: StreamOptions, inputs: Sequence[Input]) -> StreamOptions:
    """Options with the choices made that were left open."""
    latest = any(given.newest for given in inputs)
    on_sink_error = options.on_sink_error or ("detach" if latest else "stop")
    return dataclasses.replace(options, on_sink_error=on_sink_error)


def _policy_of(source: Source) -> Policy:
    return "latest" if source.live else "all"


def open_outputs(sinks: Sequence[AnySink], inputs: Sequence[Input]) -> tuple[Sink, ...]:
    """Sinks, those behind the others that are opened here by their URIs.

    Raises:
        InputError: If something is no sink, or lacks a part of one, or one comes twice.
        SinkError: If one cannot be opened, or lies where a source is read; none is then open.
    """
    uris = [sink for sink in sinks if isinstance(sink, (str, os.PathLike))]
    ready = [sink for sink in sinks if not isinstance(sink, (str, os.PathLike))]
    for sink in ready:
        check_sink(sink)
    if len({id(sink) for sink in ready}) < len(ready):
        raise InputError("a sink is in the list twice, and gets every result already; name it once")
    return (*ready, *open_sinks(uris, *(given.source for given in inputs)))


def check_channels(bundle: Bundle) -> None:
    """Refuse a bundle that takes other frames than sources give.

    Raises:
        InputError: If it does not take 3 channels.
    """
    channels = bundle.segmentation.preprocess.channels
    if channels != 3:
        raise InputError(
            f"{bundle.path} takes frames of {channels} channel{'s' if channels != 1 else ''}, and videos, "
            "images and cameras give 3 (RGB); call the segmenter itself, in Python: "
            f"segmenter(frame) with uint8[H, W, {channels}]"
        )


def find_head(bundle: Bundle, asked: str | None) -> Head:
    """The head whose results are delivered.

    Args:
        bundle: Has it.
        asked: Its name; None for the first.

    Raises:
        InputError: If the bundle has no such head.
    """
    heads = {head.name: head for head in bundle.segmentation.heads}
    name = next(iter(heads)) if asked is None else asked
    if name not in heads:
        raise InputError(
            f"the bundle has no head {name!r}{suggestion(name, list(heads))}; it has {', '.join(heads)}"
        )
    return heads[name]


def check_drawing(head: Head, sinks: Sequence[Sink]) -> None:
    """Refuse sinks that draw masks where there are none.

    Raises:
        InputError: If the head emits no mask.
    """
    if "mask" not in head.outputs and any(sink.wants_overlay for sink in sinks):
        raise InputError(
            f"a sink draws masks, and head {head.name!r} emits none; export it with 'mask' among its outputs"
        )


def _are_several(source: Any) -> bool:
    """Whether it is a list of sources; a list of images is one source."""
    return isinstance(source, (list, tuple)) and not any(map(_is_image, source))


def _is_image(value: Any) -> bool:
    if isinstance(value, (str, os.PathLike, int)):
        return False
    return isinstance(value, (np.ndarray, Frame)) or hasattr(value, "__dlpack__") or is_on_device(value)


def unique(names: Sequence[str]) -> list[str]:
    """Names made so that none comes twice: `drive`, `drive-2`."""
    seen: Counter[str] = Counter()
    unique: list[str] = []
    for name in names:
        seen[name] += 1
        candidate = name if seen[name] == 1 else f"{name}-{seen[name]}"
        while candidate in unique:
            seen[name] += 1
            candidate = f"{name}-{seen[name]}"
        unique.append(candidate)
    return unique
