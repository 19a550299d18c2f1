"""Opens a bundle as what its manifest says that it is."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args, overload

from pixelrt.bundle import Bundle
from pixelrt.errors import InputError
from pixelrt.generation.generator import Generator
from pixelrt.manifest import ColorOrder, Task
from pixelrt.progress import deferred_progress
from pixelrt.segmentation import Segmenter
from pixelrt.session import GpuOptions, Precision, SessionOptions, open_session
from pixelrt.strict import suggestion

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _Options(TypedDict, total=False):
    """The other arguments of `load`."""

    device: str
    backend: str | None
    precision: Precision | None
    threads: int | None
    color: ColorOrder | None
    build: Literal["auto", "never"]
    gpu: GpuOptions | None


@overload
def load(
    bundle: str | os.PathLike[str] | Bundle,
    *,
    task: Literal["segmentation"],
    **options: Unpack[_Options],
) -> Segmenter: ...
@overload
def load(
    bundle: str | os.PathLike[str] | Bundle,
    *,
    task: Literal["generation"],
    **options: Unpack[_Options],
) -> Generator: ...
@overload
def load(
    bundle: str | os.PathLike[str] | Bundle, *, task: None = None, **options: Unpack[_Options]
) -> Any: ...
def load(  # noqa: PLR0913  # what a session is told, and the task
    bundle: str | os.PathLike[str] | Bundle,
    *,
    task: Task | None = None,
    device: str = "auto",
    backend: str | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    color: ColorOrder | None = None,
    build: Literal["auto", "never"] = "auto",
    gpu: GpuOptions | None = None,
) -> Segmenter | Generator:
    """Open a bundle on this machine: a `Segmenter` or a `Generator`, as its manifest says.

    On a GPU with TensorRT for which the bundle has no engine, one is built: once, which takes from seconds to
    many minutes, with its progress on standard error. It is kept in the user's cache
    (`pixelrt.trt.cache.cache_folder`).

    Of a bundle with several input sizes this is the largest; `Segmenter.at_sizes` has the others.

    Args:
        bundle: The folder that `pixelrt export` wrote, or an opened bundle.
        task: `segmentation` or `generation` refuse a bundle for the other, and tell type checkers what this
            returns; None takes both.
        device: `cuda` or `cpu` forbid to use the other; `cuda:1` names a GPU; `auto` takes the best.
        backend: `tensorrt`, `onnxruntime` or `openvino`; None for the best.
        precision: `float32`, `bfloat16` or `float16`; None for the fastest whose gate passed at the export.
        threads: CPU threads; None for one per core.
        color: Colour order of the frames and images, `rgb` or `bgr` (OpenCV's); None for the bundle's own.
        build: `never` refuses to build an engine; what else is here is taken then, if `device` allows.
        gpu: How a GPU is used: slots, CUDA graphs, the library that talks to CUDA.

    Raises:
        BundleError: If there is no bundle there, or it is damaged.
        BuildError: If an engine must be built and cannot be.
        DeviceError: If nothing here may run it; the message gives the reasons.
        EngineMismatch: If TensorRT refuses the engine.
        InputError: If an option is unknown, or the bundle is for another task.
        OutOfMemory: If the GPU has not enough memory; what was taken is freed.
    """
    _check_task(task)
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    found = opened.manifest.task
    if task not in (None, found):
        raise InputError(
            f"{opened.path} is a bundle for {found}, task={task!r} was asked for; load it without task, or "
            f"give a bundle for {task}"
        )
    with contextlib.ExitStack() as shown:
        options = SessionOptions(
            device=device,
            backend=backend,
            precision=precision,
            threads=threads,
            build=build,
            gpu=GpuOptions() if gpu is None else gpu,
            progress=deferred_progress(shown),
        )
        session = open_session(opened, options)
        with contextlib.ExitStack() as undo:
            undo.callback(session.close)
            if found == "generation":
                made: Segmenter | Generator = Generator(opened, session, color)
            else:
                how = dataclasses.replace(options, progress=None)
                made = Segmenter(opened, session, color, functools.partial(_smaller, opened, how, color))
            undo.pop_all()
        return made


def _smaller(bundle: Bundle, options: SessionOptions, color: ColorOrder | None) -> list[Segmenter]:
    """The smaller sizes of a bundle, opened as it was: all, or none where one cannot be."""
    segmenters = []
    with contextlib.ExitStack() as undo, contextlib.ExitStack() as shown:
        told = dataclasses.replace(options, progress=deferred_progress(shown))
        for smaller in bundle.smaller:
            segmenters.append(Segmenter(smaller, open_session(smaller, told), color))
            undo.callback(segmenters[-1].close)
        undo.pop_all()
    return segmenters


def _check_task(task: object) -> None:
    known = get_args(Task)
    if task not in (None, *known):
        raise InputError(
            f"task is {task!r}, expected one of {', '.join(known)}{suggestion(str(task), list(known))}"
        )
