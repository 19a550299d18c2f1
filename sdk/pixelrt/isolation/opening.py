"""`pixelrt.isolate`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pixelrt.bundle import Bundle
from pixelrt.errors import InputError
from pixelrt.isolation.options import LOADER, IsolationOptions, LoadOptions, Size, sizes
from pixelrt.isolation.segmenter import IsolatedSegmenter

if TYPE_CHECKING:
    from typing_extensions import Unpack


def isolate(
    bundle: str | os.PathLike[str] | Bundle,
    *,
    restarts: int = 3,
    restart_window_s: float = 60.0,
    timeout_s: float | None = 30.0,
    start_timeout_s: float | None = None,
    loader: str = LOADER,
    warm_up: Size | Sequence[Size] = (),
    **loading: Unpack[LoadOptions],
) -> IsolatedSegmenter:
    """Open a bundle in a child process, which may crash, hang or lose its GPU while this process goes on.

    CUDA works no more in a process after some errors, and native code can end a process: here that costs one
    frame, and the next call starts a fresh child. See `IsolationOptions` for what may be chosen.

    Args:
        bundle: The folder that `pixelrt export` wrote, or an opened bundle.
        restarts: How often a lost child is replaced by itself within `restart_window_s`; 0 for never.
        restart_window_s: See `restarts`.
        timeout_s: How long one run of the network may take before the child is killed; None for ever.
        start_timeout_s: How long loading and warming up may take; None for ever, because it may build an
            engine.
        loader: `module:function` that the child calls in the place of `pixelrt.load`.
        warm_up: Size of the frames to come (height, width), or several sizes: every child is warmed up for
            them before it gets a frame. Without it, the first frames take longer, perhaps than `timeout_s`.
        **loading: The keyword arguments of `pixelrt.load`: device, backend, ...

    Raises:
        BundleError: If there is no bundle there, or it is damaged.
        DeviceError: If nothing here may run it, or no child can be started.
        InputError: If an option is unknown.
    """
    options = IsolationOptions(
        restarts=restarts,
        restart_window_s=restart_window_s,
        timeout_s=timeout_s,
        start_timeout_s=start_timeout_s,
        loader=loader,
        warm_up=sizes(warm_up),
    )
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    if opened.manifest.task != "segmentation":
        raise InputError(
            f"{opened.path} is a bundle for {opened.manifest.task}, pixelrt.isolate runs bundles for "
            "segmentation; run it in this process: pixelrt.load"
        )
    return IsolatedSegmenter(opened, options, loading)
