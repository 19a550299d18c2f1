"""Does a generator help to find lesions where few pictures are at hand? An experiment, with its baselines.

    python examples/augment_lesions.py --out runs/lesions

For each seed a small training set of tissue with lesions is drawn (lesions.py: procedural, no photographs). A
SPADE generator learns from it to paint lesions into tissue, from a mask and a latent; it is exported behind
its gate, loaded with PixelRT, and paints new pictures: masks of the training set, turned, scaled and moved,
in tissue of the training set, with its lesions painted over. Nothing enters that a real project would not
have. Then the same U-Net is trained for the same number of steps on

    real              the small set as it is
    real, varied      the small set, flipped, turned, brightened and with noise: what everybody does
    synthetic         only what was painted, varied in the same way
    real + synthetic  one half of each batch from each, varied in the same way
    real + new real   as many new real pictures instead of painted ones: the upper bound

and judged on a large test set. OUT/lesions.json holds every score, OUT/sheet.png shows masks, real pictures
and painted ones. Whatever comes out is what is written: that synthetic pictures help is the question.

Here they did harm. With the settings below (5 seeds, ten minutes of one CPU core; Dice, mean ± deviation):

    real               22.2 ± 10.8 %
    real, varied       52.7 ±  4.0 %
    synthetic          22.7 ±  7.5 %
    real + synthetic   44.4 ±  5.6 %    -8.3 points over "real, varied", 95 % interval -15.4 to -1.2
    real + new real    59.7 ±  4.2 %    +7.0 points over it, +4.2 to +9.7

Likely reasons, which were not measured: what is painted is plain to see where real lesions are often faint,
and blurs where lesions were painted over count as tissue. Judge your own generator like this before use.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import cv2
import lesions
import numpy as np
import torch
from lesion_networks import (
    STRIDE,
    STYLE,
    Arm,
    Training,
    as_tensor,
    train_painter,
    train_unet,
    turned,
    without_lesions,
)
from lesions import CLASSES, Image, Mask, Pictures
from torch import nn
from training_runs import natural, positive

import pixelrt
import pixelrt_export
from pixelrt.errors import PixelRTError
from pixelrt.metrics import ConfusionMatrix
from pixelrt.terminal import say, say_table

BASE = "real, varied"
SYNTHETIC = "real + synthetic"
UPPER_BOUND = "real + new real"
TEST_SEED = 1_000_000  # training sets have smaller ones
SHEET_ROWS = 8
STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""Student's t for 95 % (two-sided) with 1, 2, ... degrees of freedom."""


@dataclasses.dataclass(frozen=True)
class Score:
    """How well lesions were found, over all pixels of the test set."""

    dice: float
    iou: float


def main() -> None:
    """Run the experiment for each seed, then say what came out."""
    options = parse_arguments()
    torch.use_deterministic_algorithms(True, warn_only=True)
    if options.threads:
        torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    test = lesions.draw_pictures(options.test, options.size, TEST_SEED)
    try:
        runs = [experiment(seed, test, options) for seed in range(1, options.seeds + 1)]
    except PixelRTError as problem:
        raise SystemExit(str(problem)) from problem
    found = summary(runs, options) | {"seconds": round(time.monotonic() - began, 1)}
    (options.out / "lesions.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    show(found)


def parse_arguments() -> argparse.Namespace:
    """Command line of the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/lesions"), help="folder for the results (%(default)s)"
    )
    for name, default, meaning in (
        ("--seeds", 5, "repetitions, each with a training set of its own"),
        ("--size", 64, "height and width in pixels; a multiple of 8"),
        ("--real", 20, "real pictures to train on"),
        ("--painted", 200, "pictures to paint, and new real ones"),
        ("--test", 300, "pictures to judge on"),
        ("--painter-steps", 300, "steps of the painter's training"),
        ("--steps", 250, "steps of each U-Net's"),
        ("--batch", 8, "pictures of a step; even"),
        ("--width", 12, "channels of both networks at full resolution"),
    ):
        parser.add_argument(name, type=positive, default=default, help=f"{meaning} (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few steps on a few small pictures instead")
    parser.add_argument("--threads", type=natural, default=0, help="CPU threads (0: PyTorch's choice)")
    options = parser.parse_args()
    if options.quick:
        quick = {"seeds": 2, "size": 32, "width": 6, "real": 8, "painted": 16, "test": 32}
        vars(options).update(quick | {"painter_steps": 6, "steps": 30})
    if options.size % STRIDE or options.batch % 2 or options.seeds not in range(2, len(STUDENT_T) + 2):
        parser.error(
            f"--size {options.size} --batch {options.batch} --seeds {options.seeds}: expected a multiple of "
            f"{STRIDE}, an even number and 2..{len(STUDENT_T) + 1}"
        )
    return options


def experiment(seed: int, test: Pictures, options: argparse.Namespace) -> dict[str, Score]:
    """Train the painter and every arm's U-Net; returns each one's score on the test set."""
    real = lesions.draw_pictures(options.real, options.size, 2 * seed)
    new = lesions.draw_pictures(options.painted, options.size, 2 * seed + 1)
    painted = synthetic(real, seed, options)
    arms = {
        "real": Arm(real, varied=False),
        BASE: Arm(real),
        "synthetic": Arm(painted),
        SYNTHETIC: Arm(real, painted),
        UPPER_BOUND: Arm(real, new),
    }
    scores = {"trivial": trivial(real, test)}
    for name, arm in arms.items():
        training = Training(f"seed {seed}: {name}", seed, options.steps, options.batch, options.width)
        scores[name] = judge(train_unet(arm, training), test)
    return scores


def synthetic(real: Pictures, seed: int, options: argparse.Namespace) -> Pictures:
    """What a painter that saw the real pictures paints from masks made of theirs."""
    tissue = without_lesions(real)
    name = f"seed {seed}: painter"
    training = Training(name, seed, options.painter_steps, options.batch, options.width)
    painter = train_painter(real, tissue, training)
    with deploy(painter, real, tissue, options.out / f"painter-{seed}") as generator:
        painted = paint(generator, new_masks(real.masks, options.painted, seed), tissue, seed)
        if seed == 1:
            rows = {"mask": list(real.masks[:SHEET_ROWS]), "image": list(tissue[:SHEET_ROWS])}
            save_sheet(options.out / "sheet.png", real, generator.sample(**rows).images, painted)
    return painted


# --- PixelRT ------------------------------------------------------------------------------------------------


def deploy(painter: nn.Module, real: Pictures, tissue: Image, folder: Path) -> pixelrt.Generator:
    """Export the painter behind its gate, and open what was written."""
    half = [0.5] * 3  # 0..255 becomes -1..1
    bundle = pixelrt_export.export(
        painter,
        folder,
        task="generation",
        latent=STYLE,
        mask={"size": real.masks.shape[1:], "classes": list(CLASSES)},
        image={"size": real.masks.shape[1:], "mean": half, "std": half},
        output="tanh",
        masks=list(real.masks[:8]),
        images=list(tissue[:8]),
        quiet=True,
    )
    return pixelrt.load(bundle, task="generation")


def paint(generator: pixelrt.Generator, masks: Mask, tissue: Image, seed: int) -> Pictures:
    """A picture for each mask, in any of the tissues, turned, with a style of its own."""
    rng = np.random.default_rng((seed, 7))
    chosen = tissue[rng.integers(len(tissue), size=len(masks))]
    behind = [turned(image, mask, rng)[0] for image, mask in zip(chosen, masks, strict=True)]
    painted = generator.sample(strategy=pixelrt.Random(seed=seed), mask=list(masks), image=behind)
    return Pictures(painted.images, masks)


# --- judging ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def judge(network: nn.Module, test: Pictures) -> Score:
    """Score of a network on the test set."""
    confusion = ConfusionMatrix(len(CLASSES))
    for start in range(0, len(test), 50):
        logits = network(as_tensor(test.images[start : start + 50]))
        confusion.add(test.masks[start : start + 50], logits.argmax(dim=1).byte().numpy())
    return score(confusion)


def trivial(real: Pictures, test: Pictures) -> Score:
    """Score of the best rule without learning: all that is brighter, or darker, than a limit is a lesion.

    The limit is the one that does best on the training set; it may be one that calls everything a lesion.
    """

    def applied(pictures: Pictures, sign: int, limit: float) -> Score:
        confusion = ConfusionMatrix(len(CLASSES))
        grey = pictures.images.mean(axis=-1)
        confusion.add(pictures.masks, (sign * (grey - limit) >= 0).astype(np.uint8))
        return score(confusion)

    rules = [(sign, float(limit)) for sign in (1, -1) for limit in np.arange(0, 256, 2)]
    return applied(test, *max(rules, key=lambda rule: applied(real, *rule).dice))


def score(confusion: ConfusionMatrix) -> Score:
    """Dice and IoU of the lesions."""
    iou = float(confusion.iou()[1])
    return Score(dice=2 * iou / (1 + iou), iou=iou)


# --- pictures -----------------------------------------------------------------------------------------------


def new_masks(masks: Mask, count: int, seed: int) -> Mask:
    """Masks of the training set, turned by any angle, scaled and moved; uint8[count, H, W]."""
    rng = np.random.default_rng((seed, 9))
    size = masks.shape[1]
    made = []
    for _ in range(count):
        centre = ((size - 1) / 2, (size - 1) / 2)
        matrix = cv2.getRotationMatrix2D(centre, rng.uniform(0, 360), float(np.exp(rng.normal(0, 0.2))))
        matrix[:, 2] += rng.uniform(-0.2, 0.2, 2) * size
        _, mask = turned(masks[0], masks[rng.integers(len(masks))], rng)
        made.append(cv2.warpAffine(mask, matrix, (size, size), flags=cv2.INTER_NEAREST))
    return np.stack(made).astype(np.uint8)


def save_sheet(path: Path, real: Pictures, again: Image, painted: Pictures) -> None:
    """Rows of: a mask, its real picture, one painted over it; two new masks and their pictures."""
    rows = []
    for row in range(min(len(again), len(painted) // 2)):
        tiles = [flat(real.masks[row]), real.images[row], again[row]]
        for one in (2 * row, 2 * row + 1):
            tiles += [flat(painted.masks[one]), painted.images[one]]
        rows.append(np.hstack([cv2.copyMakeBorder(tile, 1, 1, 1, 1, cv2.BORDER_CONSTANT) for tile in tiles]))
    sheet = cv2.resize(np.vstack(rows), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


def flat(mask: Mask) -> Image:
    """A mask to look at: lesions white."""
    return np.repeat(mask[..., None] * np.uint8(255), 3, axis=-1)


# --- what came out ------------------------------------------------------------------------------------------


def summary(runs: list[dict[str, Score]], options: argparse.Namespace) -> dict[str, Any]:
    """Everything as it goes into lesions.json."""
    setting = {name: value for name, value in vars(options).items() if name != "out"}
    gain, bound = (difference(runs, name) for name in (SYNTHETIC, UPPER_BOUND))
    return {
        "setting": setting,
        "runs": [{name: dataclasses.asdict(one) for name, one in run.items()} for run in runs],
        "scores": {name: {what: spread(runs, name, what) for what in ("dice", "iou")} for name in runs[0]},
        "dice_gained_by_synthetic": gain,
        "dice_gained_by_new_real": bound,
        "meaning": meaning(gain, bound, len(runs)),
    }


def spread(runs: list[dict[str, Score]], name: str, what: str) -> dict[str, float]:
    """Mean and standard deviation over the seeds."""
    values = [getattr(run[name], what) for run in runs]
    return {"mean": round(float(np.mean(values)), 4), "std": round(float(np.std(values, ddof=1)), 4)}


def difference(runs: list[dict[str, Score]], name: str) -> dict[str, float]:
    """What an arm's Dice has over that of varied real pictures, seed by seed: mean, spread, 95 % interval."""
    values = np.array([run[name].dice - run[BASE].dice for run in runs])
    std = float(values.std(ddof=1))
    margin = STUDENT_T[len(values) - 2] * std / len(values) ** 0.5
    low, high = float(values.mean()) - margin, float(values.mean()) + margin
    figures = {"mean": float(values.mean()), "std": std, "low": low, "high": high}
    return {key: round(value, 4) for key, value in figures.items()}


def meaning(gain: dict[str, float], bound: dict[str, float], seeds: int) -> str:
    """The result in words: a gain or a loss only where the 95 % interval leaves zero out."""
    if gain["low"] > 0:
        verdict = "synthetic pictures helped"
    elif gain["high"] < 0:
        verdict = "synthetic pictures did not help, they did harm"
    else:
        verdict = "cannot tell whether synthetic pictures help"
    gained, possible = (
        f"{100 * one['mean']:+.1f} points ({100 * one['low']:+.1f} to {100 * one['high']:+.1f})"
        for one in (gain, bound)
    )
    return (
        f"{verdict}: Dice over {BASE!r} {gained}, as many new real pictures bring {possible}; 95 % intervals "
        f"of the difference of each seed, {seeds} seeds"
    )


def show(found: dict[str, Any]) -> None:
    """Print the table and the sentence."""
    rows = []
    for name, figures in found["scores"].items():
        cells = [f"{100 * one['mean']:.1f} ± {100 * one['std']:.1f}" for one in figures.values()]
        rows.append((name, *cells))
    say_table(("trained on", ">Dice %", ">IoU %"), rows)
    say()
    say(found["meaning"])


if __name__ == "__main__":
    main()
