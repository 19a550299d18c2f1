"""`pixelrt generate`: images from noise, classes, masks and images."""

from __future__ import annotations

import argparse
from typing import Any

from pixelrt.cli.options import add_machine_options, count, grid
from pixelrt.cli.stopping import stopping

_EPILOG = """\
SOURCE (for --mask and --image):
  mask.png             one mask (a grey PNG whose values are class ids), or an image
  masks/               a folder of them; of images/ and labels/ in it (CamVid layout) the labels
  test://drive?frames=300&size=720x1280&seed=7
                       a drawn drive: its ground truth is the mask, its picture the image
  drive.mp4, 0         a video or a camera, for --image

PATH:
  sheet.png            all images on one page, with --mask each beside its mask; one image alone
  walk.gif, walk.mp4   a film, written image by image (.gif, .mp4, .mov, .mkv)
  folder/              a PNG per image; mind the slash
  data.npz             images, their colour order, latents, labels and seed as arrays
  null:                nothing, for measuring

examples:
  pixelrt generate engines/digits-cgan/bundle --count 64 --label 3 --out sheet.png
  pixelrt generate engines/digits-cgan/bundle --labels --columns 12 --scale 2 --out labels.png
  pixelrt generate engines/digits-cgan/bundle --interpolate 3 8 --label 5 --steps 60 --scale 8 --out walk.gif
  pixelrt generate engines/street-painter/bundle --mask masks/ --out painted/
  pixelrt generate engines/street-painter/bundle --mask 'test://drive?frames=300' --pairs --out drive.mp4

The same options and seed give the same bytes on the same backend. Ctrl-C ends after the current images:
what is written is whole up to there, and the exit code is 130. A source that breaks does the same with
exit code 1.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `pixelrt`."""
    parser = subparsers.add_parser(
        "generate",
        help="make images from noise, classes, masks or images",
        description="Run a bundle that writes images: a GAN, a VAE, a mask-to-image network.\n"
        "Write a sheet, a film, a folder or arrays, and show where the time goes.",
        epilog=_EPILOG,
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="the folder that `pixelrt export` wrote")
    _add_inputs(parser)
    _add_outputs(parser)
    add_machine_options(parser)


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what images are made from")
    group.add_argument("--count", type=count, metavar="N", help="number of images (16; of one mask 1)")
    group.add_argument("--seed", type=int, metavar="S", help="of latents, labels and noise (0)")
    group.add_argument(
        "--truncation",
        type=float,
        metavar="T",
        help="draw latent values of a greater magnitude again: typical images, less varied",
    )
    group.add_argument(
        "--label",
        metavar="L",
        action="append",
        default=[],
        help="class, by name; repeat for several in turn (any class)",
    )
    ways = group.add_mutually_exclusive_group()
    ways.add_argument("--labels", action="store_true", help="a row of images for each label")
    ways.add_argument(
        "--interpolate",
        nargs=2,
        type=int,
        metavar=("A", "B"),
        help="a walk from the first latent of one seed to that of another",
    )
    ways.add_argument(
        "--grid",
        type=grid,
        metavar="ROWSxCOLS",
        help="two coordinates of the latent, one down and one across",
    )
    ways.add_argument("--latents", metavar="FILE", help="latents of your own: .npy, or .npz with `latents`")
    group.add_argument("--steps", type=count, metavar="N", help="images of --interpolate (30)")
    group.add_argument("--mode", choices=("slerp", "lerp"), help="along an arc, or straight (slerp)")
    group.add_argument(
        "--axes", nargs=2, type=int, metavar=("I", "J"), help="coordinates of --grid, down and across (0 1)"
    )
    group.add_argument("--span", type=float, metavar="X", help="--grid goes from -X to X (2)")
    group.add_argument("--mask", metavar="SOURCE", help="masks to paint (below)")
    group.add_argument("--image", metavar="SOURCE", help="images to work on (below)")
    group.add_argument("--limit", type=count, metavar="N", help="stop after N frames of a source")


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where they go")
    group.add_argument("--out", metavar="PATH", required=True, help="what is written (below)")
    group.add_argument(
        "--columns", type=count, metavar="C", help="images in a row of a sheet (as many as rows)"
    )
    group.add_argument(
        "--scale", type=count, default=1, metavar="N", help="enlarge every pixel N times in pictures (1)"
    )
    group.add_argument(
        "--pairs",
        action=argparse.BooleanOptionalAction,
        help="show the mask or image beside what was made of it (on sheets of masks)",
    )
    group.add_argument("--fps", type=float, help="images a second of a film (12; with a source as it has)")
    group.add_argument(
        "--json", metavar="FILE", help="write all figures as JSON; `-` for standard output, without tables"
    )


def run(arguments: argparse.Namespace) -> int:
    """Generate, and show the figures.

    Returns:
        0; 130 after Ctrl-C, 143 after SIGTERM.

    Raises:
        PixelRTError: If something cannot be opened, made or written.
    """
    # From here on, because a library that is interrupted while it is imported may swallow the Ctrl-C.
    with stopping() as stop:
        from pixelrt.cli.generate_work import generate

        return generate(arguments, stop)
