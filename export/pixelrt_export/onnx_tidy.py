"""Makes a network's ONNX small: constants and batch norm folded, dead nodes gone."""

from __future__ import annotations

import onnxslim
from onnx import ModelProto

from pixelrt.errors import ExportError
from pixelrt_export.graph import copy_of
from pixelrt_export.quiet import essential, quiet

BATCH = "batch"


def tidy(model: ModelProto) -> tuple[ModelProto, bool]:
    """Fold constants and batch norm, and drop what no output needs."""
    try:
        with quiet():
            slim = onnxslim.slim(copy_of(model))
    except Exception as problem:
        raise ExportError(
            f"onnxslim cannot simplify the network ({essential(problem)}); please report this, with the "
            "network"
        ) from problem
    return slim, len(slim.graph.node) != len(model.graph.node)


def named_batch(model: ModelProto) -> tuple[ModelProto, bool]:
    """Call the first axis of the inputs and outputs `batch` where it is not a number."""
    named = copy_of(model)
    for value in (*named.graph.input, *named.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if not first.HasField("dim_value"):
            first.dim_param = BATCH
    del named.graph.value_info[:]
    return named, True
