"""The file in which TensorRT keeps how fast its kernels are, so that the next build need not time them again.

There is one file per GPU and version of TensorRT, since times of another are worth nothing. It is loaded
before a build; after it, whatever others have put there meanwhile is merged and the file replaced as a
whole, under a lock. TensorRT itself refuses a file that is damaged or foreign; then a new one is started. A
cache that cannot be kept costs the next build some time, and never this build its engine.
"""

from __future__ import annotations

import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelrt.bundle import locked, write_file
from pixelrt.errors import BuildError, PixelRTError
from pixelrt.trt.cache import private_folder
from pixelrt.trt.gpu import LocalGpu
from pixelrt.trt.library import Library, explain

OPTION = "--timingCacheFile"
_LOG = logging.getLogger("pixelrt.trt")
_NO_EFFECT = "no-op"
"""What TensorRT-RTX says of its timing cache, in a DeprecationWarning and nowhere else."""
_WITHOUT_EFFECT = (
    "its timing cache is without effect, since it times nothing when it builds; leave the file out"
)


def default_file(library: Library, gpu: LocalGpu) -> Path:
    """The file for a GPU and a version of TensorRT, in a folder that is made if need be.

    Raises:
        BuildError: If somebody else can write to that folder.
        InputError: If this user has no place for caches.
        OSError: If the folder cannot be made.
    """
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", f"{library.flavour}-{library.version}-{gpu.name}-{gpu.target}")
    return private_folder("timing") / f"{name}.cache"


@dataclass(frozen=True, slots=True)
class TimingCache:
    """A file that a build uses; TensorRT's own cache lives as long as this."""

    library: Library
    config: Any
    file: Path
    cache: Any

    @classmethod
    def attach(
        cls, library: Library, config: Any, wanted: str | bool, gpu: LocalGpu | None
    ) -> TimingCache | None:
        """Give TensorRT the times of earlier builds.

        Args:
            library: The TensorRT that builds.
            config: `IBuilderConfig`.
            wanted: The file; True: that of this GPU in the user's cache; False: none.
            gpu: The GPU that is built for; None if it is another machine's, on which nothing can be timed.

        Returns:
            None where there is nothing to use, and no file was named.

        Raises:
            BuildError: If a file was named that cannot be used: its folder does not exist, or this TensorRT
                has no timing cache.
        """
        if not isinstance(wanted, str):
            return cls._usual(library, config, gpu) if wanted and gpu is not None else None
        file = Path(wanted)
        if not file.parent.is_dir():
            raise BuildError(f"{OPTION}={file}: there is no folder {file.parent}; make it first")
        cache, reason = _load(library, config, file)
        if cache is None:
            raise BuildError(f"{library.title} has no {OPTION}: {reason}")
        return cls(library, config, file, cache)

    @classmethod
    def _usual(cls, library: Library, config: Any, gpu: LocalGpu) -> TimingCache | None:
        try:
            file = default_file(library, gpu)
        except (PixelRTError, OSError) as problem:
            _LOG.warning("no timing cache, so all kernels are timed anew: %s", problem)
            return None
        cache, reason = _load(library, config, file)
        if cache is None:
            level = logging.DEBUG if reason == _WITHOUT_EFFECT else logging.WARNING
            _LOG.log(level, "no timing cache, so all kernels are timed anew: %s", reason)
            return None
        return cls(library, config, file, cache)

    def store(self) -> None:
        """Write the times that the build has added; what goes wrong is logged: the engine is built by now."""
        try:
            with locked(self.file.parent):
                write_file(self.file, self._merged())
        except (PixelRTError, OSError) as problem:
            _LOG.warning("the timing cache is not kept, the next build takes as long: %s", problem)

    def _merged(self) -> bytes:
        cache = self.library.check(self.config.get_timing_cache(), "to give its timing cache back")
        others = _read(self.file)
        theirs = self.config.create_timing_cache(others) if others else None
        if theirs is not None and not cache.combine(theirs, False):
            reason = explain(self.library.take_messages())
            _LOG.info("the timing cache that was there is of no use here and is replaced: %s", reason)
        self.library.take_messages()
        return bytes(self.library.check(cache.serialize(), "to serialise its timing cache"))


def _load(library: Library, config: Any, file: Path) -> tuple[Any, str]:
    """A cache that TensorRT took, new if the file is of no use to it; or None and why not."""
    content = _read(file)
    cache, reason = _offer(library, config, content)
    if cache is None and content and reason != _WITHOUT_EFFECT:
        _LOG.warning(
            "timing cache %s is damaged, or of another GPU or TensorRT (%s); a new one is started",
            file,
            reason,
        )
        return _offer(library, config, b"")
    return cache, reason


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as problem:
        _LOG.warning("timing cache %s cannot be read (%s)", file, problem.strerror)
        return b""


def _offer(library: Library, config: Any, content: bytes) -> tuple[Any, str]:
    library.take_messages()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cache = config.create_timing_cache(content)
        taken = cache is not None and config.set_timing_cache(cache, False)
        taken = taken and not (content and _is_fresh(config, cache, content))
    said = library.take_messages()
    if any(_NO_EFFECT in str(item.message) for item in caught):
        return None, _WITHOUT_EFFECT
    return (cache, "") if taken else (None, explain(said))


def _is_fresh(config: Any, cache: Any, content: bytes) -> bool:
    """Whether TensorRT made a new cache because it could not read `content`: it returns one all the same."""
    empty_bytes = len(bytes(config.create_timing_cache(b"").serialize()))
    return len(content) > empty_bytes >= len(bytes(cache.serialize()))
