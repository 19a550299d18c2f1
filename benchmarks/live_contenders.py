"""Who takes part in `live_latency.py`: from an address or a film to pictures with their classes.

pixelrt      segmenter.stream(address), and the overlay of every result
opencv       the loop that people write: VideoCapture.read, resize, normalise, infer (OpenVINO), argmax, draw
model_api    OpenVINO Model API's AsyncPipeline with two requests, as in its demos, and the same drawing

All run the same network in the same precision with the same number of threads. The overlays at 1080p:

pixelrt              Segmentation.overlay, from a mask at the network's size
pixelrt with legend  what a sink gets: overlay, the share of each class, legend
supervision          MaskAnnotator.annotate, with detections that are ready
supervision in all   the same with what makes detections of a mask: resize, a plane for each class, boxes
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import numpy as np
from numpy.typing import NDArray

import pixelrt
from pixelrt.bundle import Bundle
from pixelrt.manifest import SegmentationManifest

ALPHA = 0.5

Bytes = NDArray[np.uint8]
Drawn = Iterator[tuple[Bytes, Bytes]]
"""Frames with their pictures, each when it has been drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a contender gets."""

    bundle: Path
    folder: Path
    """Holds the bare network, `bare.xml`."""
    precision: Any
    """`float32` or `bfloat16`."""
    threads: int

    @property
    def manifest(self) -> SegmentationManifest:
        """Of the bundle."""
        return Bundle.open(self.bundle).segmentation

    @property
    def plugin(self) -> dict[str, Any]:
        """How OpenVINO is set up."""
        return {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[self.precision],
        }

    def segmenter(self) -> pixelrt.Segmenter:
        """PixelRT's own."""
        return pixelrt.load(
            self.bundle,
            task="segmentation",
            device="cpu",
            precision=self.precision,
            threads=self.threads,
            color="rgb",
        )


@dataclass(slots=True, kw_only=True)
class Contender:
    """A way to see what a camera sees."""

    open: Callable[[str], Drawn]
    """From an address or a file to pictures; everything that can be set up before is."""
    profile: Callable[[], dict[str, float]] = dict
    """Median of each stage in ms, afterwards."""


def pixelrt_stream(setting: Setting) -> Contender:
    """As the documentation has it."""
    segmenter = setting.segmenter()
    segmenter.warm_up(harness.SIZE)
    found: dict[str, float] = {}

    def pictures(address: str) -> Drawn:
        with segmenter.stream(address, alpha=ALPHA, legend=False) as stream:
            try:
                for delivery in stream:
                    yield delivery.frame.image, delivery.overlay()
            finally:
                stages = stream.statistics().stages
                found.update({name: stage.p50_ms for name, stage in stages.items()})

    return Contender(open=pictures, profile=lambda: found)


def opencv(setting: Setting) -> Contender:
    """As found in most projects that show what a camera sees."""
    import cv2
    import openvino

    model = openvino.Core().compile_model(setting.folder / "bare.xml", "CPU", setting.plugin)
    preprocess = setting.manifest.preprocess
    (height, width), mean, std = preprocess.size, _row(preprocess.mean), _row(preprocess.std)
    draw = _Drawing(setting.manifest)
    stages: dict[str, list[float]] = {"decode": [], "network": [], "draw": []}

    def pictures(address: str) -> Drawn:
        capture: Any = cv2.VideoCapture(address, cv2.CAP_FFMPEG)
        while True:
            began = time.perf_counter()
            there, frame = capture.read()
            if not there:
                break
            read = time.perf_counter()
            image = cv2.cvtColor(cv2.resize(frame, (width, height)), cv2.COLOR_BGR2RGB)
            tensor = ((image / np.float32(255) - mean) / std).transpose(2, 0, 1)[np.newaxis]
            mask = model(tensor)[0][0].argmax(axis=0).astype(np.uint8)
            segmented = time.perf_counter()
            picture = draw(frame, mask)
            _note(stages, began, read, segmented, time.perf_counter())
            yield frame, picture
        capture.release()

    return Contender(open=pictures, profile=lambda: _medians(stages))


def model_api(setting: Setting) -> Contender:
    """A frame is submitted whenever a request is free, and results are shown in order."""
    import cv2
    import openvino
    from model_api.adapters import OpenvinoAdapter
    from model_api.models import SegmentationModel
    from model_api.pipelines import AsyncPipeline

    adapter = OpenvinoAdapter(
        openvino.Core(),
        str(setting.folder / "bare.xml"),
        device="CPU",
        plugin_config=setting.plugin,
        max_num_requests=2,
    )
    preprocess = setting.manifest.preprocess
    configuration = {
        "mean_values": [255 * value for value in preprocess.mean],
        "scale_values": [255 * value for value in preprocess.std],
        "return_soft_prediction": False,
        "reverse_input_channels": True,
    }
    pipeline = AsyncPipeline(SegmentationModel(adapter, configuration))
    draw = _Drawing(setting.manifest)

    def pictures(address: str) -> Drawn:
        capture: Any = cv2.VideoCapture(address, cv2.CAP_FFMPEG)
        submitted = shown = 0
        there = True
        try:
            while there or shown < submitted:
                if there and pipeline.is_ready():
                    there, frame = capture.read()
                    if there:
                        pipeline.submit_data(frame, submitted, {"frame": frame})
                        submitted += 1
                else:
                    pipeline.await_any() if there else pipeline.await_all()
                result = pipeline.get_result(shown)
                if result is not None:
                    mask, about = result
                    yield about["frame"], draw(about["frame"], np.asarray(mask, np.uint8))
                    shown += 1
        finally:
            pipeline.await_all()
            capture.release()

    return Contender(open=pictures)


class _Drawing:
    """A colour table and one blend, as OpenCV's users write it, BGR."""

    def __init__(self, manifest: SegmentationManifest) -> None:
        self._palette = np.zeros((256, 1, 3), np.uint8)
        classes = manifest.heads[0].classes
        self._palette[: len(classes), 0] = [info.color[::-1] for info in classes]

    def __call__(self, frame: Bytes, mask: Bytes) -> Bytes:
        import cv2

        fitted = cv2.resize(mask, frame.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        colors = cv2.applyColorMap(fitted, self._palette)
        blended: Any = cv2.addWeighted(frame, 1 - ALPHA, colors, ALPHA, 0)
        return np.asarray(blended)


def _row(values: tuple[float, ...]) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def _note(stages: dict[str, list[float]], *times: float) -> None:
    for name, (began, ended) in zip(stages, itertools.pairwise(times), strict=True):
        stages[name].append(1e3 * (ended - began))


def _medians(stages: dict[str, list[float]]) -> dict[str, float]:
    return {name: float(np.median(values)) for name, values in stages.items() if values}


CONTENDERS: dict[str, Callable[[Setting], Contender]] = {
    "pixelrt": pixelrt_stream,
    "opencv": opencv,
    "model_api": model_api,
}


# --------------------------------------------------------------------------------------------------- overlays


def overlays(setting: Setting, size: tuple[int, int]) -> dict[str, Callable[[], Bytes]]:
    """Who draws, each ready to draw the same classes over the same frame.

    Args:
        setting: Which bundle gives the classes and the size of the mask.
        size: Height and width of the frame.
    """
    from pixelrt.frames import nearest
    from pixelrt.segmentation import Latency, Segmentation
    from pixelrt.video.artist import Artist
    from pixelrt.video.drive import Drive, DriveOptions
    from pixelrt.video.frame import Frame

    classes = setting.manifest.heads[0].classes
    image, labels = Drive(DriveOptions(frames=1, size=size, seed=7)).frame(0)
    mask = nearest(labels, *setting.manifest.preprocess.size) % len(classes)
    latency = Latency(prepare_ms=0, network_ms=0, total_ms=0)
    result = Segmentation("scene", classes, size, latency, mask=mask)
    artist, frame = Artist(classes, alpha=ALPHA), Frame(image=image, index=0, time_s=0.0, name="0")
    return {
        "pixelrt": lambda: result.overlay(image, ALPHA),
        "pixelrt with legend": lambda: artist.draw(frame, result),
        **_supervision(result, image),
    }


def _supervision(result: Any, image: Bytes) -> dict[str, Callable[[], Bytes]]:
    """Its palette is in the order of RGB; it draws as for BGR, so it gets the colours the other way round."""
    try:
        import supervision
    except ModuleNotFoundError:
        return {}
    colors = [supervision.Color(*info.color[::-1]) for info in result.classes]
    annotator = supervision.MaskAnnotator(color=supervision.ColorPalette(colors), opacity=ALPHA)

    def detections() -> Any:
        mask = result.mask_at(image.shape[:2])
        ids = np.unique(result.mask)
        planes = np.stack([mask == number for number in ids])
        boxes = supervision.mask_to_xyxy(planes)
        return supervision.Detections(xyxy=boxes, mask=planes, class_id=ids.astype(int))

    ready = detections()
    return {
        "supervision": lambda: annotator.annotate(image.copy(), ready),
        "supervision in all": lambda: annotator.annotate(image.copy(), detections()),
    }
