"""Networks through OpenVINO and nothing else of PixelRT, to compare with.

Never through a core of the tests' own: one that goes before another one that was made earlier leaves the main
thread with a signal stack that is no more, and the next test of Ctrl-C ends the process (see `core`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from pixelrt.backends.openvino import core


def run_openvino(
    model: ModelProto, feeds: Mapping[str, NDArray[Any]], hint: str = "f32"
) -> dict[str, NDArray[Any]]:
    """Every output by name, of a graph that was compiled for the shapes of these inputs."""
    network = core().read_model(model.SerializeToString())
    network.reshape({name: list(value.shape) for name, value in feeds.items()})
    compiled = core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    results = compiled(dict(feeds))
    return {name: np.array(results[output]) for output in compiled.outputs for name in output.get_names()}
