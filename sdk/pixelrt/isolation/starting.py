"""A child that has loaded the right bundle."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pixelrt.bundle import Bundle
from pixelrt.errors import BundleError, DeviceError, InputError, PixelRTError
from pixelrt.isolation.fingerprint import fingerprint
from pixelrt.isolation.options import LOADER, IsolationOptions, LoadOptions, Size
from pixelrt.isolation.process import Child, ChildLostError, Ground
from pixelrt.isolation.protocol import Load

_LOG = logging.getLogger("pixelrt.isolation")


def start_child(
    ground: Ground, options: IsolationOptions, loading: LoadOptions, warm_up: Sequence[Size]
) -> Child:
    """Start a child and wait until it has loaded the bundle.

    Args:
        ground: The bundle, and what the child shares with its predecessor.
        options: Its loader, and how long all may take.
        loading: What the loader is called with.
        warm_up: Sizes for which it warms up.

    Raises:
        BundleError: If the bundle in the folder is another one by now.
        DeviceError: If no child can be started, or it ended.
        InputError: If the loader loads something else.
        PixelRTError: As `pixelrt.load`.
    """
    bundle = ground.bundle
    passed: dict[str, Any] = dict(loading)
    gpu = passed.pop("gpu", None)
    order = Load(options.loader, str(bundle.path.absolute()), passed, gpu, tuple(warm_up), _level())
    try:
        child = Child(order, ground, options.start_timeout_s)
    except ChildLostError as lost:
        raise DeviceError(f"while it loaded {bundle.path}, the child process {lost}") from None
    if child.ready.heads != fingerprint(bundle.segmentation):
        child.end()
        raise _other_bundle(bundle, options.loader)
    _LOG.info("the child process %d has loaded %s in %.2f s", child.pid, order.bundle, child.start_s)
    return child


def _other_bundle(bundle: Bundle, loader: str) -> PixelRTError:
    if loader != LOADER:
        return InputError(
            f"loader {loader!r} gave a segmenter with other heads, sizes, colour order or "
            f"outputs than {bundle.path} has; results would be read wrongly"
        )
    return BundleError(
        f"{bundle.path} has changed since it was opened: its heads, sizes or colour order are "
        "others now; open it again with pixelrt.isolate"
    )


def _level() -> int:
    """The level of `logging` from which this process wants to hear anything of PixelRT."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("pixelrt.")]
    return min(logging.getLogger(name).getEffectiveLevel() for name in ("pixelrt", *names))
