"""Who takes part in `live_latency.py`: from an address or a film to pictures with their classes.

pixelrt      segmenter.stream(address), and the overlay of every result
opencv       the loop that people write: VideoCapture.read, resize, normalise, infer (OpenVINO), argmax, draw
opencv_grabber  the same behind the usual remedy: a thread that reads all the time and keeps the newest frame
model_api    OpenVINO Model API's AsyncPipeline with two requests, as in its demos, and the same drawing

All run the same network in the same precision with the same number of threads. The overlays at 1080p:

pixelrt              Segmentation.overlay, from a mask at the network's size
pixelrt with legend  what a sink gets: overlay, the share of each class, legend
supervision          MaskAnnotator.annotate, with detections that are ready
supervision in all   the same with what makes detections of a mask: resize, a plane for each class, boxes
opencv               what people write with OpenCV: resize, applyColorMap with the classes' table, addWeighted
opencv lut           the same with cv2.LUT, which needs the mask in three channels
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import harness
import numpy as np
from harness import Setting
from numpy.typing import NDArray

import pixelrt
from pixelrt.backends.openvino import core
from pixelrt.manifest import SegmentationManifest
from pixelrt.segmentation import Latency, Segmentation
from pixelrt.video.delivery import Times

ALPHA = 0.5

Bytes = NDArray[np.uint8]
Drawn = Iterator[tuple[Bytes, Bytes]]
"""Frames with their pictures, each when it has been drawn."""


@dataclass(slots=True, kw_only=True)
class Contender:
    """A way to see what a camera sees."""

    open: Callable[[str], Drawn]
    """From an address or a file to pictures; everything that can be set up before is."""
    profile: Callable[[], dict[str, float]] = dict
    """Median of each stage in ms, afterwards; of what was opened last."""
    times: Callable[[], list[Times]] = list
    """When each frame passed each stage, where the contender knows."""


def segmenter_of(setting: Setting) -> pixelrt.Segmenter:
    """PixelRT's own."""
    return pixelrt.load(
        setting.bundle,
        task="segmentation",
        device="cpu",
        precision=setting.precision,
        threads=setting.threads,
        color="rgb",
    )


def pixelrt_stream(setting: Setting) -> Contender:
    """As the documentation has it."""
    segmenter = segmenter_of(setting)
    segmenter.warm_up(harness.SIZE)
    found: dict[str, float] = {}
    times: list[Times] = []

    def pictures(address: str) -> Drawn:
        with segmenter.stream(address, alpha=ALPHA, legend=False) as stream:
            try:
                for delivery in stream:
                    times.append(delivery.times)
                    yield delivery.frame.image, delivery.overlay()
            finally:
                stages = stream.statistics().stages
                found.update({name: stage.p50_ms for name, stage in stages.items()})

    return Contender(open=pictures, profile=lambda: dict(found), times=lambda: times)


def opencv(setting: Setting) -> Contender:
    """As found in most projects that show what a camera sees."""
    classify, draw = _Network(setting), _Drawing(setting.manifest)
    stages: dict[str, list[float]] = {}

    def pictures(address: str) -> Drawn:
        stages.update({"decode": [], "network": [], "draw": []})
        capture = _captured(address)
        while True:
            began = time.perf_counter()
            there, frame = capture.read()
            if not there:
                break
            read = time.perf_counter()
            mask = classify(frame)
            segmented = time.perf_counter()
            picture = draw(frame, mask)
            _note(stages, began, read, segmented, time.perf_counter())
            yield frame, picture
        capture.release()

    return Contender(open=pictures, profile=lambda: _medians(stages))


def opencv_grabber(setting: Setting) -> Contender:
    """A thread in front reads all the time, so that the network always gets the newest frame."""
    classify, draw = _Network(setting), _Drawing(setting.manifest)

    def pictures(address: str) -> Drawn:
        grabber = _Grabber(address)
        try:
            while (frame := grabber.newest()) is not None:
                yield frame, draw(frame, classify(frame))
        finally:
            grabber.stop()

    return Contender(open=pictures)


def model_api(setting: Setting) -> Contender:
    """A frame is submitted whenever a request is free, and results are shown in order."""
    from model_api.adapters import OpenvinoAdapter
    from model_api.models import SegmentationModel
    from model_api.pipelines import AsyncPipeline

    adapter = OpenvinoAdapter(
        core(),
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
        capture = _captured(address)
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


def _captured(address: str) -> Any:
    """OpenCV's reader, which by itself would look for further streams for 5 s and so begin 5 s behind."""
    import cv2

    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "analyzeduration;500000"
    return cv2.VideoCapture(address, cv2.CAP_FFMPEG)


class _Network:
    """Resizing, normalising, OpenVINO and argmax, as people write it around an exported network; BGR."""

    def __init__(self, setting: Setting) -> None:
        self._model = core().compile_model(setting.folder / "bare.xml", "CPU", setting.plugin)
        self._size, self._mean, self._std = setting.size, setting.mean, setting.std

    def __call__(self, frame: Bytes) -> Bytes:
        import cv2

        image = cv2.cvtColor(cv2.resize(frame, self._size[::-1]), cv2.COLOR_BGR2RGB)
        tensor = ((image / np.float32(255) - self._mean) / self._std).transpose(2, 0, 1)[np.newaxis]
        mask: Any = self._model(tensor)[0][0].argmax(axis=0)
        return np.asarray(mask, np.uint8)


class _Grabber:
    """Reads a camera in a thread; whoever asks gets the newest frame, each once."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._frames: queue.Queue[Bytes | None] = queue.Queue(1)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def newest(self) -> Bytes | None:
        """Waits for it; None at the end."""
        return self._frames.get()

    def stop(self) -> None:
        """Read no more."""
        self._stopped.set()
        self._thread.join()

    def _read(self) -> None:
        capture = _captured(self._address)
        there = True
        while there and not self._stopped.is_set():
            there, frame = capture.read()
            with contextlib.suppress(queue.Empty):
                self._frames.get_nowait()  # nobody has asked for that one
            self._frames.put(frame if there else None)
        capture.release()


class _Drawing:
    """A colour table and one blend, as OpenCV's users write it, BGR."""

    def __init__(self, manifest: SegmentationManifest) -> None:
        self.palette = np.zeros((256, 1, 3), np.uint8)
        classes = manifest.heads[0].classes
        self.palette[: len(classes), 0] = [info.color[::-1] for info in classes]

    def __call__(self, frame: Bytes, mask: Bytes) -> Bytes:
        import cv2

        return self.blended(frame, cv2.applyColorMap(self.fitted(frame, mask), self.palette))

    def fitted(self, frame: Bytes, mask: Bytes) -> Bytes:
        """The mask at the size of the frame."""
        import cv2

        return np.asarray(cv2.resize(mask, frame.shape[1::-1], interpolation=cv2.INTER_NEAREST), np.uint8)

    def blended(self, frame: Bytes, colors: Any) -> Bytes:
        """Half frame, half colours."""
        import cv2

        return np.asarray(cv2.addWeighted(frame, 1 - ALPHA, colors, ALPHA, 0), np.uint8)


def _note(stages: dict[str, list[float]], *times: float) -> None:
    for name, (began, ended) in zip(stages, itertools.pairwise(times), strict=True):
        stages[name].append(1e3 * (ended - began))


def _medians(stages: dict[str, list[float]]) -> dict[str, float]:
    return {name: float(np.median(values)) for name, values in stages.items() if values}


CONTENDERS: dict[str, Callable[[Setting], Contender]] = {
    "pixelrt": pixelrt_stream,
    "opencv": opencv,
    "opencv_grabber": opencv_grabber,
    "model_api": model_api,
}
WHOLE = tuple(name for name in CONTENDERS if name != "opencv_grabber")
"""Who leaves no frame out, and so can go through a film."""


# --------------------------------------------------------------------------------------------------- overlays


def overlays(setting: Setting, size: tuple[int, int]) -> dict[str, Callable[[], Bytes]]:
    """Who draws, each ready to draw the same classes over the same frame.

    Args:
        setting: Which bundle gives the classes and the size of the mask.
        size: Height and width of the frame.
    """
    from pixelrt.video.artist import Artist
    from pixelrt.video.frame import Frame

    image, result = scene(setting.manifest, size)
    artist, frame = Artist(result.classes, alpha=ALPHA), Frame(image=image, index=0, time_s=0.0, name="0")
    return {
        "pixelrt": lambda: result.overlay(image, ALPHA),
        "pixelrt with legend": lambda: artist.draw(frame, result),
        **_opencv(setting.manifest, image, result.mask_at(setting.size)),
        **_supervision(result, image),
    }


def scene(manifest: SegmentationManifest, size: tuple[int, int]) -> tuple[Bytes, Segmentation]:
    """A frame of that size and what a network could have made of it."""
    from pixelrt.frames import nearest
    from pixelrt.video.drive import Drive, DriveOptions

    classes = manifest.heads[0].classes
    image, labels = Drive(DriveOptions(frames=1, size=size, seed=7)).frame(0)
    mask = nearest(labels, *manifest.preprocess.size) % len(classes)
    latency = Latency(prepare_ms=0, network_ms=0, total_ms=0)
    return image, Segmentation("scene", classes, size, latency, mask=mask)


def _opencv(manifest: SegmentationManifest, image: Bytes, mask: Bytes) -> dict[str, Callable[[], Bytes]]:
    import cv2

    draw = _Drawing(manifest)
    table = draw.palette.reshape(1, 256, 3)

    def lut() -> Bytes:
        fitted = draw.fitted(image, mask)
        return draw.blended(image, cv2.LUT(cv2.merge((fitted, fitted, fitted)), table))

    return {"opencv": lambda: draw(image, mask), "opencv lut": lut}


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
