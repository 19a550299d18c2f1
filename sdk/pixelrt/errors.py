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
    ├── EngineMismatch        an engine that cannot be used here
    │   ├── VersionMismatch   it is of another TensorRT
    │   ├── HardwareMismatch  it is for another GPU
    │   └── EngineRefused     it should fit, and TensorRT refuses it: damaged, or not enough memory
    ├── DeviceError           no device or backend here that may run the bundle, or it failed
    │   ├── ExecutionFailed   one run was refused; there is no result, the session can go on
    │   ├── OutOfMemory       the GPU, or the memory that it shares with the host, is full
    │   ├── ContextLost       an error after which CUDA works no more in this process
    │   └── DeviceLost        the GPU itself is gone or broken
    ├── SourceError           frames that cannot be opened or read
    │   ├── SourceStalled     the connection stands, and nothing came for too long
    │   └── UnusableSource    trying again cannot help: a wrong password, no video at that address
    │       └── MisspeltSource    its address is misspelt
    └── SinkError             results that cannot be written
        └── MisspeltSink      their address is misspelt

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
    """An engine that cannot be used here."""


class VersionMismatch(EngineMismatch):
    """An engine of another TensorRT than the one installed. Engines run on the version that built them."""


class HardwareMismatch(EngineMismatch):
    """An engine for another GPU than the one in this machine."""


class EngineRefused(EngineMismatch):
    """An engine that should fit, and that TensorRT refuses all the same."""


class DeviceError(PixelRTError):
    """No device or backend here that may run the bundle, or it failed."""


class ExecutionFailed(DeviceError):
    """One run was refused or failed. It has no result, and the session can run the next frame."""


class OutOfMemory(DeviceError):
    """The memory of the GPU, or page-locked memory of the host, is used up."""


class ContextLost(DeviceError):
    """An error after which CUDA answers every call of this process with the same error.

    Only a new process helps; `pixelrt.isolate` keeps one in reserve.
    """


class DeviceLost(DeviceError):
    """The GPU has gone or is broken: other processes fail too, until it is reset or the machine restarted."""


class SourceError(PixelRTError):
    """Frames that cannot be opened or read."""


class SourceStalled(SourceError):
    """A camera whose connection stands, and that gave nothing for too long."""


class UnusableSource(SourceError):
    """A camera or stream that trying again does not help.

    A wrong password, no video at that address, or a protocol that nothing here speaks.
    """


class MisspeltSource(UnusableSource):
    """An address of a source that nothing can be meant by. Exit code 2, as of every wrong argument."""

    exit_code = 2


class SinkError(PixelRTError):
    """Results that cannot be written."""


class MisspeltSink(SinkError):
    """An address of a sink that nothing can be meant by. Exit code 2, as of every wrong argument."""

    exit_code = 2
