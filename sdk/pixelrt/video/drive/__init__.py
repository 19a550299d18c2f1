"""A procedural drive through a town with exact ground truth, in the 11 CamVid classes.

Labels: 0 sky, 1 building, 2 pole, 3 road, 4 pavement, 5 tree, 6 sign, 7 fence, 8 car, 9 pedestrian,
10 bicyclist, 11 unlabelled (the bonnet of the car that carries the camera, bins).
"""

from __future__ import annotations

from pixelrt.video.drive.film import Drive, DriveOptions, scene

__all__ = ["CLASSES", "Drive", "DriveOptions", "scene"]

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
"""Names of the labels 0 to 10; 11 is unlabelled and counts nowhere."""
