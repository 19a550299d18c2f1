"""Options that several commands have in common, and how their values are read."""

from __future__ import annotations

import argparse
import math
import re
from typing import Any, get_args

from pixelrt.cli.parser import UsageError
from pixelrt.cuda.opening import DriverName
from pixelrt.errors import InputError
from pixelrt.pipeline.options import GpuOptions

BACKENDS = ("tensorrt", "onnxruntime", "openvino")
"""`pixelrt.backends.BACKENDS`, which needs NumPy; `--help` does not."""
_LONGEST_S = 366 * 24 * 3600.0
_LAST_PORT = 65535


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Add where and how a bundle runs; the names are those of `pixelrt.load`."""
    group = parser.add_argument_group("how it runs (the defaults take the best; see `pixelrt doctor BUNDLE`)")
    group.add_argument(
        "--device",
        choices=_Devices(("auto", "cpu", "cuda")),
        default="auto",
        help="where to run, also cuda:1 for the second GPU (auto)",
    )
    group.add_argument(
        "--backend",
        metavar="NAME",
        choices=BACKENDS,
        help="tensorrt, onnxruntime or openvino (the best)",
    )
    group.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        help="how to compute (the fastest that passed the gate)",
    )
    group.add_argument("--threads", type=count, metavar="N", help="CPU threads (one per core)")
    group.add_argument(
        "--build",
        choices=("auto", "never"),
        default="auto",
        help="whether an engine may be built for this GPU where the bundle has none (auto)",
    )
    group.add_argument(
        "--slots",
        type=count,
        metavar="N",
        default=2,
        help="frames on their way through the GPU at once, 1 to 16 (2)",
    )
    group.add_argument("--no-graphs", action="store_true", help="enqueue every run, without CUDA graphs")
    group.add_argument(
        "--cuda-driver",
        choices=get_args(DriverName),
        help="the library that talks to CUDA (cuda-python where it is installed)",
    )


def machine_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `add_machine_options` added, as arguments of `pixelrt.load`.

    Raises:
        UsageError: If a value cannot be used.
    """
    try:
        gpu = GpuOptions(driver=arguments.cuda_driver, slots=arguments.slots, graphs=not arguments.no_graphs)
    except InputError as problem:
        raise UsageError(f"--{problem}") from problem
    return {
        "device": arguments.device,
        "backend": arguments.backend,
        "precision": arguments.precision,
        "threads": arguments.threads,
        "build": arguments.build,
        "gpu": gpu,
    }


class _Devices(tuple[str, ...]):
    """`cuda:1` and so on are choices too; those that are listed are shown and completed."""

    __slots__ = ()

    def __contains__(self, value: object) -> bool:
        return super().__contains__(value) or bool(re.fullmatch(r"cuda:\d+", str(value)))


def count(text: str) -> int:
    """A number of things, at least 1.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return number


def seconds(text: str) -> float:
    """A time, above 0 and up to a year.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    value = _number(text)
    if not 0 < value <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; give seconds above 0 (up to a year)")
    return value


def share(text: str) -> float:
    """A number of 0 to 1.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; give 0 to 1, such as 0.5")
    return value


def rate(text: str) -> float:
    """Frames a second of a source.

    Raises:
        argparse.ArgumentTypeError: If it is no rate at which a video can be written.
    """
    from pixelrt.encoding import FASTEST_FPS, SLOWEST_FPS

    value = _number(text)
    if not SLOWEST_FPS <= value <= FASTEST_FPS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no rate; give {SLOWEST_FPS:g} to {FASTEST_FPS:g} frames a second, such as 25"
        )
    return value


def port(text: str) -> int:
    """A port to serve on; 0 for any.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no port; give 1 to {_LAST_PORT}, or 0 for any that is free"
        )
    return int(text)


def _number(text: str) -> float:
    """The number, or NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def grid(text: str) -> tuple[int, int]:
    """Rows and columns from `6x8`.

    Raises:
        argparse.ArgumentTypeError: If it is no grid.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no grid; give rows x columns, such as 6x8")
    return int(match[1]), int(match[2])


def size(text: str) -> tuple[int, int]:
    """Height and width from `720x1280`.

    Raises:
        argparse.ArgumentTypeError: If it is no size.
    """
    from pixelrt.video.sources.base import parse_size  # it needs NumPy, `--help` does not

    try:
        return parse_size(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from problem
