"""TensorRT-RTX compiles kernels on the machine that runs them: kept between runs, start-up is quicker."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pixelrt.bundle import write_file
from pixelrt.errors import BundleError

_LOG = logging.getLogger("pixelrt.trt")


class RuntimeCache:
    """A file with the kernels compiled for one engine on one GPU. Losing it costs time and nothing else."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._cache: Any = None
        self._stored = b""

    def attach(self, config: Any) -> None:
        """Let a runtime configuration read from the file, and collect what `store` writes."""
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            if self._cache is None:
                _LOG.warning("TensorRT-RTX made no runtime cache; it compiles again at every start")
                return
            self._read()
        if not config.set_runtime_cache(self._cache):
            _LOG.warning("TensorRT-RTX refused its runtime cache; it compiles again at every start")
            self._cache = None

    def _read(self) -> None:
        try:
            self._stored = self._file.read_bytes()
        except FileNotFoundError:
            return
        except OSError as problem:
            _LOG.warning("%s cannot be read (%s); kernels are compiled again", self._file, problem.strerror)
            return
        if not self._cache.deserialize(self._stored):
            _LOG.warning("%s is damaged or of another version; kernels are compiled again", self._file)
            self._stored = b""

    def store(self) -> None:
        """Write what was compiled, if there is anything new."""
        if self._cache is None:
            return
        content = self._cache.serialize()
        if content is None or bytes(content) == self._stored:
            return
        try:
            write_file(self._file, bytes(content))
        except BundleError as problem:
            _LOG.warning("the compiled kernels are not kept: %s", problem)
        self._stored = bytes(content)
