"""Options that several commands have in common, and how their values are read."""

from __future__ import annotations

import argparse

from pixelrt.video.sources.base import parse_size


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Add where and how a bundle runs; the names are those of `pixelrt.load`."""
    group = parser.add_argument_group("how it runs (the defaults take the best; see `pixelrt doctor BUNDLE`)")
    group.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to run (auto)"
    )
    group.add_argument("--backend", metavar="NAME", help="openvino, onnxruntime or tensorrt (the best)")
    group.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        help="how to compute (the fastest that passed the gate)",
    )
    group.add_argument("--threads", type=count, metavar="N", help="CPU threads (one per core)")


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


def size(text: str) -> tuple[int, int]:
    """Height and width from `720x1280`.

    Raises:
        argparse.ArgumentTypeError: If it is no size.
    """
    try:
        return parse_size(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from problem
