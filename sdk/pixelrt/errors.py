"""Everything that PixelRT raises on purpose.

    PixelRTError
    ├── MissingDependency     an optional library is not installed; the message names the extra
    ├── InputError            an array, option or argument that cannot be used (also a ValueError)
    ├── BundleError           a bundle that is missing, damaged or incomplete
    │   └── ManifestError     its manifest.json cannot be understood
    ├── ExportError           a model that cannot be converted
    │   ├── RecipeError       the recipe asks for something that does not exist or makes no sense
    │   ├── CheckpointError   a file that is not the weights it should be
    │   └── GateFailed        the converted model does not do what the original does
    ├── BuildError            TensorRT refused to build an engine
    ├── EngineMismatch        an engine for another TensorRT or another GPU
    ├── DeviceError           no device or backend here that may run the bundle
    ├── SourceError           frames that cannot be opened or read
    └── SinkError             results that cannot be written

A message says what was found, what was expected and what to do next.
"""

from __future__ import annotations


class PixelRTError(Exception):
    """Base of all errors below. `exit_code` is what the command line exits with."""

    exit_code = 1


class MissingDependency(PixelRTError, ImportError):
    """An optional library is not installed."""


class InputError(PixelRTError, ValueError):
    """An array, option or argument that cannot be used."""


class BundleError(PixelRTError):
    """A bundle that is missing, damaged or incomplete."""


class ManifestError(BundleError):
    """A manifest.json that cannot be understood."""


class ExportError(PixelRTError):
    """A model that cannot be converted."""


class RecipeError(ExportError):
    """A recipe that asks for something that does not exist or makes no sense."""


class CheckpointError(ExportError):
    """A file that is not the weights it should be."""


class GateFailed(ExportError):
    """The converted model does not do what the original does. Exit code 3, so that CI can tell."""

    exit_code = 3


class BuildError(PixelRTError):
    """TensorRT refused to build an engine."""


class EngineMismatch(PixelRTError):
    """An engine for another TensorRT or another GPU."""


class DeviceError(PixelRTError):
    """No device or backend here that may run the bundle."""


class SourceError(PixelRTError):
    """Frames that cannot be opened or read."""


class SinkError(PixelRTError):
    """Results that cannot be written."""
