"""Edit a street, paint it, and look whether a segmenter sees in the picture what was asked for.

    python examples/paint_and_segment.py                            # a car of another scene is put into one
    python examples/paint_and_segment.py --copy pedestrian bicyclist --move 0 60 --replace fence=tree
    python examples/paint_and_segment.py --mask drawn.png           # a mask of your own, as it is
    python examples/paint_and_segment.py --scenes 256 --copy        # many scenes, none of them edited

The mask of a scene of the procedural drive is edited, street-painter paints it, and road-unet segments the
painting: one `pixelrt.chain`, in which the image stays on the GPU where both run on one. OUT/street.png shows
the mask, the edited mask, the painting and what is seen in it; OUT/street.json holds the agreement of each
class, at the painter's size and over all scenes. Both bundles are exported first:

    pixelrt export engines/street-painter/recipe.toml
    pixelrt export engines/road-unet/recipe.toml
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import pixelrt
from pixelrt.encoding import encode_png, write_whole
from pixelrt.errors import BundleError, PixelRTError
from pixelrt.generation.values import check_mask
from pixelrt.metrics import UNLABELLED, ConfusionMatrix
from pixelrt.segmentation import nearest
from pixelrt.terminal import say, say_table
from pixelrt.video.drawing import write_text
from pixelrt.video.drive import CLASSES, scene

ENGINES = Path(__file__).parents[1] / "engines"
FINER = 2  # scenes are drawn larger than they are painted, so that edges lie between pixels
SEARCHED = 50  # scenes that are looked through for something to copy
SMALLEST = 1 / 500  # share of the picture
CAPTION_PX, GAP_PX = 18, 4

Mask = NDArray[np.uint8]
Image = NDArray[np.uint8]


def main() -> None:
    """Run the script; what PixelRT refuses is a message."""
    options = parse_arguments()
    try:
        run(options)
    except PixelRTError as problem:
        raise SystemExit(str(problem)) from problem


def run(options: argparse.Namespace) -> None:
    """Edit, paint and segment every scene; write what came out."""
    painter = opened(options.painter, "generation", options.device)
    size = painter.bundle.generation.output.size
    before = masks(options, painter)
    after = [edited(mask, seed, options) for seed, mask in enumerate(before, options.seed)]
    options.out.mkdir(parents=True, exist_ok=True)
    whole, changed = ConfusionMatrix(len(CLASSES)), ConfusionMatrix(len(CLASSES))
    with pixelrt.chain(painter, opened(options.segmenter, "segmentation", options.device)) as chain:
        for index, (painting, found) in enumerate(chain.stream(after)):
            asked, seen = nearest(after[index], *size), found.mask_at(size)
            whole.add(asked, seen)
            same = asked == nearest(before[index], *size)
            changed.add(np.where(same, np.uint8(UNLABELLED), asked), seen)
            if index == 0:
                shown = [before[0], after[0], image_of(painting), seen]
                palette = [info.color for info in chain.steps[1].classes]
        ran_on = {step.bundle.manifest.name: str(step.session) for step in chain.steps}
    write_whole(options.out / "street.png", encode_png(picture(shown, palette, size)))
    figures = {"scenes": len(after), **agreement(whole, changed), "ran_on": ran_on}
    write_whole(options.out / "street.json", (json.dumps(figures, indent=2) + "\n").encode())
    show(figures)


def parse_arguments() -> argparse.Namespace:
    """Command line of the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, engine in (("--painter", "street-painter"), ("--segmenter", "road-unet")):
        bundle = ENGINES / engine / "bundle"
        parser.add_argument(name, type=Path, default=bundle, help=f"its bundle (that of engines/{engine})")
    parser.add_argument("--mask", type=Path, help="PNG of class ids instead of a scene of the drive")
    parser.add_argument(
        "--seed", type=int, default=11, help="of the scene, or of the first one (%(default)s)"
    )
    parser.add_argument(
        "--scenes", type=int, default=1, help="how many, with seeds one after the other (%(default)s)"
    )
    parser.add_argument(
        "--copy",
        nargs="*",
        choices=CLASSES,
        metavar="CLASS",
        help="put the largest one of the next scene that has one into this one (car; none for --mask)",
    )
    parser.add_argument(
        "--move",
        type=int,
        nargs=2,
        default=(0, 0),
        metavar=("ROWS", "COLUMNS"),
        help="what was copied, in pixels of the mask, down and to the right (0 0)",
    )
    parser.add_argument(
        "--replace",
        nargs="*",
        type=pair,
        default=[],
        metavar="CLASS=CLASS",
        help="make all of the first class the second, before anything is copied (none)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (%(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/street"), help="folder for the results (%(default)s)"
    )
    options = parser.parse_args()
    if options.scenes < 1 or options.seed < 0 or (options.mask and options.scenes > 1):
        parser.error("--scenes is at least 1, --seed at least 0, and a mask of your own is one scene")
    if options.copy is None:
        options.copy = [] if options.mask else ["car"]
    return options


def pair(text: str) -> tuple[int, int]:
    """Two ids from `fence=tree`."""
    names = text.split("=")
    if len(names) != 2 or not set(names) <= set(CLASSES):
        raise argparse.ArgumentTypeError(f"{text!r}, expected CLASS=CLASS of {', '.join(CLASSES)}")
    return CLASSES.index(names[0]), CLASSES.index(names[1])


def opened(bundle: Path, task: Any, device: str) -> Any:
    """A painter or segmenter of the drive's classes."""
    try:
        step = pixelrt.load(bundle, task=task, device=device)
    except BundleError as problem:
        recipe = bundle.with_name("recipe.toml")
        raise SystemExit(f"{problem}\nexport it: pixelrt export {recipe} -o {bundle}") from problem
    names = tuple(info.name for info in step.classes)
    if names != CLASSES:
        raise SystemExit(f"{bundle} has the classes {', '.join(names)}; expected {', '.join(CLASSES)}")
    return step


# --- masks --------------------------------------------------------------------------------------------------


def masks(options: argparse.Namespace, painter: pixelrt.Generator) -> list[Mask]:
    """Class ids before any edit, uint8[H, W] each."""
    if options.mask is None:
        size = painter.bundle.generation.output.size
        seeds = range(options.seed, options.seed + options.scenes)
        return [scene(seed, (FINER * size[0], FINER * size[1]))[1] for seed in seeds]
    mask = cv2.imread(str(options.mask), cv2.IMREAD_UNCHANGED)
    if mask is None:
        raise SystemExit(f"{options.mask} cannot be read; expected a PNG of class ids")
    taken = painter.bundle.generation.mask
    assert taken is not None  # it has the drive's classes
    check_mask(mask, taken, str(options.mask))
    return [mask.astype(np.uint8)]


def edited(mask: Mask, seed: int, options: argparse.Namespace) -> Mask:
    """The mask with classes replaced, and things of other scenes copied into it."""
    made = mask.copy()
    for old, new in options.replace:
        made[mask == old] = new
    for name in options.copy:
        thing = another(CLASSES.index(name), seed + 1, (mask.shape[0], mask.shape[1]))
        made[moved(thing, options.move)] = CLASSES.index(name)
    if options.copy and np.array_equal(made, mask):
        raise SystemExit(
            f"--move {options.move[0]} {options.move[1]} leaves nothing of what was copied in view"
        )
    return made


def another(label: int, seed: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The largest connected region of a class in the first scene from `seed` on that has a large one."""
    for number in range(seed, seed + SEARCHED):
        of_class = (scene(number, size)[1] == label).astype(np.uint8)
        count, regions, figures, _ = cv2.connectedComponentsWithStats(of_class)
        areas = figures[1:, cv2.CC_STAT_AREA]
        if count > 1 and areas.max() >= SMALLEST * of_class.size:
            return np.asarray(regions == 1 + int(areas.argmax()))
    raise SystemExit(
        f"the scenes {seed} to {seed + SEARCHED - 1} have no large {CLASSES[label]}; give another --seed"
    )


def moved(region: NDArray[np.bool_], by: tuple[int, int]) -> NDArray[np.bool_]:
    """A region moved by so many rows and columns; what leaves the picture is gone."""
    matrix = np.array([[1, 0, by[1]], [0, 1, by[0]]], np.float32)
    height, width = region.shape
    return cv2.warpAffine(region.astype(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST) > 0


# --- what came out ------------------------------------------------------------------------------------------


def image_of(painting: pixelrt.Generated) -> Image:
    """The painting on the host, uint8[H, W, 3]."""
    if painting.device_images is None:
        return painting.image
    image: Image = painting.device_images.to_host()[0]
    return image


def agreement(whole: ConfusionMatrix, changed: ConfusionMatrix) -> dict[str, Any]:
    """Per class the share of pixels asked for and seen, and their IoU; all in percent, None for none."""
    counts = whole.counts
    shares = zip(counts.sum(1) / counts.sum(), counts.sum(0) / counts.sum(), whole.iou(), strict=True)
    rows = {
        name: {"asked_percent": percent(asked), "seen_percent": percent(seen), "iou_percent": percent(iou)}
        for name, (asked, seen, iou) in zip(CLASSES, shares, strict=True)
    }
    return {
        "miou_percent": percent(whole.miou()),
        "pixels_as_asked_percent": percent(whole.accuracy()),
        "edited_pixels_as_asked_percent": percent(changed.accuracy()),
        "classes": rows,
    }


def percent(share: float) -> float | None:
    """A share in percent; None for NaN."""
    return None if np.isnan(share) else round(100 * float(share), 2)


def show(figures: dict[str, Any]) -> None:
    """Print the table."""
    rows = [
        (name, *("-" if value is None else f"{value:.1f}" for value in row.values()))
        for name, row in figures["classes"].items()
    ]
    say_table(("class", ">asked %", ">seen %", ">IoU %"), rows)
    whole, edits = figures["pixels_as_asked_percent"], figures["edited_pixels_as_asked_percent"]
    edited_too = "" if edits is None else f", {edits:.1f} % of those edited"
    say(f"mIoU {figures['miou_percent']:.1f} %, {whole:.1f} % of all pixels as asked{edited_too}")


def picture(shown: list[Image], palette: list[Any], size: tuple[int, int]) -> Image:
    """Two rows: mask and edited mask, painting and what is seen in it."""
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(palette)] = palette
    tiles = []
    for image, caption in zip(shown, ("mask", "edited", "painted", "segmented"), strict=True):
        colored = image if image.ndim == 3 else colors[nearest(image, *size)]
        tile = np.full((CAPTION_PX + 2 * size[0] + GAP_PX, 2 * size[1] + GAP_PX, 3), 255, np.uint8)
        tile[CAPTION_PX:-GAP_PX, :-GAP_PX] = colored.repeat(2, axis=0).repeat(2, axis=1)
        write_text(tile, caption, (0, 0), CAPTION_PX, (0, 0, 0))
        tiles.append(tile)
    return np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])


if __name__ == "__main__":
    main()
