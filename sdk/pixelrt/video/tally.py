"""What the results of a run come to: shares of the classes, and hits where there is ground truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pixelrt.metrics import ConfusionMatrix, foreign_ids
from pixelrt.segmentation import Segmentation
from pixelrt.video.frame import Frame
from pixelrt.video.report import Accuracy, finite


class Tally:
    """Counts the results of one source.

    Args:
        classes: Names of the classes of the head.
        source: Name of the source, for messages.
        truth_classes: Names of the classes of its labels; None where there are none, or nobody knows.
    """

    def __init__(self, classes: tuple[str, ...], source: str, truth_classes: tuple[str, ...] | None) -> None:
        self.classes = classes
        self.frames = 0
        self.shares = np.zeros(len(classes))
        self.matrix = ConfusionMatrix(len(classes))
        self.problem = ""
        if truth_classes is not None and truth_classes != classes:
            self.problem = (
                f"{source} has labels in the classes {', '.join(truth_classes)}; "
                f"this head has {', '.join(classes)}"
            )

    def add(self, frame: Frame, result: Segmentation) -> None:
        """Count one result."""
        coverage = result.coverage()
        self.frames += 1
        self.shares += [coverage[name] for name in self.classes]
        if frame.truth is not None and not self.problem and not self._foreign(frame):
            height, width = frame.truth.shape
            self.matrix.add(frame.truth, result.mask_at((height, width)))

    def _foreign(self, frame: Frame) -> bool:
        assert frame.truth is not None
        strangers = foreign_ids(frame.truth, len(self.classes))
        if strangers:
            self.problem = (
                f"the label of {frame.name} holds the ids {', '.join(map(str, strangers))}, and this head "
                f"has {len(self.classes)} classes; these labels are of other classes"
            )
        return bool(strangers)

    def coverage(self) -> dict[str, float]:
        """Mean share of the picture per class, 0..1."""
        return coverage([self])

    def accuracy(self) -> Accuracy | None:
        """How often it was right; None without labels that can be used."""
        return accuracy([self])


def coverage(tallies: Sequence[Tally]) -> dict[str, float]:
    """Mean share of the picture per class over all frames of several sources, 0..1."""
    frames = max(sum(tally.frames for tally in tallies), 1)
    shares = np.sum([tally.shares for tally in tallies], axis=0) / frames
    return {name: float(share) for name, share in zip(tallies[0].classes, shares, strict=True)}


def accuracy(tallies: Sequence[Tally]) -> Accuracy | None:
    """How often several sources together were right; None without labels that can be used."""
    classes = tallies[0].classes
    together = ConfusionMatrix(len(classes))
    for tally in tallies:
        if not tally.problem:
            together.counts += tally.matrix.counts
    if not together.counts.any():
        return None
    iou = {name: finite(float(value)) for name, value in zip(classes, together.iou(), strict=True)}
    return Accuracy(miou=finite(together.miou()), iou=iou, pixel_accuracy=finite(together.accuracy()))
