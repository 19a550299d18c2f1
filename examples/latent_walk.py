"""A walk through the latents of a generator, as a film that ends where it began.

    python examples/latent_walk.py engines/digits-vae/bundle --out walk.mp4
    python examples/latent_walk.py engines/digits-cgan/bundle --out walk.gif --label 3 --label 8 --scale 8

It goes from one drawn latent to the next along arcs (`pixelrt.Interpolate`), and back to the first one. With
several labels each stretch has the next of them, so that the class changes at a stop while the latent stays.
Any bundle that takes a latent will do; a mask or an image that it takes too is given once, for all images.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import pixelrt
from pixelrt.encoding import write_gif, write_video
from pixelrt.errors import PixelRTError
from pixelrt.generation.drawing import draw_latents
from pixelrt.terminal import say

Image = NDArray[np.uint8]


def main() -> None:
    """Walk, and write the film while walking."""
    options = parse_arguments()
    try:
        with pixelrt.load(options.bundle, task="generation", device=options.device, color="rgb") as generator:
            images = enlarged(walk(generator, options), options.scale)
            write = write_gif if options.out.suffix.lower() == ".gif" else write_video
            write(options.out, images, options.fps)
    except PixelRTError as problem:
        raise SystemExit(str(problem)) from problem
    frames = options.stops * options.steps
    say(f"{options.out}: {frames} images, {frames / options.fps:.1f} s")


def parse_arguments() -> argparse.Namespace:
    """Command line of the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="a generation bundle that takes a latent")
    parser.add_argument(
        "--out", type=Path, default=Path("walk.mp4"), help=".mp4, .mov, .mkv or .gif (%(default)s)"
    )
    parser.add_argument("--stops", type=int, default=5, help="latents on the way (%(default)s)")
    parser.add_argument(
        "--steps", type=int, default=24, help="images from one stop to the next (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the stops' latents (%(default)s)")
    parser.add_argument(
        "--truncation", type=float, help="largest value of a stop's latent: typical images (no limit)"
    )
    parser.add_argument("--label", action="append", help="name or id; several take turns, a stretch each")
    parser.add_argument("--mask", type=Path, help="PNG of class ids, where the generator takes a mask")
    parser.add_argument("--image", type=Path, help="a picture, where the generator takes one")
    parser.add_argument("--fps", type=float, default=24.0, help="images a second (%(default)s)")
    parser.add_argument(
        "--scale", type=int, default=1, help="height and width of each pixel in the film (%(default)s)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (%(default)s)")
    options = parser.parse_args()
    for name, least in (("stops", 2), ("steps", 1), ("scale", 1), ("seed", 0)):
        if getattr(options, name) < least:
            parser.error(f"--{name} {getattr(options, name)}: expected at least {least}")
    if not 0 < options.fps < float("inf"):
        parser.error(f"--fps {options.fps}: expected more than 0")
    return options


def walk(generator: pixelrt.Generator, options: argparse.Namespace) -> Iterator[Image]:
    """The images, uint8[H, W, C], stretch by stretch; each one leaves out its end, which begins the next."""
    stops = drawn_stops(generator, options)
    labels = cycle([label_of(generator, text) for text in options.label or [None]])
    given = other_inputs(generator, options)
    for index, label in zip(range(len(stops)), labels, strict=False):
        strategy = pixelrt.Interpolate(
            stops[index], stops[(index + 1) % len(stops)], steps=options.steps + 1, label=label
        )
        yield from generator.sample(strategy=strategy, **given).images[:-1]


def drawn_stops(generator: pixelrt.Generator, options: argparse.Namespace) -> NDArray[np.float32]:
    """As many latents of the seed as there are stops."""
    info = generator.bundle.generation.latent
    if info is None:
        raise SystemExit(
            f"{options.bundle} takes {', '.join(generator.takes)}; a walk needs a generator with a latent"
        )
    return draw_latents(info, options.seed, range(options.stops), options.truncation)


def label_of(generator: pixelrt.Generator, text: str | None) -> str | int | None:
    """A label by its name; an id where no label is called like that."""
    if text is None or text in generator.labels or not text.isdigit():
        return text
    return int(text)


def other_inputs(generator: pixelrt.Generator, options: argparse.Namespace) -> dict[str, Any]:
    """A mask and an image, the same for all."""
    given: dict[str, Any] = {}
    if options.mask is not None:
        given["mask"] = read_picture("--mask", options.mask, cv2.IMREAD_UNCHANGED)
    if options.image is not None:
        info = generator.bundle.generation.image
        if info is not None and info.channels == 1:
            given["image"] = read_picture("--image", options.image, cv2.IMREAD_GRAYSCALE)[..., None]
        else:
            image = read_picture("--image", options.image, cv2.IMREAD_COLOR)
            given["image"] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return given


def read_picture(option: str, path: Path, flag: int) -> NDArray[Any]:
    """A picture as OpenCV reads it with a flag."""
    picture = cv2.imread(str(path), flag)
    if picture is None:
        raise SystemExit(f"{option} {path} cannot be read as a picture; expected a PNG or JPEG")
    return picture


def enlarged(images: Iterator[Image], scale: int) -> Iterator[Image]:
    """Each pixel as a square of pixels."""
    for image in images:
        yield image.repeat(scale, axis=0).repeat(scale, axis=1)


if __name__ == "__main__":
    main()
